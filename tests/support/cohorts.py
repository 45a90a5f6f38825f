"""Trees of many small series of several patients, made by changing the headers of one series a modality."""

from __future__ import annotations

import itertools
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path

import pydicom
from classic import small_series

NUMBERS = itertools.count(1)


@cache
def template(modality: str) -> tuple[tempfile.TemporaryDirectory, list[pydicom.Dataset]]:
    """The slices of a small series, and the folder that they were written to."""
    folder = tempfile.TemporaryDirectory()
    small_series(Path(folder.name) / "series", modality, 4)
    return folder, [pydicom.dcmread(path) for path in sorted(Path(folder.name, "series").iterdir())]


def write_series(
    folder: Path,
    modality: str = "MR",
    *,
    patient: str = "17",
    name: str = "Doe^Jane",
    study: str = "1.2.3",
    number: int = 1,
    date: str = "20260105",
    uid: str = "",
    stem: str = "",
    **elements: object,
) -> str:
    """Write a series into a folder, beside what lies there; returns its UID. ``elements`` are set in each header."""
    uid = uid or f"{study}.{next(NUMBERS)}"
    folder.mkdir(parents=True, exist_ok=True)
    for place, slice_ in enumerate(template(modality)[1]):
        header = deepcopy(slice_)
        header.SeriesInstanceUID, header.StudyInstanceUID, header.SeriesNumber = uid, study, number
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{place + 1}"
        header.PatientID, header.PatientName = patient, name
        header.StudyDate = header.SeriesDate = header.AcquisitionDate = date
        for keyword, value in elements.items():
            setattr(header, keyword, value)
        header.save_as(folder / f"{stem}{place:04d}.dcm", enforce_file_format=True)
    return uid


def write_patient(folder: Path, patient: str, study: str, name: str = "Doe^Jane", **elements: object) -> None:
    """Write an MRI, a CT and a PET of one patient, each into a folder of its own."""
    for number, modality in enumerate(("MR", "CT", "PT"), start=1):
        write_series(
            folder / modality,
            modality,
            patient=patient,
            name=name,
            study=study,
            number=number,
            SeriesDescription=f"{modality} T1",
            **elements,
        )
