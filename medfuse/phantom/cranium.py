"""Model what lies outside the brain: skull, air sinuses, orbits, muscle, fat, skin, nose, ears, a marker."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medfuse.phantom.brain import base_ridges
from medfuse.phantom.shapes import Points, Waves, coverage, ellipsoid, overlap, tube, union
from medfuse.phantom.tissues import Layers


def skin(points: Points, cavity: Tensor) -> Tensor:
    """Distance to the surface of the head, given the distance to the skull's cavity; marker left out."""
    sides = points.mirrored()
    scalp = cavity - 13
    neck = tube(points, (0, -34, -45, 58), (0, -42, -140, 60))
    face = union(
        ellipsoid(points, (0, 22, -62), (60, 62, 62), pitch=8), ellipsoid(points, (0, 52, -100), (38, 40, 30)), 30
    )
    cheeks = ellipsoid(sides, (42, 44, -48), (26, 34, 30))
    brow = ellipsoid(points, (0, 70, 2), (44, 16, 14))
    head = union(union(union(scalp, brow, 14), union(face, cheeks, 16), 30), neck, 30)
    nose = tube(points, (0, 82, -14, 7), (1, 100, -44, 9))
    nostrils = ellipsoid(sides, (9, 92, -48), (8, 10, 7))
    eyelids = ellipsoid(sides, (32, 60, -22), (17, 15, 15))
    ears = ellipsoid(sides, (80, -27, -22), (4, 17, 29), pitch=-12, yaw=-16)
    return union(union(head, union(nose, nostrils, 6), 10), torch.minimum(eyelids, ears), 5)


class Cranium:
    """Everything outside the skull's cavity, its irregularities drawn from ``generator``."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._thickness = Waves(generator, wavelength=70, count=8)
        self._cells = Waves(generator, wavelength=11, count=16)
        self._soft = Waves(generator, wavelength=34, count=12)

    def fractions(self, points: Points, cavity: Tensor, surface: Tensor, blur: float) -> Tensor:
        """Tissue shares at N points outside the cavity, (tissues, N), from the distances to cavity and skin."""
        layers = Layers(len(points.x))
        sides = points.mirrored()
        layers.paint("air", coverage(-surface, blur))
        layers.paint("skin", coverage(-surface - 2.2, blur))
        self._paint_orbits(layers, sides, blur)
        self._paint_air(layers, points, sides, blur)
        self._paint_vault(layers, points, cavity, blur)
        self._paint_face_bones(layers, points, sides, blur)
        self._paint_soft(layers, points, sides, cavity, surface, blur)
        return layers.fill("muscle")

    def _paint_orbits(self, layers: Layers, sides: Points, blur: float) -> None:
        layers.paint("lens", coverage(ellipsoid(sides, (32, 70, -22), (4.5, 2.2, 4.5)), blur))
        globe = ellipsoid(sides, (32, 61, -22), (12, 12, 12))
        layers.paint("vitreous", coverage(globe + 1, blur))
        layers.paint("muscle", coverage(globe, blur))
        nerve = tube(sides, (31, 49, -22, 2), (21, 28, -20, 2), (8, 12, -16, 2.2))
        layers.paint("white_matter", coverage(nerve, blur))
        recti = torch.minimum(
            tube(sides, (42, 56, -22, 1.4), (37, 45, -21, 2.4), (20, 24, -20, 1.2)),
            tube(sides, (21, 57, -22, 1.4), (20.5, 45, -21, 2.2), (18, 24, -20, 1.2)),
        )
        vertical = torch.minimum(
            tube(sides, (31, 56, -11, 1.4), (27, 45, -13, 2.2), (18, 24, -18, 1.2)),
            tube(sides, (31, 56, -33, 1.4), (27, 45, -30, 2.2), (18, 24, -22, 1.2)),
        )
        layers.paint("muscle", coverage(torch.minimum(recti, vertical), blur))
        layers.paint("fat", coverage(_orbit(sides), blur))

    def _paint_air(self, layers: Layers, points: Points, sides: Points, blur: float) -> None:
        septum = 0.8 - (points.x - 1.0).abs()
        frontal = torch.maximum(_frontal_sinus(points), septum)
        sphenoid = torch.maximum(ellipsoid(points, (2, 24, -28), (13, 12, 8)), septum)
        maxillary = _maxillary_sinus(sides)
        # Thin walls between the ethmoid's and the mastoid's cells come from a relief of a small wavelength.
        walls = 1.0 - self._cells.distance_to_zero(points)
        ethmoid = torch.maximum(ellipsoid(sides, (8, 46, -22), (8, 20, 11)), torch.maximum(walls, septum))
        mastoid = torch.maximum(_mastoid(sides) + 3, walls)
        for cells in (frontal, sphenoid, maxillary, ethmoid, mastoid):
            layers.paint("air", coverage(cells, blur))
        turbinates = torch.minimum(
            tube(sides, (9, 78, -50, 3.2), (9, 40, -50, 3.2)), tube(sides, (7, 70, -37, 2.4), (7, 42, -37, 2.4))
        )
        passage = ellipsoid(sides, (7, 58, -44), (8, 34, 17))
        passage = torch.maximum(torch.maximum(passage, -turbinates), 1.4 - (points.x + 1.5).abs())
        pharynx = tube(points, (0, 22, -42, 9), (0, 10, -62, 7), (0, 4, -140, 9))
        canal = tube(sides, (90, -20, -31, 3.5), (50, -18, -31, 2.5))
        layers.paint("air", coverage(torch.minimum(torch.minimum(passage, pharynx), canal), blur))

    def _paint_vault(self, layers: Layers, points: Points, cavity: Tensor, blur: float) -> None:
        sides = points.mirrored()
        thickness = 6.8 + 0.6 * self._thickness(points)
        # Thin at the temples and under the brain, thick at the back of the head.
        thickness -= 2.6 * torch.exp(-(((sides.x - 70) / 14).square() + ((points.z + 8) / 22).square()))
        thickness += 2.5 * torch.exp(-(((points.y + 105) / 16).square() + ((points.z + 5) / 18).square()))
        thickness -= 3.0 * torch.sigmoid((points.y - 5) / 6) * torch.sigmoid((-6 - points.z) / 4)
        outside = cavity - thickness
        plates = torch.maximum(-(cavity - 1.7), outside + 1.7)
        layers.paint("marrow", coverage(plates, blur) * coverage(-thickness + 4.4, 1.0) * coverage(-points.z - 25, 8))
        canal = tube(points, (0, -42, -50, 16), (0, -44, -140, 16))
        layers.paint("compact_bone", coverage(torch.maximum(outside, -canal), blur))

    def _paint_face_bones(self, layers: Layers, points: Points, sides: Points, blur: float) -> None:
        sphenoid = ellipsoid(points, (0, 20, -29), (20, 20, 13))
        walls = torch.minimum(_orbit(sides) - 2, _maxillary_sinus(sides) - 1.8)
        frontal = _frontal_sinus(points) - 2
        nasal = torch.minimum(
            tube(points, (0, 84, -16, 3.5), (0, 92, -28, 2.5)),
            overlap((points.x + 1.5).abs() - 0.8, ellipsoid(points, (0, 58, -44), (9, 30, 16)), 0.5),
        )
        zygoma = tube(sides, (46, 62, -38, 5.5), (60, 44, -38, 4), (66, 20, -36, 2.6), (65, -8, -33, 3))
        mouth = ellipsoid(points, (0, 52, -72), (22, 28, 10))
        palate = overlap(ellipsoid(points, (0, 56, -63), (24, 30, 9)), -mouth, 2)
        alveolus = tube(sides, (0, 83, -70, 5.5), (14, 78, -70, 5.5), (24, 62, -70, 5), (27, 40, -70, 5))
        mandible = tube(sides, (48, 4, -38, 4), (47, 8, -70, 5), (46, 14, -90, 5.5), (28, 62, -98, 6), (0, 82, -101, 7))
        ring = tube(sides, (0, -26, -72, 5), (16, -34, -71, 7), (24, -42, -70, 6), (14, -58, -70, 4), (0, -64, -70, 4))
        dens = tube(points, (0, -30, -60, 4.5), (0, -30, -84, 6), (0, -30, -140, 8))
        dense = [base_ridges(sides), nasal, zygoma, palate, alveolus, walls, frontal]
        for bone in dense:
            layers.paint("compact_bone", coverage(bone, blur))
        for bone in (torch.minimum(sphenoid, _mastoid(sides)), torch.minimum(mandible, torch.minimum(ring, dens))):
            layers.paint("marrow", coverage(bone + 1.6, blur))
            layers.paint("compact_bone", coverage(bone, blur))

    def _paint_soft(
        self, layers: Layers, points: Points, sides: Points, cavity: Tensor, surface: Tensor, blur: float
    ) -> None:
        temporalis = ellipsoid(sides, (66, 14, -8), (14, 34, 40), yaw=-8)
        masseter = ellipsoid(sides, (52, 18, -68), (11, 17, 26))
        tongue = ellipsoid(points, (0, 44, -84), (22, 32, 16))
        neck = ellipsoid(sides, (20, -76, -75), (30, 22, 40))
        muscle = torch.minimum(torch.minimum(temporalis, masseter), torch.minimum(tongue, neck))
        deep = surface + 5.5
        layers.paint("muscle", coverage(torch.maximum(muscle, deep), blur))
        # Over the vault everything under the skin is fat; in the face and neck fat fills the clefts between muscles.
        vault = coverage(-points.z - 12, 10) * coverage(cavity - 16, 4)
        layers.paint("fat", torch.maximum(coverage(-deep, blur), vault))
        layers.paint("fat", 0.6 * coverage(self._soft.distance_to_zero(points) - 0.7, blur))


def _orbit(sides: Points) -> Tensor:
    return tube(sides, (31, 64, -22, 18), (30, 52, -22, 16), (17, 20, -20, 4))


def _maxillary_sinus(sides: Points) -> Tensor:
    return union(ellipsoid(sides, (31, 54, -52), (13, 16, 13)), ellipsoid(sides, (27, 50, -60), (8, 12, 9)), 4)


def _frontal_sinus(points: Points) -> Tensor:
    return union(ellipsoid(points, (-7, 76, 3), (6, 4, 10)), ellipsoid(points, (9, 76, 0), (8, 4, 7)), 3)


def _mastoid(sides: Points) -> Tensor:
    return union(ellipsoid(sides, (57, -30, -40), (12, 15, 17)), ellipsoid(sides, (55, -28, -54), (8, 10, 12)), 5)
