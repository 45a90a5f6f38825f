"""Say where a CT's cortical bone lies in another study, an MRI, in which it gives no signal.

What is compared is the other study on bone with that around it, so that a dark corner of a field, or fat beside muscle,
is not taken for bone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from medfuse.registration.pyramid import PyramidLevel
from medfuse.registration.warp import Warp
from medfuse.volume.grid import Points

BONE_HU, TISSUE_HU = 250.0, -200.0
"""From where on a CT shows cortical bone, and tissue of any kind."""

CORTEX, WITHIN = 0.5, 0.6
"""From what share of a CT's brightest bone on it counts as its cortex, for spongy bone is over 250 HU, too, and bright
in an MRI; and which share of the 14 mm around it is tissue."""

VOXELS_MM, SHARP_MM = 2.0, 3.0
"""Voxels of the CT in which bone is looked for, and the longest of the other study's two shorter sides of a voxel, in
which a cortex is seen."""

SLAB_MM, LOOK_MM, STEP_MM = 40.0, 14.0, 2.0
"""Of bone that is looked for by itself, how far, and in which steps."""

LEAST_BONE, MOST_BONE = 100, 2000
"""Voxels of bone in a slab; of more, about so many."""

AS_DARK = 0.8
"""Share of the greatest contrast that counts as being there: bones are thicker than a step, and marrow is bright."""

LEAST_CONTRAST = 0.2
"""By what share an MRI must be darker on bone than around it to show a cortex, of which partial voxels leave a part."""

Map = Callable[[Points], Points]
"""Takes places in the CT's world to the other study's."""


class Bones:
    """A CT's bone and the tissue around it, compared with another study.

    Parameters
    ----------
    ct
        The CT, in HU.
    other
        What it is compared with.
    """

    def __init__(self, ct: PyramidLevel, other: PyramidLevel) -> None:
        self.other = other
        self.bone, self.around = _cortex(ct) if np.sort(other.spacing)[1] <= SHARP_MM else (np.zeros((0, 3)),) * 2

    def apart_mm(self, to_other: Map) -> Points:
        """(n,) how far across it each slab must be shifted to lie darkest, mm; without those that lie nowhere dark."""
        found = []
        for slab in np.unique(np.round(self.bone[:, 2] / SLAB_MM)):
            parts = [part[np.round(part[:, 2] / SLAB_MM) == slab] for part in (self.bone, self.around)]
            places = [self._within(to_other(_some(part))) for part in parts]
            if min(map(len, places)) < LEAST_BONE:
                continue
            distance = _darkest(self.other, *places)
            if distance is not None:
                found.append(distance)
        return np.array(found)

    def contrasts(self, maps: Sequence[Map]) -> list[float]:
        """By which share the other study is darker on bone than around it under each map.

        Compared over the same bone, that which all maps take into the field; empty where that is too little.
        """
        shown = []
        for part in (self.bone, self.around):
            places = [one(_some(part)) for one in maps]
            inside = np.all([self._inside(each) for each in places], axis=0)
            if inside.sum() < LEAST_BONE:
                return []
            shown.append([float(_read(self.other, each[inside]).mean()) for each in places])
        return [1 - bone / around if around > 0 else 0.0 for bone, around in zip(*shown, strict=True)]

    def _inside(self, places: Points) -> npt.NDArray[np.bool_]:
        index = self.other.index(places)
        return np.asarray(((index >= 0) & (index <= self.other.extent)).all(axis=1))

    def _within(self, places: Points) -> Points:
        return np.asarray(places[self._inside(places)])


def seen_from_ct(places: Points, *, fixed_is_ct: bool, matrix: Points, warp: Warp | None = None) -> Points:
    """Places in the CT's world → in the other study's, by a map fixed → moving and the deformation before it."""
    if fixed_is_ct:
        places = places if warp is None else warp.moved(places)
        return np.asarray(places @ matrix[:3, :3].T + matrix[:3, 3])
    wanted = (places - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    found = wanted
    for _ in range(20 if warp is not None else 0):  # p + displacement(p) = wanted; a smooth deformation contracts
        found = wanted - (warp.moved(found) - found) if warp is not None else found
    return np.asarray(found)


def _some(places: Points) -> Points:
    return places[:: max(1, len(places) // MOST_BONE)]


def _cortex(ct: PyramidLevel) -> tuple[Points, Points]:
    """(n, 3) places of bone, and (m, 3) of the tissue within 6 mm of it, RAS+ mm."""
    level = ct.shrunk(VOXELS_MM)
    values = level.values[0, 0].numpy()
    tissue = values > TISSUE_HU
    inside, here = (
        ndimage.uniform_filter(each.astype(np.float32), 7, mode="constant") for each in (tissue, np.ones_like(tissue))
    )
    # A table's edges are as bright, with air beside them.
    bone = (values > BONE_HU) & (inside > WITHIN * here)
    if not bone.any():
        return np.zeros((0, 3)), np.zeros((0, 3))
    bone &= values > CORTEX * np.quantile(values[bone], 0.9)
    wide, close = (ndimage.maximum_filter(bone, size, mode="constant") for size in (7, 3))
    found = [level.world(np.argwhere(each).astype(np.float64)) for each in (bone, wide & ~close & tissue)]
    return found[0], found[1]


def _read(level: PyramidLevel, places: Points) -> torch.Tensor:
    """Values at (..., 3) places, flattened."""
    to_unit = level.to_unit()
    unit = torch.from_numpy(places @ to_unit[:3, :3].T + to_unit[:3, 3]).float()
    return level.sample(unit.reshape(1, -1, 3))[0]  # which takes points of one list


def _darkest(level: PyramidLevel, bone: Points, around: Points) -> float | None:
    """The least shift across a bone that takes it where it is darkest against what is around, mm; None where nowhere.

    It is nowhere where the study shows no cortex, or gets ever darker up to the end of what is looked at.
    """
    steps = np.arange(-LOOK_MM, LOOK_MM + 0.1, STEP_MM)
    across = np.linalg.svd(bone - bone.mean(axis=0), full_matrices=False)[2][1:]
    shifts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    lengths = np.linalg.norm(shifts, axis=1)
    shifts, lengths = shifts[lengths <= LOOK_MM], lengths[lengths <= LOOK_MM]
    means = [
        _read(level, places[None] + (shifts @ across)[:, None]).reshape(len(shifts), -1).mean(dim=1)
        for places in (bone, around)
    ]
    contrast = (means[1] - means[0]).numpy()
    best = int(contrast.argmax())
    if contrast[best] <= max(0.0, LEAST_CONTRAST * float(means[1][best])):
        return None
    least = float(lengths[contrast >= AS_DARK * contrast.max()].min())
    return None if least > LOOK_MM - STEP_MM else least
