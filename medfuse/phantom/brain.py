"""Model what lies inside the skull: cerebrum with a folded cortex, ventricles, nuclei, cerebellum, brain stem, CSF.

Sulci are not modelled one by one. The zero level of a random field of one wavelength is a labyrinth of sheets about
half a wavelength apart, as sulci are; cut into the hemispheres from outside, they leave gyri, and the cortex is
whatever lies within 2.7 mm of the surface so obtained. Sizes follow a brain with the anterior commissure at the
origin.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medfuse.phantom.shapes import Points, Waves, coverage, ellipsoid, full_ellipsoid, length, overlap, tube, union
from medfuse.phantom.tissues import Layers

CORTEX_THICKNESS = 2.7
SUBARACHNOID_SPACE = 1.7


def posterior_fossa(points: Points) -> Tensor:
    """Distance to the outside of the space of cerebellum and brain stem, with the canal of the cord below it."""
    cerebellum = ellipsoid(points.mirrored(), (19, -63, -32), (36, 32, 26))
    pons = ellipsoid(points, (0, -22, -26), (22, 22, 24))
    canal = tube(points, (0, -36, -35, 14), (0, -42, -62, 11), (0, -44, -140, 9))
    return union(union(cerebellum, pons, 12), canal, 8)


def cerebrum(points: Points) -> Tensor:
    """Distance to the smooth hull of the cerebrum: no sulci, no gap between the hemispheres."""
    x, y, z = points.mirrored()
    # Narrower in front than behind, as seen from above.
    narrowed = Points(x * (1 + 0.0010 * (y + 20).clamp_min(0)), y, z)
    main = full_ellipsoid(narrowed, (0, -17, 14), (67, 84, 59))
    # The floor: raised over the cerebellum, and over the orbits on both sides of the low middle of the anterior fossa.
    tent = -17 + 15 * torch.exp(-((y + 44) / 20).square() - (x / 20).square())
    tent += 8 * torch.sigmoid((y - 22) / 6) * (1 - torch.exp(-(x / 14).square()))
    main = overlap(main, tent - z, 12)
    temporal = ellipsoid(points.mirrored(), (43, -8, -20), (23, 43, 20), pitch=-14, yaw=4)
    return overlap(union(main, temporal, 7), 1.5 - base_ridges(points.mirrored()), 4)


def base_ridges(sides: Points) -> Tensor:
    """Distance to the dense bone that rises into the cavity: petrous ridge, sella and clivus."""
    petrous = tube(sides, (58, -30, -34, 9), (34, -17, -31, 7), (14, -5, -28, 4))
    return union(petrous, tube(sides, (0, 14, -28, 11), (0, 3, -30, 9), (0, -6, -48, 7)), 5)


def cavity(points: Points) -> Tensor:
    """Distance to the inner table of the skull."""
    cisterns = ellipsoid(points, (0, -24, -8), (28, 28, 18))
    space = union(union(cerebrum(points), posterior_fossa(points), 14), cisterns, 6) - SUBARACHNOID_SPACE
    return overlap(space, -base_ridges(points.mirrored()), 4)


class Brain:
    """Everything inside the skull, its folds drawn from ``generator``."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._folds = Waves(generator, wavelength=21, count=36)
        self._depths = Waves(generator, wavelength=45, count=12)
        self._bends = Waves(generator, wavelength=32, count=8)

    def fractions(self, points: Points, blur: float) -> Tensor:
        """Tissue shares at N points known to lie inside the skull, (tissues, N)."""
        layers = Layers(len(points.x))
        sides = points.mirrored()
        stem = self._stem(points)
        self._paint_middle(layers, points, sides, blur)
        layers.paint("brain_stem", coverage(stem, blur))
        self._paint_cerebellum(layers, points, blur)
        self._paint_cerebrum(layers, points, sides, blur)
        falx = torch.maximum(sides.x - 0.35, 14 - _callosal_oval(points))
        layers.paint("dura", coverage(falx, blur))
        return layers.fill("csf")

    def _paint_middle(self, layers: Layers, points: Points, sides: Points, blur: float) -> None:
        layers.paint("csf", coverage(ventricles(points), blur))
        caudate = tube(sides, (13, 22, 3, 6), (13, 12, 11, 6), (17, -6, 22, 3.5), (22, -26, 21, 2.5), (27, -34, 10, 2))
        putamen = ellipsoid(sides, (26, 2, 2), (6, 16, 10), yaw=14)
        pallidum = ellipsoid(sides, (20, -2, 0), (4.5, 10, 6.5), yaw=24)
        thalamus = ellipsoid(sides, (11, -18, 7), (9.5, 15, 9), yaw=22)
        hippocampus = tube(sides, (26, -8, -21, 6), (29, -22, -17, 5), (27, -36, -7, 3.5))
        layers.paint("deep_grey", coverage(caudate, blur))
        layers.paint("deep_grey", coverage(putamen, blur))
        layers.paint("deep_grey", 0.55 * coverage(pallidum, blur))
        layers.paint("deep_grey", 0.75 * coverage(thalamus, blur))
        layers.paint("cortex", coverage(hippocampus, blur))
        oval = _callosal_oval(points)
        callosum = torch.maximum(torch.maximum(oval, -oval - 6.5), -points.z - 2 + 0.3 * points.y.abs())
        layers.paint("white_matter", coverage(overlap(callosum, sides.x - 9, 4), blur))
        # Under the callosum only the thin septum parts the ventricles, down to the roof of the third.
        layers.paint("white_matter", coverage(torch.maximum(oval, torch.maximum(sides.x - 0.6, 4 - points.z)), blur))
        core = torch.minimum(ellipsoid(sides, (16, -8, 5), (18, 25, 15)), ellipsoid(points, (0, -12, -3), (12, 20, 10)))
        layers.paint("white_matter", coverage(core, blur))

    def _stem(self, points: Points) -> Tensor:
        midbrain = tube(points.mirrored(), (9, -20, -2, 9), (5, -22, -16, 10))
        pons = ellipsoid(points, (0, -22, -27), (17, 14, 14))
        medulla = tube(points, (0, -30, -34, 9), (0, -40, -58, 6.5), (0, -44, -140, 5.5))
        return union(union(midbrain, pons, 6), medulla, 6)

    def _paint_cerebellum(self, layers: Layers, points: Points, blur: float) -> None:
        sides = points.mirrored()
        hull = union(ellipsoid(sides, (22, -64, -32), (30, 29, 22)), ellipsoid(points, (0, -60, -26), (12, 24, 24)), 4)
        # Furrows fan out from the fourth ventricle, bent by a gentle relief: deep ones, and shallow ones between.
        fan = torch.atan2(points.z + 32, -(points.y + 36)) * 28 + 0.008 * points.x.square()
        fan += 2.5 * self._bends(points)
        # Towards the ventricle the fan would become too dense.
        crowded = (16 - length(points.y + 36, points.z + 32)).clamp_min(0)
        deep = length(_stripes(fan, 10.0), (-hull - 17).clamp_min(0), crowded) - 0.5
        shallow = length(_stripes(fan + 2.5, 5.0), (-hull - 6).clamp_min(0), crowded) - 0.4
        furrow = torch.minimum(deep, shallow)
        body = torch.maximum(hull, -furrow)
        layers.paint("white_matter", coverage(body + 1.7, blur))
        layers.paint("cerebellar_cortex", coverage(body, blur))

    def _paint_cerebrum(self, layers: Layers, points: Points, sides: Points, blur: float) -> None:
        body = hemispheres(points)
        near = torch.nonzero(body > -28).squeeze(1)
        body[near] = self._folded(points.where(near), sides.where(near), body[near])
        layers.paint("white_matter", coverage(body + CORTEX_THICKNESS, blur))
        layers.paint("cortex", coverage(body, blur))

    def _folded(self, points: Points, sides: Points, smooth: Tensor) -> Tensor:
        depth = -smooth
        slopes = [
            (hemispheres(points.shifted(*step)) - smooth) / 0.5 for step in ((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5))
        ]
        # Looked up where the surface lies above the point, the relief gives sheets that stand upright on the surface;
        # a remainder of the depth leans and curves them.
        rise = 0.35 * depth
        foot = points.shifted(*(rise * slope for slope in slopes))
        reach = 16.5 + 4 * self._depths(foot).clamp(-1.5, 1.5)
        bend = 2.5 * self._bends(points)
        width = 0.45 + 1.1 * torch.exp(-depth.clamp_min(0) / 4)
        sulci = length(self._folds.distance_to_zero(foot), (depth - reach).clamp_min(0)) - width
        # None reaches the nuclei and ventricles.
        sulci = overlap(sulci, -ellipsoid(points, (0, -9, 5), (28, 40, 23)), 6)
        return overlap(smooth, -torch.minimum(sulci, _sylvian_fissure(sides.shifted(0.8 * bend, 0.0, bend))), 2.5)


def hemispheres(points: Points) -> Tensor:
    """Distance to the two smooth hemispheres, parted by the fissure down to the callosum."""
    sides = points.mirrored()
    gap = torch.minimum(0.6 + 0.012 * (points.z - 10).clamp_min(0) - sides.x, _callosal_oval(points) - 1)
    return overlap(cerebrum(points), gap, 8)


def ventricles(points: Points) -> Tensor:
    """Distance to the CSF-filled spaces: lateral, third and fourth ventricle and the aqueduct."""
    sides = points.mirrored()
    body = tube(sides, (4, 31, 3, 2), (5.5, 20, 10, 5), (6, 0, 17, 4.8), (10, -22, 20, 5), (20, -42, 14, 6.5))
    horns = tube(sides, (20, -42, 14, 5.5), (21, -58, 8, 3), (19, -72, 6, 1))
    temporal = tube(sides, (20, -42, 14, 4.5), (32, -32, -6, 2.5), (31, -12, -18, 1.5))
    third = ellipsoid(points, (0, -11, 0), (2.2, 15, 10))
    aqueduct = tube(points, (0, -26, -4, 1), (0, -36, -22, 1.2))
    fourth = ellipsoid(points, (0, -40, -30), (7, 5, 9), pitch=-20)
    lateral = union(torch.minimum(body, horns), temporal, 4)
    # The septum keeps the two lateral ventricles apart.
    lateral = torch.maximum(lateral, 0.9 - sides.x)
    return torch.minimum(torch.minimum(lateral, third), torch.minimum(aqueduct, fourth))


def _stripes(height: Tensor, period: float) -> Tensor:
    """Distance to the nearest of the levels ``period`` mm apart."""
    return (height / period - (height / period).round()).abs() * period


def _callosal_oval(points: Points) -> Tensor:
    flat = Points(torch.zeros_like(points.x), points.y, points.z)
    return ellipsoid(flat, (0, -7, 3), (1, 41, 27), pitch=-5)


def _sylvian_fissure(sides: Points) -> Tensor:
    x, y, z = sides
    floor = -9 - 0.42 * (y - 25) + 0.15 * (x - 45)
    beyond = length((36 - x).clamp_min(0), (-42 - y).clamp_min(0), (y - 26).clamp_min(0))
    cleft = length(0.92 * (z - floor), beyond) - 1.0
    height = (z - floor - 2).abs()
    beyond = length((height - 12 + 0.012 * (y - 2).square()).clamp_min(0), ((y - 2).abs() - 20).clamp_min(0))
    insular = length(x - 36.5 - 0.006 * (y - 2).square(), beyond) - 1.2
    return torch.minimum(cleft, insular)
