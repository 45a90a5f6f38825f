"""Build the page of a cohort: what became of each study, worst first, to be looked at, filtered and rated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from medfuse.report.cohort.distributions import RULE, Histogram, Measure, histogram
from medfuse.report.page.render import image_url, render_page
from medfuse.volume.modality import TRAITS

MOST_PICTURES_BYTES = 9 * 10**6
"""How much of small pictures stands in a page, the worst studies' first, so that it stays usable."""

NO_RESULT = ("failed", "killed", "refused", "interrupted")
OPEN = ("running", "waiting")

DOUBTFUL = "aligned but doubtful"

SEVERITY = {"not aligned": 0, "": 1, "unconfirmed": 2, DOUBTFUL: 3, "aligned": 4}
"""The order of verdicts, the worst first; no verdict where the study has no result."""

UPTAKE = {"PT": "PET", "NM": "SPECT", "CT": "CT"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One study as the page shows it.

    Parameters
    ----------
    study
        Its name in the plan.
    result
        What became of it, or ``running``, ``interrupted``, ``waiting``.
    message
        Why, where it is not done.
    modality, tracer
        Of the partner; empty where they are not known.
    digest
        What a rating of its present result is bound to; empty where there is nothing to rate.
    row
        What the cohort's table says of it.
    picture
        A small JPEG; empty where there is none.
    page, log
        Paths relative to the page; empty where there are none.
    """

    study: str
    result: str
    message: str = ""
    modality: str = ""
    tracer: str = ""
    digest: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    picture: bytes = b""
    page: str = ""
    log: str = ""

    @property
    def verdict(self) -> str:
        """``aligned``, the same but `DOUBTFUL`, ``unconfirmed``, ``not aligned``, or empty."""
        found = self.row.get("verdict")
        if found == "aligned" and self.row.get("doubtful") is True:
            return DOUBTFUL
        return found if isinstance(found, str) and found in SEVERITY else ""

    def value(self, name: str) -> float | None:
        """A figure of its row, if it is one."""
        found = self.row.get(name)
        if not isinstance(found, (int, float)) or isinstance(found, bool) or not math.isfinite(found):
            return None
        return float(found)

    @property
    def error_mm(self) -> float | None:
        """By how much its alignment may be off; None where nobody knows."""
        return self.value("error_mm")

    @property
    def partner(self) -> str:
        """The partner for people: FDG PET."""
        label = TRAITS[self.modality].label if self.modality in TRAITS else ""
        return " ".join(filter(None, (self.tracer, label)))

    @property
    def rank(self) -> tuple[int, float]:
        """Its place among others, the worst first: by verdict, then by error."""
        if self.result in OPEN:
            return len(SEVERITY), 0.0
        return SEVERITY[self.verdict], -math.inf if self.error_mm is None else -self.error_mm


def cohort_page(entries: Sequence[Entry], *, counts: Mapping[str, int], cohort: str) -> str:
    """Build the page.

    Parameters
    ----------
    entries
        Every study of the plan.
    counts
        How many studies are in each state, as the ledger has them.
    cohort
        Tells the cohort from others, so that a browser keeps its ratings apart: letters and digits.

    Returns
    -------
    str
        HTML in one file.
    """
    measures = list(measures_of(entries))
    flags = {entry.study: list(flags_of(entry, measures)) for entry in entries}
    ordered = sorted(entries, key=lambda entry: (*entry.rank, -len(flags[entry.study]), entry.study))
    left = MOST_PICTURES_BYTES
    rows = []
    for entry in ordered:
        left -= len(entry.picture)
        rows.append(
            {
                "entry": entry,
                "flags": flags[entry.study],
                "picture": image_url(entry.picture, "jpeg") if entry.picture and left >= 0 else "",
                "severity": entry.rank[0],
                "page": quote(entry.page),
                "log": quote(entry.log),
            }
        )
    drawn = [histogram(measure) for measure in measures if not measure.constant]
    return render_page(
        "cohort.html",
        title="Cohort of fused studies",
        context={
            "planned": len(entries),
            "counts": counts,
            "rows": rows,
            "filters": _filters(entries, flags),
            "histograms": [_described(one) for one in drawn],
            "constants": [
                (measure.name, next(iter(measure.values.values())), len(measure.values))
                for measure in measures
                if measure.constant
            ],
            "rule": RULE,
        },
        styles=("cohort.css",),
        scripts=("cohort.js",),
        data={"cohort": {"id": cohort}},
    )


def flags_of(entry: Entry, measures: Iterable[Measure]) -> Iterator[str]:
    """What is odd about a study, in words."""
    if entry.result in NO_RESULT:
        yield "no result"
    if entry.verdict in ("not aligned", "unconfirmed", DOUBTFUL):
        yield entry.verdict
    yield from dict.fromkeys(measure.flag for measure in measures if entry.study in measure.outliers)


def measures_of(entries: Sequence[Entry]) -> Iterator[Measure]:
    """What is compared over a cohort: alignment error, uptake, SUV factor and windows; each only of like studies."""
    made = [entry for entry in entries if entry.result not in (*NO_RESULT, *OPEN)]
    yield from _measure("Estimated alignment error, mm", "error outlier", entries, "error_mm", low_is_odd=False)
    for (modality, unit), alike in _by(made, lambda one: (one.modality, str(one.row.get("partner_unit") or ""))):
        label = " ".join(filter(None, (UPTAKE.get(modality, "partner"), "values")))
        yield from _measure(f"{label}, 99th percentile, {unit}", "value outlier", alike, "partner_p99")
    for (modality, suv), alike in _by(made, lambda one: (one.modality, str(one.row.get("suv") or ""))):
        if suv:
            name = f"{UPTAKE.get(modality, 'partner')}: SUV ({suv}) of one Bq/ml"
            yield from _measure(name, "SUV outlier", alike, "suv_factor")
    for edge in ("lower", "upper"):
        yield from _measure(f"MRI window, {edge} edge", "window outlier", made, f"mri_window_{edge}")
    for (modality, unit), alike in _by(made, lambda one: (one.modality, str(one.row.get("partner_unit") or ""))):
        for edge in ("lower", "upper"):
            name = f"{UPTAKE.get(modality, 'partner')} window, {edge} edge, {unit}"
            yield from _measure(name, "window outlier", alike, f"partner_window_{edge}")


def _by(entries: Sequence[Entry], key: Any) -> list[tuple[tuple[str, str], list[Entry]]]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return sorted(groups.items())


def _measure(
    name: str, flag: str, entries: Sequence[Entry], column: str, *, low_is_odd: bool = True
) -> Iterator[Measure]:
    values = {entry.study: value for entry in entries if (value := entry.value(column)) is not None}
    if values:
        yield Measure(name, flag, values, low_is_odd)


def _filters(entries: Sequence[Entry], flags: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What the table can be narrowed to: the name of a filter, its label, and how many studies each choice has."""
    chosen: tuple[tuple[str, str, Counter[str]], ...] = (
        ("result", "Result", Counter(entry.result for entry in entries)),
        ("verdict", "Verdict", Counter(entry.verdict or "none" for entry in entries)),
        ("partner", "Partner", Counter(entry.partner or "unknown" for entry in entries)),
        ("flags", "Flag", Counter(flag for each in flags.values() for flag in each)),
    )
    return [{"name": name, "label": label, "choices": sorted(found.items())} for name, label, found in chosen]


def _described(one: Histogram) -> dict[str, Any]:
    measure = one.measure
    first, median, third = measure.quartiles
    odd = [(study, measure.values[study]) for study in measure.outliers]
    told = f"{len(measure.values)} studies, median {median:.3g}, quartiles {first:.3g} and {third:.3g}"
    return {"drawing": one, "name": measure.name, "told": told, "outliers": odd}
