"""Record what a study's results were made of, and check that they are complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medfuse.cohort.study.digest import file_sha256


@dataclass(frozen=True)
class Record:
    """What a study's results were made of.

    Parameters
    ----------
    digest
        Of all that decides what the results are; see `medfuse.cohort.study.digest.study_digest`.
    inputs
        State of the input files, as `medfuse.cohort.study.digest.Contents` has it.
    outputs
        For each result, relative to the record: its size, when it was written, and its SHA-256.
    row
        What the cohort's table says of the study.
    """

    digest: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, list[Any]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read a record; None where there is none, or none that can be read."""
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            record = cls(str(said["digest"]), said["inputs"], said["outputs"], said["row"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if all(isinstance(one, dict) for one in (record.inputs, record.outputs, record.row)) else None

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    def whole(self, folder: Path) -> bool:
        """Whether each result is there as it was written; what was touched since is read."""
        try:
            return bool(self.outputs) and all(_unchanged(folder / name, *about) for name, about in self.outputs.items())
        except (OSError, TypeError):
            return False

    @property
    def entries(self) -> list[str]:
        """Names of the results in the record's folder: files, and folders of DICOM series."""
        return list(dict.fromkeys(Path(name).parts[0] for name in self.outputs))


def outputs_of(folder: Path) -> dict[str, list[Any]]:
    """What a record says of the results that a folder holds."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        about = path.stat()
        found[path.relative_to(folder).as_posix()] = [about.st_size, about.st_mtime_ns, file_sha256(path)]
    return found


def _unchanged(path: Path, size: int, written_ns: int, sha256: str) -> bool:
    about = path.stat()
    return about.st_size == size and (about.st_mtime_ns == written_ns or file_sha256(path) == sha256)
