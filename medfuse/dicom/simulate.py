"""Write a volume as if a scanner had acquired it: for tests, demos and benchmarks, never for results.

Classic MR, CT and PET Image Storage with one file a slice, and a multi-frame NM reconstruction for SPECT. Everything
but the voxels and their geometry is invented and fixed, so that the same volume always gives the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from medfuse.dicom.decimals import decimals
from medfuse.dicom.writing.compression import save
from medfuse.dicom.writing.image_modules import IMAGE_MODULES, describe_position, place_reconstruction
from medfuse.dicom.writing.instances import position, set_pixels
from medfuse.dicom.writing.references import coded, item
from medfuse.dicom.writing.rescale import describe_pixels
from medfuse.dicom.writing.series_modules import place
from medfuse.errors import GeometryError, IntensityError
from medfuse.runtime.output.atomic_output import atomic_folder
from medfuse.volume import TRAITS, Modality, grid_of, make_volume, meta_of, plain
from medfuse.volume.grid import Grid

Stored = npt.NDArray[np.uint16]

DATE = "20260105"
STUDY_TIME = "083000"
INJECTION_TIME = "101500"
WEIGHT_KG = "70"
PET_STEPS = 32767
"""Stored values of each PET slice reach this far; the slice's own slope makes Bq/ml of them."""


def write_acquisition(
    volume: MetaTensor, folder: str | Path, *, study: int, series_number: int, overwrite: bool = False
) -> None:
    """Write a volume as an original series of a phantom patient.

    Parameters
    ----------
    volume
        (1, X, Y, Z) with ``meta["modality"]``: MR in whole numbers from 0 to 65535, CT in HU, PT in Bq/ml or NM in
        counts. Values are rounded to what 16 bits hold: to 1 in MR, CT and NM, to 1/32767 of each slice's maximum in
        PET. Axis 0 becomes the column index and axis 1 the row index; slices are numbered along the slice normal.
    folder
        Folder to appear, with the files ``0001.dcm`` and so on; one multi-frame file for NM.
    study
        Any number: acquisitions with the same one belong to one study of one patient, but each has a frame of
        reference of its own, as from different scanners.
    series_number
        Distinguishes the series of a study, also in their UIDs.
    overwrite
        Whether a folder already there is replaced.

    Raises
    ------
    GeometryError
        If rows and columns are not perpendicular, or NM slices are not perpendicular to their normal.
    IntensityError
        If a value does not fit into 16 bits.
    ExportError
        If the folder is taken or cannot be written.
    """
    modality: Modality = meta_of(volume)["modality"]
    volume = _along_normal(volume)
    grid = grid_of(volume)
    columns, rows, _ = grid.directions.T
    if abs(columns @ rows) > 1e-4:
        raise GeometryError("rows and columns are not perpendicular; DICOM cannot place such slices. Resample first.")
    template = _template(modality, study, series_number)
    place(template, grid)
    template.SpacingBetweenSlices = template.SliceThickness
    del template.PatientOrientation
    template.PatientPosition = "HFS"
    PROTOCOLS[modality].describe(template)
    # Rows of a slice are contiguous in DICOM: (slices, rows, columns).
    values = plain(volume)[0].permute(2, 1, 0).double().numpy()
    with atomic_folder(Path(folder), overwrite) as temporary:
        temporary.mkdir()
        if IMAGE_MODULES[modality].multiframe:
            _save_frames(template, values, grid, temporary)
        else:
            _save_slices(template, values, grid, temporary, modality)


def _along_normal(volume: MetaTensor) -> MetaTensor:
    """Reverse the slices where they run against the normal, so that their numbers rise along it."""
    grid = grid_of(volume)
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        return volume
    reverse = np.eye(4)
    reverse[2, 2:] = -1, grid.shape[2] - 1
    turned = Grid(grid.shape, grid.affine @ reverse)
    return make_volume(plain(volume).flip(3), turned, modality=volume.meta["modality"], unit=volume.meta["unit"])


def _template(modality: Modality, study: int, series_number: int) -> Dataset:
    """Patient, study, series, equipment and pixel description: all that is alike in every modality."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Phantom^Head", "PHANTOM"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientWeight = "", "O", WEIGHT_KG
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "Synthetic: there is no patient"
    dataset.StudyInstanceUID = _uid(study)
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = str(study)[:16], "", ""
    dataset.StudyDescription = "medfuse phantom"
    dataset.StudyDate, dataset.StudyTime = DATE, STUDY_TIME
    for keyword in ("Series", "Acquisition", "Content"):
        setattr(dataset, f"{keyword}Date", DATE)
        setattr(dataset, f"{keyword}Time", PROTOCOLS[modality].time)
    dataset.Modality, dataset.SOPClassUID = modality, TRAITS[modality].sop_class
    dataset.SeriesInstanceUID = _uid(study, series_number)
    dataset.SeriesNumber, dataset.SeriesDescription = series_number, PROTOCOLS[modality].description
    dataset.FrameOfReferenceUID = _uid(study, series_number, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.BodyPartExamined = "HEAD"
    dataset.Manufacturer, dataset.ManufacturerModelName = "medfuse", "phantom"
    dataset.AcquisitionNumber = 1
    describe_pixels(dataset, 16)
    return dataset


def _describe_mr(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = ["GR", "IR"], ["SP", "MP"], None
    dataset.MRAcquisitionType, dataset.SequenceName = "3D", "tfl3d"
    dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = "2300", "2.98", "900"
    dataset.EchoTrainLength, dataset.FlipAngle, dataset.MagneticFieldStrength = 1, "9", "3"
    dataset.ImagedNucleus = "1H"
    dataset.WindowCenter, dataset.WindowWidth = "450", "900"


def _describe_ct(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP, dataset.ConvolutionKernel = "120", "H30"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(round(TRAITS["CT"].outside)), "1", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    del dataset.SpacingBetweenSlices  # not of the CT Image module


def _describe_pt(dataset: Dataset) -> None:
    """PET series, isotope and image modules (PS3.3 C.8.9); with them an SUV can be computed."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SeriesType = ["STATIC", "IMAGE"]
    dataset.Units, dataset.CountsSource, dataset.CollimatorType = "BQML", "EMISSION", "NONE"
    dataset.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
    dataset.DecayCorrection, dataset.DecayFactor = "START", "1"
    dataset.RandomsCorrectionMethod, dataset.ScatterCorrectionMethod = "DLYD", "model"
    dataset.AttenuationCorrectionMethod, dataset.ReconstructionMethod = "measured", "OSEM"
    dataset.ActualFrameDuration, dataset.FrameReferenceTime = 600000, "300000"
    del dataset.SpacingBetweenSlices
    describe_position(dataset)
    drug = _injection(dataset, Code("35321007", "SCT", "Fluorodeoxyglucose F^18^"), "Fluorodeoxyglucose", "250000000")
    drug.RadionuclideCodeSequence = coded(Code("77004003", "SCT", "^18^Fluorine"))
    drug.RadiopharmaceuticalStartDateTime = DATE + INJECTION_TIME
    drug.RadionuclideHalfLife, drug.RadionuclidePositronFraction = "6586.2", "0.967"


def _describe_nm(dataset: Dataset) -> None:
    """NM series, detector, isotope and reconstruction modules (PS3.3 C.8.4)."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.CorrectedImage = ["UNIF", "COR", "ATTN", "SCAT"]
    describe_position(dataset)
    drug = _injection(dataset, Code("71054000", "SCT", "Technetium Tc^99m^ exametazime"), "Exametazime", "740")
    drug.RadionuclideCodeSequence = coded(Code("72454004", "SCT", "^99m^Technetium"))


def _injection(dataset: Dataset, code: Code, name: str, dose: str) -> Dataset:
    """What was injected, when and how much: Bq in PET, MBq in NM, as their modules ask (PS3.3 C.8.9.2, C.8.4.10)."""
    drug = item(
        Radiopharmaceutical=name,
        RadiopharmaceuticalCodeSequence=coded(code),
        RadiopharmaceuticalStartTime=INJECTION_TIME,
        RadionuclideTotalDose=dose,
    )
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    return drug


@dataclass(frozen=True)
class Protocol:
    """When one modality acquires its series, what it is called, and what its headers say."""

    time: str
    description: str
    describe: Callable[[Dataset], None]


PROTOCOLS: Mapping[Modality, Protocol] = {
    "MR": Protocol(STUDY_TIME, "T1 3D", _describe_mr),
    "CT": Protocol("100000", "Head", _describe_ct),
    "PT": Protocol("110000", "FDG brain", _describe_pt),
    "NM": Protocol("110000", "HMPAO brain SPECT", _describe_nm),
}


def _save_slices(
    template: Dataset, values: npt.NDArray[np.float64], grid: Grid, folder: Path, modality: Modality
) -> None:
    slices = len(values)
    slope_per_slice = TRAITS[modality].rescale == "slope"
    if slope_per_slice:
        template.NumberOfSlices = slices
    for k, plane in enumerate(values):
        template.InstanceNumber = k + 1
        template.SOPInstanceUID = _uid(template.SeriesInstanceUID, k + 1)
        template.ImagePositionPatient = position(grid, k)
        slope, intercept = 1.0, TRAITS[modality].outside
        if slope_per_slice:
            template.ImageIndex = k + 1
            template.RescaleSlope = decimals([max(float(plane.max()), 1e-3) / PET_STEPS])[0]
            template.RescaleIntercept = "0"
            slope = float(template.RescaleSlope)
        set_pixels(template, _stored(plane, slope, intercept))
        save(template, folder / f"{k + 1:04d}.dcm")


def _save_frames(template: Dataset, values: npt.NDArray[np.float64], grid: Grid, folder: Path) -> None:
    """One file for all slices, placed by the detector."""
    template.DetectorInformationSequence = [item(CollimatorType="PARA")]
    place_reconstruction(template, grid, position(grid, 0), along_normal=True)
    template.SpacingBetweenSlices = template.SliceThickness
    energies = item(EnergyWindowLowerLimit="126", EnergyWindowUpperLimit="154")
    window = item(EnergyWindowName="Tc99m", EnergyWindowRangeSequence=[energies])
    template.EnergyWindowInformationSequence = [window]
    rotation = item(StartAngle="0", AngularStep="3", ScanArc="360", RotationDirection="CC")
    rotation.ActualFrameDuration, rotation.NumberOfFramesInRotation = 20000, 120
    template.RotationInformationSequence = [rotation]
    template.NumberOfEnergyWindows = template.NumberOfDetectors = template.NumberOfRotations = 1
    template.InstanceNumber = 1
    template.SOPInstanceUID = _uid(template.SeriesInstanceUID, 1)
    template.CountsAccumulated = int(min(values.sum(), 2**31 - 1))
    set_pixels(template, _stored(values, 1.0, 0))
    save(template, folder / "0001.dcm")


def _stored(values: npt.NDArray[np.float64], slope: float, intercept: float) -> Stored:
    stored = np.rint((values - intercept) / slope)
    if not (stored.min() >= 0 and stored.max() <= 65535):
        raise IntensityError(
            f"16 bits hold values from {intercept:g} to {65535 * slope + intercept:g}; found {values.min():g} to "
            f"{values.max():g}. Scale or clip the volume first."
        )
    return stored.astype("<u2")


def _uid(*what: object) -> UID:
    """A UID under 2.25 that depends on nothing but ``what``."""
    name = "/".join(str(part) for part in ("medfuse phantom", *what))
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}")
