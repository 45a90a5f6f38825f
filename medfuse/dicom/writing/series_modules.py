"""Fill what all instances of a derived series share: series, derivation, equipment, image plane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from medfuse.dicom.decimals import decimals
from medfuse.dicom.writing.identity import stamp
from medfuse.dicom.writing.options import DicomOptions
from medfuse.dicom.writing.references import SPATIAL_RESAMPLING, Contribution, coded, equipment
from medfuse.provenance import software
from medfuse.volume.grid import LPS_FROM_RAS, Grid

SERIES_NUMBER_OFFSET = 9000
"""Added to the base's SeriesNumber: sorts after what scanners number."""


def name_series(dataset: Dataset, options: DicomOptions, description: str, number: int) -> None:
    """Write SeriesDescription and SeriesNumber as the options say, or else the given defaults."""
    dataset.SeriesDescription = description if options.description is None else options.description
    dataset.SeriesNumber = number if options.number is None else options.number


def begin_series(person: Dataset, contributions: list[Contribution], derivation: str, did: str) -> Dataset:
    """Begin a series of a patient: dates, UID, equipment, where it was derived from, and what medfuse ``did``."""
    dataset = _begin(person, "Content")
    dataset.DerivationDescription = derivation
    dataset.DerivationCodeSequence = coded(SPATIAL_RESAMPLING)
    dataset.ContributingEquipmentSequence = equipment(contributions, software(), did)
    burned = any(one.source.first.get("BurnedInAnnotation") == "YES" for one in contributions)
    dataset.BurnedInAnnotation = "YES" if burned else "NO"
    _note_lossy_sources(dataset, contributions)
    return dataset


def begin_object(person: Dataset, sop_class: UID, content: str, label: str, description: str) -> Dataset:
    """Begin an object without pixels, the one of its series; ``content`` names its own date and time."""
    dataset = _begin(person, content)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(prefix=None)
    dataset.InstanceNumber = 1
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = label, description, None
    return dataset


def _begin(person: Dataset, content: str) -> Dataset:
    dataset = Dataset()
    dataset.update(person)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    stamp(dataset, "Series", content, "InstanceCreation")
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.Manufacturer = dataset.ManufacturerModelName = "medfuse"
    dataset.SoftwareVersions = software()
    return dataset


def series_number(header: Dataset) -> int:
    """Number after those of scanners, from a source's; an absent or ill-formed number counts as 0."""
    try:
        number = int(header.get("SeriesNumber") or 0)
    except (ValueError, TypeError):
        number = 0
    return SERIES_NUMBER_OFFSET + number % SERIES_NUMBER_OFFSET


def _note_lossy_sources(dataset: Dataset, contributions: list[Contribution]) -> None:
    """Loss is inherited: a source that was compressed with loss marks what is derived from it (PS3.3 C.7.6.1.1.5)."""
    lossy = [one.source.first for one in contributions if one.source.first.get("LossyImageCompression") == "01"]
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        for header in lossy:
            if keyword in header:
                setattr(dataset, keyword, header.get(keyword))


def place(dataset: Dataset, grid: Grid) -> None:
    """Image Plane attributes (PS3.3 C.7.6.2) but the position."""
    columns, rows, _ = grid.shape
    dataset.Rows, dataset.Columns = rows, columns
    along_columns, along_rows, along_slices = grid.spacing
    dataset.PixelSpacing = decimals([along_rows, along_columns])
    directions = LPS_FROM_RAS[:3, :3] @ grid.directions
    dataset.ImageOrientationPatient = decimals([*directions[:, 0], *directions[:, 1]])
    dataset.PatientOrientation = [orientation_letters(directions[:, axis]) for axis in (0, 1)]
    normal = np.cross(directions[:, 0], directions[:, 1])
    dataset.SliceThickness = decimals([along_slices * abs(float(normal @ directions[:, 2]))])[0]
    dataset.setdefault("PatientPosition", None)


def orientation_letters(direction: npt.NDArray[np.float64]) -> str:
    """PatientOrientation of one LPS direction: its letters by falling weight (PS3.3 C.7.6.1.1.1)."""
    letters = (("R", "L"), ("A", "P"), ("F", "H"))
    order = np.argsort(-np.abs(direction), kind="stable")
    return "".join(letters[axis][int(direction[axis] > 0)] for axis in order if abs(direction[axis]) > 0.01)
