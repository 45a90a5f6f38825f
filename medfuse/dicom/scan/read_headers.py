"""Read the headers of many files; threads fetch the bytes ahead, for archives serve many requests at once."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medfuse.dicom.header import READABLE, Instance
from medfuse.dicom.scan.find_files import Files
from medfuse.errors import SeriesError

THREADS = 8
"""Requests to the disk or network at a time."""

AT_ONCE = 16
"""Files that a thread fetches before it hands them over: to hand over each alone costs more than to read it."""

HEAD_BYTES = 2**17
"""Most headers end before; of the others, the file is read on."""

MOST_INFLATED = 2**31
"""A deflated file holds one slice or one volume, and no more bytes than this."""

NEEDED = ("SOPInstanceUID", "Rows", "Columns", "BitsAllocated")
"""What each image must say; read of every one, because pydicom finds damage only where a value is read."""

LARGE_BYTES = 2**14
"""Private elements and overlays longer than this are protocols, spectra and pictures, which nothing here needs."""

MOSAIC_LAYOUT = Tag(0x0029, 0x1010)
"""The private element that places the tiles of a Siemens mosaic."""


class MissingElementsError(SeriesError):
    """The file is an image whose header is all there, but lacks elements that each image must have: ``keywords``."""

    def __init__(self, keywords: Sequence[str]) -> None:
        super().__init__(f"the header lacks {', '.join(keywords)}")
        self.keywords = tuple(keywords)


def read_headers(files: Files) -> Iterator[Instance | SeriesError | None]:
    """For each file its header, None where it is no DICOM image, or the error where it is one but cannot be used."""
    for path, head in _heads(files.paths):
        try:
            yield _read_header(path, head, files.kept)
        except SeriesError as error:
            yield error


def _heads(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes | None]]:
    """The first bytes of each file in order, fetched ahead; None where it cannot be opened."""
    pending: deque[Future[list[tuple[Path, bytes | None]]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), AT_ONCE):
            pending.append(pool.submit(_fetch, paths[start : start + AT_ONCE]))
            if len(pending) >= 2 * THREADS:
                yield from pending.popleft().result()
        for fetched in pending:
            yield from fetched.result()


def _fetch(paths: Sequence[Path]) -> list[tuple[Path, bytes | None]]:
    fetched: list[tuple[Path, bytes | None]] = []
    for path in paths:
        try:
            with path.open("rb", buffering=0) as stream:
                fetched.append((path, stream.read(HEAD_BYTES)))
        except OSError:
            fetched.append((path, None))
    return fetched


def _read_header(path: Path, head: bytes | None, kept: object) -> Instance | None:
    """As of `read_headers`, for one file."""
    if head is None:
        raise SeriesError("the file cannot be opened")
    marked = head[128:132] == b"DICM"
    try:
        deflated = DeflatedExplicitVRLittleEndian.encode() in head[:1024]
        if deflated:
            _require_inflatable(path, head)
        # Files without the DICM mark are taken only if they still parse as an image.
        header, end = _parse(path, head, force=not marked)
        stated = {keyword: header.get(keyword) for keyword in NEEDED}
        missing = [keyword for keyword in NEEDED if keyword not in header or stated[keyword] == ""]
        found = Instance(path, header, None if deflated else end, kept)
        meant = found.sop_class in READABLE
        image = meant or (marked and "Rows" in header)
        lacking = [keyword for keyword in missing if image and _is_past(header, end, path, keyword)]
    except OSError as error:
        raise SeriesError("the file cannot be opened") from error
    except Exception as error:  # pydicom raises many kinds on hostile bytes
        if marked:
            raise SeriesError("the header cannot be parsed") from error
        return None
    if lacking:
        raise MissingElementsError(lacking)
    if meant and missing:
        raise SeriesError("the header is cut short")
    return None if missing else found


def _is_past(header: Dataset, end: int, path: Path, keyword: str) -> bool:
    """Whether the file goes on after where an element would stand: then it is absent, and not merely cut off."""
    return end < path.stat().st_size or max(header.keys(), default=0) > (tag_for_keyword(keyword) or 0)


def _parse(path: Path, head: bytes, *, force: bool) -> tuple[Dataset, int]:
    """The header, and where in the file it ends: from its first bytes alone, if it ends there."""
    stream: BinaryIO = BytesIO(head)
    try:
        header = dcmread(stream, stop_before_pixels=True, force=force)
        end = stream.tell()
    except Exception:  # as above; where the header only goes on, the file shows it
        if len(head) < HEAD_BYTES:
            raise
        end = HEAD_BYTES
    if end >= HEAD_BYTES:
        with path.open("rb") as stream:
            header = dcmread(stream, stop_before_pixels=True, force=force)
            end = stream.tell()
    header.buffer, header.filename = None, str(path)  # else each header would keep the bytes it was read from
    for tag in [tag for tag, element in header.items() if _is_unneeded(tag, element)]:
        del header[tag]
    return header, end


def _is_unneeded(tag: BaseTag, element: DataElement | RawDataElement) -> bool:
    """Whether an element is private or an overlay, and long."""
    apart = tag.is_private or tag.group >> 8 == 0x60
    return apart and tag != MOSAIC_LAYOUT and isinstance(element, RawDataElement) and element.length > LARGE_BYTES


def _require_inflatable(path: Path, head: bytes) -> None:
    """Raise where a deflated file inflates beyond `MOST_INFLATED`: pydicom inflates all of it to read its header."""
    (length,) = struct.unpack_from("<I", head, 140)  # of the meta group, which alone is not deflated
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as stream:
        stream.seek(144 + length)
        while (block := inflate.unconsumed_tail or stream.read(2**16)) and not inflate.eof:
            size += len(inflate.decompress(block, 2**22))
            if size > MOST_INFLATED:
                raise ValueError("the deflated file is too large")
