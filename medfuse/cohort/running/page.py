"""Write the page of a cohort, made anew from its ledger and the results that lie in its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from medfuse.cohort.running.dataset import alone, labels_of, refused_picture
from medfuse.cohort.running.ledger import COMPLETE, History, Ledger
from medfuse.cohort.running.status import read_status
from medfuse.report.cohort.page import Entry, cohort_page
from medfuse.runtime.output.atomic_output import atomic_file

NAME = "index.html"

MOST_PICTURE_BYTES = 10**5
"""A small picture takes a twentieth of that; what takes more was not made for this."""


def write_page(folder: str | Path) -> Path:
    """Write the page of a cohort, also while it runs or after a crash; return where it is.

    Raises
    ------
    CohortError
        If the folder holds no cohort.
    ExportError
        If the page cannot be written.
    """
    folder = Path(folder)
    Ledger(folder).read()  # raises where there is none, before anything is written
    with alone(folder):
        status = read_status(folder)
        history = Ledger(folder).read()
        entries = [_entry(folder, history, study) for study in status.studies]
        # The first run's name tells the cohort from every other; ratings outlive what is run later.
        cohort = hashlib.sha256(str(history.runs[0]["run"] if history.runs else "").encode()).hexdigest()[:16]
        page = cohort_page(entries, counts=status.counts, cohort=cohort)
        with atomic_file(folder / NAME, overwrite=True) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    return folder / NAME


def _entry(folder: Path, history: History, study: Any) -> Entry:
    """A study as the page shows it; pictures and pages only of results that are there now."""
    name, state = study["study"], study["state"]
    found = history.last.get(name, {}).get("row")
    row = found if isinstance(found, dict) else {}
    labels = labels_of(history.runs[-1], name)
    is_done = state in COMPLETE
    digest = history.digests.get(name, "")
    shown = row.get("thumbnail") if is_done else refused_picture(name, digest) if state == "refused" and digest else ""
    picture = _inside(folder, shown)
    page = _inside(folder, row.get("report")) if is_done else None
    log = _inside(folder, study["log"])
    return Entry(
        study=name,
        result=state,
        message=study["message"],
        modality=labels.get("modality") or str(row.get("modality") or ""),
        tracer=labels.get("tracer", ""),
        digest=digest,
        row=row,
        picture=_picture(picture),
        page=page.relative_to(folder).as_posix() if page else "",
        log=log.relative_to(folder).as_posix() if log else "",
    )


def _inside(folder: Path, said: object) -> Path | None:
    """A file that the ledger names, if it is there, and below the folder."""
    if not isinstance(said, str) or not said:
        return None
    parts = PurePosixPath(said)
    path = folder / said
    return path if not parts.is_absolute() and ".." not in parts.parts and path.is_file() else None


def _picture(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        content = path.read_bytes() if path.stat().st_size <= MOST_PICTURE_BYTES else b""
    except OSError:
        return b""
    return content if content[:3] == b"\xff\xd8\xff" else b""
