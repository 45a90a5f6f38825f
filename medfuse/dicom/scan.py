"""Find the DICOM series under a path by their headers, and choose the one that is meant."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom

from medfuse.dicom.series import Instance, Series
from medfuse.errors import SeriesError


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's remarks on ill-formed headers: they quote values, which may be a patient's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, and how many files are not DICOM images."""

    series: tuple[Series, ...]
    ignored: int


def scan(path: str | Path) -> Scan:
    """List the series in a folder tree, or of one file.

    Parameters
    ----------
    path
        A folder, searched with all its subfolders, or one DICOM file. Pixels are not read.

    Raises
    ------
    SeriesError
        If the path does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise SeriesError(f"there is no file or folder {path}; check the path.")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    groups: dict[str, list[Instance]] = defaultdict(list)
    ignored = 0
    for file in files:
        instance = _read_header(file)
        if instance is None:
            ignored += 1
        else:
            groups[str(instance.header.get("SeriesInstanceUID", "")) or "none"].append(instance)
    series = [Series.assemble(uid, instances) for uid, instances in groups.items()]
    series.sort(key=lambda one: (int(one.first.get("SeriesNumber") or 0), one.uid))
    return Scan(tuple(series), ignored)


def choose(path: str | Path, series: str | None = None) -> Series:
    """Find the one series under ``path`` that is meant.

    Parameters
    ----------
    path
        A folder or file.
    series
        SeriesInstanceUID or SeriesNumber; needed where the path holds several series.

    Raises
    ------
    SeriesError
        If there is none, or more than one, or the one is not a volume.
    """
    found = scan(path)
    candidates = [one for one in found.series if series in (None, one.uid, str(one.first.get("SeriesNumber")))]
    if not found.series:
        files = (
            f"{found.ignored} file{'s' if found.ignored != 1 else ''} but no DICOM image"
            if found.ignored
            else "no file"
        )
        raise SeriesError(f"expected a DICOM series in {path}, found {files}; give the folder of one series.")
    if len(candidates) != 1:
        listed = "; ".join(f"{one.name}, {len(one.instances)} files" for one in found.series)
        wanted = "one series" if series is None else f"one series {series}"
        raise SeriesError(
            f"expected {wanted} in {path}, found {len(candidates)} ({listed}); say which by number or UID."
        )
    candidates[0].require_volume()
    return candidates[0]


def _read_header(file: Path) -> Instance | None:
    """Read a file's header, or None where the file is no DICOM image."""
    try:
        with quiet():
            # Files without the DICM mark are taken only if they still parse as an image.
            header = dcmread(file, stop_before_pixels=True, force=not is_dicom(file))
            if "Rows" not in header or "SOPInstanceUID" not in header:
                return None
    except (InvalidDicomError, OSError, ValueError, NotImplementedError, AttributeError, KeyError, EOFError):
        return None
    return Instance(file, header)
