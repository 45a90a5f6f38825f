"""Say what became of each study of a cohort, from its ledger and the locks that living processes hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.cohort.running.ledger import COMPLETE, Ledger
from medfuse.cohort.study.lock import held


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
        Each with its state, sentence, log and time.
    runs
        How often the cohort was run, shards each.
    damaged
        Lines of the ledger that a process did not finish.
    """

    counts: Mapping[str, int]
    planned: int
    studies: tuple[Mapping[str, Any], ...]
    runs: int
    damaged: int

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
        }


def read_status(folder: str | Path) -> Status:
    """Read how far a cohort is, at any time; `CohortError` where the folder holds none."""
    folder = Path(folder)
    history = Ledger(folder).read()
    begun = [study for study in history.plan if history.state(study) == "started"]
    running = {study for study in begun if held(folder, study)}
    studies = []
    for study in history.plan:
        line = history.last.get(study, {})
        state = history.state(study)
        if state == "started":
            state = "running" if study in running else "interrupted"
        studies.append(
            {
                "study": study,
                "state": state,
                "message": line.get("message", ""),
                "log": line.get("log", ""),
                "time": line.get("time"),
            }
        )
    return Status(history.counts(running), len(history.plan), tuple(studies), len(history.runs), history.damaged)
