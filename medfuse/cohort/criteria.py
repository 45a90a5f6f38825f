"""Compare candidates by one criterion after another, and say in words which decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from medfuse.cohort.candidate import Candidate
from medfuse.cohort.rules import MriRules, PartnerRules, Rules, Wish

Key = Any
"""Anything that sorts: the smallest is the best."""


@dataclass(frozen=True)
class Criterion:
    """What candidates are compared by: a key for each, and what is said of one whose key is larger."""

    key: Callable[[Candidate], Key]
    says: Callable[[Candidate, Candidate], str]


def mri_criteria(rules: Rules, partner: Candidate) -> list[Criterion]:
    """How MRIs for a partner are compared, the most important first."""
    mri = rules.mri
    known = {
        "near": Criterion(lambda one: not is_near(one, partner, rules), lambda one, _: _far(one, partner, rules)),
        "sequence": Criterion(
            lambda one: mri.sequences.index(one.sequence), lambda one, best: f"{best.sequence} before {one.sequence}"
        ),
        "contrast": Criterion(lambda one: _unwanted(one.contrast, mri.contrast), _contrast_words),
        "resolution": _resolution(mri.resolution_mm),
        "original": _original(mri.original),
        "time": Criterion(
            lambda one: _time_key(one, partner),
            lambda one, best: f"{_days(best, partner)} comes before {_days(one, partner)}",
        ),
    }
    return [*(known[name] for name in mri.order), *_last()]


def partner_criteria(rules: PartnerRules, compared: Sequence[Candidate]) -> list[Criterion]:
    """How partners of one modality, tracer and session are compared, the most important first."""
    longest = max((one.extent_mm for one in compared), default=0.0)
    known = {
        "corrected": Criterion(
            lambda one: _unwanted(one.corrected, rules.corrected),
            lambda one, _: (
                "not corrected for attenuation" if one.corrected is False else "nothing says that it is corrected"
            ),
        ),
        "whole": Criterion(
            lambda one: bool(one.extent_mm) and one.extent_mm < rules.whole * longest,
            lambda one, best: f"a part: {one.extent_mm:.0f} mm along the slices, of {longest:.0f} mm",
        ),
        "original": _original(rules.original),
        "reconstruction": Criterion(
            lambda one: _place(rules.reconstructions, one.reconstruction),
            lambda one, best: f"{best.reconstruction} reconstruction before {one.reconstruction}",
        ),
        "kernel": Criterion(
            lambda one: _place(rules.kernels, one.kernel), lambda one, best: f"{best.kernel} kernel before {one.kernel}"
        ),
        "resolution": _resolution(rules.resolution_mm),
        "time": Criterion(
            lambda one: -one.when.timestamp() if one.when else 0.0, lambda one, best: "the later one is taken"
        ),
    }
    return [*(known[name] for name in rules.order), *_last()]


def ranked(candidates: Sequence[Candidate], criteria: Sequence[Criterion]) -> list[Candidate]:
    """The candidates, the best first; two that nothing tells apart stay in the order of their UIDs and paths."""
    return sorted(candidates, key=lambda one: tuple(criterion.key(one) for criterion in criteria))


def why_after(one: Candidate, best: Candidate, criteria: Sequence[Criterion]) -> str:
    """What decided between two candidates: the first criterion in which they differ."""
    deciding = (criterion for criterion in criteria if criterion.key(one) != criterion.key(best))
    return next((criterion.says(one, best) for criterion in deciding), "alike in all that is compared")


def refused(one: Candidate, rules: MriRules | PartnerRules) -> str:
    """Why the rules do not allow a candidate at all; empty where they do."""
    text = one.text.casefold()
    if one.unusable:
        return one.unusable
    if 0 < one.slices < rules.least_slices:
        return f"fewer than {rules.least_slices} slices (least_slices)"
    if rules.only and not any(fnmatchcase(text, pattern.casefold()) for pattern in rules.only):
        return "its description matches none of the patterns to be taken (only)"
    if any(fnmatchcase(text, pattern.casefold()) for pattern in rules.never):
        return "its description matches a pattern not to be taken (never)"
    if rules.original in ("require", "exclude") and one.original is not (rules.original == "require"):
        return "the rules take original slices alone" if rules.original == "require" else "the rules take derived alone"
    if isinstance(rules, MriRules):
        return _mri_refused(one, rules)
    if one.modality not in rules.modalities:
        return "the rules take no partner of this modality (modalities)"
    if one.modality in ("PT", "NM"):
        if rules.corrected in ("require", "exclude") and one.corrected is not (rules.corrected == "require"):
            return f"the rules {rules.corrected} correction for attenuation (corrected)"
        if one.reconstruction not in rules.reconstructions:
            return f"the rules take no {one.reconstruction} reconstruction (reconstructions)"
    if one.modality == "CT" and one.kernel not in rules.kernels:
        return f"the rules take no {one.kernel} kernel (kernels)"
    return ""


def is_near(mri: Candidate, partner: Candidate, rules: Rules) -> bool:
    """Whether an MRI is of the partner's own examination, or at most a few days from it."""
    if mri.study == partner.study:
        return True
    days = mri.days_before(partner)
    return days is not None and abs(days) <= rules.near_days


def _mri_refused(one: Candidate, rules: MriRules) -> str:
    if one.sequence not in rules.sequences:
        return f"{_article(one.sequence)}, which the rules do not take (sequences)"
    if rules.contrast == "require" and one.contrast is not True:
        return "the rules require a contrast agent, and the header names none (contrast)"
    if rules.contrast == "exclude" and one.contrast:
        return "the rules exclude a contrast agent (contrast)"
    return ""


def _article(sequence: str) -> str:
    kinds = {
        "map": "a map of measured values",
        "attenuation-map": "an attenuation map",
        "localizer": "a localizer",
        "unknown": "an MRI of a kind that nothing tells",
        "functional": "a functional MRI",
        "angiography": "an angiography",
        "diffusion": "a diffusion MRI",
        "perfusion": "a perfusion MRI",
    }
    return kinds.get(sequence, f"a {sequence} MRI")


def _unwanted(has: bool | None, wish: Wish) -> bool:
    """Whether something is not as preferred; what is not said counts as absent."""
    return {"prefer": not has, "avoid": bool(has)}.get(wish, False)


def _contrast_words(one: Candidate, best: Candidate) -> str:
    if best.contrast:
        return "with contrast agent before without" if one.contrast is False else "no contrast agent is named"
    return "without contrast agent before with"


def _original(wish: Wish) -> Criterion:
    wanted = {"prefer": False, "avoid": True}.get(wish)
    return Criterion(
        lambda one: wanted is not None and (one.original is False) is not wanted,
        lambda one, _: "derived, after original" if wanted is False else "original, after derived",
    )


def _resolution(bounds: Sequence[float]) -> Criterion:
    return Criterion(
        lambda one: sum(one.edge_mm > bound for bound in bounds) if one.edge_mm else len(bounds),
        lambda one, best: f"coarser: {_edge(one)} after {_edge(best)}",
    )


def _edge(one: Candidate) -> str:
    return f"{one.edge_mm:.3g} mm" if one.edge_mm else "unknown voxels"


def _last() -> list[Criterion]:
    """What decides where no rule does, so that the same files always give the same plan."""
    return [
        Criterion(lambda one: round(one.edge_mm, 2) or 1e3, lambda one, best: f"{_edge(best)} before {_edge(one)}"),
        Criterion(lambda one: -round(one.extent_mm), lambda one, best: "covers less"),
        Criterion(lambda one: (one.uid, one.paths), lambda one, best: "alike in all that is compared"),
    ]


def _place(known: Sequence[str], word: str) -> int:
    return known.index(word) if word in known else len(known)


def _time_key(mri: Candidate, partner: Candidate) -> tuple[int, float]:
    """Newest before the partner first, then the earliest after it; those without a date last."""
    if mri.when is None or partner.when is None:
        return 2, 0.0
    seconds = (partner.when - mri.when).total_seconds()
    return (0, seconds) if seconds >= 0 or mri.when.date() == partner.when.date() else (1, -seconds)


def _far(mri: Candidate, partner: Candidate, rules: Rules) -> str:
    days = mri.days_before(partner)
    if days is None:
        return "of another study, and nothing says when"
    return f"{abs(days)} days from the partner, and another is of its study or within {rules.near_days} days"


def _days(mri: Candidate, partner: Candidate) -> str:
    days = mri.days_before(partner)
    if days is None:
        return "one without a date"
    if not days:
        return "the later one of the same day" if mri.when != partner.when else "the same day"
    return f"{abs(days)} {'day' if abs(days) == 1 else 'days'} {'before' if days > 0 else 'after'} the partner"
