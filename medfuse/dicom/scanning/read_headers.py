"""Read the headers of many files; threads fetch the bytes ahead, for archives serve many requests at once."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
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

from medfuse.dicom.encoding.deflated import is_deflated
from medfuse.dicom.header import READABLE, Instance, PixelElement, said, short_text, texts
from medfuse.dicom.scanning.find_files import Files
from medfuse.errors import SeriesError

THREADS = 8
"""Requests to the disk or network at a time."""

AT_ONCE = 16
"""Files that a thread fetches before it hands them over: to hand over each alone costs more than to read it."""

HEAD_BYTES = 2**17
"""Most headers end before; of the others, the file is read on."""

DEFLATED = DeflatedExplicitVRLittleEndian.encode()

NEEDED = {
    keyword: (Tag(keyword), size)
    for keyword, size in (("SOPInstanceUID", 0), ("Rows", 2), ("Columns", 2), ("BitsAllocated", 2))
}
"""What each image must say, with how many bytes its value has, 0 for text: looked at in every one, for pydicom finds
damage only where a value is read."""

LARGE_BYTES = 2**14
"""Private elements and overlays longer than this are protocols, spectra and pictures, which nothing here needs."""

ELEMENT_BYTES = 12
"""Tag, value representation and length of Pixel Data (PS3.5 7.1.2)."""

PIXEL_DATA = Tag(0x7FE0, 0x0010)

PIXEL_KINDS = ("", "OB", "OW", "UN")
"""Value representations that Pixel Data has (PS3.5 8.2); of those that give none, and where a program knew none."""

UNDEFINED = 0xFFFFFFFF

NAMED_PICTURES = (".dcm", ".dicom", ".ima")
"""What files of pictures are often called: an empty one was one."""

EXCHANGED_GROUP = 0x0800
"""The group of a data set's first elements, 0008, as it looks in the other byte order; no group has this number."""

MOSAIC_LAYOUT = Tag(0x0029, 0x1010)
"""The private element that places the tiles of a Siemens mosaic."""

LAYOUTS = [
    Tag(group, element)
    for group, elements in ((0x0029, (0x10,)), (0x0065, (0x50, 0x51)))
    for block in range(0x10, 0x14)
    for element in (block, *((block << 8) + each for each in elements))
]
"""Private elements that place tiles, and those that name their creators, in the blocks in use (PS3.5 7.8.1)."""


class UnusableError(SeriesError):
    """The file is an image that cannot be used; ``series`` and ``modality`` say of which, as far as its header does."""

    def __init__(self, message: str, header: Dataset | None = None) -> None:
        super().__init__(message)
        self.series, self.modality = (
            "" if header is None else _series_of(header),
            "" if header is None else short_text(header, "Modality"),
        )


class MissingElementsError(UnusableError):
    """The file is an image whose header is all there, but lacks elements that each image must have: ``keywords``."""

    def __init__(self, keywords: Sequence[str], header: Dataset) -> None:
        super().__init__(f"the header lacks {', '.join(keywords)}", header)
        self.keywords = tuple(keywords)


class EncodingError(UnusableError):
    """The file's meta information says another byte order than its data set has, or wrongly that it is deflated."""


def _series_of(header: Dataset) -> str:
    """The SeriesInstanceUID; empty where it cannot be read."""
    try:
        return said(header, "SeriesInstanceUID")
    except Exception:  # pydicom raises many kinds on hostile bytes
        return ""


def read_headers(files: Files, keywords: Collection[str] = ()) -> Iterator[Instance | UnusableError | None]:
    """For each file its header, None where it is no DICOM image, or the error where it is one but cannot be used.

    Parameters
    ----------
    files
        As `find_files` returns them.
    keywords
        The elements that are needed; all are read where none is named.
    """
    tags = [*LAYOUTS, *map(Tag, keywords)] if keywords else None
    for path, head in _heads(files.paths):
        try:
            yield _read_header(path, head, files.kept, tags)
        except UnusableError as error:
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


def _read_header(path: Path, head: bytes | None, kept: object, tags: list[BaseTag] | None) -> Instance | None:
    """As of `read_headers`, for one file."""
    if head is None:
        raise UnusableError("the file cannot be opened")
    if not head and path.suffix.lower() in NAMED_PICTURES:
        raise UnusableError("the file is empty")  # as where a copy was interrupted
    if head.startswith(b"DICM"):
        raise UnusableError("the preamble of 128 bytes (PS3.10 7.1) is missing before the mark DICM")
    marked = head[128:132] == b"DICM"
    try:
        # Files without the DICM mark are taken only if they still parse as an image.
        header, pixels = _parsed(path, head, tags, force=not marked)
        if marked and any(tag.group == EXCHANGED_GROUP for tag in header.keys()):  # noqa: SIM118 (elements, not tags)
            raise EncodingError("the data set has the other byte order")
        if tags is None:
            for tag in [tag for tag, element in header.items() if _is_unneeded(tag, element)]:
                del header[tag]
        elif MOSAIC_LAYOUT in header and "MOSAIC" not in texts(header, "ImageType"):
            del header[MOSAIC_LAYOUT]  # which every file of the maker has, and is twice as large as all the rest
        missing = [keyword for keyword in NEEDED if not _is_stated(header, keyword)]
        found = Instance(path, header, pixels, kept)
        sop_class = found.sop_class
        meant = sop_class in READABLE or (marked and not sop_class and _claimed(header) in READABLE)
        image = meant or (marked and "Rows" in header)
        lacking = [keyword for keyword in missing if image and _is_past(header, pixels, keyword)]
    except OSError as error:
        raise UnusableError("the file cannot be opened") from error
    except EncodingError:
        raise
    except Exception as error:  # pydicom raises many kinds on hostile bytes
        if isinstance(error, zlib.error) and _begins_plainly(head):
            raise EncodingError("the data set is not deflated") from error
        if marked:
            raise UnusableError("the header cannot be parsed") from error
        return None
    if lacking:
        raise MissingElementsError(lacking, header)
    if meant and missing:
        raise UnusableError("the header is cut short", header)
    return None if missing else found


def _is_stated(header: Dataset, keyword: str) -> bool:
    """Whether an element that each image must have is there; raises what pydicom does where its value is damaged."""
    tag, size = NEEDED[keyword]
    element = header.get_item(tag)
    if element is None:
        return False
    # A value of the right size is not converted here: of most files nobody asks for it.
    if isinstance(element, RawDataElement) and element.value is not None and size in (0, element.length):
        return bool(element.value.strip(b" \0")) if size == 0 else True
    return bool(header.get(keyword) != "")


def _claimed(header: Dataset) -> str:
    """The SOP class that the file's meta information names."""
    meta = getattr(header, "file_meta", None)
    return str(meta.get("MediaStorageSOPClassUID", "")) if meta is not None else ""


def _begins_plainly(head: bytes) -> bool:
    """Whether the first element after the meta group is of group 0008, as no deflated data begin."""
    (length,) = struct.unpack_from("<I", head, 140)
    return head[144 + length : 146 + length] == b"\x08\0"


def read_any_header(path: Path) -> Instance:
    """The header of one DICOM file of whatever kind, without its pixels; raises what pydicom does."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return Instance(path, *_parsed(path, head, None, force=False))


def _parsed(path: Path, head: bytes, tags: list[BaseTag] | None, *, force: bool) -> tuple[Dataset, PixelElement | None]:
    """The header, and where the pixels lie, of a file that begins with these bytes."""
    # Its name is there too where others are spoken of; where the header is longer than `head`, `_parse` looks again.
    if DEFLATED in head and _is_deflated(path):
        header, pixels = _parse_deflated(path)
    else:
        header, pixels = _parse(path, head, tags, force=force)
    header.buffer, header.filename = None, str(path)  # else each header would keep the bytes it was read from
    return header, pixels


def _is_past(header: Dataset, pixels: PixelElement | None, keyword: str) -> bool:
    """Whether the file goes on after where an element would stand: then it is absent, and not merely cut off."""
    return pixels is not None or max(header.keys(), default=0) > (tag_for_keyword(keyword) or 0)


def _parse(path: Path, head: bytes, tags: list[BaseTag] | None, *, force: bool) -> tuple[Dataset, PixelElement | None]:
    """The header, and the element after it: from the file's first bytes alone, if it ends there."""
    stream: BinaryIO = BytesIO(head)
    try:
        header = dcmread(stream, stop_before_pixels=True, force=force, specific_tags=tags)
        end = stream.tell()
    except Exception:  # as above; where the header only goes on, the file shows it
        if len(head) < HEAD_BYTES:
            raise
        end = HEAD_BYTES
    if end < HEAD_BYTES - ELEMENT_BYTES:
        size = len(head) if len(head) < HEAD_BYTES else path.stat().st_size
        return header, _pixel_element(header, head[end : end + ELEMENT_BYTES], end, size)
    if _is_deflated(path):
        return _parse_deflated(path)
    with path.open("rb") as stream:
        header = dcmread(stream, stop_before_pixels=True, force=force, specific_tags=tags)
        end = stream.tell()
        return header, _pixel_element(header, stream.read(ELEMENT_BYTES), end, path.stat().st_size)


def _pixel_element(header: Dataset, element: bytes, end: int, size: int) -> PixelElement | None:
    """Where the pixels lie, from the bytes at the header's end: what the file states of its encoding may be wrong."""
    little = bool(header.original_encoding[1])
    raw = next((one for one in header.values() if isinstance(one, RawDataElement)), None)
    implicit = raw.VR is None if raw is not None else bool(header.original_encoding[0])
    begin = 8 if implicit else ELEMENT_BYTES
    if len(element) < begin or element[:4] != (b"\xe0\x7f\x10\0" if little else b"\x7f\xe0\0\x10"):
        return None
    kind = "" if implicit else element[4:6].decode("latin-1")
    if kind not in PIXEL_KINDS:
        raise ValueError("Pixel Data is neither OB nor OW")
    length = int.from_bytes(element[begin - 4 : begin], "little" if little else "big")
    start = end + begin
    return PixelElement(start, None if length == UNDEFINED else length, size - start, implicit, little, kind)


def _parse_deflated(path: Path) -> tuple[Dataset, PixelElement | None]:
    """As of `_parse`, of a file that is inflated to be read; its pixels are left out and inflated again when needed."""
    header = dcmread(path)
    pixels = header.get_item(PIXEL_DATA)
    if pixels is None:
        return header, None
    value = pixels.value if isinstance(pixels.value, bytes) else b""
    length = len(value)
    del header[PIXEL_DATA]
    return header, PixelElement(0, length, length, False, True, str(pixels.VR), deflated=True)


def _is_unneeded(tag: BaseTag, element: DataElement | RawDataElement) -> bool:
    """Whether an element is private or an overlay, and long."""
    apart = tag.is_private or tag.group >> 8 == 0x60
    return apart and tag != MOSAIC_LAYOUT and isinstance(element, RawDataElement) and element.length > LARGE_BYTES


def _is_deflated(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_deflated(stream)
