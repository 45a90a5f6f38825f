"""Find the frames of encapsulated Pixel Data: fragments, and the tables that say where frames begin (PS3.5 A.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from pydicom.dataset import Dataset

from medfuse.dicom.header import PixelElement
from medfuse.errors import counted

ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

MOST_FRAGMENTS = 64
"""Of each frame on average, beyond the first `SOME_FRAGMENTS`; more would only exhaust the memory."""
SOME_FRAGMENTS = 4096

STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""What JPEG, JPEG-LS and JPEG 2000 codestreams begin with."""


class FramesError(ValueError):
    """Fragments that are not the frames that the header claims; says what was found."""


@dataclass(frozen=True)
class Fragment:
    """One item of encapsulated Pixel Data: the byte of the file where its value begins, and its length."""

    start: int
    length: int


def frame_fragments(stream: BinaryIO, pixels: PixelElement, header: Dataset, frames: int) -> list[list[Fragment]]:
    """The fragments of each frame, in order.

    Raises
    ------
    FramesError
        If there are too few or too many, one is empty or cut short, or an offset table says otherwise than they.
    """
    table, fragments = _items(stream, pixels, frames)
    if len(fragments) < frames:
        raise FramesError(f"Pixel Data holds {len(fragments)} fragments, but NumberOfFrames is {frames}")
    if table.length % 4:
        raise FramesError("the Basic Offset Table is no table of 32-bit numbers")
    stream.seek(table.start)
    offsets = list(struct.unpack(f"<{table.length // 4}I", stream.read(table.length)))
    begins = [fragment.start - 8 - (table.start + table.length) for fragment in fragments]
    _require_extended(header, begins, fragments, frames, offsets)
    if offsets:
        return _split(fragments, begins, offsets, frames)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    starting = [begins[place] for place, one in enumerate(fragments) if _starts(stream, one)]
    if frames == 1 and len(starting) <= 1:
        return [fragments]
    return _split(fragments, begins, starting, frames)


def read_frame(stream: BinaryIO, fragments: Sequence[Fragment]) -> bytes:
    """The codestream of one frame, put together."""
    found = []
    for fragment in fragments:
        stream.seek(fragment.start)
        found.append(stream.read(fragment.length))
    return b"".join(found)


def _items(stream: BinaryIO, pixels: PixelElement, frames: int) -> tuple[Fragment, list[Fragment]]:
    """The Basic Offset Table and the fragments."""
    end = pixels.start + (pixels.available if pixels.length is None else min(pixels.length, pixels.available))
    found: list[Fragment] = []
    at = pixels.start
    while at + 8 <= end:
        stream.seek(at)
        element = stream.read(8)
        tag, length = element[:4], int.from_bytes(element[4:], "little")
        if tag == END:
            break
        if len(element) < 8 or tag != ITEM:
            raise FramesError("Pixel Data holds something else than fragments")
        if length > end - at - 8:
            raise FramesError("a fragment of Pixel Data is cut short")
        if not length and found:
            raise FramesError("a fragment of Pixel Data is empty")
        found.append(Fragment(at + 8, length))
        at += 8 + length
        if len(found) > SOME_FRAGMENTS + MOST_FRAGMENTS * frames:
            raise FramesError(f"Pixel Data holds more than {len(found) - 1} fragments for {counted(frames, 'frame')}")
    if not found:
        raise FramesError("Pixel Data holds no fragments")
    return found[0], found[1:]


def _starts(stream: BinaryIO, fragment: Fragment) -> bool:
    stream.seek(fragment.start)
    return stream.read(8).startswith(STARTS)


def _split(
    fragments: Sequence[Fragment], begins: Sequence[int], offsets: Sequence[int], frames: int
) -> list[list[Fragment]]:
    """Fragments by frame, each beginning at one of the offsets."""
    places = {begin: place for place, begin in enumerate(begins)}
    first = [places.get(offset, -1) for offset in offsets]
    if len(first) != frames or first[0] != 0 or any(a >= b for a, b in pairwise(first)):
        raise FramesError(
            f"the fragments of Pixel Data, or their Basic Offset Table, are not those of {counted(frames, 'frame')}, "
            "as NumberOfFrames says"
        )
    return [list(fragments[a:b]) for a, b in pairwise([*first, len(fragments)])]


def _require_extended(
    header: Dataset, begins: Sequence[int], fragments: Sequence[Fragment], frames: int, offsets: Sequence[int]
) -> None:
    """Raise where an Extended Offset Table (PS3.3 C.7.6.3.1.8) says otherwise than the fragments."""
    content = [header.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    if content == [None, None]:
        return
    tables = [
        struct.unpack(f"<{len(one) // 8}Q", one) if isinstance(one, bytes) and not len(one) % 8 else ()
        for one in content
    ]
    starts, lengths = tables
    fits = len(fragments) == frames == len(starts) and list(starts) == list(begins) and not offsets
    whole = [abs(one.length - length) <= 1 for one, length in zip(fragments, lengths, strict=False)]
    if not fits or len(lengths) != frames or not all(whole):
        raise FramesError("the Extended Offset Table says otherwise than the fragments of Pixel Data")
