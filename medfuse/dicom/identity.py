"""Who and where: the attributes that a derived series takes over from its sources, by allow-list.

Never a cloned header: what is not named here (private tags, institutions, operators, comments) does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from math import isfinite

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid
from pydicom.valuerep import validate_value

from medfuse.dicom.decimals import decimals
from medfuse.dicom.frames import group_of

PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined")
CLOCK = ("TimezoneOffsetFromUTC",)

REQUIRED_IF_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("PositionReferenceIndicator",),
)
"""Type 2: present even where nothing is known."""

MR_ACQUISITION = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "SequenceName",
    "AngioFlag",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
    "InversionTime",
    "TriggerTime",
    "ImagingFrequency",
    "ImagedNucleus",
    "EchoNumbers",
    "MagneticFieldStrength",
    "NumberOfAverages",
    "NumberOfPhaseEncodingSteps",
    "PercentSampling",
    "PercentPhaseFieldOfView",
    "PixelBandwidth",
    "ReconstructionDiameter",
    "ReceiveCoilName",
    "TransmitCoilName",
    "AcquisitionMatrix",
    "InPlanePhaseEncodingDirection",
    "FlipAngle",
    "VariableFlipAngleFlag",
    "SAR",
)

MR_ACQUISITION_UNKNOWN = {
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": None,
    "MRAcquisitionType": None,
    "RepetitionTime": None,
    "EchoTime": None,
    "EchoTrainLength": None,
}
"""Type 1 and 2 of the MR Image module (PS3.3 C.8.3.1) where the source does not say."""


MR_FRAME_ACQUISITION = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
}
"""Where an enhanced MR keeps them: functional group and attribute (PS3.3 C.8.13.5)."""


def copy_elements(source: Dataset, target: Dataset, keywords: Sequence[str]) -> None:
    """Copy the named elements that the source holds, decimal strings with their text; ill-formed values stay behind."""
    for keyword in keywords:
        if keyword in source and _well_formed(source, keyword):
            target[keyword] = deepcopy(source[keyword])


def _well_formed(source: Dataset, keyword: str) -> bool:
    try:
        element = source[keyword]
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        for value in values:
            if element.VR != "SQ" and value is not None:
                validate_value(element.VR, getattr(value, "original_string", None) or str(value), config.RAISE)
    except (ValueError, TypeError):
        return False
    return True


def identity(base: Dataset | None, partner: Dataset | None) -> Dataset:
    """Patient, study and frame of reference of a series derived from two sources.

    The base gives all of it. Without a DICOM base, patient and study are the partner's and the frame of reference is
    new; without either, identity is empty and the UIDs are new.
    """
    dataset = Dataset()
    person = base if base is not None else partner
    if person is not None:
        copy_elements(person, dataset, (*PATIENT, *STUDY, *CLOCK))
    if base is not None:
        copy_elements(base, dataset, PLACE)
    if not dataset.get("StudyInstanceUID"):
        now = datetime.now()
        dataset.StudyInstanceUID = generate_uid(prefix=None)
        dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        dataset.StudyID = "1"
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = generate_uid(prefix=None)
    if not dataset.get("BodyPartExamined"):
        # Type 2C: needed unless the body part is known not to be paired.
        dataset.Laterality = None
    for keyword in REQUIRED_IF_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    return dataset


def acquisition(base: Dataset | None, frame: int | None = None) -> Dataset:
    """Acquisition attributes of the base MR, or that they are unknown; an enhanced one has them in a frame's groups.

    ``frame`` counts from 1.
    """
    dataset = Dataset()
    if base is not None:
        copy_elements(base, dataset, MR_ACQUISITION)
        if frame is not None:
            for keyword, (group, element) in MR_FRAME_ACQUISITION.items():
                found = group_of(base, frame - 1, group).get(element)
                if isinstance(found, (int, float)) and isfinite(found):
                    setattr(dataset, keyword, decimals([found])[0])
        if "IR" not in str(dataset.get("ScanningSequence", "")) and "InversionTime" in dataset:
            del dataset.InversionTime  # may not be present otherwise (PS3.3 C.8.3.1)
    for keyword, unknown in MR_ACQUISITION_UNKNOWN.items():
        if keyword not in dataset:
            setattr(dataset, keyword, unknown)
    return dataset
