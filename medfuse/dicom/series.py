"""One DICOM series, or a part of it that is one volume: its frames in order, its grid, or why it is no volume."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from medfuse.dicom.copies import without_copies, without_twins
from medfuse.dicom.frames import CLASSIC_TRAITS, ENHANCED_TRAITS, NM_TRAITS, Frame, frames_of
from medfuse.dicom.header import READABLE, Instance, series_name, short_text
from medfuse.dicom.lattice import SAME_POSITION_MM, Stack, same_plane, stack
from medfuse.errors import GeometryError, SeriesError
from medfuse.grid import Grid

ONE_PER_SERIES = (
    *("SOPClassUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"),
    *("Modality", "SamplesPerPixel", "Units", "RescaleType"),
)
"""What all files of a series must agree on."""

TRAITS = (*(keyword for _, keyword in ENHANCED_TRAITS), *CLASSIC_TRAITS, *NM_TRAITS, "file")
"""What tells the volumes of one series apart, the most telling first."""

CODE = re.compile(r"[A-Z0-9_ .+\\-]{1,64}")
"""Code strings and decimal numbers of the Standard (PS3.5 6.2), several joined by backslashes."""


@dataclass(frozen=True)
class Series:
    """Files that share a SeriesInstanceUID, or a part of their frames.

    ``stack`` holds the frames in order where they form one volume; ``problem`` says otherwise why they do not, and
    ``instances`` stand in the same order. A series that holds several volumes is several of these: ``part`` counts them
    from 1 and ``traits`` says what tells each from the others. ``beside`` marks what lies in a series without being
    one of its slices: scouts, and pictures of another kind.
    """

    uid: str
    instances: tuple[Instance, ...]
    stack: Stack | None
    problem: str | None
    part: int | None = None
    traits: str = ""
    beside: bool = False

    @classmethod
    def assemble(cls, uid: str, instances: Sequence[Instance], *, fill_gaps: bool = False) -> list[Series]:
        """Order the frames and work out the grid of each volume among them, or note what stands against it."""
        slices = [instance for instance in instances if instance.sop_class in READABLE]
        others = [instance for instance in instances if instance.sop_class not in READABLE]
        if not slices or not others:
            return cls._assemble(uid, instances, fill_gaps)
        apart = cls(uid, tuple(others), None, _of_other_class(others[0], series_name(others)), None, "", beside=True)
        return _numbered([*cls._assemble(uid, slices, fill_gaps), apart])

    @classmethod
    def _assemble(cls, uid: str, instances: Sequence[Instance], fill_gaps: bool) -> list[Series]:
        name = series_name(instances)
        try:
            _require_one_kind(instances, name)
            instances = without_copies(instances, name)
            return _volumes(cls, uid, frames_of(instances, name), name, fill_gaps)
        except SeriesError as error:
            problem = str(error)
        except GeometryError as error:
            problem = f"{name} has no usable geometry: {error}"
        except Exception as error:  # values that are no numbers fail where pydicom first reads them, in many ways
            problem = f"the header of {name} cannot be interpreted ({type(error).__name__}). Export the series again."
        return [cls(uid, tuple(instances), None, problem)]

    @property
    def grid(self) -> Grid | None:
        """Where the voxels are; None where the frames form no volume."""
        return self.stack.grid if self.stack else None

    @property
    def first(self) -> Dataset:
        return self.instances[0].header

    @property
    def modality(self) -> str:
        """The DICOM code, also of series that medfuse does not read."""
        return READABLE.get(self.instances[0].sop_class, str(self.first.get("Modality", "")) or "unknown")

    @property
    def number(self) -> str:
        """The SeriesNumber as text, a dash where there is none; with ``:2`` for the second part of several."""
        return (short_text(self.first, "SeriesNumber") or "–") + (f":{self.part}" if self.part else "")

    @property
    def name(self) -> str:
        """How messages name the series: its number and modality."""
        name = series_name(self.instances)
        return f"{name}, part {self.part}" + (f" ({self.traits})" if self.traits else "") if self.part else name

    def answers(self, wanted: str | None) -> bool:
        """Whether a number or UID, with or without ``:PART``, names this."""
        whole = short_text(self.first, "SeriesNumber")
        return wanted in (None, self.uid, whole or "–", self.number, f"{self.uid}:{self.part}")

    def require_volume(self) -> Stack:
        """Return the frames in order; raise `SeriesError` with the reason where there are none."""
        if self.stack is None:
            raise SeriesError(self.problem or "")
        return self.stack


def _volumes(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, fill_gaps: bool) -> list[Series]:
    """The one volume that the frames form, or the several."""
    try:
        return [_volume(cls, uid, stack(frames, name, fill_gaps=fill_gaps))]
    except (SeriesError, GeometryError) as error:
        reason = error
    parts = _parts(cls, uid, frames, name, fill_gaps)
    if parts:
        return parts
    once = without_twins(frames)
    if len(once) == len(frames):
        raise reason
    return [_volume(cls, uid, stack(once, name, fill_gaps=fill_gaps))]


def _volume(cls: type[Series], uid: str, found: Stack, traits: str = "") -> Series:
    return cls(uid, _files(found.frames), found, None, traits=traits)


def _files(frames: Sequence[Frame]) -> tuple[Instance, ...]:
    """The files that hold the frames, each once, in the order of the frames."""
    return tuple({id(frame.instance): frame.instance for frame in frames}.values())


def _of_other_class(instance: Instance, name: str) -> str:
    found = instance.header.get("SOPClassUID")
    return (
        f"{name} is {getattr(found, 'name', None) or 'of no stated SOP class'}; medfuse reads MR, CT and PET series, "
        "classic or enhanced, and NM tomography. Choose another series, or export this one in such a form."
    )


def _require_one_kind(instances: Sequence[Instance], name: str) -> None:
    """Files of one series are of one readable class, patient, study, world and unit; messages never name the values."""
    first = instances[0].header
    for instance in instances:
        if instance.sop_class not in READABLE:
            raise SeriesError(_of_other_class(instances[0], name))
    if not str(first.get("SeriesInstanceUID", "")):
        raise SeriesError(f"{name} has no SeriesInstanceUID: which files belong together is unknown. Export it again.")
    for instance in instances[1:]:
        for keyword in ONE_PER_SERIES:
            if instance.header.get(keyword) != first.get(keyword):
                raise SeriesError(
                    f"{name} mixes different values of {keyword}, first in instance {instance.number}: its files do "
                    "not belong to one volume. Separate them before fusing."
                )
    if first.get("SamplesPerPixel", 1) != 1:
        raise SeriesError(
            f"{name} holds colour pictures; a volume of measured values is needed. Choose another series."
        )


def _parts(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, fill_gaps: bool) -> list[Series]:
    """Take a series apart that is not one volume; nothing where no part would be one."""
    parts: list[Series] = []
    for plane in _by_plane(frames):
        for traits, group in _by_traits(plane):
            part = f"{name}, part {len(parts) + 1}"
            try:
                found = _volume(cls, uid, stack(group, part, fill_gaps=fill_gaps), traits)
            except (SeriesError, GeometryError) as reason:
                scouts = all("LOCALIZER" in frame.traits.get("ImageType", "") for frame in group)
                found = cls(uid, _files(group), None, str(reason), traits=traits, beside=scouts)
            parts.append(found)
    if len(parts) < 2 or not any(part.stack for part in parts):
        return []
    return _numbered(parts)


def _numbered(parts: Iterable[Series]) -> list[Series]:
    return [
        Series(part.uid, part.instances, part.stack, part.problem, number, part.traits, part.beside)
        for number, part in enumerate(parts, start=1)
    ]


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
    time, tells slices apart and not volumes.
    """
    groups = [("", frames)]
    for trait in TRAITS:
        if not any(_repeats(group) for _, group in groups):
            break
        split: list[tuple[str, list[Frame]]] = []
        for said, group in groups:
            values: dict[str, list[Frame]] = {}
            for frame in group:
                values.setdefault(frame.traits.get(trait, ""), []).append(frame)
            telling = len(values) > 1 and min(map(len, values.values())) > 1 and _repeats(group)
            shown = {
                value: ", ".join(filter(None, (said, f"{trait} {_shown(trait, value, number)}")))
                for number, value in enumerate(values, start=1)
            }
            split += [(shown[value], some) for value, some in values.items()] if telling else [(said, group)]
        groups = split
    return groups


def _shown(trait: str, value: str, number: int) -> str:
    """A trait's value where it is a code or a number; else its place in line, for it may be anything or a date."""
    plain = CODE.fullmatch(value) and trait not in ("AcquisitionTime", "FrameReferenceDateTime", "StackID", "file")
    return value if plain else f"no. {number}"


def _repeats(frames: Sequence[Frame]) -> bool:
    """Whether two of the frames, which share a plane, lie at one position."""
    normal = np.cross(frames[0].row, frames[0].column)
    heights = np.sort([frame.position @ normal for frame in frames])
    return len(heights) > 1 and bool(np.diff(heights).min() < SAME_POSITION_MM)
