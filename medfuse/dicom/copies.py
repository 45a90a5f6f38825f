"""Slices that a folder holds twice: copies of a file, and one slice exported again under another UID."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import dcmread

from medfuse.dicom.frames import Frame
from medfuse.dicom.header import Instance, said
from medfuse.dicom.lattice import SAME_POSITION_MM, same_plane
from medfuse.dicom.verdict import NoVolumeError


def without_copies(instances: Sequence[Instance], name: str) -> list[Instance]:
    """Drop files that are copies of another: one SOPInstanceUID names one object (PS3.5 9).

    Raises
    ------
    SeriesError
        If two files with one UID differ.
    """
    known: dict[str, Instance] = {}
    for instance in instances:
        uid = said(instance.header, "SOPInstanceUID")
        twin = known.setdefault(uid, instance)
        if twin is not instance and not (
            twin.header == instance.header and dcmread(twin.path, force=True) == dcmread(instance.path, force=True)
        ):
            raise NoVolumeError(
                "two files of one name",
                f"{name} holds two different files, instances {twin.number} and {instance.number}, with one "
                "SOPInstanceUID: which of them is meant is unknown. Remove one.",
            )
    return list(known.values())


def without_twins(frames: Sequence[Frame]) -> list[Frame]:
    """Drop slices whose place, rescale and stored pixels are those of another: nothing is lost, whichever is kept.

    Reads pixels, so it is asked only where nothing in the headers tells slices at one position apart.
    """
    kept: list[Frame] = []
    for frame in sorted(frames, key=lambda one: tuple(np.round(one.position, 2))):
        if not (kept and _twins(kept[-1], frame)):
            kept.append(frame)
    return kept


def _twins(frame: Frame, other: Frame) -> bool:
    if frame.number or other.number or frame.tile or other.tile or not same_plane(frame, other):
        return False
    if np.abs(frame.position - other.position).max() > SAME_POSITION_MM:
        return False
    if (frame.slope, frame.intercept) != (other.slope, other.intercept):
        return False
    stored = [dcmread(one.instance.path, force=True).get("PixelData") for one in (frame, other)]
    return stored[0] is not None and stored[0] == stored[1]
