"""Measure what the search did not optimise: how parts, outlines, another measure and other shapes fit a map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import ndimage

from medfuse.registration.body.pair import FINE, MIDDLE, OUTLINE_WEIGHT, BodyLevel, BodyPair, climb
from medfuse.registration.similarity import HEAD_MM, correlation_ratio, maps, uncentred, unmoved
from medfuse.runtime.parallel import parallel_map
from medfuse.volume.grid import Points

PART_SAMPLES = 1500
"""Samples that a part must hold inside the other field to be shifted by itself."""

STRETCH, SCALE = 0.08, 0.04
"""By what share lengths or angles are changed to see whether the partner has another scale, or shear; and by how much
all lengths alone are, too: a scale that is 4 % off fits as well at 8 % as at none."""

LEAST_BONES = 2
"""Slabs of bone from which it is said where they lie."""

FARTHEST_MM = 30.0
"""Where a part fits best farther away than this, it tells nothing."""


@dataclass(frozen=True)
class Parts:
    """Where each part of the body fits best by itself: (n, 3) its centre, RAS+ mm, and (n,) how far away, mm."""

    places: Points
    errors_mm: Points

    @property
    def typical_mm(self) -> float:
        return float(np.median(self.errors_mm)) if len(self.errors_mm) else float("inf")


def parts(pair: BodyPair, matrix: Points) -> Parts:
    """Shift each eighth of the body by itself: parts of one patient, rightly aligned, hardly move."""
    level = pair.levels[FINE]
    points = level.samples.points
    middle = points.median(dim=0).values
    chosen = [((points > middle) == torch.tensor(side)).all(dim=1) for side in product((False, True), repeat=3)]
    chosen = [one for one in chosen if int(one.sum()) >= PART_SAMPLES]

    def shifted(one: torch.Tensor) -> Points:
        return climb(level.of(one), matrix, 3, steps=20)

    ends = parallel_map(shifted, chosen)
    places = [pair.centre + points[one].double().mean(dim=0).numpy() for one in chosen]
    errors = [float(np.linalg.norm((end - matrix)[:3, 3])) for end in ends]
    return Parts(np.array(places).reshape(-1, 3), np.minimum(np.array(errors), FARTHEST_MM))


def outline_mm(pair: BodyPair, matrix: Points) -> tuple[float, float]:
    """How far apart the outlines lie: median over the fixed skin inside the moving field, mm; and how many mm² tell it.

    Infinite where no skin is in both fields.
    """
    outline, mask = pair.moving.outline, pair.moving.mask
    if mask.all():
        return float("inf"), 0.0
    skin = pair.skin()
    index = outline.index(skin @ matrix[:3, :3].T + matrix[:3, 3])
    inside = ((index > 1) & (index < outline.extent - 1)).all(axis=1)
    if inside.sum() < 100:
        return float("inf"), 0.0
    distance = ndimage.distance_transform_edt(mask, sampling=outline.spacing)
    distance -= ndimage.distance_transform_edt(~mask, sampling=outline.spacing)
    found = ndimage.map_coordinates(distance, index[inside].T, order=1, mode="nearest")
    return float(np.median(np.abs(found))), float(inside.sum())


def evidence(pair: BodyPair, matrix: Points) -> tuple[dict[str, float], Parts]:
    """The figures that a verdict rests on, by name; see `medfuse.registration.verdict.Verdict`."""
    level = pair.levels[MIDDLE]
    here = float(pair.fits(matrix[None], MIDDLE)[0])
    with torch.inference_mode():
        shared, _, overlap = (float(one[0]) for one in level.parts(unmoved(matrix[None], pair.centre)))
    other = climb(level, matrix, steps=20, measure=correlation_ratio)
    local = parts(pair, matrix)
    skin_mm, skin_count = outline_mm(pair, matrix)
    figures = {
        "shared": shared,
        "fit": here,
        "fit_at_header": float(pair.fits(np.eye(4)[None], MIDDLE)[0]),
        "overlap": overlap,
        "misaligned": _where_compared(level, _misaligned(pair, matrix))
        / max(_where_compared(level, matrix[None]), 1e-6),
        "measures_apart_mm": pair.apart(other, matrix),
        "parts": float(len(local.errors_mm)),
        "parts_apart_mm": local.typical_mm,
        "outlines_apart_mm": skin_mm,
        "outline_voxels": skin_count,
        "other_shape": float(pair.fits(_other_shapes(pair, matrix), MIDDLE).max()) / max(here, 1e-6),
    }
    return figures | _of_bones(pair, matrix), local


def _of_bones(pair: BodyPair, matrix: Points) -> dict[str, float]:
    """Where a CT's bone lies in an MRI, and how much it stands out there and under the headers; empty where unknown."""
    if pair.bones is None:
        return {}
    figures = {}
    here = pair.from_ct(matrix)
    apart = pair.bones.apart_mm(here)
    if len(apart) >= LEAST_BONES:
        figures["bones_apart_mm"] = float(np.median(apart))
    contrasts = pair.bones.contrasts([here, pair.from_ct(np.eye(4), bent=False)])
    if contrasts:
        figures |= {"bone_contrast": contrasts[0], "bone_contrast_at_header": contrasts[1]}
    return figures


def _where_compared(level: BodyLevel, matrices: Points) -> float:
    """Best fit of (P, 4, 4) maps whatever their overlap: along a tube, a shift loses overlap and nothing else."""
    with torch.inference_mode():
        shared, difference, _ = level.parts(unmoved(matrices, level.samples.centre))
        return float((shared - OUTLINE_WEIGHT * difference).max())


def _misaligned(pair: BodyPair, matrix: Points) -> Points:
    """(12, 4, 4) the map, shifted by 28 mm and turned by 20° about each axis, both ways."""
    amounts = torch.tensor(np.array([28.0 * np.eye(6)[axis] * side for axis in range(6) for side in (-1, 1)]))
    return uncentred(maps(np.repeat(matrix[None], len(amounts), axis=0), amounts, pair.centre), pair.centre)


def _other_shapes(pair: BodyPair, matrix: Points) -> Points:
    """(16, 4, 4) the map after all lengths, those along one axis, or one angle changed, both ways."""
    three = np.eye(3)
    changes = [
        np.concatenate([np.zeros(6), *one])
        for one in (
            (np.ones(3), np.zeros(3)),
            *((axis, np.zeros(3)) for axis in three),
            *((np.zeros(3), axis) for axis in three),
        )
    ]
    sizes = [STRETCH * one for one in changes] + [SCALE * changes[0]]
    amounts = torch.tensor(HEAD_MM * np.array([side * one for one in sizes for side in (-1.0, 1.0)]))
    return uncentred(maps(np.repeat(matrix[None], len(amounts), axis=0), amounts, pair.centre), pair.centre)
