"""Take files apart into frames, by the form of each file: enhanced, nuclear medicine, mosaic, grid or classic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medfuse.dicom.frames.classic import classic_frames
from medfuse.dicom.frames.enhanced import enhanced_frames, is_enhanced
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.modality_lut import modality_lut
from medfuse.dicom.frames.mosaic import grid_frames, is_grid, is_mosaic, mosaic_frames
from medfuse.dicom.frames.nuclear import is_nuclear, nuclear_frames
from medfuse.dicom.header import Instance

FORMS: tuple[tuple[Callable[[Instance], bool], Callable[[Instance, str], list[Frame]]], ...] = (
    (is_nuclear, nuclear_frames),  # even where one keeps functional groups: its detector places it
    (is_enhanced, enhanced_frames),
    (is_mosaic, mosaic_frames),
    (is_grid, grid_frames),
    (lambda _: True, classic_frames),
)
"""Whether a file has a form, and its frames then, given the name of the series for messages; the first that fits."""


def frames_of(instances: Sequence[Instance], name: str) -> list[Frame]:
    """All frames of a series, in the order of its files; `SeriesError` where one has no place in the patient."""
    frames: list[Frame] = []
    for place, instance in enumerate(instances):
        found = next(take(instance, name) for has_form, take in FORMS if has_form(instance))
        lut = modality_lut(instance, name)
        if lut is not None:
            found = [replace(frame, lut=lut) for frame in found]
        if len(found) > 1:  # the last resort to distinguish volumes: each has a file of its own
            found = [replace(frame, traits={**frame.traits, "file": str(place + 1)}) for frame in found]
        frames.extend(found)
    return frames
