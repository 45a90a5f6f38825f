"""Fit evenly spaced slices through positions that their writer rounded, where rounding alone makes them uneven.

A position that was rounded to a multiple of q lies at most q / 2 from its true place. Positions k = 0, 1, … of one axis
are therefore explained by a step b exactly where all pairs agree with it: |p_j − p_i − b (j − i)| ≤ q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medfuse.dicom.frames.frame import Vector

QUANTA_MM = (1.0, 0.5, 0.1, 0.05, 0.01)
"""What writers round positions to: by the number of decimals, or to halves of them."""

UNROUNDED_MM = 0.002
"""Stands for the rounding of an axis that shows none: positions of six decimals, through single precision."""

FINE = 0.2
"""Rounding up to this share of the step leaves no doubt about which of four or more slices there are: were one missing,
the others would be farther than this from every even step."""

FINE_OF_THREE = 0.165
"""The same of three slices, whose positions prove less."""

COARSE = 0.5
"""Rounding from this share of the step cannot be told from missing slices, whatever the header says of the step."""

STATED_TOLERANCE = 1e-3
"""How far a step may lie from what the header states to be the same, as a share of it."""


@dataclass(frozen=True)
class Lattice:
    """Evenly spaced slices: each frame's place among them, counted from 0, where they lie, and how far frames are off.

    ``origin`` is the first voxel's centre in slice 0 and ``step`` leads from slice to slice, LPS mm; no stated position
    is farther than ``deviation`` mm from its slice.
    """

    places: tuple[int, ...]
    origin: Vector
    step: Vector
    deviation: float

    @property
    def missing(self) -> int:
        """How many of the slices have no frame."""
        return self.places[-1] + 1 - len(self.places)


def fit_rounded(positions: Vector, normal: Vector, stated: Sequence[float]) -> Lattice | None:
    """Find the evenly spaced slices that rounded positions stand for; None where rounding does not explain them.

    Parameters
    ----------
    positions
        (n, 3) LPS mm, in order along ``normal``.
    normal
        Unit vector.
    stated
        What the header says to be the step along the normal, mm: preferred within what the positions allow, and
        needed where rounding is coarse.
    """
    rounding = np.array([_rounding(axis) for axis in positions.T])
    rounded = float(np.abs(normal) @ rounding)
    gaps = np.diff(positions @ normal)
    typical = float(np.median(gaps))
    all_there = np.arange(len(positions))
    guesses = [np.maximum(np.rint(gaps / step), 1) for step in (*stated, typical) if step > 0]
    possible = [all_there, *(np.concatenate(([0], np.cumsum(guess))).astype(int) for guess in guesses)]
    found = [_fit(positions, normal, places, rounding, rounded, stated) for places in possible]
    return min((one for one in found if one is not None), key=lambda one: one.missing, default=None)


def _rounding(values: Vector) -> float:
    """The coarsest rounding of which all values are multiples; 0 where they are all equal."""
    if np.ptp(values) < 1e-6:
        return 0.0
    for quantum in QUANTA_MM:
        if np.abs(values / quantum - np.rint(values / quantum)).max() * quantum < 1e-5:
            return quantum
    return UNROUNDED_MM


def _fit(
    positions: Vector,
    normal: Vector,
    places: npt.NDArray[np.int_],
    rounding: Vector,
    rounded: float,
    stated: Sequence[float],
) -> Lattice | None:
    """As of `fit_rounded`, where frames are taken to be at these places."""
    limits = [_steps(axis, places, quantum) for axis, quantum in zip(positions.T, rounding, strict=True)]
    lowest, highest = np.array(limits).T
    if (lowest > highest).any():
        return None
    step = np.clip(np.polyfit(places, positions, 1)[0], lowest, highest)
    confirmed = False
    for said in stated:
        moved = step + normal * (said - step @ normal)
        slack = STATED_TOLERANCE * said * np.abs(normal)
        if (moved >= lowest - slack).all() and (moved <= highest + slack).all():
            step, confirmed = np.clip(moved, lowest, highest), True
            break
    share = rounded / float(step @ normal)
    fine = FINE if len(places) > 3 else FINE_OF_THREE
    if share > fine and not (confirmed and share < COARSE):
        return None
    off = positions - places[:, None] * step
    origin = (off.min(axis=0) + off.max(axis=0)) / 2
    deviation = float(np.linalg.norm(off - origin, axis=1).max())
    return Lattice(tuple(places.tolist()), origin, step, deviation)


def _steps(values: Vector, places: npt.NDArray[np.int_], quantum: float) -> tuple[float, float]:
    """The least and the greatest step that all pairs of the values allow; the least is greater where none does."""
    slack = quantum + 1e-5
    lowest, highest = -np.inf, np.inf
    for apart in range(1, len(values)):
        rise, run = values[apart:] - values[:-apart], places[apart:] - places[:-apart]
        lowest = max(lowest, float(((rise - slack) / run).max()))
        highest = min(highest, float(((rise + slack) / run).min()))
    return lowest, highest
