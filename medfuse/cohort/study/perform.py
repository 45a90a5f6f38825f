"""Do one fusion of a plan, and say in the ledger what became of it."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from monai.data.meta_tensor import MetaTensor

from medfuse.cohort.running.dataset import KEY, refused_picture
from medfuse.cohort.running.ledger import Ledger, Result
from medfuse.cohort.running.request import Request
from medfuse.cohort.study.digest import Contents, study_digest
from medfuse.cohort.study.lock import begun_by, note_begin, note_end, study_lock
from medfuse.cohort.study.memory import predict
from medfuse.cohort.study.places import Places
from medfuse.cohort.study.record import Record
from medfuse.cohort.study.results import published, recorded, table_row, write_study
from medfuse.dicom import KeyedDeidentifier
from medfuse.errors import DeviceError, ExportError, MedfuseError, RegistrationError, WeightsError
from medfuse.intensity.suv import to_suv
from medfuse.load_study import load
from medfuse.methods import FusionMethod, load_method
from medfuse.methods.names import GESENET
from medfuse.pipeline.fuse import fuse
from medfuse.registration import Registration
from medfuse.report.cohort.thumbnail import pair_thumbnail
from medfuse.runtime.crash_log import crash_text
from medfuse.runtime.machine import forgot_peak, peak_mib
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.volume import MRI, PARTNERS, grid_of

OF_THE_MACHINE = (ExportError, DeviceError, WeightsError)
"""Errors that say nothing of the study: the same may succeed elsewhere, or once there is space."""

LOGS = "logs"

LOST = "the worker that did it was lost: its machine, its job or its process ended, and nobody was left to say why"

Line = dict[str, Any]


def look(request: Request, again: bool = False) -> Line:
    """See whether a study is done, and what it needs.

    Returns
    -------
    dict
        ``result``, the ledger's line, where it is settled; else ``memory``, in bytes, and the partner's ``modality``;
        or ``busy``, where another process works on it.
    """
    return _alone(request, again, _examine)


def perform(request: Request, again: bool = False) -> Line:
    """Do a study, unless it is done; returns as `look`, but never ``memory``.

    Parameters
    ----------
    request
        What is to be done; its modality as `look` found it.
    again
        Whether another process may have settled it in the name of this run.
    """
    return _alone(request, again, _do)


def _alone(request: Request, again: bool, work: Any) -> Line:
    """Work on a study that nobody else works on."""
    ledger = Ledger(request.folder)
    with study_lock(request.folder, request.name) as lock:
        if lock is None:
            return {"busy": True}
        noted = begun_by(lock)
        if noted.get("run") == request.run:
            # Dask gives a task to another worker where the first was lost; a study is not tried twice.
            said = ledger.settle(result_line(request, "killed", LOST))
            note_end(lock, request.run)
            return {"result": said}
        if noted.get("ended") == request.run and (former := ledger.result(request.name, request.run)) is not None:
            return {"result": dict(former)}  # the worker was lost after it, with its answer
        said = work(request, lock, ledger)
        if "result" in said:
            if again:
                said = {"result": ledger.settle(said["result"])}
            else:
                ledger.append(said["result"])
            note_end(lock, request.run)
        return dict(said)


def _examine(request: Request, lock: Any, ledger: Ledger) -> Line:
    try:
        found = predict(request)
        request = request.of_modality(found.modality)
        settled = _settled(request)
    except Exception as error:
        return {"result": _ended(request, error, "", request.folder / LOGS / f"{request.name}.log")}
    return {"result": settled} if settled else {"memory": found.memory, "modality": found.modality}


def _settled(request: Request) -> Line | None:
    """The line of a study that was done, or refused, before, with nothing changed since; None for one that was not."""
    places = Places.of(request)
    record = Record.read(places.folder / places.record)
    if record is None and not request.refusal:
        return None
    digest = study_digest(request, Contents(record.inputs if record else {}))
    if record is not None and record.digest == digest and record.whole(places.folder):
        return result_line(request, "skipped", "done before", digest=digest, row=dict(record.row))
    if request.refusal.get("digest") == digest:
        return result_line(request, "refused", request.refusal["message"], digest=digest)
    return None


def _do(request: Request, lock: Any, ledger: Ledger) -> Line:
    digest = ""
    log = request.folder / LOGS / f"{request.name}.log"
    try:
        settled = _settled(request)
        if settled:
            return {"result": settled}
        note_begin(lock, request.run)
        # A loss of power that loses this line loses nothing else: the study counts as not begun.
        ledger.append({"event": "started", "run": request.run, "study": request.name}, durable=False)
        places = Places.of(request)
        former = Record.read(places.folder / places.record)
        contents = Contents(former.inputs if former else {})
        digest = study_digest(request, contents)
        row = _fuse(request, places, former, digest, contents)
        return {"result": result_line(request, "done", "", digest=digest, row=row)}
    except Exception as error:
        return {"result": _ended(request, error, digest, log)}


def _fuse(request: Request, places: Places, former: Record | None, digest: str, contents: Contents) -> Line:
    started = time.perf_counter()
    forgot_peak()
    settings = request.settings
    chosen = request.effective
    method = _method(chosen["method"], settings.weights, settings.device, settings.engine)
    read = partial(load, fill_gaps=settings.fill_gaps, accept_cut=settings.accept_cut)
    mri = read(_place(request.mri), MRI, request.mri_series or None)
    partner = read(_place(request.partner), request.modality or PARTNERS, request.partner_series or None)
    if chosen.get("suv"):
        partner = to_suv(partner, normalisation=chosen["suv"])
    loaded = time.perf_counter()
    try:
        study = fuse(
            mri,
            partner,
            align=_alignment(chosen["align"], mri, partner),
            force=settings.force,
            window=chosen["window"] or None,
            palette=chosen["palette"] or None,
            join=chosen["join"],
            plane=chosen["plane"],
            method=method,
            batch_size=settings.batch_size,
            black_air=settings.black_air,
            different_patients=settings.different_patients,
        )
    except RegistrationError:
        _draw_refused(request, mri, partner, digest)
        raise
    if settings.deidentify:
        key = (request.folder / KEY).read_bytes()
        study = study.deidentified(KeyedDeidentifier.of_person(key, request.subject))
    fused = time.perf_counter()
    row = table_row(study, request, places, grid_of(partner))
    with published(places, former) as folder:
        write_study(study, request, places, folder)
        ended = time.perf_counter()
        times = {
            "seconds": ended - started,
            "seconds_loading": loaded - started,
            "seconds_fusing": fused - loaded,
            "seconds_writing": ended - fused,
        }
        row |= {name: round(value, 3) for name, value in times.items()} | {"peak_mib": peak_mib()}
        recorded(folder, places, Record(digest, contents.seen, {}, row))
    return row


def _draw_refused(request: Request, mri: MetaTensor, partner: MetaTensor, digest: str) -> None:
    """Write the pair as the headers place it, for the cohort's page, in the place of an earlier refusal's picture.

    Where that cannot be drawn or written, a log beside it says so; the refusal stays what the ledger tells.
    """
    picture = request.folder / refused_picture(request.name, digest)
    try:
        picture.parent.mkdir(exist_ok=True)
        with atomic_file(picture, overwrite=True) as temporary:
            temporary.write_bytes(pair_thumbnail(mri, partner))
        former = request.folder / refused_picture(request.name, request.refusal.get("digest", ""))
        if former != picture:
            former.unlink(missing_ok=True)
    except Exception as error:
        with suppress(OSError):
            text = crash_text(error, ("cohort", "run"), ("cohort", "run"))
            picture.with_suffix(".log").write_text(text, encoding="utf-8")


def _place(paths: tuple[str, ...]) -> Any:
    return paths[0] if len(paths) == 1 else list(paths)


def _alignment(align: str, mri: MetaTensor, partner: MetaTensor) -> Any:
    return Registration.load(align, mri, partner) if Path(align).is_absolute() else align


@cache
def _method(name: str, weights: str, device: str, engine: str) -> FusionMethod:
    """Load a method, its weights and its engine, once for this process."""
    if name == GESENET:
        return load_method(name, weights=weights, engine=engine, device=device)
    return load_method(name, device=device)


def result_line(request: Request, result: Result, message: str, **more: Any) -> Line:
    """The ledger's line about what became of a study."""
    said = {"message": message} if message else {}
    return {"event": "result", "run": request.run, "study": request.name, "result": result, **said, **more}


def _ended(request: Request, error: Exception, digest: str, log: Path | None = None) -> Line:
    """The line of a study that raised."""
    more: Line = {"digest": digest} if digest else {}
    if isinstance(error, RegistrationError) and error.found:
        more["row"] = {name: error.found.get(name) for name in ("verdict", "doubtful", "error_mm", "method")}
    if isinstance(error, MedfuseError) and not isinstance(error, OF_THE_MACHINE):
        return result_line(request, "refused", str(error), kind=type(error).__name__, **more)
    if _lacks_memory(error):
        return result_line(request, "killed", "memory: it asked for more than the system gives", **more)
    told = str(error) if isinstance(error, MedfuseError) else "a fault of medfuse; see the log"
    if log is not None:
        with suppress(OSError):  # the ledger says it, too
            log.parent.mkdir(exist_ok=True)
            log.write_text(crash_text(error, ("cohort", "run"), ("cohort", "run")), encoding="utf-8")
            more["log"] = log.relative_to(request.folder).as_posix()
    return result_line(request, "failed", told, kind=type(error).__name__, **more)


def _lacks_memory(error: Exception) -> bool:
    """Whether an allocation failed: Python, NumPy, torch and ITK each say it in their own way."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        words in text for words in ("not enough memory", "can't allocate memory", "bad_alloc", "Failed to allocate")
    )
