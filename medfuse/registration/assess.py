"""Assess, by the pictures alone, whether an alignment can be trusted and by how many millimetres it may be off.

The search maximises the similarity of two whole heads. Five criteria that it did not use assess its result:

- *Local agreement.* Which value goes with which is known from the whole heads and compared with the pictures block by
  block: how far from where the map puts it does each block of 48 mm fit best? In two studies of one head, hardly any
  distance; in two heads, or a head and its mirror image, several millimetres. This gives the map of errors.
- *Deliberate misalignment.* The same pair, shifted by 28 mm and turned by 20° about each axis, must share much less.
- *Mirror image.* Mirrored and optimised anew, the pair must not share more.
- *Rivals.* No other pose may share nearly as much.
- *Another measure.* Where mutual information is greatest, the correlation ratio must be so too.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from medfuse.registration.pyramid import PyramidLevel
from medfuse.registration.search import Pair, climb
from medfuse.registration.similarity import BINS, Samples, correlation_ratio, joint, maps, project, uncentred, unmoved
from medfuse.registration.verdict import Verdict, above
from medfuse.runtime.parallel import parallel_map
from medfuse.volume.grid import Points

MOST_ERROR_MM = 3.0
"""Typical local disagreement up to which two studies count as aligned. Other heads differ by 3.5 mm and more."""

MOST_OF_MISALIGNED = 0.8
"""Share of the score that may be left where the pair is misaligned on purpose."""

MOST_OF_MIRRORED = 1.02
"""Score of the mirror image over that of the pair; symmetric phantoms and atlases come to 1.00."""

MOST_OF_RIVAL = 0.97
"""Score of another pose over that of the answer."""

MOST_APART_MM = 8.0
"""How far from the map the correlation ratio may be best, in the mean over the head's corners. Heads under their true
maps come to 2.3 mm, parts that show different places to over 20."""

LEAST_SCORE = 0.01
"""Normalised mutual information above 1 that pictures of one head exceed by far, and noise does not reach."""

BLOCK_MM, REACH_MM, STEP_MM = 48.0, 8.0, 4.0
"""Edge of a block, how far it looks about, and in which steps; a parabola interpolates between them."""

BLOCK_POINTS, LEAST_POINTS, LEAST_COVERED, LEAST_BLOCKS = 20_000, 100, 0.8, 6
"""Samples in all, in a block, their share in the moving field, and blocks that can be assessed."""


def assess(pair: Pair, matrix: Points, rival: float = 0.0) -> Verdict:
    """Assess a map.

    Parameters
    ----------
    pair
        The two studies.
    matrix
        (4, 4), fixed → moving, RAS+ mm.
    rival
        Share of the score that another answer reached; see `search`.
    """
    here = float(pair.scores(matrix[None], "middle")[0])
    with torch.inference_mode():
        overlap = float(project(pair.middle, pair.moving.middle, unmoved(matrix[None], pair.centre))[1].mean())
    places, errors = local_errors(pair, matrix)
    other = climb(pair, matrix, "middle", steps=20, measure=correlation_ratio)
    apart = float(pair.shifts(other[None], matrix).mean())
    error = float(np.median(errors)) if len(errors) >= LEAST_BLOCKS else float("inf")
    evidence = {
        "score": here,
        "head_overlap": overlap,
        "misaligned": float(pair.scores(_misaligned(pair, matrix), "middle").max()) / max(here, 1e-6),
        "mirrored": _mirrored(pair, matrix, here),
        "rival": rival,
        "measures_apart_mm": apart,
        "blocks": float(len(errors)),
    }
    reasons = _reasons(evidence, error)
    return Verdict("not aligned" if reasons else "aligned", max(error, apart), reasons, places, errors, evidence)


def cannot_tell(verdict: Verdict) -> bool:
    """Whether too little of the head is in both fields, and what is there does not speak against the map."""
    evidence = verdict.evidence
    shared = evidence["score"] >= LEAST_SCORE and evidence["mirrored"] <= MOST_OF_MIRRORED
    return shared and evidence["blocks"] < LEAST_BLOCKS


def agrees_within(verdict: Verdict, most_mm: float) -> bool:
    """Whether nothing speaks against a map but a distance, of up to so many millimetres."""
    return not _reasons(verdict.evidence, 0.0) and verdict.error_mm <= most_mm


def _reasons(evidence: dict[str, float], error: float) -> tuple[str, ...]:
    found = []
    if evidence["score"] < LEAST_SCORE:
        found.append(f"the two share almost nothing (score {evidence['score']:.4f}, expected over {LEAST_SCORE})")
        return tuple(found)
    if evidence["mirrored"] > MOST_OF_MIRRORED:
        found.append(
            f"the partner's mirror image fits {evidence['mirrored'] - 1:.0%} better than the partner: left and right "
            "seem exchanged in one of the two"
        )
    if evidence["blocks"] < LEAST_BLOCKS:
        found.append(f"too little is in both fields ({evidence['head_overlap']:.0%} of the fixed study)")
    else:
        if evidence["misaligned"] > MOST_OF_MISALIGNED:
            found.append(
                f"misaligned on purpose, the two still share {evidence['misaligned']:.0%} of what they share aligned "
                f"(expected under {MOST_OF_MISALIGNED:.0%})"
            )
        if evidence["rival"] > MOST_OF_RIVAL:
            found.append(f"another pose fits as well ({evidence['rival']:.0%} of the score)")
        if evidence["measures_apart_mm"] > MOST_APART_MM:
            found.append(
                f"by another measure, the correlation ratio, the two fit best {evidence['measures_apart_mm']:.0f} mm "
                f"away (expected within {MOST_APART_MM:g} mm)"
            )
        if error > MOST_ERROR_MM:
            found.append(f"parts of the two disagree by {above(error, MOST_ERROR_MM, 1)}, as those of two patients do")
    return tuple(found)


def local_errors(pair: Pair, matrix: Points) -> tuple[Points, Points]:
    """Where blocks of the head fit best: (n, 3) their centres, RAS+ mm, and (n,) how far away, mm.

    A block's fit is the mean pointwise mutual information of its samples, log p(a, b) / (p(a) p(b)), with p from the
    whole head under ``matrix``. Blocks that the moving field does not cover are left out.
    """
    step = max(1, len(pair.fine.points) // BLOCK_POINTS)
    samples = Samples(pair.fine.points[::step], pair.fine.bins[::step], pair.centre)
    steps = np.arange(-REACH_MM, REACH_MM + 0.1, STEP_MM)
    blocks, member, count = np.unique(
        np.round(samples.points.numpy() / BLOCK_MM).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    member = member.ravel()
    with torch.inference_mode():
        here = unmoved(matrix[None], pair.centre)
        values, inside = project(samples, pair.moving.fine, here)
        shares = joint(samples, values, inside)[0] + 0.01  # what was never seen is improbable, not impossible
        shares /= shares.sum()
        table = torch.log(shares / (shares.sum(dim=1, keepdim=True) * shares.sum(dim=0, keepdim=True)))
        covered = np.bincount(member, inside[0].numpy(), len(blocks)) / count
    fits = np.stack(
        parallel_map(
            lambda move: _fits(samples, pair.moving.fine, here, table, move, member), list(product(steps, repeat=3))
        )
    )
    known = (count >= LEAST_POINTS) & (covered >= LEAST_COVERED)
    fits = fits.reshape(len(steps), len(steps), len(steps), -1)[..., known]
    return pair.centre + BLOCK_MM * blocks[known], np.array(
        [_peak(fits[..., block], steps) for block in range(known.sum())]
    )


def _fits(
    samples: Samples,
    moving: PyramidLevel,
    here: torch.Tensor,
    table: torch.Tensor,
    move: tuple[float, ...],
    member: npt.NDArray[np.intp],
) -> Points:
    """(blocks,) mean of the table over each block's samples, the moving study displaced by ``move`` mm."""
    with torch.inference_mode():
        there = here.clone()
        there[0, :3, 3] += torch.tensor(move, dtype=torch.float64)
        values, inside = project(samples, moving, there)
    place = 1.5 + values[0] * (BINS - 4)
    lowest = place.long()
    rest = place - lowest
    fit = (1 - rest) * table[samples.bins, lowest] + rest * table[samples.bins, lowest + 1]
    weight = np.bincount(member, inside[0].numpy())
    return np.asarray(np.bincount(member, (fit * inside[0]).numpy()) / np.maximum(weight, 1e-6))


def _peak(fits: Points, steps: Points) -> float:
    """Distance from no displacement to the best one, mm; by a parabola along each axis where it lies within."""
    best = np.unravel_index(fits.argmax(), fits.shape)
    place = []
    for axis, at in enumerate(best):
        line = fits[tuple(slice(None) if other == axis else index for other, index in enumerate(best))]
        offset = 0.0
        if 0 < at < len(steps) - 1:
            before, middle, after = line[at - 1 : at + 2]
            offset = 0.5 * (before - after) / min(before - 2 * middle + after, -1e-12)
        place.append(steps[at] + offset * STEP_MM)
    return float(np.linalg.norm(place))


def _misaligned(pair: Pair, matrix: Points) -> Points:
    """(12, 4, 4) the map, shifted by 28 mm and turned by 20° about each axis, both ways."""
    amounts = [28.0 * np.eye(6)[axis] * side for axis in range(6) for side in (-1, 1)]
    changes = torch.tensor(np.array(amounts))
    return uncentred(maps(np.repeat(matrix[None], len(changes), axis=0), changes, pair.centre), pair.centre)


def _mirrored(pair: Pair, matrix: Points, here: float) -> float:
    """What the mirror image shares, climbed anew from where it lies over the head, over what the pair shares."""
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 2 * pair.centre[0]

    def climbed(start: Points) -> float:
        return float(pair.scores(climb(pair, start, "middle", steps=20)[None], "middle")[0])

    share = climbed(matrix @ mirror) / max(here, 1e-6)
    # A map that is off can still improve for the pair itself.
    return share if share <= MOST_OF_MIRRORED else share * here / max(here, climbed(matrix), 1e-6)
