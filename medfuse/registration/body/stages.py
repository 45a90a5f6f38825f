"""Register two studies away from the head in stages: the headers, a rigid map, an affine one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from medfuse.registration.body.pair import FINE, BodyPair, climb
from medfuse.registration.body.search import search_body, search_turned
from medfuse.registration.body.verdict import assess_body, bones_fit_headers_better, of_search
from medfuse.registration.similarity import shared_share, unmoved
from medfuse.registration.transform import Registration
from medfuse.runtime.progress import Progress, part_of
from medfuse.volume.grid import Points

SAME_PLACE_MM = 2.0
"""Median distance over the body from a common frame of reference up to which the pictures agree with it."""

MOVED_MM, MOVED_FIT = 10.0, 1.05
"""From what distance on, and what fit over that under the headers, a place that is not confirmed still speaks against a
common frame of reference: PET and CT of one session fit up to 7 mm away."""

BETTER_SHAPE = 1.01
"""Fit of an affine map over that of the rigid one from which it is kept, on samples that it was not fitted to."""

MOST_STRETCH = 1.25
"""By what factor an affine map may change lengths; what goes further follows noise, not a patient."""


def register_body(pair: BodyPair, shared: str, progress: Progress, *, affine: bool) -> Registration:
    """Find the linear map, and what the pictures say of it.

    ``shared`` says which common world both headers name, if any: then turns of any angle are not tried.
    """
    found = search_body(pair, part_of(progress, 0.1, 0.7))
    if not shared:
        found = search_turned(pair, found)
    progress("align", 0.8)
    verdict = assess_body(pair, found.matrix, found.figures)
    end = Registration(found.matrix, "rigid", {"starts_agreeing": float(found.agreeing)}, verdict=verdict)
    return _stretched(pair, end) if affine else end


def beside_headers(pair: BodyPair, shared: str, end: Registration) -> Registration:
    """Weigh what was found against a common world that both headers name: what the pictures confirm goes first."""
    verdict = end.verdict
    assert verdict is not None
    header = np.eye(4)
    apart = pair.apart(end.matrix, header)
    elsewhere = f"{shared}, but the pictures fit {apart:.1f} mm away"
    if verdict.opinion == "aligned":
        if apart <= SAME_PLACE_MM:
            return replace(end, matrix=header, method="identity", headers=f"{shared}, and the pictures agree")
        return replace(end, headers=elsewhere)
    at_header = assess_body(pair, header).trusted()
    there, here = pair.fits(np.stack([end.matrix, header]), FINE)
    if apart >= MOVED_MM and there > MOVED_FIT * here and not bones_fit_headers_better(verdict, at_header):
        moved = f"they fit best {apart:.0f} mm from the headers' place, and do not confirm that either"
        refused = replace(verdict, opinion="not aligned", reasons=(*verdict.reasons, moved))
        return replace(end, verdict=refused, headers=elsewhere)
    kept = replace(end, matrix=header, method="identity")
    if at_header.opinion == "aligned":
        return replace(kept, verdict=at_header, headers=f"{shared}, and the pictures agree")
    # What the search found stays a doubt of the place, though it is not of this map.
    figures = at_header.evidence | of_search(verdict)
    at_header = replace(
        at_header, opinion="unconfirmed", reasons=at_header.reasons or verdict.reasons, evidence=figures
    )
    return replace(kept, verdict=at_header, headers=f"{shared}; the pictures cannot tell")


def _stretched(pair: BodyPair, end: Registration) -> Registration:
    """The affine stage: kept where it fits better on samples that it was not fitted to, and is believed."""
    matrix = climb(pair.levels[FINE], end.matrix, 12)
    fresh = pair.redrawn()
    before, after = fresh.fits(np.stack([end.matrix, matrix]), FINE)
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if after < BETTER_SHAPE * before or stretches[0] > MOST_STRETCH or stretches[-1] < 1 / MOST_STRETCH:
        return end
    assert end.verdict is not None
    return replace(end, matrix=matrix, method="affine", verdict=assess_body(pair, matrix, of_search(end.verdict)))


def body_scores(pair: BodyPair, end: Registration) -> dict[str, float]:
    """How much the two share at the end and under the headers, by the names of `Registration`."""
    seen = pair if end.warp is None else pair.warped(end.warp)
    return {
        "normalized_mutual_information": 1 + _shared(seen, end.matrix),
        "normalized_mutual_information_at_header": 1 + _shared(pair, np.eye(4)),
        **end.scores,
    }


def _shared(pair: BodyPair, matrix: Points) -> float:
    with torch.inference_mode():
        return float(pair.levels[FINE].parts(unmoved(matrix[None], pair.centre), shared_share)[0][0])
