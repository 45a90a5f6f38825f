"""Assess a map away from the head: aligned, not aligned, or the pictures cannot tell.

The search maximises what values and outlines share. The verdict asks what it did not use:

- *Parts.* Shifted by itself, each eighth of the body hardly moves. This gives the map of errors.
- *Another measure.* The correlation ratio is best at nearly the same place.
- *Outlines.* In the median, the skin of both lies in one place.
- *Bones.* Where a CT shows cortical bone, an MRI is dark, and not less so than where the headers put it.
- *Starts.* Several starts end at the answer, and no other answer fits nearly as well.
- *Deliberate misalignment.* Shifted by 28 mm or turned by 20°, the two fit worse.
- *Scale.* Where the parts fit best, they do not lie as those of a body that is larger, smaller or stretched.

What speaks against a map is told apart from what only does not speak for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medfuse.registration.body.measure import evidence
from medfuse.registration.body.pair import BodyPair
from medfuse.registration.verdict import Opinion, Verdict, above
from medfuse.volume.grid import Points

LEAST_SHARED = 0.1
"""Mutual information, nats, that two pictures of one body exceed by far, and noise does not reach."""

MOST_APART_MM, MOST_OUTLINES_MM = 8.0, 10.0
"""How far parts, typically, and another measure may fit best from where the map puts them; and how far outlines may lie
apart: breathing and blur alone come to 6 mm."""

FAR_APART_MM, FAR_OUTLINES_MM = 14.0, 18.0
"""From where on they speak against a map, and no longer only not for it."""

MOST_OF_MISALIGNED, MOST_OF_RIVAL = 0.95, 0.95
"""Fits, as shares of the answer's: misaligned on purpose, and of another answer."""

MOST_SCALE, FAR_SCALE, SURE_SCALE, CERTAIN = 0.06, 0.1, 0.03, 4.0
"""By which share parts may move apart as those of a body of another size before it does not speak for a map, and before
no deformation is fitted to it; and from which on it counts where it is that many standard errors. CT and PET of eight
limbs, rightly aligned, come to 0.04, and 1.6 standard errors."""

MOST_STRETCH_MM = 6.0
"""How far parts may move apart along one axis. The same limbs come to 4.4 mm, and to 5.6 mm where the map is 1 mm off;
with the PET shortened by 10 % along the limb, five of the eight to more, or to parts that lie apart."""

LEAST_AGREEING, LEAST_PARTS, LEAST_OVERLAP = 2, 4, 0.25
"""Starts that end at the answer; parts that can be shifted; and the share of samples in both fields."""


MOST_BONES_MM, LESS_CONTRAST = 3.0, 0.05
"""How far a CT's bone may lie from where an MRI is darkest, and by how much less than under the headers it may stand
out there, as a share of what is around it. Of eight limbs, five come to 0 to 2 mm and at most 0.047 less, and three
whose bones the search left to 4 mm and more, or 0.07 and more less."""


def assess_body(pair: BodyPair, matrix: Points, search: Mapping[str, float] | None = None) -> Verdict:
    """Assess a map (4, 4), fixed → moving.

    ``search`` holds the figures of the search for it, or for the simpler map that it came from (`BodyFound.figures`).
    """
    figures, local = evidence(pair, matrix)
    figures |= search or {}
    against, untold = _against(figures), _untold(figures)
    opinion: Opinion = "not aligned" if against else "unconfirmed" if untold else "aligned"
    error = max(figures["parts_apart_mm"], figures["measures_apart_mm"])
    if opinion == "unconfirmed":
        untold = (f"the pictures cannot tell: {untold[0]}", *untold[1:])
    return Verdict(opinion, float(error), (*against, *untold), local.places, local.errors_mm, figures)


def only_parts_disagree(verdict: Verdict) -> bool:
    """Whether a map is not confirmed, and would be if parts of the body, bones and outlines lay where it puts them.

    They do not where tissue moved; then they may also lie a little as those of a scaled body. All else that a verdict
    asks for is met.
    """
    if verdict.opinion == "aligned" or abs(verdict.evidence["parts_scale"]) > FAR_SCALE:
        return False
    figures = verdict.evidence | dict.fromkeys(("parts_apart_mm", "outlines_apart_mm", "bones_apart_mm"), 0.0)
    figures |= {
        "parts_scale": 0.0,
        "parts_stretch_mm": 0.0,
        "bone_contrast_at_header": figures.get("bone_contrast", 0.0),
    }
    return not _against(figures) and not _untold(figures)


def of_search(verdict: Verdict) -> dict[str, float]:
    """The figures of the search behind a verdict: what a more flexible map from there does not change."""
    return {name: verdict.evidence[name] for name in ("rival", "agreeing", "starts") if name in verdict.evidence}


def bones_agree(verdict: Verdict) -> bool:
    """Whether a CT's bone is seen to lie where an MRI is darkest."""
    return verdict.evidence.get("bones_apart_mm", np.inf) <= MOST_BONES_MM


def _against(figures: dict[str, float]) -> tuple[str, ...]:
    """What speaks against a map."""
    if figures["shared"] < LEAST_SHARED:
        return (f"the two share almost nothing ({figures['shared']:.2f} nats, expected over {LEAST_SHARED:g})",)
    found = []
    if _scaled(figures) and figures["parts_apart_mm"] > MOST_APART_MM:
        found.append(_of_another_scale(figures))
    if figures["parts_apart_mm"] > FAR_APART_MM and np.isfinite(figures["parts_apart_mm"]):
        found.append(f"parts of the body disagree by {above(figures['parts_apart_mm'], MOST_APART_MM)}")
    outlines = figures["outlines_apart_mm"]
    if outlines > FAR_OUTLINES_MM and np.isfinite(outlines):
        found.append(f"the outlines lie apart by {above(outlines, MOST_OUTLINES_MM)}")
    return tuple(found)


def _untold(figures: dict[str, float]) -> tuple[str, ...]:
    """What does not speak for a map."""
    found = []
    if figures["overlap"] < LEAST_OVERLAP or figures["parts"] < LEAST_PARTS:
        found.append(f"too little is in both fields ({figures['overlap']:.0%} of the fixed study)")
    elif MOST_APART_MM < figures["parts_apart_mm"] <= FAR_APART_MM:
        found.append(f"parts of the body disagree by {above(figures['parts_apart_mm'], MOST_APART_MM, 1)}")
    if figures.get("bones_apart_mm", 0.0) > MOST_BONES_MM:
        found.append(f"bones disagree by {above(figures['bones_apart_mm'], MOST_BONES_MM)}")
    elif _bones_stand_out_less(figures):
        found.append(
            f"the CT's bone is darker than what is around it in the MRI by {figures['bone_contrast']:.0%}, and by "
            f"{figures['bone_contrast_at_header']:.0%} where the headers put it"
        )
    if figures["measures_apart_mm"] > MOST_APART_MM:
        found.append(
            f"by another measure, the correlation ratio, the two fit best {figures['measures_apart_mm']:.0f} mm away "
            f"(expected within {MOST_APART_MM:g} mm)"
        )
    if MOST_OUTLINES_MM < figures["outlines_apart_mm"] <= FAR_OUTLINES_MM:
        found.append(f"the outlines lie apart by {above(figures['outlines_apart_mm'], MOST_OUTLINES_MM)}")
    if _scaled(figures) and figures["parts_apart_mm"] <= MOST_APART_MM:
        found.append(_of_another_scale(figures))
    if figures["misaligned"] > MOST_OF_MISALIGNED:
        found.append(f"misaligned on purpose, the two still fit {figures['misaligned']:.0%} as well")
    if figures.get("rival", 0.0) > MOST_OF_RIVAL:
        found.append(f"another place fits {figures['rival']:.0%} as well")
    if figures.get("agreeing", LEAST_AGREEING) < LEAST_AGREEING:
        found.append("starts near the headers end in different places")
    return tuple(found)


def bones_fit_headers_better(found: Verdict, at_header: Verdict) -> bool:
    """Whether a CT's bone lies right in an MRI where the headers put it, and not where the two fit best.

    Then the headers are right about bones, and what fits elsewhere is tissue that moved around them.
    """
    here = found.evidence
    return bones_agree(at_header) and (here.get("bones_apart_mm", 0.0) > MOST_BONES_MM or _bones_stand_out_less(here))


def _bones_stand_out_less(figures: dict[str, float]) -> bool:
    return figures.get("bone_contrast_at_header", 0.0) - figures.get("bone_contrast", 0.0) > LESS_CONTRAST


def _scaled(figures: dict[str, float]) -> bool:
    """Whether the parts lie as those of a body that is larger, smaller or stretched."""
    return _larger_or_smaller(figures) or figures["parts_stretch_mm"] > MOST_STRETCH_MM


def _larger_or_smaller(figures: dict[str, float]) -> bool:
    scale = abs(figures["parts_scale"])
    return scale > MOST_SCALE or (scale > SURE_SCALE and figures["parts_scale_certainty"] > CERTAIN)


def _of_another_scale(figures: dict[str, float]) -> str:
    if _larger_or_smaller(figures):
        how = f"with all lengths changed by {figures['parts_scale']:+.0%}"
    else:
        how = f"{above(figures['parts_stretch_mm'], MOST_STRETCH_MM)} farther or nearer along one axis"
    return f"parts of the body fit best {how}: the partner seems to have another scale or shear"
