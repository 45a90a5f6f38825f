"""Find out whether headers say that files or slices of a series are not there: concatenations, counts, numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from medfuse.dicom.frames.enhanced import Groups
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.frames.stack import Stack
from medfuse.dicom.header import READABLE, Instance, named, said
from medfuse.errors import counted

WHAT_TO_DO = "Export the whole series again, or take what there is (accept_cut=True, --accept-cut)."

CONCATENATED = ("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber")
"""What a part of a concatenation says of itself (PS3.3 C.7.6.16.2.2.4)."""


def lacks_files(instances: Sequence[Instance], name: str) -> NoVolumeError | None:
    """Say which files of a series its headers speak of that are not there; None where they speak of no others.

    Parameters
    ----------
    instances
        All files of a series, each object once.
    name
        How messages name the series.

    Raises
    ------
    SeriesError
        If parts of a concatenation contradict each other.
    """
    concatenations: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if any(said(instance.header, keyword) for keyword in CONCATENATED):
            concatenations[said(instance.header, "ConcatenationUID")].append(instance)
    lacking = (_lacks_parts(parts, name) for parts in concatenations.values())
    return next(filter(None, lacking), None) or _lacks_positions(instances, name) or _lacks_numbers(instances, name)


def lacks_slices(found: Stack, name: str) -> NoVolumeError | None:
    """Say how many slices a PET or NM volume lacks by its NumberOfSlices (PS3.3 C.8.9.1, C.8.4.8), or PET's indices."""
    headers = [frame.instance.header for frame in found.frames]
    if READABLE.get(found.frames[0].instance.sop_class) not in ("PT", "NM"):
        return None
    stated = max((_whole(said(header, "NumberOfSlices")) for header in headers), default=0)
    there = found.grid.shape[2]
    if not stated and said(headers[0], "SeriesType").split("\\")[0] in ("STATIC", "WHOLE BODY"):
        # The index counts the slices of the series, from 1; some writers leave it the same in all of them.
        indices = {_whole(said(header, "ImageIndex")) for header in headers}
        if len(indices) == there and 0 not in indices and max(indices) > there:
            return _cut(there, max(indices), name, f"its {named('ImageIndex')} counts {max(indices)}")
    if stated > there:
        return _cut(there, stated, name, f"its {named('NumberOfSlices')} is {stated}")
    return None


def excerpt_of(found: Stack, name: str) -> str:
    """Say which slices a PET volume holds that was taken out of the middle of a series; empty where it was not.

    Its ImageIndex runs without a gap, and has neither the first nor the last of NumberOfSlices: a selection. An export
    that was interrupted, or one part of a series that was stored in two, has one of them.
    """
    headers = [frame.instance.header for frame in found.frames]
    if READABLE.get(found.frames[0].instance.sop_class) != "PT" or said(headers[0], "SeriesType").startswith("DYNAMIC"):
        return ""
    stated = {_whole(said(header, "NumberOfSlices")) for header in headers}
    indices = [_whole(said(header, "ImageIndex")) for header in headers]
    first, last = min(indices), max(indices)
    in_order = sorted(indices) in (indices, indices[::-1]) and len(set(indices)) == last - first + 1 == len(indices)
    if len(stated) != 1 or not in_order or not 1 < first <= last < max(stated):
        return ""
    return (
        f"{name} holds slices {first} to {last} of {max(stated)} ({named('ImageIndex')}, {named('NumberOfSlices')}): "
        "those before and after are missing"
    )


def _lacks_parts(parts: Sequence[Instance], name: str) -> NoVolumeError | None:
    """Whether a concatenation has all its parts, which it numbers from 1 and whose frames it counts from 0."""
    number, total, offset = (
        [_whole(said(part.header, keyword)) for part in parts]
        for keyword in ("InConcatenationNumber", "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber")
    )
    totals = {one for one in total if one}
    beyond = any(one > count for one in number for count in totals)
    if beyond or 0 in number or len(set(number)) < len(number) or len(totals) > 1:
        raise NoVolumeError(
            "contradicting parts of a concatenation",
            f"the parts of a concatenation of {name} contradict each other: found {named('InConcatenationNumber')} "
            f"{_shown(number)} of {named('InConcatenationTotalNumber')} {_shown(sorted(totals))}. Remove the part that "
            "is there twice, or export the series again.",
        )
    count = max(totals, default=0)
    if not count and len(parts) == 1 and number == [1]:
        return NoVolumeError(
            "part of a concatenation",
            f"{name} holds part 1 of a concatenation, and no {named('InConcatenationTotalNumber')} says how many there "
            f"are. {WHAT_TO_DO}",
        )
    missing = max(count, *number) - len(parts)
    if missing:
        return NoVolumeError(
            "part of a concatenation",
            f"{name} holds {counted(len(parts), 'part')} of a concatenation of {max(count, *number)}, number "
            f"{_shown(number)} ({named('InConcatenationNumber')}): {counted(missing, 'part')} with more slices "
            f"{'is' if missing == 1 else 'are'} missing. {WHAT_TO_DO}",
        )
    if all(said(part.header, "ConcatenationFrameOffsetNumber") for part in parts):
        order = sorted(range(len(parts)), key=number.__getitem__)
        expected = 0
        for place in order:
            if offset[place] != expected:
                raise NoVolumeError(
                    "contradicting parts of a concatenation",
                    f"part {number[place]} of a concatenation of {name} says that {offset[place]} frames stand before "
                    f"it ({named('ConcatenationFrameOffsetNumber')}), but there are {expected}. Export the series "
                    "again.",
                )
            expected += parts[place].frames
    return None


def _lacks_positions(instances: Sequence[Instance], name: str) -> NoVolumeError | None:
    """Whether enhanced frames number places of their stacks that have no frame (InStackPositionNumber, from 1)."""
    places: set[int] = set()
    for instance in instances:
        groups = Groups(instance.header)
        for index in range(len(groups.own)):
            places.add(_whole(said(groups.first(index, "FrameContentSequence"), "InStackPositionNumber")))
    if not places or 0 in places or max(places) == len(places):
        return None
    return _cut(len(places), max(places), name, f"its {named('InStackPositionNumber')} counts {max(places)}")


def _lacks_numbers(instances: Sequence[Instance], name: str) -> NoVolumeError | None:
    """Whether numbers within one acquisition are missing, where its last image is there.

    ImagesInAcquisition alone may count images of other series, too.
    """
    acquired = {
        (said(one.header, "AcquisitionNumber"), _whole(said(one.header, "ImagesInAcquisition"))) for one in instances
    }
    numbers = {_whole(said(one.header, "InstanceNumber")) for one in instances}
    if len(acquired) != 1 or len(numbers) != len(instances) or any(one.frames > 1 for one in instances):
        return None
    ((_, count),) = acquired
    if max(numbers) != count or 0 in numbers or count == len(numbers):
        return None
    reason = f"its {named('ImagesInAcquisition')} is {count}, and its InstanceNumbers end there"
    return _cut(len(numbers), count, name, reason)


def _cut(there: int, stated: int, name: str, reason: str) -> NoVolumeError:
    return NoVolumeError(
        f"{counted(stated - there, 'slice')} missing",
        f"{name} has {counted(there, 'slice')}, but {reason}: {counted(stated - there, 'slice')} "
        f"{'is' if stated - there == 1 else 'are'} missing. {WHAT_TO_DO}",
        missing=stated - there,
    )


def _whole(text: str) -> int:
    """A whole number; 0 where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() else 0


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "not said"
