"""Assemble a DICOM series, or a part of it that is one volume: frames in order and grid, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medfuse.dicom.encoding.claimed_size import require_claimed_size
from medfuse.dicom.encoding.decode import check_pixels
from medfuse.dicom.encoding.pixel_format import require_grey
from medfuse.dicom.frames.forms import frames_of
from medfuse.dicom.frames.frame import Frame, require_same_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError, no_volume
from medfuse.dicom.frames.quantities import quantity_of
from medfuse.dicom.frames.stack import Stack, stack
from medfuse.dicom.header import READABLE, Instance, named, said, series_name, short_text, texts, transfer_syntax
from medfuse.dicom.patient import other_patient
from medfuse.dicom.scanning.completeness import excerpt_of, lacks_files, lacks_slices
from medfuse.dicom.scanning.contrast import by_contrast, mixed_contrasts
from medfuse.dicom.scanning.duplicates import without_copies, without_duplicates
from medfuse.dicom.scanning.split_volumes import CODE, OVERVIEWS, at_different_places, by_kind, by_part, is_auxiliary
from medfuse.errors import GeometryError, SeriesError
from medfuse.volume import MODALITIES
from medfuse.volume.grid import MOST_VOXELS, Grid

ONE_PER_SERIES = ("StudyInstanceUID", "FrameOfReferenceUID")
"""What all files of a series must agree on, beside their patient."""

LONGEST_DESCRIPTION = 64
"""Characters of a SeriesDescription (PS3.5 6.2: LO)."""

NO_NUMBER = "–"
"""What stands for a SeriesNumber that the header lacks."""


@dataclass(frozen=True)
class Accepted:
    """What is taken although a series is not whole: ``gaps``, which are interpolated, and ``cut`` ends."""

    gaps: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Series:
    """Files that share a SeriesInstanceUID, or a part of their frames.

    ``stack`` holds the frames in order where they form one volume; ``problem`` says otherwise why they do not, and
    ``brief`` says it in a few words; ``instances`` stand in the same order. A series that holds several volumes is
    several of these: ``part`` counts them from 1 and ``traits`` says what tells each from the others. ``skipped``
    marks a part that is no volume and never chosen: scouts, and pictures of another kind. ``copies`` counts the
    files that were left out because another holds the same slice, ``missing`` the slices that seem to be missing.
    ``cut`` says what the headers speak of and is not there, where that is accepted; ``excerpt`` says so of a volume
    that was taken out of the middle of a series, which can be measured, but is not fused unless that is accepted.
    """

    uid: str
    instances: tuple[Instance, ...]
    stack: Stack | None
    problem: str | None
    part: int | None = None
    traits: str = ""
    skipped: bool = False
    brief: str = ""
    copies: int = 0
    missing: int = 0
    cut: str = ""
    excerpt: str = ""

    @classmethod
    def assemble(cls, uid: str, instances: Sequence[Instance], accepted: Accepted) -> list[Series]:
        """Order the frames and work out the grid of each volume among them, or note why there is none."""
        name = series_name(instances)
        try:
            _require_one_patient(instances, name)
            once = without_copies(instances, name)
            lacking = lacks_files(once, name)
            kinds = by_kind(once)
        except Exception as error:  # hostile headers fail in many ways
            return [cls._refused(uid, instances, no_volume(error, name))]
        parts = [part for traits, kind in kinds for part in cls._assemble(uid, kind, traits, accepted)]
        if lacking is not None and not 0 < lacking.missing <= sum(part.stack.filled for part in parts if part.stack):
            parts = [part._without(lacking, accepted) for part in parts]
        # Which part a copy belonged to is unknown; the first stands for the series.
        parts[0] = replace(parts[0], copies=parts[0].copies + len(instances) - len(once))
        return parts if len(kinds) == 1 else _numbered(parts)

    @classmethod
    def _assemble(cls, uid: str, instances: Sequence[Instance], traits: str, accepted: Accepted) -> list[Series]:
        """The volumes of one kind of picture."""
        name = series_name(instances)
        try:
            _require_measured(instances[0], name)
            _require_one_modality(instances[0], name)
            for instance in instances:
                require_grey(instance, name)
            found = _volumes(cls, uid, frames_of(instances, name), name, accepted)
        except Exception as error:  # as above
            return [cls._refused(uid, instances, no_volume(error, name), traits)]
        return [replace(part, traits=", ".join(filter(None, (traits, part.traits)))) for part in found]

    @classmethod
    def _refused(cls, uid: str, instances: Sequence[Instance], why: NoVolumeError, traits: str = "") -> Series:
        return cls(uid, tuple(instances), None, str(why), traits=traits, brief=why.brief, missing=why.missing)

    def _without(self, lacking: NoVolumeError, accepted: Accepted) -> Series:
        """The same, known to be cut: no volume unless that is accepted."""
        if accepted.cut:
            return replace(self, cut=str(lacking))
        if self.stack is None and lacking.missing:  # a gap, perhaps, which is what is missing
            return self
        return replace(self, stack=None, problem=str(lacking), brief=lacking.brief, missing=lacking.missing)

    @property
    def grid(self) -> Grid | None:
        """Where the voxels are; None where the frames form no volume."""
        return self.stack.grid if self.stack else None

    @property
    def first(self) -> Dataset:
        return self.instances[0].header

    @property
    def kind(self) -> str:
        """What kind of pictures these say that they are: original, derived, localizer and so on; empty if not said."""
        stated = texts(self.first, "ImageType")
        named = [one for one in stated[:1] if CODE.fullmatch(one)] + [one for one in stated[1:] if one in OVERVIEWS]
        return " ".join(named).lower()

    @property
    def transfer_syntaxes(self) -> list[str]:
        """The names of the transfer syntaxes of its files."""
        return sorted({UID(transfer_syntax(one)).name for one in self.instances})

    @property
    def auxiliary(self) -> bool:
        """Whether these are no measured slices: scouts, screen copies, computed pictures."""
        return self.instances[0].sop_class not in READABLE or is_auxiliary(texts(self.first, "ImageType"))

    @property
    def is_result(self) -> bool:
        """Whether medfuse wrote it: a fused picture or a registered partner, and no study's original."""
        try:
            return said(self.first, "Manufacturer") == "medfuse" and texts(self.first, "ImageType")[:1] == ["DERIVED"]
        except Exception:  # pydicom raises many kinds on damaged values
            return False

    @property
    def frames(self) -> int:
        """How many slices: those of the volume, or else the frames of the files as far as they say so."""
        if self.stack:
            return self.stack.grid.shape[2]
        try:
            return sum(one.frames for one in self.instances)
        except ValueError:
            return len(self.instances)

    @property
    def description(self) -> str:
        """The SeriesDescription: for those who look at their own data, never for messages, for it may hold a name."""
        try:
            text = str(self.first.get("SeriesDescription") or "")
        except Exception:  # as above
            return ""
        return "".join(one for one in text if one.isprintable()).strip()[:LONGEST_DESCRIPTION]

    @property
    def modality(self) -> str:
        """The DICOM code, also of series that medfuse does not read."""
        return READABLE.get(self.instances[0].sop_class, short_text(self.first, "Modality") or "unknown")

    @property
    def number(self) -> str:
        """The SeriesNumber as text, a dash where there is none; with ``:2`` for the second part of several."""
        return (short_text(self.first, "SeriesNumber") or NO_NUMBER) + (f":{self.part}" if self.part else "")

    @property
    def name(self) -> str:
        """How messages name the series: its number and modality."""
        name = series_name(self.instances)
        return f"{name}, part {self.part}" + (f" ({self.traits})" if self.traits else "") if self.part else name

    def answers(self, wanted: str | None) -> bool:
        """Whether a number or UID, with or without ``:PART``, names this."""
        whole = short_text(self.first, "SeriesNumber")
        return wanted in (None, self.uid, whole or NO_NUMBER, self.number, f"{self.uid}:{self.part}")

    def require_volume(self) -> Stack:
        """Return the frames in order; raise `SeriesError` with the reason where there are none."""
        if self.stack is None:
            raise SeriesError(self.problem or "")
        return self.stack


def _volumes(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, accepted: Accepted) -> list[Series]:
    """The one volume that the frames form, or the several."""
    try:
        return _numbered(_by_contrast(cls, uid, frames, name, accepted))
    except (SeriesError, GeometryError) as error:
        reason = error
    once = without_duplicates(frames)
    if len(once) < len(frames):
        first, *others = _volumes(cls, uid, once, name, accepted)
        return [replace(first, copies=len(frames) - len(once)), *others]
    parts = _parts(cls, uid, frames, name, accepted)
    if not parts:
        raise reason
    return parts


def _by_contrast(
    cls: type[Series], uid: str, frames: Sequence[Frame], name: str, accepted: Accepted, traits: str = ""
) -> list[Series]:
    """The volume that frames of one contrast form; frames of several at different places must all form volumes."""
    groups = by_contrast(frames)
    if len(groups) == 1 or not at_different_places(frames):
        return [_volume(cls, uid, frames, name, accepted, traits)]
    try:
        return [
            _volume(cls, uid, group, name, accepted, ", ".join(filter(None, (traits, contrast))))
            for contrast, group in groups
        ]
    except (SeriesError, GeometryError):
        stack(frames, name, fill_gaps=accepted.gaps)  # where this fails, too, its reason comes first
        raise mixed_contrasts(groups, name) from None


def _volume(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, accepted: Accepted, traits: str) -> Series:
    """One volume, whose pixels can be decoded as far as headers tell, and are of one quantity."""
    found = stack(frames, name, fill_gaps=accepted.gaps)
    require_same_rescale(found.frames, name)
    files = _files(found.frames)
    quantity_of(found.frames, READABLE[files[0].sop_class], name)
    if np.prod(found.grid.shape, dtype=np.float64) > MOST_VOXELS:
        raise NoVolumeError(
            "too large", f"{name} claims {found.grid!r}: no study is so large. Export the series again."
        )
    layouts = [check_pixels(instance, name) for instance in files]
    require_claimed_size(
        [(one, layout.frames * layout.frame_bytes) for one, layout in zip(files, layouts, strict=True)], name
    )
    whole = cls(uid, files, found, None, traits=traits)
    lacking = lacks_slices(found, name)
    excerpt = "" if lacking is None or accepted.cut else excerpt_of(found, name)
    if lacking is None or excerpt:
        return replace(whole, excerpt=excerpt, missing=lacking.missing if lacking else 0)
    return whole._without(lacking, accepted)


def _files(frames: Sequence[Frame]) -> tuple[Instance, ...]:
    """The files that hold the frames, each once, in the order of the frames."""
    return tuple({id(frame.instance): frame.instance for frame in frames}.values())


def _require_measured(instance: Instance, name: str) -> None:
    """Files are of a class that is read."""
    if not instance.sop_class:
        raise NoVolumeError(
            "no SOP class",
            f"{name} has no {named('SOPClassUID')}: which kind of object its files are is unknown. Export it again.",
        )
    if instance.sop_class not in READABLE:
        kind = UID(instance.sop_class).name
        raise NoVolumeError(
            kind,
            f"{name} is {kind}; medfuse reads MR, CT and PET series, classic or enhanced, and NM tomography. Choose "
            "another series, or export this one in such a form.",
        )


def _require_one_modality(instance: Instance, name: str) -> None:
    """What a file says to be its modality is that of its class."""
    stated, meant = said(instance.header, "Modality"), READABLE[instance.sop_class]
    if stated in MODALITIES and stated != meant:
        raise NoVolumeError(
            "contradicting modality",
            f"{named('Modality')} of {name} is {stated}, but its {named('SOPClassUID')} is "
            f"{UID(instance.sop_class).name}, which holds {meant}. Correct one of them, or export the series again.",
        )


def _require_one_patient(instances: Sequence[Instance], name: str) -> None:
    """Files of one series are of one patient and study; messages never name the values."""
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID"):
        if not said(instances[0].header, keyword):
            raise NoVolumeError(
                "no UID", f"{name} has no {named(keyword)}: which files belong together is unknown. Export it again."
            )
    headers = [instance.header for instance in instances]
    differing = other_patient(headers)
    for keyword in ONE_PER_SERIES:
        places = (place for place, header in enumerate(headers) if said(header, keyword) != said(headers[0], keyword))
        place = next(places, None)
        differing = differing or (None if place is None else (keyword, place))
    if differing:
        keyword, place = differing
        raise NoVolumeError(
            f"several values of {keyword}",
            f"{name} mixes different values of {keyword}, first in instance {instances[place].number}: its files do "
            "not belong to one volume. Separate them before fusing.",
        )


def _parts(cls: type[Series], uid: str, frames: Sequence[Frame], name: str, accepted: Accepted) -> list[Series]:
    """Take a series apart that is not one volume; nothing where no part would be one."""
    parts: list[Series] = []
    for traits, group in by_part(frames):
        part = f"{name}, part {len(parts) + 1}"
        try:
            parts += _by_contrast(cls, uid, group, part, accepted, traits)
        except (SeriesError, GeometryError) as reason:
            parts.append(cls._refused(uid, _files(group), no_volume(reason, part), traits))
    return _numbered(parts) if len(parts) > 1 and any(part.stack for part in parts) else []


def _numbered(parts: Sequence[Series]) -> list[Series]:
    """Number the parts of a series, and mark those that are no volume and of another kind; one alone has no number."""
    if len(parts) == 1:
        return list(parts)
    measured = any(part.stack and not part.auxiliary for part in parts)
    return [
        replace(part, part=number, skipped=measured and part.stack is None and part.auxiliary)
        for number, part in enumerate(parts, start=1)
    ]
