"""One DICOM series: its headers in order along the slice normal, its grid, or the reason why it is not a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
)

from medfuse.errors import GeometryError, SeriesError
from medfuse.grid import LPS_FROM_RAS, Grid
from medfuse.volume import Modality

READABLE: dict[str, Modality] = {
    MRImageStorage: "MR",
    CTImageStorage: "CT",
    PositronEmissionTomographyImageStorage: "PT",
    NuclearMedicineImageStorage: "NM",
}
"""SOP classes that are read, and the modality each means."""

ONE_PER_SERIES = (
    *("SOPClassUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"),
    *("Modality", "SamplesPerPixel", "Units", "RescaleType"),
)
"""What all files of a series must agree on."""

POSITION_TOLERANCE = 0.02
"""How far a slice may lie off its place on the regular lattice, as a share of the slice spacing."""

ORIENTATION_TOLERANCE = 1e-3
"""How far direction cosines of one series may differ; headers round them, often to six decimals."""


@dataclass(frozen=True)
class Instance:
    """One file of a series: where it lies and its header without pixels."""

    path: Path
    header: Dataset

    @property
    def number(self) -> str:
        """How messages name it: the InstanceNumber, never a file name, which may hold a patient's."""
        return _text_of(self.header, "InstanceNumber") or "without number"


@dataclass(frozen=True)
class Series:
    """Files that share a SeriesInstanceUID.

    ``instances`` stand in order along the slice normal where ``grid`` is not None; ``problem`` says otherwise why they
    form no volume.
    """

    uid: str
    instances: tuple[Instance, ...]
    grid: Grid | None
    problem: str | None

    @classmethod
    def assemble(cls, uid: str, instances: Sequence[Instance]) -> Series:
        """Order the files and work out the grid, or note what stands against it."""
        name = _name(instances)
        try:
            ordered, grid = _arrange(instances, name)
        except SeriesError as error:
            return cls(uid, tuple(instances), None, str(error))
        except GeometryError as error:
            return cls(uid, tuple(instances), None, f"{name} has no usable geometry: {error}")
        except Exception as error:  # values that are no numbers fail where pydicom first reads them, in many ways
            problem = f"the header of {name} cannot be interpreted ({type(error).__name__}). Export the series again."
            return cls(uid, tuple(instances), None, problem)
        return cls(uid, tuple(ordered), grid, None)

    @property
    def first(self) -> Dataset:
        return self.instances[0].header

    @property
    def modality(self) -> str:
        """The DICOM code, also of series that medfuse does not read."""
        return READABLE.get(str(self.first.get("SOPClassUID", "")), str(self.first.get("Modality", "")) or "unknown")

    @property
    def number(self) -> str:
        """The SeriesNumber as text; a dash where there is none."""
        return _text_of(self.first, "SeriesNumber") or "–"

    @property
    def name(self) -> str:
        """How messages name the series: its number and modality."""
        return _name(self.instances)

    def require_volume(self) -> Grid:
        """Return the grid; raise `SeriesError` with the reason where there is none."""
        if self.grid is None:
            raise SeriesError(self.problem or "")
        return self.grid


def _name(instances: Sequence[Instance]) -> str:
    header = instances[0].header
    modality = _text_of(header, "Modality") or "unknown modality"
    number = _text_of(header, "SeriesNumber")
    return f"series {number} ({modality})" if number else f"the {modality} series without a number"


def _text_of(header: Dataset, keyword: str) -> str:
    """A short value for a message; nothing where it is no plain code or number, for then it may be anything."""
    try:
        text = str(header.get(keyword, "") or "") if header.get(keyword) != 0 else "0"
    except (ValueError, TypeError):
        return ""
    return text if text.isascii() and text.isalnum() and len(text) <= 12 else ""


def _arrange(instances: Sequence[Instance], name: str) -> tuple[list[Instance], Grid]:
    classes = {str(instance.header.get("SOPClassUID", "")) for instance in instances}
    if not classes <= READABLE.keys():
        found = instances[0].header.get("SOPClassUID")
        raise SeriesError(
            f"{name} is {getattr(found, 'name', None) or 'of no stated SOP class'}; medfuse reads classic MR, CT and "
            "PET series and NM tomography. Choose another series, or export this one in classic form."
        )
    if not str(instances[0].header.get("SeriesInstanceUID", "")):
        raise SeriesError(f"{name} has no SeriesInstanceUID: which files belong together is unknown. Export it again.")
    _require_one_origin(instances, name)
    if instances[0].header.get("SamplesPerPixel", 1) != 1:
        raise SeriesError(
            f"{name} holds colour pictures; a volume of measured values is needed. Choose another series."
        )
    if classes == {NuclearMedicineImageStorage}:
        return list(instances), _tomography_grid(instances, name)
    return _stack(instances, name)


def _stack(instances: Sequence[Instance], name: str) -> tuple[list[Instance], Grid]:
    """Sort single-frame slices by their projection on the normal and fit the grid."""
    if len(instances) < 2:
        raise SeriesError(f"{name} has one slice only; a volume needs at least two. Choose the whole series.")
    for instance in instances:
        for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
            if len(_numbers(instance.header, keyword)) != count:
                raise SeriesError(
                    f"instance {instance.number} of {name} has no {keyword} of {count} numbers: its place in the "
                    "patient is unknown. Export the original series, not a derived or screen copy."
                )
    _require_common(instances, name)
    header = instances[0].header
    row, column = (np.array(half) for half in np.split(np.array(_numbers(header, "ImageOrientationPatient")), 2))
    row, column = _orthonormal(row, column, name)
    normal = np.cross(row, column)
    positions = np.array([_numbers(instance.header, "ImagePositionPatient") for instance in instances])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = [instances[place] for place in order]
    positions = positions[order]
    step = _slice_step(ordered, positions, positions @ normal, name)
    between_rows, between_columns = _numbers(header, "PixelSpacing")
    shape = (int(header.Columns), int(header.Rows), len(ordered))
    return ordered, _grid(shape, row * between_columns, column * between_rows, step, positions[0])


def _tomography_grid(instances: Sequence[Instance], name: str) -> Grid:
    """Place NM reconstructed slices: position and orientation live in DetectorInformationSequence (PS3.3 C.8.4.10)."""
    header = instances[0].header
    if len(instances) > 1:
        raise SeriesError(
            f"{name} has {len(instances)} multi-frame NM files; one reconstruction is needed. Choose one."
        )
    if "RECON TOMO" not in [str(value) for value in header.get("ImageType", [])]:
        raise SeriesError(
            f"{name} is not a reconstructed tomography (ImageType RECON TOMO). Export the reconstruction."
        )
    detectors = header.get("DetectorInformationSequence")
    if not detectors or not _numbers(detectors[0], "ImagePositionPatient") or not header.get("SpacingBetweenSlices"):
        raise SeriesError(
            f"{name} lacks ImagePositionPatient, ImageOrientationPatient or SpacingBetweenSlices: its place in the "
            "patient is unknown. Export the reconstruction with its geometry."
        )
    frames = int(header.get("NumberOfFrames", 1))
    if frames < 2:
        raise SeriesError(f"{name} has one slice only; a volume needs at least two. Choose the whole reconstruction.")
    if [int(value) for value in np.atleast_1d(header.get("SliceVector", []))] != list(range(1, frames + 1)):
        raise SeriesError(
            f"{name} does not list its {frames} frames as one stack of slices (SliceVector). Export again."
        )
    orientation = np.array(_numbers(detectors[0], "ImageOrientationPatient"))
    row, column = _orthonormal(orientation[:3], orientation[3:], name)
    # A negative spacing is legal here and means that frames run against the normal.
    step = np.cross(row, column) * float(header.SpacingBetweenSlices)
    between_rows, between_columns = _numbers(header, "PixelSpacing")
    shape = (int(header.Columns), int(header.Rows), frames)
    position = np.array(_numbers(detectors[0], "ImagePositionPatient"))
    return _grid(shape, row * between_columns, column * between_rows, step, position)


def _require_one_origin(instances: Sequence[Instance], name: str) -> None:
    """One series is of one patient, study, world and unit; messages name what differs, never the values."""
    first = instances[0].header
    for instance in instances[1:]:
        for keyword in ONE_PER_SERIES:
            if instance.header.get(keyword) != first.get(keyword):
                raise SeriesError(
                    f"{name} mixes different values of {keyword}, first in instance {instance.number}: its files do "
                    "not belong to one volume. Separate them before fusing."
                )


def _require_common(instances: Sequence[Instance], name: str) -> None:
    """All slices of a volume share matrix, spacing and orientation."""
    first = instances[0].header
    for instance in instances[1:]:
        header = instance.header
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            raise SeriesError(
                f"{name} mixes matrix sizes: {first.Columns} × {first.Rows}, but instance {instance.number} has "
                f"{header.Columns} × {header.Rows}. Separate the series before fusing."
            )
        for keyword, tolerance in (("PixelSpacing", 1e-4), ("ImageOrientationPatient", ORIENTATION_TOLERANCE)):
            expected, found = _numbers(first, keyword), _numbers(header, keyword)
            if not np.allclose(expected, found, rtol=0, atol=tolerance):
                what = "orientations" if keyword == "ImageOrientationPatient" else "pixel spacings"
                raise SeriesError(
                    f"{name} mixes {what}: {_text(expected)}, but instance {instance.number} has {_text(found)}. "
                    "Separate scouts and reformats from the series before fusing."
                )


def _slice_step(
    ordered: Sequence[Instance], positions: np.ndarray[Any, Any], heights: np.ndarray[Any, Any], name: str
) -> np.ndarray[Any, Any]:
    """The vector from each slice to the next, LPS mm; refuses duplicates and gaps.

    The vector need not be parallel to the normal: a tilted gantry is a shear, which the affine holds exactly.
    """
    gaps = np.diff(heights)
    typical = float(np.median(gaps))
    for place in np.flatnonzero(gaps < max(0.1 * typical, 1e-4)).tolist():
        raise SeriesError(
            f"instances {ordered[place].number} and {ordered[place + 1].number} of {name} lie at the same position, "
            f"{heights[place]:.2f} mm along the normal. Remove the duplicate, or separate the acquisitions it mixes."
        )
    for place in np.flatnonzero(np.abs(gaps - typical) > max(0.1 * typical, 0.01)).tolist():
        missing = round(gaps[place] / typical) - 1
        guess = f"; {missing} slice{'s seem' if missing > 1 else ' seems'} to be missing" if missing >= 1 else ""
        raise SeriesError(
            f"slice spacing is not uniform: {typical:.2f} mm, but {gaps[place]:.2f} mm between instances "
            f"{ordered[place].number} and {ordered[place + 1].number} of {name}{guess}. Export the whole series again."
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(positions))[:, None] * step), axis=1)
    if off.max() > max(POSITION_TOLERANCE * typical, 0.01):
        worst = ordered[int(off.argmax())].number
        raise SeriesError(
            f"the slices of {name} do not lie on a regular lattice: instance {worst} is {off.max():.2f} mm off its "
            "place. Export the series again without resorting or merging."
        )
    return np.asarray(step)


def _orthonormal(
    row: np.ndarray[Any, Any], column: np.ndarray[Any, Any], name: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(row @ column) > 0.01:
        raise SeriesError(
            f"ImageOrientationPatient of {name} is not two perpendicular unit vectors: {_text([*row, *column])}. "
            "Export the series again."
        )
    return row / lengths[0], column / lengths[1]


def _grid(
    shape: tuple[int, int, int],
    along_columns: np.ndarray[Any, Any],
    along_rows: np.ndarray[Any, Any],
    along_slices: np.ndarray[Any, Any],
    position: np.ndarray[Any, Any],
) -> Grid:
    """Grid whose axes are (column index, row index, slice index), from LPS vectors in mm."""
    affine = np.eye(4)
    affine[:3] = np.stack((along_columns, along_rows, along_slices, position), axis=1)
    return Grid(shape, LPS_FROM_RAS @ affine)


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers an element holds; none where it is absent or holds anything else."""
    try:
        value = header.get(keyword)
        numbers = [] if value is None else [float(number) for number in cast("Sequence[float]", value)]
    except (ValueError, TypeError):
        return []
    return numbers if np.isfinite(numbers).all() else []


def _text(numbers: Sequence[float]) -> str:
    return "\\".join(f"{number:.4g}" for number in numbers)
