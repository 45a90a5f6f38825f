"""Find the DICOM series under a path by their headers, and choose the one that is meant."""

from __future__ import annotations

import gc
import struct
import warnings
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medfuse.dicom.files import find_files
from medfuse.dicom.header import READABLE, Instance, short_text
from medfuse.dicom.series import Series
from medfuse.errors import SeriesError

ALWAYS_READ = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("PatientID", "PatientName", "Rows", "Columns", "NumberOfFrames", "BitsAllocated"),
)
"""What every file is asked for; pydicom finds damage only where a value is asked for."""

MOST_INFLATED = 2**31
"""A deflated file holds one slice or one volume, and no more bytes than this."""

MOST_LISTED = 12
"""A message names no more series than this."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's remarks on ill-formed headers: they quote values, which may be a patient's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep Python's cycle collector from going through all headers again and again while they come in."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class Scan:
    """What lies under a path: its series, how many files are not DICOM images, and how many are but cannot be read."""

    series: tuple[Series, ...]
    ignored: int
    damaged: int


def scan(path: str | Path, *, fill_gaps: bool = False) -> Scan:
    """List the series in a folder tree, a DICOMDIR or a zip archive, or of one file.

    Parameters
    ----------
    path
        A folder, searched with all its subfolders; a DICOMDIR, whose files are read; a zip archive, which is unpacked
        into a temporary folder for as long as the series are held; or one DICOM file. Pixels are not read. A series
        that holds several volumes (echoes, times, b-values, stacks, kinds of picture) is listed once for each.
    fill_gaps
        Count series with missing or unevenly spaced slices as volumes, for these slices can be interpolated.

    Raises
    ------
    SeriesError
        If the path does not exist, or its files cannot be got at.
    """
    with quiet():
        files = find_files(Path(path))
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored = damaged = 0
    with quiet(), _collector_at_rest():
        for file in files.paths:
            try:
                instance = _read_header(file, files.kept)
            except SeriesError:
                damaged += 1
                continue
            if instance is None:
                ignored += 1
            else:
                # Some exports number their series but forget to give each a UID.
                uid = str(instance.header.get("SeriesInstanceUID", "")) or "none"
                groups[uid, short_text(instance.header, "SeriesNumber")].append(instance)
        series = [
            part
            for (uid, _), instances in groups.items()
            for part in Series.assemble(uid, instances, fill_gaps=fill_gaps)
        ]
    series.sort(key=lambda one: (len(whole := one.number.split(":")[0]), whole, one.uid, one.part or 0))
    return Scan(tuple(series), ignored, damaged)


def choose(
    path: str | Path,
    series: str | None = None,
    *,
    modalities: Collection[str] = (),
    fill_gaps: bool = False,
) -> Series:
    """Find the one series under ``path`` that is meant.

    Parameters
    ----------
    path
        As of `scan`.
    series
        SeriesInstanceUID or SeriesNumber; needed where the path holds several series. ``:2`` after it chooses the
        second volume of a series that holds several; scouts and pictures of another kind beside one volume need no
        choice.
    modalities
        Where the path holds several series, the one of these modalities is meant; where there are several of them, or
        another that is no volume, it must be said which.
    fill_gaps
        See `scan`.

    Raises
    ------
    SeriesError
        If there is none, or more than one, or the one is not a volume.
    """
    found = scan(path, fill_gaps=fill_gaps)
    if found.damaged:
        raise SeriesError(
            f"{found.damaged} of the DICOM files in {path} cannot be read to their pixels: they are cut short, damaged "
            "or locked, and slices would be missing. Export the series again, or remove what does not belong to it."
        )
    candidates = [one for one in found.series if one.answers(series)]
    if series is None and len({one.uid for one in candidates}) > 1:
        meant = [one for one in candidates if one.modality in modalities and not _is_scout(one)]
        candidates = meant or candidates
    if len({one.uid for one in candidates}) == 1 and len(candidates) > 1:
        candidates = [one for one in candidates if not one.beside]
    if not found.series:
        files = (
            f"{found.ignored} file{'s' if found.ignored != 1 else ''} but no DICOM image"
            if found.ignored
            else "no file"
        )
        raise SeriesError(f"expected a DICOM series in {path}, found {files}; give the folder of one series.")
    if len(candidates) != 1:
        shown = [f"{one.name}, {len(one.instances)} files" for one in found.series]
        listed = "; ".join(shown[:MOST_LISTED] + ["…"] * (len(shown) > MOST_LISTED))
        wanted = "one series" if series is None else f"one series {series}"
        part = next((one for one in candidates if one.part), None)
        how = f", such as {part.number} for part {part.part} of its series" if part else ""
        raise SeriesError(
            f"expected {wanted} in {path}, found {len(candidates)} ({listed}); say which by number or UID{how}."
        )
    candidates[0].require_volume()
    return candidates[0]


def _is_scout(series: Series) -> bool:
    """A short series for planning, no volume, that says so of itself."""
    return series.stack is None and "LOCALIZER" in (series.first.get("ImageType") or ())


def _read_header(file: Path, kept: object = None) -> Instance | None:
    """Read a file's header, or None where the file is no DICOM image; `SeriesError` where it is one but damaged."""
    marked = False
    try:
        with file.open("rb") as stream:
            head = stream.read(1024)
            marked = head[128:132] == b"DICM"
            deflated = DeflatedExplicitVRLittleEndian.encode() in head
            if deflated:
                _require_modest(stream, head)
            stream.seek(0)
            # Files without the DICM mark are taken only if they still parse as an image.
            header = dcmread(stream, stop_before_pixels=True, force=not marked)
            pixels_at = None if deflated else stream.tell()
        image = "Rows" in header and "SOPInstanceUID" in header
        for keyword in ALWAYS_READ:
            header.get(keyword)
        meant = str(header.get("SOPClassUID", "")) in READABLE
    except OSError as error:
        raise SeriesError("the file cannot be opened") from error
    except Exception as error:  # pydicom raises many kinds on hostile bytes
        if marked:
            raise SeriesError("the header cannot be parsed") from error
        return None
    if meant and not image:
        raise SeriesError("the header is cut short")
    return Instance(file, header, pixels_at, kept) if image else None


def _require_modest(stream: BinaryIO, head: bytes) -> None:
    """Raise where a deflated file swells beyond all use: pydicom inflates it whole to read its header."""
    (length,) = struct.unpack_from("<I", head, 140)  # of the meta group, which alone is not deflated
    stream.seek(144 + length)
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while (block := inflate.unconsumed_tail or stream.read(2**16)) and not inflate.eof:
        size += len(inflate.decompress(block, 2**22))
        if size > MOST_INFLATED:
            raise ValueError("the deflated file is too large")
