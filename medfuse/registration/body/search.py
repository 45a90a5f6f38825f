"""Search for the best rigid map near the headers: bounded turns and shifts around several starts.

Away from the head, a patient lies in two scanners alike. So a turn is at most 25°, and a shift at most 80 mm from where
the headers, the outlines' centres or the fields' centres lie on each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from medfuse.registration.body.pair import COARSE, FINE, MIDDLE, BodyPair, climb
from medfuse.registration.optimise import ascend
from medfuse.registration.poses import all_turns, turned
from medfuse.registration.similarity import maps, uncentred
from medfuse.runtime.parallel import parallel_map
from medfuse.runtime.progress import Progress
from medfuse.volume.grid import Points

MOST_TURN_DEG, MOST_SHIFT_MM = 25.0, 80.0
"""How far a map may lie from the nearest start."""

SHIFTS_MM, FAR_MM, TURNS_DEG = (-44.0, -22.0, 0.0, 22.0, 44.0), 70.0, 15.0
"""What is screened around each start: shifts along each axis, with turns about each; and farther shifts without."""

SAME_START_MM, DIFFERENT_MM = 10.0, 12.0
"""Starts nearer to each other are one; so are poses of the screen."""

ASCENDING, CLIMBING, LAST = 24, 6, 3
"""Poses of the screen that ascend; ends of these that climb on the middle level; and of these on the fine one."""

CLEARLY = 1.15
"""How much better a place beyond the bounds must fit, as a share, to be taken."""

AGREE_MM = 3.0
"""Median distance over the body within which ends of different starts agree."""

RIVAL_MM = 10.0
"""From what distance on an end is another answer."""


@dataclass(frozen=True)
class BodyFound:
    """Where the search ended.

    Parameters
    ----------
    matrix
        (4, 4), fixed → moving, RAS+ mm.
    agreeing, climbed
        How many of the starts that climbed ended within `AGREE_MM` of it, and how many climbed.
    rival
        How well the best other answer fits, as a share of the best one's fit; 0 if there is none.
    """

    matrix: Points
    agreeing: int
    climbed: int
    rival: float

    @property
    def figures(self) -> dict[str, float]:
        """What a verdict asks of the search, by name."""
        return {"rival": self.rival, "agreeing": float(self.agreeing), "starts": float(self.climbed)}


def search_body(pair: BodyPair, progress: Progress) -> BodyFound:
    """Find the best rigid map within bounds of the starts."""
    starts = anchors(pair)
    poses = np.concatenate([starts, *(_around(start, pair.centre) for start in starts)])
    screened = pair.fits(poses, COARSE)
    progress("align", 0.3)
    chosen = [*range(len(starts)), *_best_apart(pair, poses, screened, ASCENDING)]
    ends = _within(pair, ascend(pair.centre, poses[chosen], pair.levels[COARSE].fits), starts)
    progress("align", 0.5)
    return _refined(pair, ends, starts)


def search_turned(pair: BodyPair, found: BodyFound) -> BodyFound:
    """Where another turn, of any angle, fits far better than what was found near the headers, take that.

    Without a common frame of reference a header may say nothing of how the patient lay.
    """
    turns = all_turns()
    places = np.array([pair.moving.centre, pair.moving.field_centre])
    poses = turned(turns, places, pair.centre)
    chosen = _best_apart(pair, poses, pair.fits(poses, COARSE), ASCENDING // 2)
    ends = ascend(pair.centre, poses[chosen], pair.levels[COARSE].fits)
    *there, here = pair.fits(np.concatenate([ends, found.matrix[None]]), COARSE)
    if max(there) <= CLEARLY * max(here, 0.0):
        return found
    other = _refined(pair, ends, None)
    near, far = pair.fits(np.stack([found.matrix, other.matrix]), FINE)
    return other if far > CLEARLY * max(near, 0.0) else found


def _refined(pair: BodyPair, ends: Points, starts: Points | None) -> BodyFound:
    """Climb from the best ends of the coarse level; within bounds of the starts, if any."""
    fits = pair.fits(ends, COARSE)
    order = np.argsort(-fits, kind="stable")
    # The best ones, whether or not they differ: that several starts end in one place is evidence for it.
    places = dict.fromkeys([0, *_best_apart(pair, ends, fits, CLIMBING // 2), *order[:CLIMBING].tolist()])
    worth = ends[[*places][: CLIMBING + 1]]
    middle = _within(
        pair, np.array(parallel_map(lambda start: climb(pair.levels[MIDDLE], start, steps=30), list(worth))), starts
    )
    last = [middle[place] for place in _best_apart(pair, middle, pair.fits(middle, MIDDLE), LAST, SAME_START_MM / 4)]
    fine = _within(pair, np.array(parallel_map(lambda start: climb(pair.levels[FINE], start), last)), starts)
    best = fine[int(np.argmax(pair.fits(fine, FINE)))]
    away = np.array([pair.apart(end, best) for end in middle])
    fits = pair.fits(np.concatenate([middle, best[None]]), MIDDLE)
    others = fits[:-1][away > RIVAL_MM]
    rival = float(max(others.max(), 0.0) / max(fits[-1], 1e-6)) if len(others) else 0.0
    return BodyFound(best, int((away <= AGREE_MM).sum()), len(middle), rival)


def anchors(pair: BodyPair) -> Points:
    """(n, 4, 4) starts that differ: the headers', the outlines' centres on each other, the fields' centres."""
    found = [np.eye(4)]
    for offset in (pair.moving.centre - pair.fixed.centre, pair.moving.field_centre - pair.fixed.field_centre):
        start = np.eye(4)
        start[:3, 3] = offset
        if min(pair.apart(start, other) for other in found) > SAME_START_MM:
            found.append(start)
    return np.array(found)


def _around(start: Points, centre: Points) -> Points:
    """(n, 4, 4) poses to screen around a start."""
    still, turns = np.zeros(3), np.vstack([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * 80 * np.radians(TURNS_DEG)
    near = [np.concatenate(one) for one in product(turns, product(SHIFTS_MM, repeat=3))]
    directions = [np.array(one) for one in product((-1.0, 0.0, 1.0), repeat=3) if any(one)]
    far = [np.concatenate([still, FAR_MM * one / np.linalg.norm(one)]) for one in directions]
    changes = torch.tensor(np.array([*near, *far]))
    return uncentred(maps(np.repeat(start[None], len(changes), axis=0), changes, centre), centre)


def _best_apart(
    pair: BodyPair, poses: Points, fits: Points, count: int, millimetres: float = DIFFERENT_MM
) -> list[int]:
    """Places in the list of the best poses that differ."""
    kept: list[int] = []
    for place in np.argsort(-fits, kind="stable"):
        if len(kept) == count:
            break
        if all(pair.apart(poses[place], poses[other]) > millimetres for other in kept):
            kept.append(int(place))
    return kept


def _within(pair: BodyPair, ends: Points, starts: Points | None) -> Points:
    """Those ends that lie within bounds of a start; the first start where none does."""
    if starts is None:
        return ends
    kept = [end for end in ends if _bounded(pair, end, starts)]
    return np.array(kept) if kept else starts[:1]


def _bounded(pair: BodyPair, end: Points, starts: Points) -> bool:
    shifts = (end - starts)[:, :3, :3] @ pair.centre + (end - starts)[:, :3, 3]
    return turn_deg(end) <= MOST_TURN_DEG and float(np.linalg.norm(shifts, axis=1).min()) <= MOST_SHIFT_MM


def turn_deg(matrix: Points) -> float:
    """Angle of a rotation, degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
