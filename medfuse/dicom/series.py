"""One DICOM series, or a part of it that is one volume: its frames in order, its grid, or why it is no volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from medfuse.dicom.copies import without_copies, without_twins
from medfuse.dicom.frames import Frame, frames_of
from medfuse.dicom.header import READABLE, Instance, said, series_name, short_text, texts
from medfuse.dicom.lattice import Stack, stack
from medfuse.dicom.parts import by_kind, by_part, is_aside
from medfuse.errors import GeometryError, SeriesError
from medfuse.grid import Grid

ONE_PER_SERIES = ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID")
"""What all files of a series must agree on."""


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
        name = series_name(instances)
        with _noting(name) as noted:
            _require_one_patient(instances, name)
            kinds = by_kind(without_copies(instances, name))
            parts = [part for traits, kind in kinds for part in cls._assemble(uid, kind, traits, fill_gaps)]
            return parts if len(kinds) == 1 else _numbered(parts)
        return [cls(uid, tuple(instances), None, noted.problem)]

    @classmethod
    def _assemble(cls, uid: str, instances: Sequence[Instance], traits: str, fill_gaps: bool) -> list[Series]:
        """The volumes of one kind of picture."""
        name = series_name(instances)
        with _noting(name) as noted:
            _require_measured(instances[0], name)
            return [
                replace(part, traits=", ".join(filter(None, (traits, part.traits))))
                for part in _volumes(cls, uid, frames_of(instances, name), name, fill_gaps)
            ]
        return [cls(uid, tuple(instances), None, noted.problem, traits=traits)]

    @property
    def grid(self) -> Grid | None:
        """Where the voxels are; None where the frames form no volume."""
        return self.stack.grid if self.stack else None

    @property
    def first(self) -> Dataset:
        return self.instances[0].header

    @property
    def aside(self) -> bool:
        """Whether these are pictures that lie beside measured ones: scouts, copies of screens, computed pictures."""
        return self.instances[0].sop_class not in READABLE or is_aside(texts(self.first, "ImageType"))

    @property
    def modality(self) -> str:
        """The DICOM code, also of series that medfuse does not read."""
        return READABLE.get(self.instances[0].sop_class, short_text(self.first, "Modality") or "unknown")

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


class _noting:  # noqa: N801
    """Keeps why something is no volume, in a sentence, instead of raising it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""

    def __enter__(self) -> _noting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, SeriesError):
            self.problem = str(error)
        elif isinstance(error, GeometryError):
            self.problem = f"{self.name} has no usable geometry: {error}"
        elif isinstance(error, Exception):  # values that are no numbers fail where they are first read, in many ways
            self.problem = (
                f"the header of {self.name} cannot be interpreted ({type(error).__name__}). Export the series again."
            )
        return isinstance(error, Exception)


def _volumes(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, fill_gaps: bool) -> list[Series]:
    """The one volume that the frames form, or the several."""
    try:
        return [_volume(cls, uid, stack(frames, name, fill_gaps=fill_gaps))]
    except (SeriesError, GeometryError) as error:
        reason = error
    once = without_twins(frames)
    if len(once) < len(frames):
        return _volumes(cls, uid, once, name, fill_gaps)
    parts = _parts(cls, uid, frames, name, fill_gaps)
    if not parts:
        raise reason
    return parts


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


def _require_measured(instance: Instance, name: str) -> None:
    """Files are of a class that is read, and hold one value a pixel."""
    if instance.sop_class not in READABLE:
        raise SeriesError(_of_other_class(instance, name))
    if said(instance.header, "SamplesPerPixel") not in ("", "1"):
        raise SeriesError(
            f"{name} holds colour pictures; a volume of measured values is needed. Choose another series."
        )


def _require_one_patient(instances: Sequence[Instance], name: str) -> None:
    """Files of one series are of one patient and study; messages never name the values."""
    first = instances[0].header
    if not said(first, "SeriesInstanceUID"):
        raise SeriesError(f"{name} has no SeriesInstanceUID: which files belong together is unknown. Export it again.")
    for keyword in ONE_PER_SERIES:
        expected = said(first, keyword)
        for instance in instances[1:]:
            if said(instance.header, keyword) != expected:
                raise SeriesError(
                    f"{name} mixes different values of {keyword}, first in instance {instance.number}: its files do "
                    "not belong to one volume. Separate them before fusing."
                )


def _parts(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, fill_gaps: bool) -> list[Series]:
    """Take a series apart that is not one volume; nothing where no part would be one."""
    parts: list[Series] = []
    for traits, group in by_part(frames):
        part = f"{name}, part {len(parts) + 1}"
        try:
            found = _volume(cls, uid, stack(group, part, fill_gaps=fill_gaps), traits)
        except (SeriesError, GeometryError) as reason:
            found = cls(uid, _files(group), None, str(reason), traits=traits)
        parts.append(found)
    return _numbered(parts) if len(parts) > 1 and any(part.stack for part in parts) else []


def _numbered(parts: Sequence[Series]) -> list[Series]:
    """Count the parts of a series, and tell those that are not its slices: what is no volume, and of another kind."""
    aside = any(part.stack and not part.aside for part in parts)
    return [
        replace(part, part=number, beside=aside and part.stack is None and part.aside)
        for number, part in enumerate(parts, start=1)
    ]
