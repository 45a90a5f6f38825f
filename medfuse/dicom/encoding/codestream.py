"""Read the headers of JPEG, JPEG-LS, JPEG 2000 and RLE codestreams: what a decoder would believe, before it does.

Native decoders allocate what these few bytes claim, and some end the process where it is absurd.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

FRAME_HEADERS: dict[str, tuple[int, ...]] = {
    JPEGBaseline8Bit: (0xC0, 0xC1),
    JPEGExtended12Bit: (0xC0, 0xC1),
    JPEGLossless: (0xC3,),
    JPEGLosslessSV1: (0xC3,),
    JPEGLSLossless: (0xF7,),
    JPEGLSNearLossless: (0xF7,),
}
"""The start-of-frame markers that JPEG and JPEG-LS codestreams of each transfer syntax may hold (ISO/IEC 10918-1 B.2.2,
14495-1 C.2.2)."""

J2K = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)

JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
"""Some writers keep the file format's boxes around the codestream (ISO/IEC 15444-1 I.5)."""

MOST_SEGMENTS = 256
"""Marker segments and boxes before the image data; a codestream with more is damaged."""

MOST_TILES = 4096
"""Tiles of a JPEG 2000 codestream: decoders set up each before they decode one."""

SCAN, HUFFMAN_TABLES, END = 0xDA, 0xC4, b"\xff\xd9"

MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
LS_MARKER = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")
"""What ends the image data of a scan: a marker other than a restart. JPEG stuffs a byte 0 after 0xFF, JPEG-LS a bit."""

MOST_PADDING = 64
"""Bytes after the end of a codestream; the Standard has one, some writers more."""

SEQUENTIAL_PARAMETERS = 1
"""The one kind of JPEG-LS parameters (LSE) that changes neither size nor meaning of values (14495-1 C.2.4.1)."""


class CodestreamError(ValueError):
    """A codestream that is not what its transfer syntax says, or whose header is no header; says what was found."""


@dataclass(frozen=True)
class Codestream:
    """What the header of a codestream claims of one frame.

    ``precision`` counts the bits of a sample; ``signed`` is None where the format does not say, as in JPEG and JPEG-LS.
    RLE says nothing of rows and columns: these are None, and ``precision`` is 8 for each of its segments.
    """

    rows: int | None
    columns: int | None
    components: int
    precision: int
    signed: bool | None


def read_codestream(stream: BinaryIO, length: int, syntax: str) -> Codestream:
    """Read the header of the codestream of ``length`` bytes that begins where ``stream`` stands.

    Raises
    ------
    CodestreamError
        If it is not of that transfer syntax, or its header is damaged.
    EOFError
        If the stream ends before the header does.
    """
    reader = _Reader(stream, length)
    if syntax == RLELossless:
        return _rle(reader)
    if syntax in J2K:
        return _jpeg_2000(reader)
    return _jpeg(reader, FRAME_HEADERS[syntax])


def check_codestream(codestream: bytes, syntax: str) -> Codestream:
    """Read the header of a whole codestream, and see that its image data reach their end.

    Decoders fill in what is missing, some without a word. No end marker can occur within image data (ISO/IEC 10918-1
    B.1.1.5, 14495-1 A.1, 15444-1 A.1); padding may follow it. Raises `CodestreamError`.
    """
    stream = BytesIO(codestream)
    found = read_codestream(stream, len(codestream), syntax)
    if syntax in J2K:
        if codestream.rfind(END, max(len(codestream) - MOST_PADDING, 0)) < 0:
            raise CodestreamError("no end of the image data")
    elif syntax != RLELossless:
        pattern = LS_MARKER if 0xF7 in FRAME_HEADERS[syntax] else MARKER
        marker = pattern.search(codestream, stream.tell())
        if marker is None or marker[0][-2:] != END:
            raise CodestreamError("no end of the image data" if marker is None else "several scans, or damaged data")
    return found


class _Reader:
    """Reads within one codestream."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self.stream = stream
        self.left = length

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise CodestreamError("a header that is cut short")
        found = self.stream.read(count)
        if len(found) < count:
            raise EOFError("the stream ends within a codestream's header")
        self.left -= count
        return found

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def skip(self, count: int) -> None:
        if count > self.left:
            raise CodestreamError("a header that is cut short")
        self.stream.seek(count, 1)
        self.left -= count


def _jpeg(reader: _Reader, allowed: tuple[int, ...]) -> Codestream:
    """Walk the marker segments to the first scan; the one frame header among them says it all.

    Every table that the scan uses must have been defined: a decoder that is tried without ends the process.
    """
    if reader.take(2) != b"\xff\xd8":
        raise CodestreamError("no start of image")
    found: Codestream | None = None
    tables: set[int] = set()
    for _ in range(MOST_SEGMENTS):
        marker = reader.number(">H")
        while marker == 0xFFFF:  # fill bytes
            marker = 0xFF00 | reader.number("B")
        kind = marker & 0xFF
        if marker >> 8 != 0xFF or kind < 0xC0 or 0xD0 <= kind <= 0xD9:
            raise CodestreamError("no marker segment where one must be")
        length = reader.number(">H") - 2
        if length < 0:
            raise CodestreamError("a marker segment of no length")
        if kind == SCAN:
            if found is None:
                raise CodestreamError("no frame header before the first scan")
            _require_tables(reader.take(length), allowed, tables)
            return found
        if kind in allowed and found is None:
            found = _frame_header(reader.take(length))
        elif kind == HUFFMAN_TABLES:
            tables |= _huffman_tables(reader.take(length))
        elif kind == 0xF8 and 0xF7 in allowed:
            if reader.take(length)[:1] != bytes([SEQUENTIAL_PARAMETERS]):
                raise CodestreamError("a JPEG-LS mapping table or oversize picture")
        elif kind <= 0xCF or kind in (0xDE, 0xF7):
            raise CodestreamError("a frame header of another kind of JPEG, or two")
        elif kind == 0xE0 and length >= 14:
            # Of another version, GDCM's decoder is warned and ends the process.
            if (segment := reader.take(length)).startswith(b"JFIF\0") and segment[5] != 1:
                raise CodestreamError("a JFIF segment of an unknown version")
        else:
            reader.skip(length)
    raise CodestreamError("a header without end")


def _huffman_tables(segment: bytes) -> set[int]:
    """The class (0 DC or lossless, 1 AC, times 16) and number of each table that a segment defines."""
    tables, at = set(), 0
    while at < len(segment):
        counts = segment[at + 1 : at + 17]
        if segment[at] & 0xEE or len(counts) < 16 or not 1 <= sum(counts) <= 256:
            raise CodestreamError("a Huffman table that is none")
        tables.add(segment[at])
        at += 17 + sum(counts)
    if at != len(segment):
        raise CodestreamError("a Huffman table that is cut short")
    return tables


def _require_tables(scan: bytes, allowed: tuple[int, ...], tables: set[int]) -> None:
    """Raise where the first scan is of several components, or uses a Huffman table that was not defined."""
    if len(scan) < 6 or len(scan) != 4 + 2 * scan[0]:
        raise CodestreamError("a scan header of the wrong length")
    if 0xF7 in allowed:
        return
    for selected in scan[2 : 2 + 2 * scan[0] : 2]:
        needed = {selected >> 4} if 0xC3 in allowed else {selected >> 4, 0x10 | selected & 0xF}
        if not needed <= tables:
            raise CodestreamError("a scan whose Huffman tables are not defined")


def _frame_header(segment: bytes) -> Codestream:
    if len(segment) < 6:
        raise CodestreamError("a frame header that is cut short")
    precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
    if len(segment) != 6 + 3 * components:
        raise CodestreamError("a frame header of the wrong length")
    return Codestream(rows, columns, components, precision, None)


def _jpeg_2000(reader: _Reader) -> Codestream:
    """Read the SIZ segment, which is the first of every codestream (ISO/IEC 15444-1 A.5.1)."""
    start = reader.take(4)
    if start == JP2_SIGNATURE[:4]:
        _skip_boxes(reader)
        start = reader.take(4)
    if start != b"\xff\x4f\xff\x51":
        raise CodestreamError("no start of a JPEG 2000 codestream")
    length, _, right, bottom, left, top, *tile, components = struct.unpack(">HH8IH", reader.take(38))
    if length != 38 + 3 * components or not components:
        raise CodestreamError("a size segment of the wrong length")
    samples = [struct.unpack("3B", reader.take(3)) for _ in range(min(components, 4))]
    depth, *steps = samples[0]
    if right <= left or bottom <= top or any(sample != (depth, 1, 1) for sample in samples) or steps != [1, 1]:
        raise CodestreamError("no area, or subsampled or unequal components")
    tile_width, tile_height, tile_left, tile_top = tile
    if not tile_width or not tile_height or tile_left > left or tile_top > top:
        raise CodestreamError("tiles without area")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > MOST_TILES:
        raise CodestreamError(f"{tiles} tiles")
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80))


def _skip_boxes(reader: _Reader) -> None:
    """Go through the boxes of the JP2 file format to the codestream; none of them may give values another meaning."""
    if reader.take(8) != JP2_SIGNATURE[4:]:
        raise CodestreamError("no start of a JPEG 2000 codestream")
    for _ in range(MOST_SEGMENTS):
        size, kind = struct.unpack(">I4s", reader.take(8))
        if kind == b"jp2c":
            if size == 1:
                reader.skip(8)
            return
        if size < 8:
            raise CodestreamError("a box without length")
        if b"pclr" in reader.take(size - 8):
            raise CodestreamError("a palette in the JPEG 2000 file format")
    raise CodestreamError("a header without end")


def _rle(reader: _Reader) -> Codestream:
    """Read the 64 bytes that say where each segment begins (PS3.5 G.5)."""
    whole = reader.left
    count, *offsets = struct.unpack("<16I", reader.take(64))
    if not 1 <= count <= 15:
        raise CodestreamError(f"{count} segments")
    begins = offsets[:count]
    if begins[0] != 64 or sorted(set(begins)) != begins or begins[-1] >= whole:
        raise CodestreamError("segments that do not follow each other")
    return Codestream(None, None, count, 8, None)
