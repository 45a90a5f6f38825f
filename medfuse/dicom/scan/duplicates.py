"""Slices that a folder holds twice: copies of a file, and one slice exported again under another UID."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from pydicom import dcmread

from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.frames.stack import SAME_POSITION_MM, same_plane
from medfuse.dicom.header import Instance, said

PLACED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
"""What two copies of a slice must say alike for its place and values to be the same."""


def without_copies(instances: Sequence[Instance], name: str) -> list[Instance]:
    """Drop files that are copies of another: one SOPInstanceUID names one object (PS3.5 9).

    Archives hand out one slice in several transfer syntaxes and with headers that they mended; a copy is what puts the
    same pixels into the same place.

    Raises
    ------
    SeriesError
        If two files with one UID differ.
    """
    known: dict[str, Instance] = {}
    for instance in instances:
        twin = known.setdefault(said(instance.header, "SOPInstanceUID"), instance)
        if twin is not instance and not _same(twin, instance):
            raise NoVolumeError(
                "two files of one name",
                f"{name} holds two different files, instances {twin.number} and {instance.number}, with one "
                "SOPInstanceUID: which of them is meant is unknown. Remove one.",
            )
    return list(known.values())


def _same(twin: Instance, instance: Instance) -> bool:
    if twin.header == instance.header and twin.path.read_bytes() == instance.path.read_bytes():
        return True
    first, second = (dcmread(one.path, force=True) for one in (twin, instance))
    if first == second:
        return True
    if first.get("NumberOfFrames") or any(first.get(keyword) != second.get(keyword) for keyword in PLACED):
        return False
    with suppress(Exception):  # each decoder raises its own kinds
        return bool(np.array_equal(first.pixel_array, second.pixel_array))
    return False


def without_twins(frames: Sequence[Frame]) -> list[Frame]:
    """Drop slices whose place, rescale and stored pixels are those of another: nothing is lost, whichever is kept.

    All of them are kept where two at one position differ: then they belong to several volumes, and equal ones among
    them are their empty margins. This is found at the first of such pairs, before all pixels were read.
    """
    kept: list[Frame] = []
    for frame in sorted(frames, key=lambda one: tuple(np.round(one.position, 2))):
        if kept and _at_one_place(kept[-1], frame):
            if not _twins(kept[-1], frame):
                return list(frames)
        else:
            kept.append(frame)
    return kept


def _at_one_place(frame: Frame, other: Frame) -> bool:
    return same_plane(frame, other) and bool(np.abs(frame.position - other.position).max() <= SAME_POSITION_MM)


def _twins(frame: Frame, other: Frame) -> bool:
    if frame.number or other.number or frame.tile or other.tile:
        return False
    if (frame.slope, frame.intercept) != (other.slope, other.intercept):
        return False
    stored = [dcmread(one.instance.path, force=True).get("PixelData") for one in (frame, other)]
    return stored[0] is not None and stored[0] == stored[1]
