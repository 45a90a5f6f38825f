"""Decode stored pixels into one array of values: frame by frame, on several threads, never two copies of a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.stack import Stack
from medfuse.dicom.header import Instance, quiet, transfer_syntax
from medfuse.errors import SeriesError
from medfuse.volume.grid import MOST_VOXELS

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

THREADS = 4
"""More gain nothing: two threads nearly saturate disk and conversion."""

AT_ONCE = 32
"""Frames of one file that a thread reads."""

MOST_COMPRESSED = 1000
"""No compressed series holds more bytes of pixels than this many times its files; more is a decompression bomb."""

SMALL_BYTES = 2**26
"""Volumes up to this size are accepted whatever their files claim: blank slices compress to nearly nothing."""

PIXEL_DATA = b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"
"""The tag (7FE0,0010) as little- and big-endian files write it."""


def read_pixels(found: Stack, name: str, report: Callable[[float], None]) -> npt.NDArray[np.float32]:
    """Decode the frames of a stack into the one array that the volume keeps.

    Returns
    -------
    numpy.ndarray
        (slices, rows, columns) float32, rescaled; where gaps are filled, weighted sums of frames.

    Raises
    ------
    SeriesError
        If the files cannot hold what they claim, or cannot be decoded.
    """
    _require_room(found, name)
    columns, rows, slices = found.grid.shape
    targets: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for k, parts in enumerate(found.slices):
        for place, weight in parts:
            targets[place].append((k, weight))
    filled = found.filled > 0
    # (X, Y, Z) is a view of it, so that a slice stays contiguous; sums need zeros to start from.
    values = (np.zeros if filled else np.empty)((slices, rows, columns), dtype=np.float32)

    def take(place: int, stored: npt.NDArray[Any]) -> None:
        frame = found.frames[place]
        for k, weight in targets[place]:
            if filled:
                values[k] += np.float32(weight) * (stored * np.float32(frame.slope) + np.float32(frame.intercept))
            else:
                np.multiply(stored, frame.slope, out=values[k], casting="unsafe")
                values[k] += frame.intercept

    # Sums of two frames in one slice must not be made by two threads.
    _decode_all(found.frames, name, take, report, threads=1 if filled else THREADS)
    return values


def _require_room(found: Stack, name: str) -> None:
    """Refuse sizes that the files cannot hold, before memory is asked for."""
    if np.prod(found.grid.shape, dtype=np.float64) > MOST_VOXELS:
        raise SeriesError(f"{name} claims {found.grid!r}: no study is so large. Export the series again.")
    compressed = stored = 0
    for instance in {id(frame.instance): frame.instance for frame in found.frames}.values():
        header = instance.header
        claimed = int(header.Rows) * int(header.Columns) * instance.frames * max(int(header.BitsAllocated) // 8, 1)
        size = instance.path.stat().st_size
        if transfer_syntax(instance) not in UNCOMPRESSED:
            compressed, stored = compressed + claimed, stored + size
        elif claimed > size:
            raise SeriesError(
                f"instance {instance.number} of {name} claims {claimed} bytes of pixels and has {size} bytes in all: "
                "it is cut short or damaged. Export the series again."
            )
    if compressed > max(stored * MOST_COMPRESSED, SMALL_BYTES):
        raise SeriesError(
            f"{name} claims {compressed} bytes of pixels in {stored} bytes of compressed files: it is damaged, or made "
            "to exhaust the memory. Export the series again."
        )


def _decode_all(
    frames: Sequence[Frame],
    name: str,
    take: Callable[[int, npt.NDArray[Any]], None],
    report: Callable[[float], None],
    threads: int,
) -> None:
    """Hand the stored values of every frame to ``take``; progress is reported from the caller's own thread."""
    finished: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(places: Sequence[int]) -> None:
        try:
            for place, stored in _decode(frames, places, name):
                take(place, stored)
                finished.put(None)
        except BaseException as error:  # handed on to the caller's thread
            finished.put(error)

    pool = ThreadPoolExecutor(threads)
    try:
        for places in _shares(frames):
            pool.submit(quiet()(work), places)
        for done in range(1, len(frames) + 1):
            error = finished.get()
            if error is not None:
                raise error
            report(done / len(frames))
    finally:
        pool.shutdown(cancel_futures=True)


def _shares(frames: Sequence[Frame]) -> Iterator[list[int]]:
    """Frames, by place, that one thread reads: of one file, and of a long uncompressed one only some."""
    files: dict[int, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        files[id(frame.instance)].append(place)
    for places in files.values():
        ordered = sorted(places, key=lambda place: frames[place].number or 0)
        first = frames[ordered[0]]
        several = first.number is not None and _native(first.instance) is not None
        step = AT_ONCE if several else len(ordered)
        yield from (ordered[start : start + step] for start in range(0, len(ordered), step))


def _decode(frames: Sequence[Frame], places: Sequence[int], name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Stored values of frames of one file, in its order, with their places; a mosaic is cut into its tiles."""
    instance = frames[places[0]].instance
    try:
        if frames[places[0]].number is None:
            (picture,) = _pixels(instance, [0])
            for place in places:
                yield place, _tile(picture, frames[place])
        else:
            numbers = [(frames[place].number or 1) - 1 for place in places]
            yield from zip(places, _pixels(instance, numbers), strict=True)
    except Exception as error:  # Each decoder raises its own kinds.
        raise SeriesError(
            f"the pixels of instance {instance.number} of {name} cannot be decoded ({type(error).__name__}): the file "
            "is damaged, or its compression is not supported. Export the series again."
        ) from error


def _pixels(instance: Instance, indices: list[int]) -> Iterator[npt.NDArray[Any]]:
    """Decode frames by index from 0, (rows, columns) each, and hold no more than one at a time."""
    layout = _native(instance)
    if layout is not None:
        yield from _native_pixels(instance, layout, indices)
        return
    syntax = transfer_syntax(instance)
    # To decode all frames goes through a file once; to ask for each may look for it from the start.
    wanted = None if indices == list(range(instance.frames)) else indices
    if syntax == DeflatedExplicitVRLittleEndian:
        yield from iter_pixels(dcmread(instance.path), indices=wanted)
    else:
        yield from iter_pixels(instance.path, indices=wanted, transfer_syntax_uid=syntax)


@dataclass(frozen=True)
class _Native:
    """How an uncompressed file stores its pixels: from which byte on, as which numbers, and in which of their bits."""

    start: int
    length: int
    kind: np.dtype[Any]
    bits: int


def _native(instance: Instance) -> _Native | None:
    """The layout of a file whose pixels lie in it as plain integers; None where a decoder must look at them."""
    header, syntax = instance.header, transfer_syntax(instance)
    size = int(header.BitsAllocated)
    bits = int(header.get("BitsStored") or size)
    big = syntax == ExplicitVRBigEndian
    plain = syntax in UNCOMPRESSED and size in (8, 16, 32) and 0 < bits <= size and not (big and size == 8)
    if not plain or instance.pixels_at is None or int(header.get("HighBit") or bits - 1) != bits - 1:
        return None
    with instance.path.open("rb") as stream:
        stream.seek(instance.pixels_at)
        element = stream.read(12)
    start = 8 if syntax == ImplicitVRLittleEndian else 12
    if len(element) < start or element[:4] != PIXEL_DATA[big]:
        return None
    if start == 12 and element[4:6] not in (b"OB", b"OW"):
        return None
    length = int.from_bytes(element[start - 4 : start], "big" if big else "little")
    signed = "i" if header.get("PixelRepresentation") else "u"
    kind = np.dtype(f"{'>' if big else '<'}{signed}{size // 8}")
    return _Native(instance.pixels_at + start, length, kind, bits) if length != 0xFFFFFFFF else None


def _native_pixels(instance: Instance, layout: _Native, indices: list[int]) -> Iterator[npt.NDArray[Any]]:
    """Stored values of frames of an uncompressed file; bits above those stored are left out."""
    rows, columns = int(instance.header.Rows), int(instance.header.Columns)
    count = rows * columns
    size = count * layout.kind.itemsize
    spare = layout.kind.itemsize * 8 - layout.bits
    with instance.path.open("rb", buffering=0) as stream:
        for index in indices:
            if (index + 1) * size > layout.length:
                raise EOFError("fewer pixels than the header claims")
            stream.seek(layout.start + index * size)
            stored = np.fromfile(stream, layout.kind, count)
            if len(stored) < count:
                raise EOFError("fewer pixels than the header claims")
            if spare:
                stored = stored.astype(layout.kind.newbyteorder("="), copy=False)
                np.left_shift(stored, spare, out=stored)
                np.right_shift(stored, spare, out=stored)
            yield stored.reshape(rows, columns)


def _tile(picture: npt.NDArray[Any], frame: Frame) -> npt.NDArray[Any]:
    columns, rows = frame.shape
    if frame.tile is None:
        return picture.reshape(rows, columns)
    row, column = frame.tile
    return picture[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
