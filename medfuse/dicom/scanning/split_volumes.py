"""Split a series into its volumes: by kind of picture, plane, header values, and last by order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from medfuse.dicom.frames.classic import CLASSIC_TRAITS
from medfuse.dicom.frames.enhanced import ENHANCED_TRAITS
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.nuclear import NM_TRAITS
from medfuse.dicom.frames.stack import SAME_POSITION_MM, same_plane
from medfuse.dicom.header import Instance, said

ONE_PER_VOLUME = ("SOPClassUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "Units", "RescaleType")
"""What all files of one volume must agree on; some may leave out the last."""

TRAITS = (*(keyword for _, keyword in ENHANCED_TRAITS), *CLASSIC_TRAITS, *NM_TRAITS, "file")
"""What distinguishes the volumes of one series, the most specific first."""

CODE = re.compile(r"[A-Z0-9_ .+\\-]{1,64}")
"""Code strings and decimal numbers of the Standard (PS3.5 6.2), several joined by backslashes."""

COUNTED = (
    *("AcquisitionTime", "FrameReferenceDateTime", "StackID", "file", "SOPClassUID", "ContrastBolusAgent"),
    *("AttenuationCorrectionMethod", "ScatterCorrectionMethod", "ReconstructionMethod"),
)
"""Traits whose values are never shown: free text, dates, identifiers."""

OVERVIEWS = {"LOCALIZER", "PROJECTION IMAGE", "MIP", "SCREEN SAVE", "CSA REPORT"}
"""Values of ImageType that mark pictures made for an overview."""


def by_kind(instances: Sequence[Instance]) -> list[tuple[str, list[Instance]]]:
    """Files that agree on all that those of one volume must, together, with what distinguishes each group."""
    types = {said(instance.header, "RescaleType") for instance in instances} - {""}
    kinds: dict[tuple[str, ...], list[Instance]] = {}
    for instance in instances:
        *found, rescaled = (said(instance.header, keyword) for keyword in ONE_PER_VOLUME)
        if not rescaled and len(types) == 1:
            (rescaled,) = types
        kinds.setdefault((*found, rescaled), []).append(instance)
    differing = [place for place, values in enumerate(zip(*kinds, strict=True)) if len(set(values)) > 1]
    return [
        (
            ", ".join(
                f"{ONE_PER_VOLUME[place]} {shown(ONE_PER_VOLUME[place], found[place], number)}" for place in differing
            ),
            group,
        )
        for number, (found, group) in enumerate(kinds.items(), start=1)
    ]


def by_part(frames: Sequence[Frame]) -> Iterator[tuple[str, list[Frame]]]:
    """Frames that may form one volume, together, with what distinguishes each group."""
    for plane in _by_plane(frames):
        for traits, group in _by_traits(plane):
            yield from _by_order(traits, group)


def is_auxiliary(image_type: Sequence[str]) -> bool:
    """Whether pictures of this ImageType are an overview, or were computed from others (PS3.3 C.7.6.1.1.2)."""
    return image_type[:1] == ["DERIVED"] or image_type[1:2] == ["SECONDARY"] or not OVERVIEWS.isdisjoint(image_type)


def _by_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames that share matrix, spacing and orientation, together."""
    planes: list[list[Frame]] = []
    for frame in frames:
        for plane in planes:
            if same_plane(plane[0], frame):
                plane.append(frame)
                break
        else:
            planes.append([frame])
    return planes


def _by_traits(frames: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split frames at one position by the first trait that leaves none, or as far as traits go.

    A trait counts only where each of its values has several frames: one that differs from slice to slice, such as a
    time, distinguishes slices and not volumes.
    """
    groups = [("", frames)]
    for trait in TRAITS:
        if not any(_repeats(group) for _, group in groups):
            break
        split: list[tuple[str, list[Frame]]] = []
        for known, group in groups:
            values: dict[str, list[Frame]] = {}
            for frame in group:
                values.setdefault(frame.traits.get(trait, ""), []).append(frame)
            telling = len(values) > 1 and min(map(len, values.values())) > 1 and _repeats(group)
            named = {
                value: ", ".join(filter(None, (known, f"{trait} {shown(trait, value, number)}")))
                for number, value in enumerate(values, start=1)
            }
            split += [(named[value], some) for value, some in values.items()] if telling else [(known, group)]
        groups = split
    return groups


def _by_order(traits: str, frames: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split frames whose headers do not differ by their numbers, where these allow one way only.

    Dynamic series of some scanners say in no other way which slices were measured together. Each position must have
    equally many frames; the first of each make the first volume, and so on. The numbers must run through volume after
    volume, or through position after position.
    """
    places = _places(frames)
    count = max(Counter(places).values())
    if count == 1 or set(Counter(places).values()) != {count}:
        return [(traits, frames)]
    numbers = [(said(frame.instance.header, "InstanceNumber"), frame.number or 0) for frame in frames]
    if not all(text.isdecimal() for text, _ in numbers) or len(set(numbers)) < len(numbers):
        return [(traits, frames)]
    order = sorted(range(len(frames)), key=lambda one: (int(numbers[one][0]), numbers[one][1]))
    slices = len(frames) // count
    by_volume = [order[start : start + slices] for start in range(0, len(order), slices)]
    by_position = [order[start::count] for start in range(count)]
    for volumes in (by_volume, by_position):
        if all(len({places[one] for one in volume}) == slices for volume in volumes):
            return [
                (", ".join(filter(None, (traits, f"order no. {number}"))), [frames[one] for one in volume])
                for number, volume in enumerate(volumes, start=1)
            ]
    return [(traits, frames)]


def shown(trait: str, value: str, number: int) -> str:
    """A trait's value where it is a code or a number; else its place in line, for it may be anything or a date."""
    return value if CODE.fullmatch(value) and trait not in COUNTED else f"no. {number}"


def _places(frames: Sequence[Frame]) -> list[int]:
    """For each of the frames, which share a plane, the position it lies at, counted along the normal."""
    normal = np.cross(frames[0].row, frames[0].column)
    heights = np.array([frame.position @ normal for frame in frames])
    order = np.argsort(heights, kind="stable")
    places = np.empty(len(frames), dtype=int)
    places[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) >= SAME_POSITION_MM)
    return [int(place) for place in places]


def at_different_places(frames: Sequence[Frame]) -> bool:
    """Whether frames share a plane, and no two of them lie at one position along its normal."""
    return all(same_plane(frames[0], frame) for frame in frames) and not _repeats(frames)


def _repeats(frames: Sequence[Frame]) -> bool:
    """Whether two of the frames, which share a plane, lie at one position."""
    return len(set(_places(frames))) < len(frames)
