"""Write what a cohort's folder says of itself: as a BIDS dataset, and as a table of one row a study."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medfuse import nifti
from medfuse.cohort.running.ledger import NAME, Ledger
from medfuse.errors import ExportError
from medfuse.provenance import DISCLAIMER
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.output.file_lock import FileLock

LOCK = Path(".cohort", "dataset.lock")

KEY = Path(".cohort", "deidentify.key")
"""From which pseudonyms, UIDs and dates of a whole cohort follow; who runs it may destroy it afterwards."""

TABLE = "cohort.tsv"

IGNORED = (
    *(TABLE, "cohort.json", NAME, "logs", ".cohort", "ct", "spect", "fusion", "*_xfm.*", "*_dicom"),
    *(".sub-*.json", "index.html", "ratings.tsv", "*_report.html", "*_thumbnail.jpg"),
)
"""What BIDS has no place for: CT and SPECT, maps, DICOM, and what a cohort keeps for itself."""


def refused_picture(study: str, digest: str) -> str:
    """Where the picture of a pair lies that was refused for its alignment: a path within the cohort's folder."""
    return f"logs/{study}.refused-{digest[:16]}.jpg"


README = f"""# Fused studies

Each MRI of this cohort, fused with its CT, PET or SPECT by medfuse. {DISCLAIMER}

- `sub-*/[ses-*/]pet|ct|spect/*_desc-fused_*.nii.gz`: the fused volume on the MRI's grid, RGB or grey in [0, 1].
- `*_desc-registered_*.nii.gz`: the partner on the same grid, in its own unit.
- `*_xfm.tfm`, `*_xfm.h5`: the map from points of the MRI to points of the partner, as ITK has it (LPS+ mm).
- `*_dicom/`: the same as DICOM series, where that was asked for.
- `index.html`: all studies on a page, to be looked at and rated; `*_report.html`: one study's page.
- `ratings.tsv`: how people rated the results, if somebody saved that from the page.
- `cohort.tsv`: one row a study, with what became of it, alignment, windows, times and versions.
- `ledger.jsonl`: what was done when, from which `medfuse cohort status` counts.
"""

COLUMNS = {
    "name": "The study's name in the plan",
    "result": "done, refused, failed, killed or skipped; waiting, running or interrupted where there is no result yet",
    "message": "Why, where it is not done",
    "verdict": "Whether the pictures confirm the alignment",
    "doubtful": "Whether somebody should look at the alignment: the pictures do not confirm it, or it may be off",
    "error_mm": "By how much it may be off, mm",
    "partner_p99": "99th percentile of the partner on the MRI's grid, in partner_unit",
    "peak_mib": "The most memory that it took, MiB",
    "digest": "SHA-256 of inputs, settings, weights and version",
}


def links_of(paths: Sequence[Path]) -> dict[str, str]:
    """The BIDS datasets that files lie in, by their folders, and a name for each: raw, raw2 and so on."""
    roots: dict[str, None] = {}
    seen: dict[Path, Path | None] = {}
    for path in paths:
        folder = path.parent
        if folder not in seen:
            seen[folder] = next((up for up in folder.parents if (up / "dataset_description.json").is_file()), None)
        root = seen[folder]
        if root is not None:
            roots[str(root)] = None
    return {root: "raw" if number == 1 else f"raw{number}" for number, root in enumerate(sorted(roots), start=1)}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time write what describes the cohort."""
    (folder / LOCK).parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60
    while (lock := FileLock.taken(folder / LOCK, create=True)) is None:
        if time.monotonic() > end:
            raise ExportError(f"another process has held {folder / LOCK} for a minute; find out which.")
        time.sleep(0.02)
    with lock:
        yield


def describe_dataset(folder: Path, links: Mapping[str, str]) -> None:
    """Write dataset_description.json, .bidsignore and README.md, where they are absent or say something else."""
    description = nifti.dataset_description()
    if links:
        relative = {name: os.path.relpath(root, folder) for root, name in links.items()}
        description["DatasetLinks"] = dict(sorted(relative.items()))
    texts = {
        "dataset_description.json": json.dumps(description, indent=2) + "\n",
        ".bidsignore": "\n".join(IGNORED) + "\n",
        "README.md": README,
        "cohort.json": json.dumps({name: {"Description": text} for name, text in COLUMNS.items()}, indent=2) + "\n",
    }
    with alone(folder):
        for name, text in texts.items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                with atomic_file(path, overwrite=True) as temporary:
                    temporary.write_text(text, encoding="utf-8")


def provide_key(path: Path) -> None:
    """Draw the key of a cohort's de-identification, once; only this user can read it."""
    with alone(path.parents[1]):
        if not path.exists():
            with atomic_file(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(32))


def write_table(folder: Path, columns: Sequence[str], running: Sequence[str] = ()) -> None:
    """Write the cohort's table, one row a study of the plan, from what the ledger says now."""
    with alone(folder):
        history = Ledger(folder).read()
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, escapechar=None)
        writer.writerow(columns)
        for study in history.plan:
            line = history.last.get(study, {})
            state = history.state(study)
            known = {**line.get("row", {}), **{name: line.get(name) for name in ("message", "digest")}}
            known |= {"name": study, "result": "interrupted" if state == "started" else state}
            known |= labels_of(history.runs[-1], study)
            writer.writerow([_cell(known.get(name)) for name in columns])
        with atomic_file(folder / TABLE, overwrite=True) as temporary:
            temporary.write_text(stream.getvalue(), encoding="utf-8")


def labels_of(run: Mapping[str, Any], study: str) -> dict[str, str]:
    """Subject, session, tracer and modality of a study, as far as the run's plan has them."""
    found = run.get("labels", {}).get(study)
    names = ("subject", "session", "tracer", "modality")
    return {name: text for name, text in zip(names, found, strict=False) if text} if isinstance(found, list) else {}


def _cell(value: Any) -> str:
    """A value as a cell of a BIDS table: without tabs and line ends, and n/a for nothing."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return "n/a"
    if isinstance(value, list):
        return ",".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split())
