"""Find the DICOM series under a path by their headers, and choose the one that is meant."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.misc import is_dicom

from medfuse.dicom.series import READABLE, Instance, Series
from medfuse.errors import SeriesError


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's remarks on ill-formed headers: they quote values, which may be a patient's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, how many files are not DICOM images, and how many are but cannot be read."""

    series: tuple[Series, ...]
    ignored: int
    damaged: int


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
    ignored = damaged = 0
    with quiet():
        for file in files:
            try:
                instance = _read_header(file)
            except SeriesError:
                damaged += 1
                continue
            if instance is None:
                ignored += 1
            else:
                groups[str(instance.header.get("SeriesInstanceUID", "")) or "none"].append(instance)
        series = [Series.assemble(uid, instances) for uid, instances in groups.items()]
    series.sort(key=lambda one: (len(one.number), one.number, one.uid))
    return Scan(tuple(series), ignored, damaged)


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
    if found.damaged:
        raise SeriesError(
            f"{found.damaged} of the DICOM files in {path} cannot be read to their pixels: they are cut short, damaged "
            "or locked, and slices would be missing. Export the series again, or remove what does not belong to it."
        )
    candidates = [one for one in found.series if series in (None, one.uid, one.number)]
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
    """Read a file's header, or None where the file is no DICOM image; `SeriesError` where it is one but damaged."""
    marked = False
    try:
        marked = is_dicom(file)
        # Files without the DICM mark are taken only if they still parse as an image.
        header = dcmread(file, stop_before_pixels=True, force=not marked)
        image = "Rows" in header and "SOPInstanceUID" in header
        meant = str(header.get("SOPClassUID", "")) in READABLE
    except OSError as error:
        raise SeriesError("the file cannot be opened") from error
    except Exception as error:  # pydicom raises many kinds on hostile bytes
        if marked:
            raise SeriesError("the header cannot be parsed") from error
        return None
    if meant and not image:
        raise SeriesError("the header is cut short")
    return Instance(file, header) if image else None
