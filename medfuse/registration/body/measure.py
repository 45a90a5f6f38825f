"""Measure what the search did not optimise: how parts, outlines and another measure fit a map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from medfuse.registration.body.pair import FINE, MIDDLE, OUTLINE_WEIGHT, BodyLevel, BodyPair, climb
from medfuse.registration.similarity import correlation_ratio, maps, uncentred, unmoved
from medfuse.runtime.parallel import parallel_map
from medfuse.volume.grid import Points

PART_SAMPLES = 1500
"""Samples that a part must hold inside the other field to be shifted by itself."""

LEAST_PARTS_FOR_SCALE = 4
"""Parts from which it is said whether they lie as those of a scaled body."""

LEAST_BONES = 2
"""Slabs of bone from which it is said where they lie."""

FARTHEST_MM = 30.0
"""Where a part fits best farther away than this, it tells nothing."""

BELIEVED_MM = 15.0
"""How far a part may fit best from where it is to count in full where a scale is read off the parts."""


class Scale(NamedTuple):
    """What parts of a body say of its size.

    Parameters
    ----------
    share
        By which share of all lengths they move apart.
    certainty
        Its size over its standard error.
    stretch_mm
        How far they move apart along the axis where they do most, root mean square, mm.
    """

    share: float
    certainty: float
    stretch_mm: float


@dataclass(frozen=True)
class Parts:
    """Where each part of the body fits best by itself: (n, 3) its centre, and (n, 3) how far it moves, both RAS+ mm."""

    places: Points
    moves: Points

    @property
    def errors_mm(self) -> Points:
        """(n,) how far each moves, mm."""
        return np.asarray(np.minimum(np.linalg.norm(self.moves, axis=1), FARTHEST_MM))

    @property
    def typical_mm(self) -> float:
        return float(np.median(self.errors_mm)) if len(self.moves) else float("inf")

    def scale(self) -> Scale:
        """Whether the parts lie as those of a scaled body: least squares, for a scale moves them apart, a shift not."""
        if len(self.moves) < LEAST_PARTS_FOR_SCALE:
            return Scale(0.0, 0.0, 0.0)
        shares = np.minimum(1.0, BELIEVED_MM / np.maximum(np.linalg.norm(self.moves, axis=1), 1e-6))
        moves = self.moves * shares[:, None]
        arms, moves = self.places - self.places.mean(axis=0), moves - moves.mean(axis=0)
        squares, along = (arms**2).sum(axis=0), (arms * moves).sum(axis=0)
        scale = along.sum() / squares.sum()
        # A shift and a scale are fitted: 4 of the numbers.
        noise = np.sqrt(((moves - scale * arms) ** 2).sum() / (moves.size - 4) / squares.sum())
        stretches_mm = np.abs(along) / np.sqrt(np.maximum(squares, 1e-6) * len(arms))
        return Scale(float(scale), float(abs(scale) / max(noise, 1e-6)), float(stretches_mm.max()))


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
    moves = [(end - matrix)[:3, 3] for end in ends]
    return Parts(np.array(places).reshape(-1, 3), np.array(moves).reshape(-1, 3))


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
    best = climb(pair.levels[FINE], matrix, steps=20)
    local = parts(pair, matrix)
    scale = local.scale()
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
        "parts_scale": scale.share,
        "parts_scale_certainty": scale.certainty,
        "parts_stretch_mm": scale.stretch_mm,
        "best_nearby_mm": pair.apart(best, matrix),
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
