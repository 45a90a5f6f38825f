"""Run a plan: give each study to a worker once, and report what became of it."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medfuse.cohort.running.dataset import KEY, describe_dataset, links_of, provide_key, write_table
from medfuse.cohort.running.ledger import COMPLETE, History, Ledger, Result
from medfuse.cohort.running.page import write_page
from medfuse.cohort.running.ratings import Only
from medfuse.cohort.running.request import Request, Row
from medfuse.cohort.running.settings import Settings
from medfuse.cohort.running.where import Where
from medfuse.cohort.study.places import Places
from medfuse.errors import CohortError, ExportError
from medfuse.nifti import is_nifti
from medfuse.provenance import software
from medfuse.runtime.output.atomic_output import require_outside
from medfuse.runtime.output.place import require_place

if TYPE_CHECKING:
    from distributed import Client

ROW = (
    *("name", "subject", "session", "tracer", "modality", "result", "message", "verdict", "doubtful", "error_mm"),
    *("method", "rotation_deg", "translation_mm", "overlap", "mri_window_lower", "mri_window_upper"),
    *("partner_window_lower", "partner_window_upper", "partner_unit", "partner_p99"),
    *("suv", "suv_factor", "palette", "plane"),
    *("mri_shape", "mri_spacing_mm", "partner_shape", "partner_spacing_mm"),
    *("fused_by", "engine", "weights", "weights_sha256"),
    *("software", "seconds", "seconds_loading", "seconds_fusing", "seconds_writing", "peak_mib", "digest"),
)
"""Columns of the cohort's table."""


class Fault(Protocol):
    """A row of a manifest that is no fusion; see `medfuse.cohort.RowFault`."""

    @property
    def name(self) -> str: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one study.

    Parameters
    ----------
    study
        Its name in the plan.
    result
        ``done``, ``refused``, ``failed``, ``killed`` or ``skipped``.
    message
        Why, in a sentence; empty where it is done.
    log
        A file relative to the cohort's folder, where there is one.
    row
        What the cohort's table says of it.
    """

    study: str
    result: Result
    message: str = ""
    log: str = ""
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Outcome:
        """The outcome that a line of the ledger tells."""
        return cls(line["study"], line["result"], line.get("message", ""), line.get("log", ""), line.get("row", {}))

    @property
    def complete(self) -> bool:
        """Whether it counts as success."""
        return self.result in COMPLETE


@dataclass(frozen=True)
class Shard:
    """One of several parts of a plan, which are run apart: every ``of``-th study, from the ``number``-th, from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``; `CohortError` where it is none."""
        first, slash, second = text.partition("/")
        if not (slash and first.isascii() and first.isdecimal() and second.isascii() and second.isdecimal()):
            raise CohortError(f"expected a shard as I/N, such as 1/4; found {text[:40]!r}.")
        number, of = int(first), int(second)
        if not 1 <= number <= of:
            raise CohortError(f"expected a shard from 1/{of} to {of}/{of}; found {text[:40]!r}.")
        return cls(number, of)

    def of_names(self, names: Sequence[str]) -> list[str]:
        """Its names of a plan's."""
        return list(names[self.number - 1 :: self.of])


def run_plan(
    rows: Sequence[Row],
    faults: Sequence[Fault],
    out: str | Path,
    *,
    settings: Settings = Settings(),
    where: Where = Where(),
    shard: Shard = Shard(),
    only: Only | None = None,
) -> Iterator[Outcome]:
    """Run a plan's studies, each once, and yield what became of each as it ends.

    What was done before with the same inputs, settings, weights and version is skipped. A study that another process
    works on is waited for. The folder's ledger has every result before it is yielded.

    Parameters
    ----------
    rows, faults
        Of the plan.
    out
        Folder of the results: new, empty, or of an earlier run.
    settings
        What the rows do not say.
    where
        Who does the work.
    shard
        Which part of the plan.
    only
        Which studies of that, by how their results were rated; None for all.

    Raises
    ------
    CohortError
        If there is nothing to run, or no worker to run it.
    ExportError
        If the folder holds something else, lies in an input, or cannot be written.
    WeightsError, DeviceError
        If weights or engine are not as asked.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100  what leads up behind a link leads elsewhere
    names = [*(row.name for row in rows), *(fault.name for fault in faults)]
    if not names:
        raise CohortError("expected a plan of at least one study, found none; look at what `medfuse cohort plan` says.")
    require_dask()
    if only is not None:
        Ledger(out).read()  # raises where no cohort was run
    ledger = _prepare(out, rows)
    former = ledger.read() if ledger.path.exists() else History()
    mine = set(shard.of_names(names)) & (set(names) if only is None else only.names(out, former))
    if not mine:
        return
    run = secrets.token_hex(6)
    realigned = _realigned(rows, mine, only.align if only else "", settings)
    labels = {row.name: [row.subject, row.session, row.tracer, str(row.modality)] for row in rows}
    begun = {"plan": names, "labels": labels, "shard": [shard.number, shard.of], "software": software()}
    begun |= {"only": list(only.rated), "alignments": realigned} if only else {}
    ledger.append({"event": "run", "run": run, **begun, "host": platform.node(), "process": os.getpid()})
    links = links_of([path for row in rows for path in (*row.mri, *row.partner)])
    describe_dataset(out, {} if settings.deidentify else links)
    if settings.deidentify:
        provide_key(out / KEY)
    alignments = {**former.alignments, **realigned}
    requests = [Request.of(row, settings, out, run, links, _refusal(former, row.name)) for row in rows]
    requests = [replace(each, own={**each.own, "align": _alignment(each, alignments)}) for each in requests]
    yield from _described(out, _outcomes(ledger, run, faults, requests, mine, where))


def _outcomes(
    ledger: Ledger, run: str, faults: Sequence[Fault], requests: Sequence[Request], mine: set[str], where: Where
) -> Iterator[Outcome]:
    """Refuse what is no fusion, have the others done, and yield what became of each of ``mine``."""
    for fault in faults:
        if fault.name in mine:
            yield _refused(ledger, run, fault.name, fault.message)
    asked = []
    for request, other in _placed(requests):
        if request.name not in mine:
            continue
        if other != request.name:
            message = f"its files would be called as those of {other}; give one of the two another name or label."
            yield _refused(ledger, run, request.name, message)
        else:
            asked.append(request)
    if asked:
        from medfuse.cohort.running.distribute import distribute

        with _client(where, len(asked)) as (client, threads):
            for line in distribute(client, asked, ledger, memory=where.memory, threads=threads):
                yield Outcome.of(line)


def _described(out: Path, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Pass outcomes on, and write the cohort's table and page once they end, however that comes."""
    complete = True
    try:
        for outcome in outcomes:
            complete = complete and outcome.complete
            yield outcome
    finally:
        try:
            write_table(out, ROW)
            write_page(out)
        except ExportError:
            # A disk on which studies failed has no space for these either; both are made of the ledger at any time.
            if complete:
                raise


def _placed(requests: Sequence[Request]) -> Iterator[tuple[Request, str]]:
    """Each request, and the name of the first one whose results go to the same place."""
    taken: dict[tuple[str, str], str] = {}
    for request in requests:
        places = Places.of(request)
        key = str(places.folder).casefold(), places.record.casefold()
        yield request, taken.setdefault(key, request.name)


def _ruled(align: str) -> str:
    """A digest of the way to align that plan and settings say: it may be a path, which the ledger does not hold."""
    return hashlib.sha256(align.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _realigned(rows: Sequence[Row], mine: set[str], align: str, settings: Settings) -> dict[str, tuple[str, str]]:
    """The studies that are aligned in another way from now on, as the ledger has them."""
    chosen = [row for row in rows if align and row.name in mine]
    return {row.name: (align, _ruled(str(row.align) or settings.align)) for row in chosen}


def _alignment(request: Request, alignments: Mapping[str, tuple[str, str]]) -> str:
    """What a request says of its alignment; that of a former run, while plan and settings say what they said then."""
    align, instead = alignments.get(request.name, ("", ""))
    ruled = request.own["align"] or request.settings.align
    return align if instead == _ruled(ruled) else request.own["align"]


def _refused(ledger: Ledger, run: str, name: str, message: str) -> Outcome:
    line = {"event": "result", "run": run, "study": name, "result": "refused", "message": message}
    ledger.append(line)
    return Outcome.of(line)


def _refusal(history: History, name: str) -> dict[str, str]:
    """Digest and sentence of the last time that a study was refused for what it is."""
    line = history.last.get(name, {})
    if line.get("result") == "refused" and line.get("digest"):
        return {"digest": str(line["digest"]), "message": str(line.get("message", ""))}
    return {}


def require_dask() -> None:
    """Raise `CohortError` where a package is missing that cohorts are run by."""
    for package in ("distributed", "psutil"):
        if find_spec(package) is None:
            raise CohortError(f"expected Dask to run a cohort, found no package `{package}`; install medfuse[cohort].")


def _folders(paths: Sequence[Path]) -> Iterator[Path]:
    """What must not be written into: folders that are read, those of DICOM files, and NIfTI files themselves."""
    if len(paths) == 1 and (paths[0].is_dir() or is_nifti(paths[0])):
        yield paths[0]
    else:
        yield from {path.parent for path in paths}


def _prepare(out: Path, rows: Sequence[Row]) -> Ledger:
    """Check that the folder may take results, and make it."""
    require_place(out)
    require_outside(out, {place for row in rows for paths in (row.mri, row.partner) for place in _folders(paths)})
    ledger = Ledger(out)
    if out.exists() and not out.is_dir():
        raise ExportError(f"expected a folder for the results, found a file: {out}; choose another --out.")
    try:
        if not ledger.path.exists() and out.is_dir() and any(out.iterdir()):
            raise ExportError(f"{out} holds other files, and no cohort; choose a new or empty folder as --out.")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror}; choose a writable folder.") from None
    return ledger


@contextmanager
def _client(where: Where, studies: int) -> Iterator[tuple[Client, int]]:
    """A client of the workers that were asked for, and on how many threads each study computes; 0 leaves it to them."""
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster
    from distributed.system import MEMORY_LIMIT

    from medfuse.cohort.running.children import children, threads_said

    if where.client is not None:
        yield where.client, 0
        return
    if where.scheduler:
        try:
            client = Client(where.scheduler, timeout=30)
        except (OSError, ValueError) as error:
            raise CohortError(
                f"no Dask scheduler answers at {where.scheduler} ({type(error).__name__}); check the address, and that "
                "it runs."
            ) from None
        with client:
            yield client, 0
        return
    workers = min(where.workers or max(1, min(CPU_COUNT, MEMORY_LIMIT // LEAST_MEMORY)), studies)
    threads = threads_said() or max(1, CPU_COUNT // workers)
    # Its workers are threads of this process, for each has a process of its own for the studies: no port is opened by
    # which others could give it work, and a death is seen by the one that asked. Dask's pages, which cannot be turned
    # off, are served to this machine only.
    with (
        children.ahead(workers, threads),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            memory_limit=int(MEMORY_LIMIT * SHARE_OF_MEMORY) // workers,
            dashboard_address=LOOPBACK,
            worker_dashboard_address=LOOPBACK,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client, threads


LOOPBACK = "127.0.0.1:0"

LEAST_MEMORY = 3 * 2**30
"""What a worker should have: a study of 256 × 256 × 256 voxels takes less."""

SHARE_OF_MEMORY = 0.9
