"""Search for the map of greatest similarity: many starts, then optimisation on finer and finer levels.

1. Screen: thousands of poses (all turns by 90°, tilted by 35°, wherever the head may lie) on the coarse level.
2. Ascend: the 31 best and the headers' pose, all at once, by Adam.
3. Climb: the best of the ends that differ, by L-BFGS on the middle level; the winner on the fine level, by more
   samples and finer bins than before, none of which comes near the border of the other field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from medfuse.errors import RegistrationError
from medfuse.registration.optimise import ascend, climb_by
from medfuse.registration.poses import closer, poses
from medfuse.registration.pyramid import Pyramid, PyramidLevel, enlarged, head_mask
from medfuse.registration.similarity import (
    HEAD_MM,
    MARGIN_MM,
    Measure,
    Samples,
    possible_overlap,
    score,
    shared_information,
    shared_share,
    unmoved,
)
from medfuse.registration.warp import Warp
from medfuse.runtime.parallel import parallel_map
from medfuse.runtime.progress import Progress
from medfuse.volume.grid import Points

COARSE_POINTS, MIDDLE_POINTS, FINE_POINTS = 1000, 8000, 50_000
"""Samples on each level: as many as its optimum needs to stand out, however many voxels are stored."""

LAST_POINTS, LAST_BINS = 300_000, 64
"""Of the last climb. Where uptake is low and blurred, they take a half of what is left of the error; CT, whose bone
shows the position, gains by what its samples are, and 128 bins would cost it 0.1 mm."""

FIELD_POINTS, SHARP_MM = 600_000, 3.0
"""Where no voxel of either study is longer than that, the last climb looks at both as they are stored, in all of the
field. PET gains by it; SPECT, with larger voxels, would lose."""

LEAST_POINTS = 20_000
"""Of those that stay within the other field; with fewer, 64 bins say less than the climb before."""

STARTS = 31
"""Poses that ascend from the screen."""

BODY_MM, IN_A_BODY, DIFFERING_MM = 400.0, 96, 40.0
"""From what length a field may hold more than a head; and how many of the best poses, each so far from the others, are
then varied, and of those how many ascend: the places where a head may lie are too many for all turns."""

AT_ONCE = 64
"""Poses scored together; bounds the memory."""

APART_MM = 25.0
"""Ends of different starts are different answers when the head's corners lie this far apart."""

CLOSE = 0.7
"""Share of the best coarse score that makes another answer worth a climb."""

SIGNIFICANT = 1.005
"""Score of a stage over that of the stage before from which it is kept; fitted to noise alone, it gains less."""


@dataclass(frozen=True)
class Pair:
    """Two studies made ready: levels, and samples of the fixed one on each."""

    fixed: Pyramid
    moving: Pyramid
    centre: Points
    coarse: Samples
    middle: Samples
    fine: Samples
    possible: float
    seed: int

    @classmethod
    def of(cls, fixed: Pyramid, moving: Pyramid, seed: int) -> Pair:
        """Draw the samples."""
        mask = head_mask(fixed.coarse)
        centre = fixed.coarse.world(np.argwhere(mask.numpy()).mean(axis=0))
        coarse, middle, fine = (
            Samples.draw(level, mask if level is fixed.coarse else enlarged(mask, level), centre, count, seed + step)
            for step, (level, count) in enumerate(
                ((fixed.coarse, COARSE_POINTS), (fixed.middle, MIDDLE_POINTS), (fixed.fine, FINE_POINTS))
            )
        )
        possible = possible_overlap(mask, fixed.coarse, moving.coarse)
        return cls(fixed, moving, centre, coarse, middle, fine, possible, seed)

    def redrawn(self) -> Pair:
        """The same studies, and samples that nothing was fitted to."""
        return Pair.of(self.fixed, self.moving, self.seed + 3)

    def displaced(self, moves: Tensor) -> Samples:
        """The fine samples, their points moved by (N, 3) mm, their values kept."""
        return replace(self.fine, points=self.fine.points + moves)

    def warped(self, warp: Warp) -> Pair:
        """The pair as seen through a deformation: every sample looks from where the deformation takes it."""

        def moved(samples: Samples) -> Samples:
            index = torch.from_numpy(warp.grid.index(samples.points.double().numpy() + self.centre))
            return replace(samples, points=samples.points + warp.displaced(index))

        return replace(self, coarse=moved(self.coarse), middle=moved(self.middle), fine=moved(self.fine))

    def scores(self, matrices: Points, level: str = "fine") -> Points:
        """(P,) scores of (P, 4, 4) maps on a level."""
        samples, moving = getattr(self, level), getattr(self.moving, level)

        def scored(some: Points) -> Tensor:
            with torch.inference_mode():
                return score(samples, moving, unmoved(some, self.centre), self.possible)

        found = parallel_map(scored, np.array_split(matrices, -(-len(matrices) // AT_ONCE)))
        return torch.cat(found).double().numpy()

    def corners(self, matrices: Points) -> Points:
        """(P, 8, 3) where maps take the corners of a cube as large as the head, mm."""
        cube = self.centre + 0.75 * HEAD_MM * np.array(list(product((-1, 1), repeat=3)))
        return np.asarray(cube @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3])

    def shifts(self, matrices: Points, other: Points) -> Points:
        """(P, 8) distances, mm, between where maps and one other take those corners."""
        return np.asarray(np.linalg.norm(self.corners(matrices) - self.corners(other[None]), axis=-1))

    def apart(self, matrices: Points, other: Points) -> Points:
        """(P,) the largest of these."""
        return np.asarray(self.shifts(matrices, other).max(axis=-1))


@dataclass(frozen=True)
class Found:
    """Where the search ended.

    Parameters
    ----------
    matrix
        (4, 4), fixed → moving, RAS+ mm.
    agreeing
        How many starts ended within a coarse voxel's diagonal of the best.
    rival
        Middle score of the best other answer that was worth a climb, as a share of the best one's; 0 if there is none.
    """

    matrix: Points
    agreeing: int
    rival: float


def score_note(score: float) -> str:
    """Say how far a search is, as the note of a `Progress`: the normalised mutual information reached, from 1."""
    return f"score {1 + score:.3f}"


def search(pair: Pair, progress: Progress) -> Found:
    """Find the best rigid map.

    Raises
    ------
    RegistrationError
        If no pose lays one study over the other.
    """
    starts = poses(pair.moving.coarse, pair.centre)
    screened = pair.scores(starts, "coarse")
    level = pair.moving.coarse
    body = (level.extent * level.spacing).max() > BODY_MM
    if body:
        near = closer(starts[_best_apart(pair, starts, screened, IN_A_BODY)], pair.centre)
        starts, screened = np.concatenate([starts, near]), np.append(screened, pair.scores(near, "coarse"))
    if screened.max() <= 0:
        raise RegistrationError(
            "no position was found in which the two studies overlap enough to compare: expected one patient in both; "
            "check that the studies belong together, or align them by 'header'."
        )
    progress("align", 0.2, score_note(screened.max()))
    best = _best_apart(pair, starts, screened, IN_A_BODY) if body else np.argsort(-screened, kind="stable")[:STARTS]
    chosen = starts[[0, *best]]  # the first is the headers'
    # In fixed groups, so that sums do not depend on how many cores there are.
    ends = np.concatenate(parallel_map(lambda some: _ascend(pair, some), np.array_split(chosen, 4)))
    scores = pair.scores(ends, "coarse")
    progress("align", 0.5, score_note(scores.max()))
    order = np.argsort(-scores, kind="stable")
    differing = [int(order[0])]
    for end in order[1:]:
        if pair.apart(ends[differing], ends[end]).min() > APART_MM:
            differing.append(int(end))
    worth = [end for end in differing[:3] if scores[end] > CLOSE * scores[differing[0]]]
    climbed = np.array(parallel_map(lambda end: climb(pair, ends[end], "middle", steps=20), worth))
    middle = pair.scores(climbed, "middle")
    progress("align", 0.7, score_note(middle.max()))
    winner = climbed[int(np.argmax(middle))]
    found = polish(pair, winner)
    others = climbed[pair.apart(climbed, winner) > APART_MM]
    rival = pair.scores(others, "middle").max() / middle.max() if len(others) else 0.0
    return Found(found, int((pair.apart(ends, found) < 15).sum()), float(rival))


def _best_apart(pair: Pair, starts: Points, scores: Points, count: int) -> list[int]:
    """Places in the list of the best poses that differ."""
    corners = pair.corners(starts)
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(kept) == count:
            break
        if not kept or np.linalg.norm(corners[kept] - corners[place], axis=-1).max(axis=-1).min() > DIFFERING_MM:
            kept.append(int(place))
    return kept


def climb(
    pair: Pair, start: Points, level: str, *, steps: int = 40, freedom: int = 6, measure: Measure = shared_share
) -> Points:
    """Best map near ``start`` on a level: rigid with 6 degrees of freedom, affine with 12."""
    samples, moving = getattr(pair, level), getattr(pair.moving, level)
    return climb_by(
        pair.centre, start, lambda some: score(samples, moving, some, pair.possible, measure), steps, freedom
    )


def polish(pair: Pair, start: Points) -> Points:
    """Best rigid map near ``start``: as `climb` finds it, then by `LAST_POINTS` samples and `LAST_BINS` bins inside.

    Samples lie between the voxels of the fixed study, but on those of a CT, whose thin bone interpolation would blur.
    Of small voxels there are `FIELD_POINTS`, from all of the field. Where the fields share little, or the answer lies
    further than samples stay inside, what `climb` finds is kept.
    """
    found = climb(pair, start, "fine")
    end = _by_voxels(pair, found)
    if end is None:
        end = _last_climb(*_between_voxels(pair), found)
    return end if pair.apart(end[None], found)[0] <= MARGIN_MM else found


def _by_voxels(pair: Pair, found: Points) -> Points | None:
    """The last climb, by a CT's own voxels; None without one, and where the lattices lie on each other."""
    if pair.fixed.hounsfield:
        near, far, begin, centre = pair.fixed, pair.moving, found, pair.centre
    elif pair.moving.hounsfield:
        near, far, begin = pair.moving, pair.fixed, np.asarray(np.linalg.inv(found))
        centre = pair.centre @ found[:3, :3].T + found[:3, 3]
    else:
        return None
    mask = head_mask(near.coarse)
    samples = Samples.of_voxels(near.stored, near.coarse, mask, centre, LAST_POINTS, pair.seed + 6, LAST_BINS)
    if samples.locked(far.stored, begin):
        return None
    end = _last_climb(samples, far.stored, begin)
    return end if near is pair.fixed else np.asarray(np.linalg.inv(end))


def _between_voxels(pair: Pair) -> tuple[Samples, PyramidLevel]:
    """Samples of the fixed study for the last climb, and the level of the moving one that it looks at."""
    stored, fine = pair.fixed.stored, pair.fixed.fine
    if max(stored.spacing.max(), pair.moving.stored.spacing.max()) <= SHARP_MM:
        samples = Samples.of_field(stored, pair.centre, FIELD_POINTS, pair.seed + 6, LAST_BINS)
        return samples, pair.moving.stored
    mask = enlarged(head_mask(pair.fixed.coarse), fine)
    return Samples.draw(fine, mask, pair.centre, LAST_POINTS, pair.seed + 6, LAST_BINS), pair.moving.fine


def _last_climb(samples: Samples, level: PyramidLevel, begin: Points) -> Points:
    inner = samples.staying(level, begin)
    if len(inner.points) < LEAST_POINTS:
        return begin
    return climb_by(inner.centre, begin, lambda some: shared_information(inner, level, some), steps=40, freedom=6)


def _ascend(pair: Pair, starts: Points) -> Points:
    """Ends of many starts on the coarse level."""
    return ascend(pair.centre, starts, lambda some: score(pair.coarse, pair.moving.coarse, some, pair.possible))
