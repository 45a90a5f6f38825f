"""Decode stored pixels into one array of values: frame by frame, on several threads, never two copies of a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from medfuse.dicom.encoding.decode import StoredPixels
from medfuse.dicom.encoding.pixel_format import Words
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.stack import Stack
from medfuse.dicom.header import quiet
from medfuse.errors import MedfuseError, SeriesError

THREADS = 4
"""More gain nothing: two threads nearly saturate disk and conversion."""

AT_ONCE = 32
"""Frames of one file that a thread reads."""


def read_pixels(found: Stack, name: str, report: Callable[[float], None]) -> npt.NDArray[np.float32]:
    """Decode the frames of a stack, which a scan has checked, into the one array that the volume keeps.

    Returns
    -------
    numpy.ndarray
        (slices, rows, columns) float32, rescaled; where gaps are filled, weighted sums of frames.

    Raises
    ------
    SeriesError
        If the files cannot be decoded.
    """
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
    """Frames, by place, that one thread reads: of one file, and of a long one only some."""
    files: dict[int, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        files[id(frame.instance)].append(place)
    for places in files.values():
        ordered = sorted(places, key=lambda place: frames[place].number or 0)
        # All tiles of a mosaic are cut from one picture; a deflated file is inflated as a whole.
        pixels = frames[ordered[0]].instance.pixels
        together = frames[ordered[0]].number is None or pixels is None or pixels.deflated
        step = len(ordered) if together else AT_ONCE
        yield from (ordered[start : start + step] for start in range(0, len(ordered), step))


def _decode(frames: Sequence[Frame], places: Sequence[int], name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Values of frames of one file, through its Modality LUT, with their places; a mosaic is cut into its tiles."""
    instance = frames[places[0]].instance
    try:
        with StoredPixels(instance, name) as pixels:
            known: tuple[int, Words] | None = None
            for place in places:
                index = (frames[place].number or 1) - 1
                known = known if known and known[0] == index else (index, pixels.frame(index))
                stored = _tile(known[1], frames[place])
                lut = frames[place].lut
                yield place, stored if lut is None else lut(stored)
    except MedfuseError:
        raise
    except Exception as error:  # Each decoder raises its own kinds.
        raise SeriesError(
            f"the pixels of instance {instance.number} of {name} cannot be decoded ({type(error).__name__}): the file "
            "is damaged, or its compression is not supported. Export the series again."
        ) from error


def _tile(picture: npt.NDArray[Any], frame: Frame) -> npt.NDArray[Any]:
    columns, rows = frame.shape
    if frame.tile is None:
        return picture.reshape(rows, columns)
    row, column = frame.tile
    return picture[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
