"""Say what became of each study of a cohort, from its ledger and the locks that living processes hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.cohort.running.ledger import COMPLETE, History, Ledger
from medfuse.cohort.running.ratings import NAME, Ratings, read_ratings
from medfuse.cohort.study.lock import held
from medfuse.errors import CohortError


@dataclass(frozen=True)
class Status:
    """How far a cohort is.

    Parameters
    ----------
    counts
        How many studies are in each state; they add up to ``planned``.
    planned
        How many studies the plan has.
    studies
        Each with its state, sentence, log and time, and its rating and comment where it has one.
    runs
        How often the cohort was run, shards each.
    damaged
        Lines of the ledger that a process did not finish.
    ratings
        What people think of the results; None where nobody saved ratings.
    """

    counts: Mapping[str, int]
    planned: int
    studies: tuple[Mapping[str, Any], ...]
    runs: int
    damaged: int
    ratings: Ratings | None = None

    @property
    def complete(self) -> bool:
        """Whether every study is done, now or before."""
        return sum(self.counts[result] for result in COMPLETE) == self.planned

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "planned": self.planned,
            "counts": dict(self.counts),
            "complete": self.complete,
            "studies": list(self.studies),
            "runs": self.runs,
            "damaged_lines": self.damaged,
            "ratings": self.ratings and self.ratings.to_dict([study["study"] for study in self.studies]),
        }


def read_status(folder: str | Path, ratings: str | Path | None = None) -> Status:
    """Read how far a cohort is, at any time, and how its results were rated.

    Parameters
    ----------
    folder
        The cohort's.
    ratings
        A file that the cohort's page saved; by default ``ratings.tsv`` in the folder, if it is there.

    Raises
    ------
    CohortError
        If the folder holds no cohort, or the file that was given no ratings.
    """
    folder = Path(folder)
    history = Ledger(folder).read()
    rated = _ratings(folder, ratings, history)
    begun = [study for study in history.plan if history.state(study) == "started"]
    running = {study for study in begun if held(folder, study)}
    studies = []
    for study in history.plan:
        line = history.last.get(study, {})
        state = history.state(study)
        if state == "started":
            state = "running" if study in running else "interrupted"
        rating = rated.of.get(study) if rated else None
        studies.append(
            {
                "study": study,
                "state": state,
                "message": line.get("message", ""),
                "log": line.get("log", ""),
                "time": line.get("time"),
                **({"rating": rating.word, "comment": rating.comment} if rating else {}),
            }
        )
    counts = history.counts(running)
    return Status(counts, len(history.plan), tuple(studies), len(history.runs), history.damaged, rated)


def _ratings(folder: Path, path: str | Path | None, history: History) -> Ratings | None:
    """The ratings of a file; one that nobody named stops nothing where it cannot be read."""
    if path is not None:
        return read_ratings(Path(path), history)
    found = folder / NAME
    if not found.exists():
        return None
    try:
        return read_ratings(found, history)
    except CohortError as error:
        return Ratings(found, faults=(str(error),))
