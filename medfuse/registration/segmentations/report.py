"""Read a structure of each study and compare them as the headers place the studies, and as a registration does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse import nifti
from medfuse.dicom.objects.segmentation_reader import Contours, SegmentMask, read_structure
from medfuse.dicom.patient import name_different_patients
from medfuse.dicom.reading.volume import DicomSource
from medfuse.errors import GeometryError, SeriesError, StudyError
from medfuse.registration.segmentations.compare import Agreement, agreement
from medfuse.registration.segmentations.rasterise import Region, rasterise
from medfuse.registration.transform import Registration
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, grid_of, plain, require_volume, source_of
from medfuse.volume.grid import Points

MOST_LABELS = 20
"""Values of a label map that a message lists."""

HEADERS = Registration(np.eye(4), "header")


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure of a study: its name in its file, and the region that it fills."""

    name: str
    region: Region


@dataclass(frozen=True)
class SegmentationReport:
    """How two structures agree before and after a registration.

    Parameters
    ----------
    fixed, moving
        The structures' names.
    before
        As the headers place the studies.
    after
        As the registration places them.
    """

    fixed: str
    moving: str
    before: Agreement
    after: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        agreed = {"before": self.before.to_dict(), "after": self.after.to_dict()}
        return {"fixed_structure": self.fixed, "moving_structure": self.moving} | agreed


@default_settings()
def read_segmentation(
    path: str | Path, study: MetaTensor, structure: str | None = None, *, different_patients: bool = False
) -> Structure:
    """Read one structure of a study.

    Parameters
    ----------
    path
        An RT Structure Set or a Segmentation of DICOM, or a NIfTI mask or label map: a value of half or more is inside,
        of a label map the one that ``structure`` names.
    study
        The volume that it was drawn on, as `medfuse.load` returns it.
    structure
        Its name or, in a label map, its number; None where the file holds one only.
    different_patients
        Accept headers that name different patients.

    Raises
    ------
    SeriesError
        If the file cannot be read as one of these, or the structure is empty.
    StudyError
        If it holds no such structure, or several and none was named; or lies in another frame of reference, or is of
        another patient, than the study.
    GeometryError
        If its place is not known, or lies outside the study's field of view.
    """
    require_volume(study, "the study")
    path = Path(path)
    if nifti.is_nifti(path):
        found = _of_nifti(path, structure)
    else:
        read = read_structure(path, structure)
        _require_of_study(read, study, different_patients)
        found = Structure(read.name, _region(read, study))
    _require_in_field(found.region.box(), study)
    return found


@default_settings()
def compare_segmentations(fixed: Structure, moving: Structure, registration: Registration) -> SegmentationReport:
    """Compare a structure of each study, under the identity (headers) and under a registration, fixed → moving."""
    before = agreement(fixed.region, moving.region, HEADERS)
    return SegmentationReport(fixed.name, moving.name, before, agreement(fixed.region, moving.region, registration))


def _region(read: Contours | SegmentMask, study: MetaTensor) -> Region:
    if isinstance(read, SegmentMask):
        return Region(read.values, read.grid)
    points = np.vstack(read.polygons)
    _require_in_field(points, study)  # before anything is made as large as they say
    return rasterise(read.polygons, grid_of(study))


def _require_of_study(read: Contours | SegmentMask, study: MetaTensor, different_patients: bool) -> None:
    source = source_of(study)
    if not isinstance(source, DicomSource):
        return
    if not different_patients and name_different_patients(source.first, read.header):
        raise StudyError(
            "the headers of the segmentation and of its study name different patients; give the one that was drawn on "
            "this study, or say that the identities may differ (different_patients=True, --different-patients)."
        )
    frame = source.frame_of_reference
    if frame and read.frame_of_reference and frame != read.frame_of_reference:
        raise StudyError(
            f"expected the segmentation in the frame of reference of its study ({source.modality}); found it in "
            "another. Give the one that was drawn on this study, or exchange --fixed-segmentation and "
            "--moving-segmentation."
        )


def _require_in_field(points: Points, study: MetaTensor) -> None:
    """Raise `GeometryError` where the box around points does not meet the study's field of view."""
    grid = grid_of(study)
    index = grid.index(points)
    low, high = index.min(axis=0), index.max(axis=0)
    if (high < -0.5).any() or (low > np.array(grid.shape) - 0.5).any():
        away = np.maximum(np.maximum(-0.5 - high, low - np.array(grid.shape) + 0.5), 0) * grid.spacing
        raise GeometryError(
            f"the segmentation lies outside of the field of view of its study, by {np.linalg.norm(away):.0f} mm; "
            "give the one that was drawn on this study."
        )
    if ((high - low) > 2 * np.array(grid.shape) + 1).any():
        raise GeometryError(
            "the segmentation is more than twice as large as the field of view of its study; give the one that was "
            "drawn on this study."
        )


def _of_nifti(path: Path, structure: str | None) -> Structure:
    volume = nifti.read(path, MRI)
    values, grid = plain(volume)[0].numpy(), grid_of(volume)
    labels = [int(label) for label in np.unique(values[values > 0].round()) if label]
    if structure is None and len(labels) > 1:
        told = ", ".join(map(str, labels[:MOST_LABELS])) + (" …" if len(labels) > MOST_LABELS else "")
        raise StudyError(
            f"{path.name} holds {len(labels)} labels: {told}; name one (structure=..., --structure, "
            "--moving-structure)."
        )
    if structure is None or not labels:
        inside = values >= 0.5
    elif structure.strip().isdecimal() and int(structure) in labels:
        inside = values.round() == int(structure)
    else:
        told = ", ".join(map(str, labels[:MOST_LABELS]))
        raise StudyError(
            f"{path.name} holds no label {structure!r}, but {told}; name one of these by its number (structure=..., "
            "--structure, --moving-structure)."
        )
    if not inside.any():
        raise SeriesError(f"the mask {path.name} is empty: no voxel is 0.5 or more. Give a mask of the structure.")
    return Structure(structure or "mask", Region(inside, grid))
