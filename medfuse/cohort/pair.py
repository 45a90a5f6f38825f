"""Pair each partner of a subject with an MRI by rules, with a reason for each series taken and each not taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from medfuse.cohort.candidate import Candidate
from medfuse.cohort.criteria import Criterion, mri_criteria, partner_criteria, ranked, refused, why_after
from medfuse.cohort.planned import LeftOut, PlannedFusion, fusion_name
from medfuse.cohort.rules import Rules
from medfuse.volume.modality import MRI, TRAITS, Modality

OTHER_KIND = "expected MR, CT, PET or SPECT"


@dataclass
class Reasons:
    """Why series were not taken, by their identity; the first reason that was found counts."""

    found: dict[int, str] = field(default_factory=dict)

    def add(self, one: Candidate, reason: str) -> None:
        self.found.setdefault(id(one), reason)


def pair_subject(
    candidates: Sequence[Candidate], rules: Rules, taken: set[str]
) -> tuple[list[PlannedFusion], list[LeftOut]]:
    """Plan the fusions of one subject.

    Parameters
    ----------
    candidates
        All its series.
    rules
        Which are chosen.
    taken
        Names of fusions so far; those of this subject are added.

    Returns
    -------
    list of PlannedFusion
        One for each partner: a modality and tracer of a study or session.
    list of LeftOut
        Every series that is part of none, each once.
    """
    reasons = Reasons()
    mris = [one for one in candidates if one.modality == MRI and _allowed(one, rules, reasons)]
    partners = [one for one in candidates if one.modality != MRI and _allowed(one, rules, reasons)]
    fusions: list[PlannedFusion] = []
    used: set[int] = set()
    for group in _groups(partners):
        criteria = partner_criteria(rules.partner, group)
        partner = _first_volume(ranked(group, criteria), criteria, reasons)
        if partner is None:
            continue
        within = [one for one in mris if _within(one, partner, rules, reasons)]
        compared = mri_criteria(rules, partner)
        mri = _first_volume(ranked(within, compared), compared, reasons)
        if mri is None:
            reasons.add(partner, _no_mri(mris, within))
            continue
        name = fusion_name(partner.subject, partner.session, partner.tracer, partner.modality, taken)
        taken.add(name.casefold())
        used |= {id(mri), id(partner)}
        fusions.append(_fusion(name, mri, partner, within, group, (compared, criteria), rules))
    unused = "no CT, PET or SPECT of this subject to fuse it with"
    left = [one.left_out(reasons.found.get(id(one), unused)) for one in candidates if id(one) not in used]
    return fusions, left


def _allowed(one: Candidate, rules: Rules, reasons: Reasons) -> bool:
    if one.modality not in TRAITS:
        reasons.add(one, one.unusable or f"{OTHER_KIND}, found another kind of object")
        return False
    why = refused(one, rules.mri if one.modality == MRI else rules.partner)
    if why:
        reasons.add(one, why)
    return not why


def _groups(partners: Iterable[Candidate]) -> list[list[Candidate]]:
    """Partners of which one is taken: those of one examination, modality and tracer."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for one in partners:
        groups.setdefault((one.study, one.modality, one.tracer), []).append(one)
    order: list[str] = list(TRAITS)
    return sorted(
        groups.values(), key=lambda group: (group[0].session, order.index(group[0].modality), group[0].tracer)
    )


def _first_volume(order: Sequence[Candidate], criteria: Sequence[Criterion], reasons: Reasons) -> Candidate | None:
    """The best that is a volume; those better are none, and those after it come after it."""
    best: Candidate | None = None
    for one in order:
        if best is not None:
            reasons.add(one, f"{best.name} is taken: {why_after(one, best, criteria)}")
            continue
        problem = one.check().problem
        if problem:
            reasons.add(one, f"no volume: {problem}")
        else:
            best = one
    return best


def _within(mri: Candidate, partner: Candidate, rules: Rules, reasons: Reasons) -> bool:
    if mri.study == partner.study:
        return True
    days = mri.days_before(partner)
    if days is None or abs(days) <= rules.days:
        return True
    reasons.add(mri, f"{abs(days)} days from the partner, and at most {rules.days} are allowed (days)")
    return False


def _no_mri(mris: Sequence[Candidate], within: Sequence[Candidate]) -> str:
    if within:
        return "none of the MRIs of this subject is a volume"
    return "no MRI of this subject is near enough in time (days)" if mris else "no MRI of this subject to fuse it with"


def _fusion(
    name: str,
    mri: Candidate,
    partner: Candidate,
    mris: Sequence[Candidate],
    partners: Sequence[Candidate],
    criteria: tuple[Sequence[Criterion], Sequence[Criterion]],
    rules: Rules,
) -> PlannedFusion:
    halves = [
        f"{one.name}: {_facts(one)}{_over(one, others, compared)}"
        for one, others, compared in ((mri, mris, criteria[0]), (partner, partners, criteria[1]))
    ]
    modality: Modality = partner.modality  # type: ignore[assignment]
    return PlannedFusion(
        name=name,
        subject=partner.subject,
        session=partner.session,
        mri=mri.paths,
        mri_series=mri.series,
        partner=partner.paths,
        partner_series=partner.series,
        modality=modality,
        tracer=partner.tracer,
        reason=f"{'; '.join(halves)}; {_relation(mri, partner, rules)}",
    )


def _facts(one: Candidate) -> str:
    """What speaks for a series, as far as its header says it."""
    checked = one.check()
    facts: list[str] = []
    if one.modality == MRI:
        facts.append("of unknown sequence" if one.sequence == "unknown" else one.sequence)
        facts += [] if one.contrast is None else ["with contrast agent" if one.contrast else "without contrast agent"]
    else:
        facts += [one.tracer] if one.tracer else []
        facts += [] if one.corrected is None else [f"{'' if one.corrected else 'not '}corrected for attenuation"]
        facts += [f"{one.reconstruction} reconstruction"] if one.reconstruction != "unknown" else []
        facts += [f"{one.kernel} kernel"] if one.kernel != "unknown" else []
    if checked.spacing:
        facts.append(" × ".join(f"{length:.3g}" for length in checked.spacing) + " mm")
    facts += [] if one.original is None else ["original" if one.original else "derived"]
    return ", ".join(facts) or "the header says no more"


def _over(best: Candidate, others: Sequence[Candidate], criteria: Sequence[Criterion]) -> str:
    """Over which other it was taken, and why; or that it is the only one."""
    order = ranked(others, criteria)
    after = order[next(place for place, one in enumerate(order) if one is best) + 1 :]  # those before are no volumes
    if not after:
        return ", the only one"
    more = f" and {len(after) - 1} more" if len(after) > 1 else ""
    return f", taken over {after[0].name}{more} ({why_after(after[0], best, criteria)})"


def _relation(mri: Candidate, partner: Candidate, rules: Rules) -> str:
    days = mri.days_before(partner)
    together = mri.study == partner.study
    where = "of one study" if together else "of two studies"
    if days is None:
        return f"{where}, dates not said"
    if not days:
        return f"{where}, the same day"
    apart = f"the MRI {abs(days)} {'day' if abs(days) == 1 else 'days'} {'before' if days > 0 else 'after'}"
    far = " by its own date, which may be wrong" if together and abs(days) > rules.days else ""
    return f"{where}, {apart}{far}"
