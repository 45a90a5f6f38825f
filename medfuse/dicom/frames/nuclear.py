"""Place the frames of NM reconstructions, whose detector says where they lie (PS3.3 C.8.4.10, C.8.4.15)."""

from __future__ import annotations

import numpy as np
from pydicom.uid import NuclearMedicineImageStorage

from medfuse.dicom.frames.frame import Frame, matrix_of, place_of, usable_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance, numbers, texts
from medfuse.errors import counted

NM_TRAITS = (
    *("EnergyWindowVector", "TimeSlotVector", "RRIntervalVector", "DetectorVector", "RotationVector", "PhaseVector"),
    *("TimeSliceVector",),
)
"""What distinguishes the volumes of one NM file: the vectors other than SliceVector (PS3.3 C.8.4.8)."""


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
            f"{name} does not say which slice each of its {counted(count, 'frame')} is (SliceVector). Export again.",
        )
    vectors = {keyword: np.atleast_1d(header.get(keyword) or []).tolist() for keyword in NM_TRAITS}
    label = f"instance {instance.number}"
    position, row, column, spacing = place_of(detectors[0], detectors[0], header, label, name)
    # A negative spacing is legal here and means that slices run against the normal.
    step = np.cross(row, column) * float(apart)
    slope, intercept = usable_rescale(name, header)
    frames = []
    for index, number in enumerate(slices):
        traits = {keyword: str(vector[index]) for keyword, vector in vectors.items() if len(vector) == count}
        place = (position + (number - 1) * step, row, column, spacing)
        frames.append(Frame(instance, index + 1, None, matrix_of(header), *place, slope, intercept, traits))
    return frames
