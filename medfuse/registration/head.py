"""Register two studies of a head in stages, and decide whether headers that name one world are believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medfuse.nifti.reading import TEMPLATE_SPACES
from medfuse.registration.assess import agrees_within, assess, cannot_tell
from medfuse.registration.deformable.deform import deform
from medfuse.registration.search import SIGNIFICANT, Pair, climb, score_note, search
from medfuse.registration.transform import Registration
from medfuse.registration.verdict import UNASSESSED
from medfuse.runtime.progress import Progress, part_of
from medfuse.volume.grid import Points

SAME_SIZE = 1e-4
"""By what share voxels may differ and count as equally large; headers hold some five digits."""

TEMPLATES = {space: f"both headers name the {space} space" for space in TEMPLATE_SPACES.values()}
"""What is said of two images of one template space."""

NORMALISED_MM = 8.0
"""How far heads that were normalised to one template may disagree in it: averages of many do by 2 to 5 mm, single ones
that were normalised affinely by more."""

AGREES_MM = 3.0
"""How far the best map near a common frame of reference may lie from it before the patient is taken to have moved."""


def head_at_headers(pair: Pair, shared: str) -> Registration:
    """The common world that two headers name: identity where it is trusted; else the method is another.

    A frame of reference is where a patient lay, and the patient may have moved: the pictures must agree with it, or be
    unable to tell. A template space is what images were normalised to: it is their meaning, and heads that differ stay
    some millimetres apart in it.
    """
    header = np.eye(4)
    verdict = assess(pair, header)
    trusted = Registration(header, "identity", verdict=verdict.trusted())
    untold = cannot_tell(verdict)
    if not untold and shared in TEMPLATES.values() and agrees_within(verdict, NORMALISED_MM):
        return replace(trusted, headers=f"{shared}; normalised images are not registered")
    if untold or verdict.opinion != "not aligned":
        # Also where too little shows at the headers' place: a larger shift must not get the weaker check.
        near = climb(pair, climb(pair, header, "middle", steps=20), "fine")
        apart = pair.apart(near[None], header)[0]
        if apart <= AGREES_MM or assess(pair, near).opinion != "aligned":
            kept = "; the pictures cannot tell" if untold else ", and the pictures agree"
            return replace(trusted, headers=f"{shared}{kept}")
        return replace(trusted, method="header", headers=f"{shared}, but the pictures fit {apart:.1f} mm away")
    return replace(trusted, method="header", headers=f"{shared}, but the pictures disagree")


def search_head(pair: Pair, progress: Progress, method: str) -> Registration:
    """The stages from the headers to the one that was asked for."""
    progress("align", 0.1)
    found = search(pair, part_of(progress, 0.1, 0.7))
    fresh = pair.redrawn()
    at_header, at_found = fresh.scores(np.stack([np.eye(4), found.matrix]))
    progress("align", 0.7, score_note(max(at_header, at_found)))
    if at_found < at_header * SIGNIFICANT:
        end = Registration(np.eye(4), "header", verdict=UNASSESSED)
    else:
        end = Registration(_on_one_lattice(pair, found.matrix, fresh), "rigid", verdict=UNASSESSED)
    end = replace(end, scores={"starts_agreeing": float(found.agreeing)})
    if method in ("affine", "deformable"):
        stretched = climb(pair, end.matrix, "fine", freedom=12)
        before, after = fresh.scores(np.stack([end.matrix, stretched]))
        if after >= before * SIGNIFICANT:
            end = replace(end, matrix=stretched, method="affine")
    progress("align", 0.8, score_note(fresh.scores(end.matrix[None])[0]))
    verdict = assess(pair, end.matrix, found.rival)
    end = replace(end, verdict=verdict)
    progress("align", 0.9, score_note(fresh.scores(end.matrix[None])[0]))
    # Bent far enough, another head fits as well, and so does a mirror image.
    if method != "deformable" or verdict.opinion == "not aligned":
        return end
    bent = deformed(pair, end)
    if bent.warp is None:
        return end
    return replace(bent, verdict=assess(pair.warped(bent.warp), bent.matrix, found.rival))


def deformed(pair: Pair, end: Registration, *, head: bool = True) -> Registration:
    """Add a deformation where it is confirmed by samples that it was not fitted to; else the same. See `deform`."""
    warp = deform(pair, end.matrix, head=head)
    return end if warp is None else replace(end, method="deformable", warp=warp)


def _on_one_lattice(pair: Pair, matrix: Points, fresh: Pair) -> Points:
    """The map near ``matrix`` that lays one study's voxels on the other's, first on first or last; else ``matrix``.

    Two series with as many voxels of the same size, found to lie within a voxel of each other, corner on corner, were
    resampled onto one lattice before a header was lost or changed: six numbers do not come that close by chance.
    """
    fixed, moving = pair.fixed.stored, pair.moving.stored
    axes = np.rint((np.linalg.inv(moving.affine) @ matrix @ fixed.affine)[:3, :3])
    steps = np.abs(axes)
    one_to_one = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    if not one_to_one or tuple(steps @ fixed.shape) != moving.shape:
        return matrix
    index = np.eye(4)
    index[:3, :3], index[:3, 3] = axes, (moving.extent - axes @ fixed.extent) / 2
    onto = np.asarray(moving.affine @ index @ np.linalg.inv(fixed.affine))
    rigid = np.allclose(onto[:3, :3].T @ onto[:3, :3], np.eye(3), rtol=0, atol=SAME_SIZE)
    if not rigid or pair.apart(onto[None], matrix)[0] > fixed.spacing.max():
        return matrix
    at_found, at_onto = fresh.scores(np.stack([matrix, onto]))
    return onto if at_found < at_onto * SIGNIFICANT else matrix


def head_scores(pair: Pair, end: Registration) -> dict[str, float]:
    """How much the two share at the end and under the headers, by the names of `Registration`."""
    seen = pair if end.warp is None else pair.warped(end.warp)
    return {
        "normalized_mutual_information": 1 + float(seen.scores(end.matrix[None])[0]),
        "normalized_mutual_information_at_header": 1 + float(pair.scores(np.eye(4)[None])[0]),
        **end.scores,
    }
