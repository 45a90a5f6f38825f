"""From files to frames: every slice of a series with its place and meaning, whichever form of DICOM holds it.

Classic files hold one frame; enhanced files describe many by functional groups (PS3.3 C.7.6.16); NM reconstructions
place theirs by the detector (C.8.4.10); Siemens mosaics hold them as tiles of one picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from medfuse.dicom.frames.mosaic import grid_positions, is_grid, is_mosaic, mosaic_layout
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import ENHANCED, Instance, items, listed, numbers, said, texts

Vector = npt.NDArray[np.float64]

EMPTY = Dataset()
"""Stands for a group that is not there; never written to."""

CLASSIC_TRAITS = (
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "DiffusionGradientOrientation"),
    *("NominalPercentageOfCardiacPhase", "TriggerTime", "InversionTime", "FlipAngle", "FrameReferenceTime"),
    *("ConvolutionKernel", "KVP", "AcquisitionNumber", "ImageType", "AcquisitionTime"),
)
"""What tells the volumes of one classic series apart, the most telling first."""

ENHANCED_TRAITS = (
    *(("FrameContentSequence", "StackID"), ("MRImageFrameTypeSequence", "FrameType")),
    *(("MRImageFrameTypeSequence", "ComplexImageComponent"), ("CTImageFrameTypeSequence", "FrameType")),
    *(("PETFrameTypeSequence", "FrameType"), ("MREchoSequence", "EffectiveEchoTime")),
    *(("MRDiffusionSequence", "DiffusionBValue"), ("MRDiffusionSequence", "DiffusionDirectionality")),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    *(("CTReconstructionSequence", "ConvolutionKernel"), ("CTXRayDetailsSequence", "KVP")),
    *(("MRModifierSequence", "InversionTimes"), ("MRTimingAndRelatedParametersSequence", "FlipAngle")),
    *(("PETReconstructionSequence", "ReconstructionType"), ("FrameContentSequence", "TemporalPositionIndex")),
    *(("FrameContentSequence", "FrameAcquisitionNumber"), ("FrameContentSequence", "FrameReferenceDateTime")),
)
"""The same for frames of enhanced files: functional group and attribute."""

NM_TRAITS = (
    *("EnergyWindowVector", "TimeSlotVector", "RRIntervalVector", "DetectorVector", "RotationVector", "PhaseVector"),
    *("TimeSliceVector",),
)
"""The same for NM: the vectors beside SliceVector (PS3.3 C.8.4.8)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice as a file stores it.

    ``number`` counts the frames of a multi-frame file from 1 and is None in a single-frame one; ``tile`` is the row and
    column of a mosaic's tile. ``position`` is the centre of the first voxel, ``row`` and ``column`` point along them,
    LPS mm; ``spacing`` is between rows and between columns, mm. A stored value times ``slope`` plus ``intercept`` is
    in the unit named by ``rescale_type``. ``traits`` may tell it from frames of other volumes of the same series.
    """

    instance: Instance
    number: int | None
    tile: tuple[int, int] | None
    shape: tuple[int, int]
    position: Vector
    row: Vector
    column: Vector
    spacing: tuple[float, float]
    slope: float
    intercept: float
    traits: Mapping[str, str]

    @property
    def label(self) -> str:
        """How messages name it."""
        if self.number is not None:
            return f"frame {self.number} of instance {self.instance.number}"
        return f"instance {self.instance.number}" + (f" (tile {self.tile})" if self.tile else "")


def frames_of(instances: Sequence[Instance], name: str) -> list[Frame]:
    """All frames of a series, in the order of its files; `SeriesError` where one has no place in the patient."""
    frames: list[Frame] = []
    for place, instance in enumerate(instances):
        if instance.sop_class in ENHANCED or _has_groups(instance):
            found = _enhanced_frames(instance, name)
        elif instance.sop_class == NuclearMedicineImageStorage:
            found = _tomography_frames(instance, name)
        elif is_mosaic(instance.header):
            found = _mosaic_frames(instance, name)
        elif is_grid(instance.header):
            found = _grid_frames(instance, name)
        else:
            found = [_classic_frame(instance, name)]
        if len(found) > 1:  # the last resort to tell volumes apart: that each has a file of its own
            found = [replace(frame, traits={**frame.traits, "file": str(place + 1)}) for frame in found]
        frames.extend(found)
    return frames


def _has_groups(instance: Instance) -> bool:
    """Whether frames of another class, such as multi-frame Secondary Capture, are placed as those of enhanced files."""
    return instance.frames > 1 and "PerFrameFunctionalGroupsSequence" in instance.header


class Groups:
    """The functional groups of a file's frames (PS3.3 C.7.6.16): a frame's own, else those that all share."""

    def __init__(self, header: Dataset) -> None:
        self.own = items(header, "PerFrameFunctionalGroupsSequence")
        self.shared = next(iter(items(header, "SharedFunctionalGroupsSequence")), EMPTY)
        self._known: dict[str, Sequence[Dataset]] = {}

    def all(self, place: int, keyword: str) -> Sequence[Dataset]:
        """All items of a group of the frame at ``place`` from 0."""
        found = items(self.own[place], keyword) if place < len(self.own) else ()
        if found:
            return found
        if keyword not in self._known:
            self._known[keyword] = items(self.shared, keyword)
        return self._known[keyword]

    def first(self, place: int, keyword: str) -> Dataset:
        """The first item of a group; else an empty one."""
        return next(iter(self.all(place, keyword)), EMPTY)


def group_of(header: Dataset, place: int, keyword: str) -> Dataset:
    """The first item of a functional group of the frame at ``place`` from 0; else an empty one."""
    return Groups(header).first(place, keyword)


def _classic_frame(instance: Instance, name: str) -> Frame:
    header = instance.header
    if instance.frames > 1:
        raise NoVolumeError(
            "places of frames not said",
            f"instance {instance.number} of {name} holds {instance.frames} frames in a class for single slices: where "
            "they lie is not said. Export the series in classic or enhanced form.",
        )
    label = f"instance {instance.number}"
    slope, intercept = _rescale(name, header)
    place = _place(header, header, header, label, name)
    return Frame(instance, None, None, _matrix(header), *place, slope, intercept, _traits(header, CLASSIC_TRAITS))


def _enhanced_frames(instance: Instance, name: str) -> list[Frame]:
    header = instance.header
    count = instance.frames
    groups = Groups(header)
    described = len(groups.own)
    if described != count:
        raise NoVolumeError(
            "places of frames not said",
            f"instance {instance.number} of {name} holds {count} frames but describes {described} "
            "(PerFrameFunctionalGroupsSequence): the place of the others is unknown. Export it again.",
        )
    frames = []
    for index in range(count):
        position, orientation, measures, values = (
            groups.first(index, keyword)
            for keyword in (
                *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
                "PixelValueTransformationSequence",
            )
        )
        place = _place(position, orientation, measures, f"frame {index + 1} of instance {instance.number}", name)
        traits = {}
        for group, keyword in ENHANCED_TRAITS:
            value = said(groups.first(index, group), keyword)
            if value:
                traits[keyword] = value
        directions = items(groups.first(index, "MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
        if directions:
            traits["DiffusionGradientOrientation"] = said(directions[0], "DiffusionGradientOrientation")
        mappings = groups.all(index, "RealWorldValueMappingSequence")
        slope, intercept = _rescale(name, values, header, mappings=mappings)
        frames.append(Frame(instance, index + 1, None, _matrix(header), *place, slope, intercept, traits))
    return frames


def _mosaic_frames(instance: Instance, name: str) -> list[Frame]:
    header = instance.header
    slices, side, normal = mosaic_layout(header, name)
    position, row, column, spacing = _place(header, header, header, f"instance {instance.number}", name)
    apart = float(header.get("SpacingBetweenSlices") or 0)
    if apart <= 0:
        raise NoVolumeError(
            "no geometry", f"{name} is a Siemens mosaic without SpacingBetweenSlices. Export it as single slices."
        )
    columns, rows = (length // side for length in _matrix(header))
    # The position is stated as if one slice filled the whole mosaic about the same centre.
    position = position + row * spacing[1] * columns * (side - 1) / 2 + column * spacing[0] * rows * (side - 1) / 2
    slope, intercept = _rescale(name, header)
    traits = _traits(header, CLASSIC_TRAITS)
    frames = []
    for index in range(slices):
        place = (position + index * apart * normal, row, column, spacing)
        frames.append(Frame(instance, None, divmod(index, side), (columns, rows), *place, slope, intercept, traits))
    return frames


def _grid_frames(instance: Instance, name: str) -> list[Frame]:
    header = instance.header
    positions, across, down = grid_positions(header, name)
    _, row, column, spacing = _place(header, header, header, f"instance {instance.number}", name)
    slope, intercept = _rescale(name, header)
    traits = _traits(header, CLASSIC_TRAITS)
    columns, rows = _matrix(header)
    tile = (columns // across, rows // down)
    return [
        Frame(instance, None, divmod(index, across), tile, position, row, column, spacing, slope, intercept, traits)
        for index, position in enumerate(positions)
    ]


def _tomography_frames(instance: Instance, name: str) -> list[Frame]:
    """Place NM reconstructed slices: position and orientation live in DetectorInformationSequence (PS3.3 C.8.4.10)."""
    header = instance.header
    if not set(texts(header, "ImageType")) & {"RECON TOMO", "RECON GATED TOMO"}:
        raise NoVolumeError(
            "not reconstructed",
            f"{name} is not a reconstructed tomography (ImageType RECON TOMO). Export the reconstruction.",
        )
    detectors = header.get("DetectorInformationSequence")
    apart = header.get("SpacingBetweenSlices")
    if not detectors or not numbers(detectors[0], "ImagePositionPatient") or not apart:
        raise NoVolumeError(
            "no geometry",
            f"{name} lacks ImagePositionPatient, ImageOrientationPatient or SpacingBetweenSlices: its place in the "
            "patient is unknown. Export the reconstruction with its geometry.",
        )
    count = instance.frames
    slices = [int(value) for value in np.atleast_1d(header.get("SliceVector") or [])]
    if len(slices) != count or min(slices) != 1:
        raise NoVolumeError(
            "places of frames not said",
            f"{name} does not say which slice each of its {count} frames is (SliceVector). Export again.",
        )
    vectors = {keyword: np.atleast_1d(header.get(keyword) or []).tolist() for keyword in NM_TRAITS}
    label = f"instance {instance.number}"
    position, row, column, spacing = _place(detectors[0], detectors[0], header, label, name)
    # A negative spacing is legal here and means that slices run against the normal.
    step = np.cross(row, column) * float(apart)
    slope, intercept = _rescale(name, header)
    frames = []
    for index, number in enumerate(slices):
        traits = {keyword: str(vector[index]) for keyword, vector in vectors.items() if len(vector) == count}
        place = (position + (number - 1) * step, row, column, spacing)
        frames.append(Frame(instance, index + 1, None, _matrix(header), *place, slope, intercept, traits))
    return frames


def _place(
    position: Dataset, orientation: Dataset, measures: Dataset, label: str, name: str
) -> tuple[Vector, Vector, Vector, tuple[float, float]]:
    """Position, row and column directions (unit length), and the spacing between rows and columns, LPS mm."""
    found = []
    for header, keyword, count in (
        *((position, "ImagePositionPatient", 3), (orientation, "ImageOrientationPatient", 6)),
        (measures, "PixelSpacing", 2),
    ):
        values = numbers(header, keyword)
        if len(values) != count:
            raise NoVolumeError(
                "no geometry",
                f"{label} of {name} has no {keyword} of {count} numbers: its place in the patient is unknown. Export "
                "the original series, not a derived or screen copy.",
            )
        found.append(values)
    row, column = np.array(found[1][:3]), np.array(found[1][3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(row @ column) > 0.01:
        raise NoVolumeError(
            "no usable geometry",
            f"ImageOrientationPatient of {name} is not two perpendicular unit vectors: {listed(found[1])}. Export the "
            "series again.",
        )
    return np.array(found[0]), row / lengths[0], column / lengths[1], (found[2][0], found[2][1])


def _matrix(header: Dataset) -> tuple[int, int]:
    return int(header.Columns), int(header.Rows)


def rescale_of(*holders: Dataset, mappings: Sequence[Dataset] = ()) -> tuple[float, float]:
    """Slope and intercept from stored numbers to values, as the first of the holders says that says so.

    MR and NM have no rescale; where they map linearly to real-world values in one way alone, that is theirs.
    """
    for holder in holders:
        slope, intercept = said(holder, "RescaleSlope"), said(holder, "RescaleIntercept")
        if slope or intercept:
            return float(slope or 1), float(intercept or 0)
    for found in (mappings, holders[-1].get("RealWorldValueMappingSequence") or ()):
        if len(found) == 1 and "RealWorldValueSlope" in found[0]:
            return float(found[0].RealWorldValueSlope), float(found[0].get("RealWorldValueIntercept", 0))
    return 1.0, 0.0


def _rescale(name: str, *holders: Dataset, mappings: Sequence[Dataset] = ()) -> tuple[float, float]:
    """As of `rescale_of`; `SeriesError` where it leads to no usable number."""
    try:
        slope, intercept = rescale_of(*holders, mappings=mappings)
    except ValueError:
        slope = intercept = np.nan
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise NoVolumeError(
            "no usable rescale",
            f"the rescale of {name} (RescaleSlope, RescaleIntercept) is no usable number: what its values mean is "
            "unknown. Export the series again.",
        )
    return slope, intercept


def _traits(header: Dataset, keywords: Sequence[str]) -> dict[str, str]:
    return {keyword: text for keyword in keywords if (text := said(header, keyword))}
