"""Tell what medfuse wrote from what others did, by the mark that each format keeps; find inputs among results."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medfuse.errors import ExportError

NAME = b"medfuse"

MANUFACTURER = b"\x08\x00\x70\x00LO\x08\x00medfuse "
"""Manufacturer (0008,0070) of all that medfuse writes, as explicit little endian has it (PS3.5 7.1.2)."""

DESCRIP = slice(148, 228)
"""Where a NIfTI-1 header says what a file is."""

GENERATOR = b'<meta name="generator" content="medfuse '
"""How a page says what made it (HTML 4.2.5.1)."""

HEAD_BYTES = 2**16
"""Where the mark is: before all that grows with the number of slices."""

UNMARKED = ("registration.tfm", "registration.h5", "DICOMDIR")
"""Names of results whose format has no place for a mark: they count as medfuse's beside other results of it."""

LISTING = Path("configs", "metadata.json")
"""Where a MONAI bundle lists its files, whose formats have no place for a mark."""

BESIDE = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems leave in folders that somebody looked into."""


def require_own(entries: Iterable[Path]) -> None:
    """Raise `ExportError` if a file at or under one of the paths is not medfuse's; a path that is a link may go."""
    foreign = first_foreign(entries)
    if foreign is not None:
        raise ExportError(
            f"{foreign} was not written by medfuse, and nothing but its own results is replaced; move it away, or "
            "choose another place."
        )


def first_foreign(entries: Iterable[Path]) -> Path | None:
    """The first file at or under the paths that medfuse did not write; None where it wrote all of them."""
    entries = [entry for entry in entries if not entry.is_symlink()]
    files = [file for entry in entries for file in _files_under(entry)]
    listed = {path: digest for entry in entries for path, digest in _listed(entry).items()}
    unmarked = [file for file in files if not (_is_own(file) or _is_as_listed(file, listed.get(file)))]
    beside_results = len(unmarked) < len(files)
    return next((file for file in unmarked if not (beside_results and file.name in UNMARKED)), None)


def input_among(results: Iterable[Path], inputs: Mapping[str, Iterable[Path]]) -> str | None:
    """Name the first input one of whose files would be deleted with these results, by whatever path or link.

    Parameters
    ----------
    results
        Files and folders that may be replaced.
    inputs
        The files that are read, by what they are given as.
    """
    deleted = set()
    for file in (file for result in results for file in _files_under(result)):
        with suppress(OSError):
            deleted |= {_identity(file.lstat()), _identity(file.stat())}
    if not deleted:
        return None
    for name, files in inputs.items():
        for file in files:
            with suppress(OSError):
                if not deleted.isdisjoint({_identity(file.lstat()), _identity(file.stat())}):
                    return name
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _files_under(entry: Path) -> Iterator[Path]:
    """What is no folder under a path, or the path itself where it is none."""
    if not entry.is_dir():
        if os.path.lexists(entry):
            yield entry
        return
    for folder, below, names in os.walk(entry):
        links = [name for name in below if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted((*names, *links)) if name not in BESIDE)


def _listed(folder: Path) -> dict[Path, str]:
    """The SHA-256 of each file of a MONAI bundle, as its metadata lists it; nothing where it is none of medfuse's."""
    try:
        said = json.loads((folder / LISTING).read_bytes())[NAME.decode()]["sha256"]
        return {folder / name: str(digest) for name, digest in said.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _is_as_listed(file: Path, digest: str | None) -> bool:
    """Whether a file is still what medfuse wrote there."""
    return digest is not None and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest


def _is_own(file: Path) -> bool:
    """Whether a DICOM, NIfTI, JSON, PNG or HTML file says that medfuse wrote it."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            with suppress(zlib.error):
                head = zlib.decompressobj(wbits=31).decompress(head, 4096)
        if head.lstrip()[:1] == b"{":
            return _says_so(head + stream.read())
    return (
        (head[128:132] == b"DICM" and MANUFACTURER in head)
        or (head[344:347] in (b"n+1", b"ni1") and NAME in head[DESCRIP])
        or (head[:4] == b"\x89PNG" and b"Software\0" + NAME in head)
        or (head[:15].lower() == b"<!doctype html>" and GENERATOR in head)
    )


def _says_so(text: bytes) -> bool:
    """Of a JSON object: as BIDS derivatives name what made them, or else somewhere as a whole name."""
    try:
        said: Any = json.loads(text)
        made_by = {program["Name"] for program in said.get("GeneratedBy", [])}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return False
    return made_by == {NAME.decode()} if made_by else b'"' + NAME + b'"' in text
