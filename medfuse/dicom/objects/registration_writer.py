"""Write an alignment as a Spatial Registration object, which viewers and planning systems apply (PS3.3 A.39.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SpatialRegistrationStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from medfuse.dicom.header import quiet
from medfuse.dicom.read.volume import DicomSource
from medfuse.dicom.write.compression import save
from medfuse.dicom.write.identity import Identity, stamp
from medfuse.dicom.write.options import DicomOptions
from medfuse.dicom.write.references import Contribution, equipment, refer_to_series, reference
from medfuse.dicom.write.series_modules import name_series, series_number
from medfuse.errors import ExportError
from medfuse.provenance import marked, software
from medfuse.runtime.atomic_output import atomic_output, require_outside
from medfuse.volume import Source
from medfuse.volume.grid import LPS_FROM_RAS

ALIGNMENT_SUFFIX = ".dcm"

ALIGNMENT_AFTER_FUSED = 2000
"""Added to the SeriesNumber of a fused series."""


def write_alignment(
    out: str | Path,
    *,
    mri: Source | None,
    partner: Source | None,
    registration: Mapping[str, Any],
    description: str | None = None,
    number: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write the registration between two DICOM series into the study of the first.

    Parameters
    ----------
    out
        File to appear, ending in .dcm; or folder to appear, with the file ``0001.dcm``.
    mri, partner
        The sources. What is written leads from the partner's frame of reference to the MRI's, LPS+ mm.
    registration
        How they are aligned, MRI → partner, RAS+ mm: `medfuse.Registration.to_dict`.
    description, number, overwrite
        As in `DicomOptions` and `write_series`.

    Raises
    ------
    ExportError
        If the alignment deforms; if a source is not DICOM or has no frame of reference, for then there is nothing to
        refer to; or if the folder is taken or cannot be written.
    """
    if registration.get("deformation") is not None:
        raise ExportError(
            "a Spatial Registration holds a matrix, and the alignment is a deformation; save it as .h5 or .tfm."
        )
    mri, partner = require_placed(mri, partner)
    out = Path(out)
    require_outside(out, [mri.path, partner.path])
    with quiet():
        dataset = _header(mri, partner, registration)
        options = DicomOptions(description=description, number=number)
        name = marked(f"ALIGNMENT {partner.modality} to {mri.modality}", registration)
        name_series(dataset, options, name, series_number(mri.first) + ALIGNMENT_AFTER_FUSED)
        moving_to_fixed = np.linalg.inv(np.array(registration["matrix"], dtype=np.float64))
        dataset.RegistrationSequence = Sequence(
            [_item(mri, np.eye(4)), _item(partner, LPS_FROM_RAS @ moving_to_fixed @ LPS_FROM_RAS)]
        )
        refer_to_series(dataset, [(source.first, [*map(reference, source.headers)]) for source in (mri, partner)])
    with atomic_output(out, overwrite) as place, quiet():
        if out.suffix == ALIGNMENT_SUFFIX:
            save(dataset, place)
        else:
            place.mkdir()
            save(dataset, place / "0001.dcm")


def require_placed(mri: Source | None, partner: Source | None) -> tuple[DicomSource, DicomSource]:
    """Both, where a Spatial Registration can join them; else raise `ExportError`."""
    if not isinstance(mri, DicomSource) or not isinstance(partner, DicomSource):
        raise ExportError(
            "a Spatial Registration refers to two DICOM series; found a source of another kind. Save the alignment as "
            ".tfm, .h5 or .txt, or leave it out."
        )
    if not mri.frame_of_reference or not partner.frame_of_reference:
        raise ExportError(
            "a Spatial Registration joins two frames of reference; a source has no FrameOfReferenceUID. Save the "
            "alignment as .tfm, .h5 or .txt, or leave it out."
        )
    return mri, partner


def both_placed(mri: Source | None, partner: Source | None) -> bool:
    """Whether both are DICOM series with a frame of reference, which a Spatial Registration can join."""
    return all(isinstance(one, DicomSource) and one.frame_of_reference for one in (mri, partner))


def _header(mri: DicomSource, partner: DicomSource, registration: Mapping[str, Any]) -> Dataset:
    dataset = Identity.of(mri).elements(partner)
    if "PatientPosition" in dataset:
        del dataset.PatientPosition
    dataset.SpecificCharacterSet = "ISO_IR 192"
    stamp(dataset, "Series", "Content", "InstanceCreation")
    dataset.SOPClassUID = SpatialRegistrationStorage
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.Modality = "REG"
    dataset.InstanceNumber = 1
    dataset.Manufacturer = dataset.ManufacturerModelName = "medfuse"
    dataset.SoftwareVersions = software()
    dataset.DeviceSerialNumber = "0"
    dataset.ContentLabel = "ALIGNMENT"
    summary = f"{partner.modality} to {mri.modality}, {registration['method']}"
    dataset.ContentDescription = marked(summary, registration)[:64]
    dataset.ContentCreatorName = None
    contributions = [Contribution(source, np.eye(4), preserved=True) for source in (mri, partner)]
    dataset.ContributingEquipmentSequence = equipment(contributions, software())
    return dataset


def _item(source: DicomSource, matrix: npt.NDArray[np.float64]) -> Dataset:
    """One source and the matrix from its world to the registered one (PS3.3 C.20.2)."""
    step = Dataset()
    step.FrameOfReferenceTransformationMatrix = [format_number_as_ds(_tidy(number)) for number in matrix.ravel()]
    rotation = matrix[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) and np.linalg.det(rotation) > 0
    step.FrameOfReferenceTransformationMatrixType = "RIGID" if rigid else "AFFINE"
    registration = Dataset()
    registration.FrameOfReferenceTransformationComment = None
    registration.RegistrationTypeCodeSequence = Sequence([])
    registration.MatrixSequence = Sequence([step])
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference
    item.ReferencedImageSequence = Sequence([*map(reference, source.headers)])
    item.MatrixRegistrationSequence = Sequence([registration])
    return item


def _tidy(number: float) -> float:
    return 0.0 if abs(number) < 1e-12 else float(number)
