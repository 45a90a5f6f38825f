"""Define a plan: which MRI is fused with which partner and why, what was left out, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medfuse.runtime.notebook.html_table import rows_table
from medfuse.volume.modality import TRAITS, Modality

if TYPE_CHECKING:
    from distributed import Client

    from medfuse.cohort.running.run import Outcome
    from medfuse.cohort.running.settings import Settings

MOST_SHOWN = 20
"""Fusions in the table that a notebook shows."""


@dataclass(frozen=True, kw_only=True)
class PlannedFusion:
    """One fusion: an MRI, its partner, and how the two are fused; an empty text leaves a setting at its default.

    Parameters
    ----------
    name
        Distinguishes it from every other of its plan, also where a file system ignores case: Latin letters, digits,
        ``-`` and ``_``. It names files, and stands in logs; it is never made of a patient's name or ID.
    subject, session
        Labels as BIDS has them: Latin letters and digits, without ``sub-`` and ``ses-``. The session may be empty.
    mri, partner
        Absolute paths: one folder, archive or NIfTI file, or the DICOM files of a series.
    mri_series, partner_series
        SeriesInstanceUID (``UID:2`` for the second volume of a series), or SeriesNumber, where the path holds several
        series; else it may be empty.
    modality
        The partner's; empty where its header says it.
    tracer
        The tracer's label, such as FDG; letters and digits.
    align
        A way to align, or the absolute path of a registration file.
    window, palette, plane, method
        As the options of the same names.
    reason
        Why these two, in words.
    """

    name: str
    subject: str
    session: str = ""
    mri: tuple[Path, ...]
    mri_series: str = ""
    partner: tuple[Path, ...]
    partner_series: str = ""
    modality: Modality | str = ""
    tracer: str = ""
    align: str = ""
    window: str = ""
    palette: str = ""
    plane: str = ""
    method: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A series or file that is part of no fusion, and why.

    Parameters
    ----------
    subject, session
        As of `PlannedFusion`; empty where they are not known.
    series
        What it is, for people: its number, its kind and how many slices it has.
    paths
        Where it lies: a folder, or files.
    uid
        SeriesInstanceUID; empty where it has none.
    modality
        By its DICOM code; empty where it is not known.
    reason
        One sentence without its full stop.
    """

    subject: str = ""
    session: str = ""
    series: str
    paths: tuple[Path, ...] = ()
    uid: str = ""
    modality: str = ""
    reason: str


@dataclass(frozen=True)
class RowFault:
    """A row of a manifest that cannot be a fusion.

    Parameters
    ----------
    row
        Line of the file where it begins, counted from 1, which is the header.
    name
        What stands for it in the counts of a run; distinct from the names of all fusions.
    message
        One sentence: what was expected, and what to do. It repeats no cell, which might hold a patient's name.
    """

    row: int
    name: str
    message: str


@dataclass(frozen=True, repr=False)
class Plan:
    """What is fused with what, and why; what is not, and why; and the rows that could not be read.

    Parameters
    ----------
    rows
        The fusions.
    left_out
        Series that are part of none.
    faults
        Rows of a manifest that cannot be fusions.
    source
        What was planned: a folder or a manifest. Plans of equal rows are equal, wherever they came from.
    """

    rows: tuple[PlannedFusion, ...]
    left_out: tuple[LeftOut, ...] = ()
    faults: tuple[RowFault, ...] = ()
    source: Path = field(default=Path(), compare=False)

    def __repr__(self) -> str:
        """One line; it names no file, whose path may say whose it is."""
        return f"Plan({len(self.rows)} fusions, {len(self.left_out)} series left out, {len(self.faults)} faults)"

    def _repr_html_(self) -> str:
        """What notebooks show: the first fusions and why, and how much is left out."""
        labels: dict[str, str] = {code: traits.label for code, traits in TRAITS.items()}
        rows = [
            (row.name, row.subject, row.session, labels.get(row.modality, row.modality), row.tracer, row.reason)
            for row in self.rows[:MOST_SHOWN]
        ]
        more = len(self.rows) - len(rows)
        said = [f"{len(self.rows)} fusions, {len(self.left_out)} series left out, {len(self.faults)} rows with faults."]
        said += [f"{more} fusions more are not shown."] if more else []
        table = rows_table(("fusion", "subject", "session", "partner", "tracer", "why these two"), rows)
        return f"<div><p>{' '.join(said)}</p>{table}</div>"

    def run(
        self,
        out: str | Path,
        *,
        settings: Settings | None = None,
        client: Client | None = None,
        scheduler: str = "",
        workers: int = 0,
        memory: int = 0,
        shard: str = "1/1",
        only: Sequence[str] = (),
        ratings: str | Path | None = None,
        align: str = "",
    ) -> Iterator[Outcome]:
        """Do each study of the plan once, and yield what became of it as it ends.

        Parameters
        ----------
        out
            Folder of the results: new, empty, or of an earlier run, which is gone on with.
        settings
            How the fusions are made, where the rows do not say it.
        client
            A Dask client, whose workers do the studies; it stays open.
        scheduler
            Address of a Dask scheduler instead.
        workers
            Processes on this machine, where neither is given; 0 for as many as cores and memory allow.
        memory
            The most that a worker takes for its studies, bytes; 0 for its share of the machine, or its own limit.
        shard
            ``I/N`` for every N-th study, from the I-th.
        only
            ``accepted``, ``doubtful`` or ``rejected``, one or several: run the studies whose results were rated so, and
            leave the others as they are.
        ratings
            The file that the cohort's page saved; by default ``ratings.tsv`` in ``out``.
        align
            With ``only``: a way to align these studies in this run and in later ones, as long as plan and settings say
            of their alignment what they say now.

        Yields
        ------
        Outcome
            One for each study of the plan, or of the shard.

        Raises
        ------
        CohortError
            If there is nothing to run, no worker to run it, or no Dask.
        ExportError
            If the folder holds something else, lies in an input, or cannot be written.
        """
        from medfuse.cohort.running.ratings import Only
        from medfuse.cohort.running.run import Shard, run_plan
        from medfuse.cohort.running.settings import Settings
        from medfuse.cohort.running.where import Where

        return run_plan(
            self.rows,
            self.faults,
            out,
            settings=settings or Settings(),
            where=Where(client, scheduler, workers, memory),
            shard=Shard.parse(shard),
            only=Only.of(only, ratings, align),
        )


def fusion_name(subject: str, session: str, tracer: str, modality: str, taken: Iterable[str] = ()) -> str:
    """Name a fusion by its labels, in the order of BIDS, so that no two of a plan are alike.

    >>> fusion_name("01", "02", "FDG", "PT")
    'sub-01_ses-02_trc-FDG_pet'
    >>> fusion_name("01", "", "", "CT", ["sub-01_ct"])
    'sub-01_run-2_ct'
    """
    stem = "_".join(
        f"{entity}-{label}" for entity, label in (("sub", subject), ("ses", session), ("trc", tracer)) if label
    )
    traits = TRAITS.get(cast("Modality", modality))
    suffix = traits.label.lower() if traits else "fusion"
    used = {one.casefold() for one in taken}
    name, run = f"{stem}_{suffix}", 1
    while name.casefold() in used:
        run += 1
        name = f"{stem}_run-{run}_{suffix}"
    return name
