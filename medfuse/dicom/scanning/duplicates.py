"""Remove duplicate slices: copies of a file, and slices exported again under another UID."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from pydicom import dcmread

from medfuse.dicom.encoding.decode import StoredPixels
from medfuse.dicom.encoding.pixel_format import Words
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.frames.stack import SAME_POSITION_MM, same_plane
from medfuse.dicom.header import Instance, said

PLACED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
)
"""What two copies of a slice must say alike for its place and values to be the same."""


def without_copies(instances: Sequence[Instance], name: str) -> list[Instance]:
    """Drop files that are copies of another: one SOPInstanceUID names one object (PS3.5 9).

    Archives return one slice in several transfer syntaxes and with corrected headers; a copy is a file with the same
    pixels at the same position.

    Raises
    ------
    SeriesError
        If two files with one UID differ.
    """
    known: dict[str, Instance] = {}
    for instance in instances:
        original = known.setdefault(said(instance.header, "SOPInstanceUID"), instance)
        if original is not instance and not _same(original, instance):
            raise NoVolumeError(
                "two files of one name",
                f"{name} holds two different files, instances {original.number} and {instance.number}, with one "
                "SOPInstanceUID: which of them is meant is unknown. Remove one.",
            )
    return list(known.values())


def _same(original: Instance, instance: Instance) -> bool:
    if original.header == instance.header and original.path.read_bytes() == instance.path.read_bytes():
        return True
    first, second = (dcmread(one.path, force=True) for one in (original, instance))
    if first == second:
        return True
    if first.get("NumberOfFrames") or any(first.get(keyword) != second.get(keyword) for keyword in PLACED):
        return False
    with suppress(Exception):  # each decoder raises its own kinds
        stored = [_stored(one) for one in (original, instance)]
        return np.array_equal(stored[0], stored[1])
    return False


def _stored(instance: Instance) -> Words:
    with StoredPixels(instance, "the series") as pixels:
        return pixels.frame(0)


def without_duplicates(frames: Sequence[Frame]) -> list[Frame]:
    """Drop slices whose place, rescale and stored pixels are those of another: nothing is lost, whichever is kept.

    All of them are kept where two at one position differ: then they belong to several volumes, and equal ones among
    them are their empty margins. The first such pair shows it, before all pixels are read.
    """
    kept: list[Frame] = []
    for frame in sorted(frames, key=lambda one: tuple(np.round(one.position, 2))):
        if kept and _at_one_place(kept[-1], frame):
            if not _duplicates(kept[-1], frame):
                return list(frames)
        else:
            kept.append(frame)
    return kept


def _at_one_place(frame: Frame, other: Frame) -> bool:
    return same_plane(frame, other) and bool(np.abs(frame.position - other.position).max() <= SAME_POSITION_MM)


def _duplicates(frame: Frame, other: Frame) -> bool:
    if frame.number or other.number or frame.tile or other.tile:
        return False
    if (frame.slope, frame.intercept) != (other.slope, other.intercept):
        return False
    if frame.lut is not other.lut and not (frame.lut is not None and frame.lut.same(other.lut)):
        return False
    stored = [dcmread(one.instance.path, force=True).get("PixelData") for one in (frame, other)]
    return stored[0] is not None and stored[0] == stored[1]
