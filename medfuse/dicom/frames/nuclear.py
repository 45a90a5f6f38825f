"""Place the frames of NM reconstructions, whose detector says where they lie (PS3.3 C.8.4.10, C.8.4.15)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from medfuse.dicom.frames.frame import Frame, matrix_of, place_of, usable_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance, items, listed, named, numbers, texts
from medfuse.errors import counted

NM_TRAITS = (
    *("EnergyWindowVector", "TimeSlotVector", "RRIntervalVector", "DetectorVector", "RotationVector", "PhaseVector"),
    *("TimeSliceVector",),
)
"""What distinguishes the volumes of one NM file: the vectors other than SliceVector (PS3.3 C.8.4.8)."""


GEOMETRY = {
    "ImagePositionPatient": (3, 0.01),
    "ImageOrientationPatient": (6, 1e-3),
    "PixelSpacing": (2, 1e-3),
    "SpacingBetweenSlices": (1, 1e-3),
}
"""What places the slices: of how many numbers each is, and how far two statements of one of them may differ."""


def is_nuclear(instance: Instance) -> bool:
    """Whether the file is of the NM class."""
    return instance.sop_class == NuclearMedicineImageStorage


def nuclear_frames(instance: Instance, name: str) -> list[Frame]:
    """The reconstructed slices of a file; `SeriesError` where it holds projections, or does not place them."""
    header = instance.header
    if not set(texts(header, "ImageType")) & {"RECON TOMO", "RECON GATED TOMO"}:
        raise NoVolumeError(
            "not reconstructed",
            f"{name} is not a reconstructed tomography (ImageType RECON TOMO). Export the reconstruction.",
        )
    label = f"instance {instance.number}"
    geometry = _geometry(header, label, name)
    count = instance.frames
    slices = [int(value) for value in np.atleast_1d(header.get("SliceVector") or [])]
    if len(slices) != count or min(slices) != 1:
        raise NoVolumeError(
            "places of frames not said",
            f"{name} does not say which slice each of its {counted(count, 'frame')} is (SliceVector). Export again.",
        )
    vectors = {keyword: np.atleast_1d(header.get(keyword) or []).tolist() for keyword in NM_TRAITS}
    position, row, column, spacing = place_of(geometry, geometry, geometry, label, name)
    # A negative spacing is legal here and means that slices run against the normal.
    step = np.cross(row, column) * float(geometry.SpacingBetweenSlices)
    slope, intercept = usable_rescale(name, header)
    frames = []
    for index, number in enumerate(slices):
        traits = {keyword: str(vector[index]) for keyword, vector in vectors.items() if len(vector) == count}
        place = (position + (number - 1) * step, row, column, spacing)
        frames.append(Frame(instance, index + 1, None, matrix_of(header), *place, slope, intercept, traits))
    return frames


def _geometry(header: Dataset, label: str, name: str) -> Dataset:
    """The elements that place the first slice and the others after it, wherever the file has them.

    The Standard puts position and orientation into the items of the detectors; files exist with them in one item of
    several, in the header itself, or in functional groups. Where two of these places differ, neither is believed.
    """
    found, missing = Dataset(), []
    for keyword, (count, tolerance) in GEOMETRY.items():
        stated = [(where, one, values) for where, one in _holders(header) if (values := numbers(one, keyword))]
        if not stated:
            missing.append(named(keyword))
            continue
        place, holder, values = stated[0]
        for where, _, others in stated[1:]:
            if len(others) != len(values) or np.abs(np.subtract(values, others)).max() > tolerance:
                raise NoVolumeError(
                    "contradicting geometry",
                    f"{label} of {name} states two values of {named(keyword)}: {listed(values)} in {place}, but "
                    f"{listed(others)} in {where}. Which one places the slices is unknown; export the reconstruction "
                    "again.",
                )
        if len(values) != count or (keyword == "SpacingBetweenSlices" and not values[0]):
            raise NoVolumeError(
                "no geometry",
                f"expected {count} numbers other than 0 as {named(keyword)} of {label} of {name}, found "
                f"{listed(values)}. Export the reconstruction again.",
            )
        found[keyword] = holder[keyword]
    if missing:
        raise NoVolumeError(
            "no geometry",
            f"{label} of {name} lacks {', '.join(missing)}: neither an item of DetectorInformationSequence nor the "
            "header itself nor a functional group has it, and its place in the patient is unknown. Export the "
            "reconstruction with its geometry.",
        )
    return found


def _holders(header: Dataset) -> Iterator[tuple[str, Dataset]]:
    """Where the geometry may stand, the Standard's place first, and how messages name it."""
    for number, detector in enumerate(items(header, "DetectorInformationSequence"), start=1):
        yield f"item {number} of DetectorInformationSequence", detector
    yield "the header itself", header
    for shared in items(header, "SharedFunctionalGroupsSequence"):
        for keyword in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            for group in items(shared, keyword):
                yield f"{keyword} of the shared functional groups", group
