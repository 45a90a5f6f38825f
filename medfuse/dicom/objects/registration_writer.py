"""Write an alignment as a Spatial Registration object, which viewers and planning systems apply (PS3.3 A.39.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage

from medfuse.dicom.decimals import decimals
from medfuse.dicom.header import quiet
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.compression import save
from medfuse.dicom.writing.identity import Identity
from medfuse.dicom.writing.options import DicomOptions
from medfuse.dicom.writing.references import Contribution, equipment, item, refer_to_series, reference
from medfuse.dicom.writing.series_modules import begin_object, name_series, series_number
from medfuse.errors import ExportError
from medfuse.provenance import marked, software
from medfuse.runtime.output.atomic_output import atomic_file, atomic_folder, require_outside
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
            "a Spatial Registration holds a matrix, and the alignment is a deformation; save it as .h5 or .tfm, or "
            "align by 'rigid'."
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
        to_mri = LPS_FROM_RAS @ moving_to_fixed @ LPS_FROM_RAS
        dataset.RegistrationSequence = [_item(mri, np.eye(4)), _item(partner, to_mri)]
        refer_to_series(dataset, [(source.first, [*map(reference, source.headers)]) for source in (mri, partner)])
    if out.suffix == ALIGNMENT_SUFFIX:
        with atomic_file(out, overwrite) as file, quiet():
            save(dataset, file)
    else:
        with atomic_folder(out, overwrite) as folder, quiet():
            folder.mkdir()
            save(dataset, folder / "0001.dcm")


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
    person = Identity.of(mri).elements(partner)
    person.pop("PatientPosition", None)
    summary = marked(f"{partner.modality} to {mri.modality}, {registration['method']}", registration)[:64]
    dataset = begin_object(person, SpatialRegistrationStorage, "Content", "ALIGNMENT", summary)
    dataset.Modality, dataset.DeviceSerialNumber = "REG", "0"
    contributions = [Contribution(source, np.eye(4), preserved=True) for source in (mri, partner)]
    dataset.ContributingEquipmentSequence = equipment(contributions, software(), "Aligned the series.")
    return dataset


def _item(source: DicomSource, matrix: npt.NDArray[np.float64]) -> Dataset:
    """One source and the matrix from its world to the registered one (PS3.3 C.20.2)."""
    rotation = matrix[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) and np.linalg.det(rotation) > 0
    step = item(
        FrameOfReferenceTransformationMatrix=decimals(matrix.ravel()),
        FrameOfReferenceTransformationMatrixType="RIGID" if rigid else "AFFINE",
    )
    registration = item(
        FrameOfReferenceTransformationComment=None, RegistrationTypeCodeSequence=[], MatrixSequence=[step]
    )
    return item(
        FrameOfReferenceUID=source.frame_of_reference,
        ReferencedImageSequence=[*map(reference, source.headers)],
        MatrixRegistrationSequence=[registration],
    )
