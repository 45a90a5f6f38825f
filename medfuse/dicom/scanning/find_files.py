"""Find the files of a study: in a folder tree, by a DICOMDIR, or in a zip archive."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import MediaStorageDirectoryStorage

from medfuse.dicom.encoding.deflated import read_bounded
from medfuse.errors import SeriesError, counted
from medfuse.runtime.output.exchange import settle_under, without_staged

MOST_INFLATED_TIMES = 200
"""An archive of pictures is never compressed further than this; one that claims it is a decompression bomb."""

HARMLESS_BYTES = 2**26
"""An archive up to this size, unpacked, is accepted whatever its compression."""

OFFSETS = ("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity")
"""Where in a DICOMDIR its next record and its first child begin, in bytes."""


class Unpacked:
    """A temporary folder of an archive's files, removed when no object refers to it any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="medfuse-"))
        self._remover = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Files:
    """Regular files in a stable order; ``kept`` must be referred to for as long as they are needed.

    ``broken_links`` are links among them that lead to no file or folder.
    """

    paths: tuple[Path, ...]
    kept: object = None
    broken_links: tuple[Path, ...] = ()


Place = str | Path | Sequence[str | Path]
"""Where files may lie: one path, or several."""


def places_named(place: Place) -> str:
    """How messages name where files lie; a list only by its length."""
    paths = _paths(place)
    return str(paths[0]) if len(paths) == 1 else f"the {len(paths)} paths given"


def folder_of(place: Place) -> Path:
    """The one path given, or the innermost folder that holds all of them."""
    paths = [path.resolve() for path in _paths(place)]
    return paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths))


def _paths(place: Place) -> list[Path]:
    return [Path(place)] if isinstance(place, str | Path) else [Path(one) for one in place]


def find_files(place: Place) -> Files:
    """List the files of a folder tree, of a DICOMDIR, of a zip archive, the one file given, or those of several such.

    Raises
    ------
    SeriesError
        If there is no such path, a folder cannot be opened, a DICOMDIR names files that are not there, or an archive
        cannot be unpacked.
    """
    paths = _paths(place)
    if not paths:
        raise SeriesError("expected at least one file or folder, found an empty list; give the files of a series.")
    found = [_find(path) for path in paths]
    # A file that is listed twice, or together with its folder, is still one file.
    every = dict.fromkeys(path for files in found for path in files.paths)
    broken = dict.fromkeys(link for files in found for link in files.broken_links)
    return Files(tuple(every), tuple(files.kept for files in found), tuple(broken))


def _find(path: Path) -> Files:
    """As of `find_files`, for one path."""
    settle_under(path)
    if not path.exists():
        raise SeriesError(f"there is no file or folder {path}; check the path.")
    if path.is_dir():
        return _walk(path)
    if not path.is_file():
        raise SeriesError(f"{path} is a pipe, a device or a socket, which is not read; give a file or a folder.")
    if path.suffix.lower() == ".zip":
        return _unpack(path)
    listed = _listed(path)
    return Files((path,) if listed is None else listed)


def _walk(folder: Path) -> Files:
    """The files of a folder tree, those behind links too; each folder once.

    A link to a folder that the tree lies in is a loop, and adds nothing.
    """
    files: list[Path] = []
    broken: list[Path] = []
    waiting = [folder]
    seen = {str(above) for above in Path(os.path.realpath(folder)).parents}
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise SeriesError(
                f"a folder in {folder} cannot be opened ({error.strerror}), and series in it would be missing; make it "
                "readable, or give the folders of the series alone."
            ) from error
        for entry in entries:
            if _leads_nowhere(entry):
                if not entry.name.startswith("."):  # editors mark files that they have open by such links
                    broken.append(here / entry.name)
            elif entry.is_dir():
                waiting.append(here / entry.name)
            elif entry.is_file():
                files.append(here / entry.name)
    return Files(tuple(without_staged(folder, sorted(files))), broken_links=tuple(broken))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to nothing that there is, or to itself."""
    try:
        entry.stat()
    except OSError:
        return True
    return False


def _listed(path: Path) -> tuple[Path, ...] | None:
    """The files that a DICOMDIR (PS3.3 F.3) names, in its order; None where the file is no DICOMDIR."""
    try:
        directory = read_bounded(path, specific_tags=["DirectoryRecordSequence"])
        if directory.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
            return None
        records = directory.get("DirectoryRecordSequence") or []
        # pydicom ends a sequence where the file ends, and says nothing.
        ends = [int(record.get(keyword) or 0) for record in records for keyword in OFFSETS]
        if max(ends, default=0) >= path.stat().st_size:
            raise EOFError
        named = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
    except (InvalidDicomError, OSError):
        return None
    except Exception as error:  # pydicom raises many kinds on damaged files; a picture is checked where it is read
        if path.name.upper() != "DICOMDIR":
            return None
        raise SeriesError(f"{path} is damaged or cut short; give the folder of its files.") from error
    files = [_on_medium(path.parent, [*map(str, one)] if isinstance(one, MultiValue) else [str(one)]) for one in named]
    missing = files.count(None)
    if missing:
        raise SeriesError(
            f"{missing} of {counted(len(files), 'file')} that {path} names cannot be found; give a complete copy of "
            "the medium, or the folder of the files that there are."
        )
    return tuple(file for file in files if file is not None)


def _on_medium(folder: Path, parts: list[str]) -> Path | None:
    """The file of a record; media are often copied with their names in lower case."""
    if any(part in ("", ".", "..") or "/" in part for part in parts):
        return None
    for spelling in (parts, [part.lower() for part in parts]):
        file = folder.joinpath(*spelling)
        if file.is_file():
            return file
    return None


def _unpack(path: Path) -> Files:
    """Unpack an archive under numbers, for the names inside may be a patient's."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            claimed = sum(member.file_size for member in members)
            if claimed > max(HARMLESS_BYTES, MOST_INFLATED_TIMES * path.stat().st_size):
                raise SeriesError(f"{path} claims to hold {claimed} bytes, far more than pictures pack to; unpack it.")
            unpacked = Unpacked()
            if claimed > shutil.disk_usage(unpacked.folder).free:
                raise SeriesError(
                    f"unpacking {path} takes {claimed} bytes, more than are free in {unpacked.folder.parent}; free "
                    "some, or set TMPDIR to a larger disk."
                )
            files = []
            for number, member in enumerate(members):
                files.append(unpacked.folder / f"{number:06d}")
                with archive.open(member) as packed, files[-1].open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except SeriesError:
        raise
    except OSError as error:
        raise SeriesError(f"{path} cannot be unpacked ({error.strerror}).") from error
    except Exception as error:  # zipfile raises many kinds on damaged archives
        if type(error) is RuntimeError:
            raise SeriesError(f"{path} is locked by a password; unpack it and give the folder.") from error
        raise SeriesError(f"{path} is no zip archive, or a damaged one; unpack it and give the folder.") from error
    return Files(tuple(files), unpacked)
