"""Go on from a linear map to a deformation where tissue moved between two scans, away from the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from medfuse.registration.body.pair import BodyPair
from medfuse.registration.body.verdict import LEAST_SHARED, assess_body, of_search, only_parts_disagree
from medfuse.registration.head import deformed
from medfuse.registration.search import Pair
from medfuse.registration.tissues import tissue_errors
from medfuse.registration.transform import Registration
from medfuse.registration.verdict import Opinion

RANKS: tuple[Opinion, ...] = ("not aligned", "unconfirmed", "aligned")

Whole = Callable[[], Pair | None]
"""Makes both studies ready for a deformation; None where they are too thin."""


def bend(pair: BodyPair, whole: Whole, shared: str, end: Registration, *, asked: bool) -> Registration:
    """Add a deformation to a linear map where it is confirmed; else return the map as it is.

    ``shared`` says which common world both headers name, if any. Where nobody asked for a deformation, it is tried only
    where parts of the body, bones or outlines that disagree are all that keeps the map from being aligned, and kept
    only if the pictures then confirm it. Where it was asked for, it is tried wherever nothing speaks against the map;
    but a place that the pictures cannot tell is not confirmed by a deformation. In both it must be better on samples
    that it was not fitted to and by a measure that it did not maximise (`medfuse.registration.deformable`), and the
    verdict must not get worse.
    """
    assert end.verdict is not None
    opinion, moved = end.verdict.opinion, only_parts_disagree(end.verdict)
    studies = whole() if moved or (asked and opinion != "not aligned") else None
    if studies is None:
        return end
    bent = deformed(studies, end, head=False)
    if bent.warp is None:
        return end
    verdict = assess_body(pair.warped(bent.warp), bent.matrix, of_search(end.verdict))
    if RANKS.index(verdict.opinion) < RANKS.index(opinion if asked else "aligned"):
        return end
    if verdict.opinion == "aligned" and opinion != "aligned" and not moved:
        verdict = replace(verdict, opinion=opinion, reasons=end.verdict.reasons)
    verdict = replace(verdict, tissues=tissue_errors(studies, bent.matrix, bent.warp))
    return replace(bent, verdict=verdict, headers=f"{shared}, but tissue moved" if shared else end.headers)


def with_tissues(whole: Whole, end: Registration) -> Registration:
    """Add to a verdict that does not confirm a map by how much each tissue disagrees under it.

    Where the two share almost nothing, as noise does, what is measured says nothing.
    """
    verdict = end.verdict
    if verdict is None or verdict.opinion == "aligned" or verdict.tissues is not None:
        return end
    if verdict.evidence["shared"] < LEAST_SHARED:
        return end
    studies = whole()
    if studies is None:
        return end
    return replace(end, verdict=replace(verdict, tissues=tissue_errors(studies, end.matrix, end.warp)))
