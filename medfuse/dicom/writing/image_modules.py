"""Fill the image modules of each SOP class that is written: class, modality, acquisition, pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import isfinite

import numpy as np
from PIL import ImageCms
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage

from medfuse.dicom.decimals import decimals
from medfuse.dicom.frames.enhanced import group_of
from medfuse.dicom.header import MULTIFRAME_COLOUR, MULTIFRAME_GREY, said
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.classic_header import classic_header
from medfuse.dicom.writing.identity import copy_elements
from medfuse.dicom.writing.references import coded
from medfuse.dicom.writing.rescale import describe_pixels
from medfuse.errors import ExportError, GeometryError
from medfuse.volume import MRI, TRAITS, Modality, Unit
from medfuse.volume.grid import Grid

MR_ACQUISITION = (
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag"),
    *("RepetitionTime", "EchoTime", "EchoTrainLength", "InversionTime", "TriggerTime", "EchoNumbers", "FlipAngle"),
    *("ImagingFrequency", "ImagedNucleus", "MagneticFieldStrength", "NumberOfAverages", "VariableFlipAngleFlag", "SAR"),
    *("NumberOfPhaseEncodingSteps", "InPlanePhaseEncodingDirection", "PercentSampling", "PercentPhaseFieldOfView"),
    *("PixelBandwidth", "ReconstructionDiameter", "AcquisitionMatrix", "ReceiveCoilName", "TransmitCoilName"),
)

MR_ACQUISITION_UNKNOWN = dict.fromkeys(
    ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
) | {"ScanningSequence": "RM", "SequenceVariant": "NONE"}
"""Type 1 and 2 of the MR Image module (PS3.3 C.8.3.1) where the source does not say."""

MR_FRAME_ACQUISITION = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
}
"""Where an enhanced MR keeps them: functional group and attribute (PS3.3 C.8.13.5)."""

CT_ACQUISITION = (
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionNumber", "KVP", "ConvolutionKernel", "FilterType"),
    *("ExposureTime", "XRayTubeCurrent", "Exposure", "ContrastBolusAgent"),
)
EMISSION = (
    *("AcquisitionDate", "AcquisitionTime", "CorrectedImage", "PatientOrientationCodeSequence"),
    *("PatientGantryRelationshipCodeSequence", "RadiopharmaceuticalInformationSequence"),
)
PT_ACQUISITION = (
    *EMISSION,
    # An SUV is counted from the series' own time (QIBA FDG-PET profile): without it the values lose their meaning.
    *("SeriesDate", "SeriesTime", "CountsSource", "SeriesType", "DecayCorrection", "CollimatorType"),
    *("RandomsCorrectionMethod", "ScatterCorrectionMethod", "AttenuationCorrectionMethod", "ReconstructionMethod"),
    *("DoseCalibrationFactor",),
)
PT_SLICE = ("FrameReferenceTime", "ActualFrameDuration", "DecayFactor", "AcquisitionDate", "AcquisitionTime")
NM_ACQUISITION = (
    *EMISSION,
    *("EnergyWindowInformationSequence", "NumberOfEnergyWindows", "NumberOfRotations", "RotationInformationSequence"),
    *("NumberOfDetectors", "CountsAccumulated", "ActualFrameDuration"),
)

LYING = {"S": "Supine", "P": "Prone", "DR": "RightLateralDecubitus", "DL": "LeftLateralDecubitus"}
FIRST = {"HF": "Headfirst", "FF": "FeetFirst"}
"""What a Patient Position (PS3.3 C.7.3.1.1.2) says, in the words of CID 20 and CID 21."""

PT_UNITS: Mapping[Unit, str] = {"Bq/ml": "BQML", "SUV": "GML", "SUVlbm": "GML", "SUVbsa": "CM2ML", "counts": "CNTS"}
SUV_TYPES: Mapping[Unit, str] = {"SUV": "BW", "SUVlbm": "LBMJANMA", "SUVbsa": "BSA"}
"""Units and SUVType of a PET series (PS3.3 C.8.9.1)."""


def describe_colour(dataset: Dataset, multiframe: bool = False) -> None:
    """Secondary Capture in RGB (PS3.3 A.8.1, A.8.5), with the profile that says which red is meant."""
    _describe_capture(dataset, MULTIFRAME_COLOUR if multiframe else SecondaryCaptureImageStorage)
    describe_pixels(dataset, 8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.ICCProfile = srgb_profile()
    dataset.ColorSpace = "SRGB"


def describe_picture(dataset: Dataset, bits: int, multiframe: bool) -> None:
    """Secondary Capture of a fused grey picture, where MR Image Storage does not do: 8 bits, or many frames."""
    _describe_capture(dataset, MULTIFRAME_GREY[bits] if multiframe else SecondaryCaptureImageStorage)
    _describe_fused_pixels(dataset, bits)
    if multiframe:  # PS3.3 C.8.6.3: stored numbers are what is shown
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
        dataset.PresentationLUTShape = "IDENTITY"


def _describe_capture(dataset: Dataset, sop_class: str) -> None:
    dataset.SOPClassUID = sop_class
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]


def describe_grey(dataset: Dataset, base: DicomSource | None) -> None:
    """MR Image Storage of a fused picture in [0, 1]."""
    describe_measured(dataset, MRI, "arbitrary", base)
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", "FUSED"]
    _describe_fused_pixels(dataset, 16)


def _describe_fused_pixels(dataset: Dataset, bits: int) -> None:
    describe_pixels(dataset, bits)
    # The linear window that shows 0 as black and the largest number as white (PS3.3 C.11.2.1.2).
    dataset.WindowCenter, dataset.WindowWidth = str(2 ** (bits - 1)), str(2**bits)


def describe_measured(dataset: Dataset, modality: Modality, unit: Unit, source: DicomSource | None) -> None:
    """All that the modality's own modules ask for but the pixels; ``source`` is of the same modality.

    Raises
    ------
    ExportError
        If PET or NM has no source: when and with what was measured can only be copied, never made up.
    """
    require_times(modality, source)
    IMAGE_MODULES[modality].describe(dataset, source, unit)
    dataset.SOPClassUID = TRAITS[modality].sop_class
    dataset.Modality = modality
    if TRAITS[modality].emission:
        describe_position(dataset)
        # Its times are the source's, and so is the clock that they are by.
        dataset.pop("TimezoneOffsetFromUTC", None)
        if source is not None:
            copy_elements(classic_header(source, 0), dataset, ("TimezoneOffsetFromUTC",))


def require_times(modality: Modality, source: DicomSource | None) -> None:
    """Raise `ExportError` where what such a series must say of its acquisition is unknown."""
    if source is None and TRAITS[modality].emission:
        raise ExportError(
            f"a DICOM series of {modality} says when and with what was measured, which only DICOM sources know; found "
            "none. Write NIfTI, or give a DICOM source of the same modality."
        )


def _describe_mr(dataset: Dataset, source: DicomSource | None, unit: Unit) -> None:
    """The MR Image module (PS3.3 C.8.3.1): the acquisition of the source, or that it is unknown."""
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    if source is not None:
        copy_elements(source.first, dataset, MR_ACQUISITION)
        if source.first_frame is not None:
            for keyword, (group, element) in MR_FRAME_ACQUISITION.items():
                found = group_of(source.first, source.first_frame - 1, group).get(element)
                if isinstance(found, (int, float)) and isfinite(found):
                    setattr(dataset, keyword, decimals([found])[0])
        if "IR" not in said(dataset, "ScanningSequence"):
            dataset.pop("InversionTime", None)  # may not be present otherwise (PS3.3 C.8.3.1)
    for keyword, unknown in MR_ACQUISITION_UNKNOWN.items():
        dataset.setdefault(keyword, unknown)


def _describe_ct(dataset: Dataset, source: DicomSource | None, unit: Unit) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.KVP = dataset.AcquisitionNumber = None
    if source is not None:
        copy_elements(classic_header(source, 0), dataset, CT_ACQUISITION)


def _describe_pt(dataset: Dataset, source: DicomSource | None, unit: Unit) -> None:
    assert source is not None
    # Values of PET stay PRIMARY by the Standard's enumeration (PS3.3 C.8.9.4.1.1).
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    header = classic_header(source, 0)
    copy_elements(header, dataset, PT_ACQUISITION)
    if str((header.get("SeriesType") or [""])[0]) in ("DYNAMIC", "GATED", ""):
        dataset.SeriesType = ["STATIC", "IMAGE"]
    typed = ("CorrectedImage", "CollimatorType", "AcquisitionDate", "AcquisitionTime", "ActualFrameDuration")
    _leave_empty(dataset, (*typed, "RadiopharmaceuticalInformationSequence"))
    dataset.Units = PT_UNITS.get(unit) or source.first.get("Units") or "PROPCNTS"
    if unit in SUV_TYPES:
        dataset.SUVType = SUV_TYPES[unit]
    elif unit not in PT_UNITS:  # an SUV of another kind stays one
        copy_elements(source.first, dataset, ("SUVType",))


def _describe_nm(dataset: Dataset, source: DicomSource | None, unit: Unit) -> None:
    assert source is not None
    dataset.ImageType = ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"]
    copy_elements(source.first, dataset, NM_ACQUISITION)
    _leave_empty(dataset, ("RadiopharmaceuticalInformationSequence",))
    detector = Dataset()
    copy_elements((source.first.get("DetectorInformationSequence") or [Dataset()])[0], detector, ("CollimatorType",))
    dataset.DetectorInformationSequence = [detector]


def describe_position(dataset: Dataset) -> None:
    """Say in codes how the patient lies, as PET and NM do (PS3.3 C.8.4.6), instead of in Patient Position."""
    position = str(dataset.pop("PatientPosition").value or "")
    if "PatientOrientationCodeSequence" not in dataset and position[:2] in FIRST and position[2:] in LYING:
        dataset.PatientOrientationCodeSequence = coded(codes.cid19.Recumbent)
        lying = coded(getattr(codes.cid20, LYING[position[2:]]))
        dataset.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = lying
        dataset.PatientGantryRelationshipCodeSequence = coded(getattr(codes.cid21, FIRST[position[:2]]))
    _leave_empty(dataset, ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"))


def _leave_empty(dataset: Dataset, keywords: Iterable[str]) -> None:
    """Say of Type 2 elements that are not there that they are not known."""
    for keyword in keywords:
        dataset.setdefault(keyword, [] if keyword.endswith("Sequence") else None)


@dataclass(frozen=True)
class ImageModule:
    """How measured values of one modality are described.

    ``describe`` writes what the module asks for of the whole series; ``per_slice`` names what each slice takes from the
    source slice in its place; ``multiframe`` says that one file holds all slices.
    """

    describe: Callable[[Dataset, DicomSource | None, Unit], None]
    per_slice: tuple[str, ...] = ()
    multiframe: bool = False


IMAGE_MODULES: Mapping[str, ImageModule] = {
    "MR": ImageModule(_describe_mr),
    "CT": ImageModule(_describe_ct),
    "PT": ImageModule(_describe_pt, per_slice=PT_SLICE),
    "NM": ImageModule(_describe_nm, multiframe=True),
}
"""The writer of each modality."""


def place_reconstruction(dataset: Dataset, grid: Grid, first_position: list[str], along_normal: bool) -> None:
    """Place the frames of one NM reconstruction by its detector (PS3.3 C.8.4.8 vectors, C.8.4.15).

    The spacing is negative where frames run against the normal.
    """
    columns, rows, slices = grid.directions.T
    if abs(np.cross(columns, rows) @ slices) < 1 - 1e-6:
        raise GeometryError("NM slices must be stacked along their normal; resample the volume first.")
    detector = dataset.DetectorInformationSequence[0]
    detector.ImageOrientationPatient = dataset.ImageOrientationPatient
    detector.ImagePositionPatient = first_position
    del dataset.ImageOrientationPatient
    dataset.pop("PatientOrientation", None)
    dataset.NumberOfFrames = dataset.NumberOfSlices = grid.shape[2]
    dataset.FrameIncrementPointer = Tag("SliceVector")
    dataset.SliceVector = list(range(1, grid.shape[2] + 1))
    dataset.SpacingBetweenSlices = decimals([grid.spacing[2] if along_normal else -grid.spacing[2]])[0]


@cache
def srgb_profile() -> bytes:
    """An sRGB profile of the input class ``scnr``, which the Standard asks for (PS3.3 C.11.15), with a fixed date."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[12:16] = b"scnr"
    profile[24:36] = bytes.fromhex("07ea00010001000000000000")  # 2026-01-01 00:00:00
    profile[84:100] = bytes(16)  # no profile ID: it would be a digest of the above
    return bytes(profile) + b"\0" * (len(profile) % 2)
