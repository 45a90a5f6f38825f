"""Enhanced CT and PET as scanners write them: nothing at the top that the Standard keeps in functional groups."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from enhanced import one
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, EnhancedPETImageStorage

PATIENT_AND_STUDY = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PatientAge", "PatientSize", "StudyDescription"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDate", "SeriesTime", "FrameOfReferenceUID"),
    *("PositionReferenceIndicator", "PatientPosition", "Manufacturer", "Modality"),
)
SECONDS = timedelta(seconds=1)


def code(value: str, meaning: str, scheme: str = "SCT") -> Items:
    return one(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _begin(folder: Path, sop_class: str) -> tuple[Dataset, list[Dataset]]:
    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    first = slices[0]
    whole = Dataset()
    whole.file_meta = copy.deepcopy(first.file_meta)
    for keyword in PATIENT_AND_STUDY:
        if keyword in first:
            whole[keyword] = first[keyword]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = sop_class
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    whole.InstanceNumber, whole.BodyPartExamined = 1, "HEAD"
    whole.ContentDate, whole.ContentTime = first.StudyDate, first.StudyTime
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.VolumetricProperties, whole.VolumeBasedCalculationTechnique = "VOLUME", "NONE"
    whole.PixelPresentation, whole.ContentQualification = "MONOCHROME", "RESEARCH"
    whole.DeviceSerialNumber, whole.SoftwareVersions, whole.ManufacturerModelName = "17", "VX 1", "Scanner"
    whole.BurnedInAnnotation, whole.LossyImageCompression = "NO", "00"
    whole.PresentationLUTShape = "IDENTITY"
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        whole[keyword] = first[keyword]
    whole.SamplesPerPixel, whole.PhotometricInterpretation = 1, "MONOCHROME2"
    whole.NumberOfFrames = len(slices)
    whole.AcquisitionContextSequence = Items([])
    organization = "2.25.7"
    whole.DimensionOrganizationSequence = one(DimensionOrganizationUID=organization)
    whole.DimensionIndexSequence = one(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=Tag("InStackPositionNumber"),
        FunctionalGroupPointer=Tag("FrameContentSequence"),
    )
    whole.PixelData = np.stack([header.pixel_array for header in slices]).tobytes()
    whole["PixelData"].VR = "OW"
    return whole, slices


def _shared(first: Dataset) -> Dataset:
    shared = Dataset()
    shared.PlaneOrientationSequence = one(ImageOrientationPatient=first.ImageOrientationPatient)
    shared.PixelMeasuresSequence = one(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    shared.FrameAnatomySequence = one(FrameLaterality="U", AnatomicRegionSequence=code("69536005", "Head"))
    return shared


def _frame(
    header: Dataset, number: int, began: datetime, lasted_ms: float, rescale_type: str, unit: str, window: float
) -> Dataset:
    group = Dataset()
    moment = f"{began:%Y%m%d%H%M%S.%f}"
    group.FrameContentSequence = one(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=f"{began + timedelta(milliseconds=lasted_ms / 2):%Y%m%d%H%M%S.%f}",
        FrameAcquisitionDateTime=moment,
        FrameAcquisitionDuration=lasted_ms,
        StackID="1",
        InStackPositionNumber=number,
        TemporalPositionIndex=1,
        DimensionIndexValues=[number],
    )
    group.PlanePositionSequence = one(ImagePositionPatient=header.ImagePositionPatient)
    group.PixelValueTransformationSequence = one(
        RescaleSlope=header.RescaleSlope, RescaleIntercept=header.RescaleIntercept, RescaleType=rescale_type
    )
    group.RealWorldValueMappingSequence = one(
        LUTExplanation="Activity",
        LUTLabel="ACTIVITY",
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=65535,
        RealWorldValueSlope=float(header.RescaleSlope),
        RealWorldValueIntercept=float(header.RescaleIntercept),
        MeasurementUnitsCodeSequence=code(unit, unit, "UCUM"),
    )
    group.FrameVOILUTSequence = one(WindowCenter="40", WindowWidth=str(window))
    return group


def _save(whole: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(path, enforce_file_format=True)
    return path


def enhance_pet(folder: Path, path: Path, *, corrected_to: datetime | None = None) -> Path:
    """Make Enhanced PET of classic slices (PS3.3 A.56), corrected for decay to the scan's start or another time."""
    whole, slices = _begin(folder, EnhancedPETImageStorage)
    first = slices[0]
    began = datetime.strptime(f"{first.SeriesDate}{str(first.SeriesTime)[:6]}", "%Y%m%d%H%M%S")
    reference = began if corrected_to is None else corrected_to
    drug = first.RadiopharmaceuticalInformationSequence[0]
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.AcquisitionNumber, whole.AcquisitionDateTime, whole.AcquisitionDuration = 1, f"{began:%Y%m%d%H%M%S}", 600.0
    whole.CollimatorType, whole.TableMotion, whole.TypeOfDetectorMotion = "NONE", "STATIC", "STATIONARY"
    whole.AcquisitionStartCondition, whole.AcquisitionTerminationCondition = "MANU", "TIME"
    whole.TerminationTimeThreshold = 600.0
    whole.TimeOfFlightInformationUsed, whole.DetectorGeometry = "FALSE", "CYLINDRICAL_RING"
    whole.TransverseDetectorSeparation, whole.AxialDetectorDimension = 840.0, 250.0
    whole.CoincidenceWindowWidth = 6.0
    whole.EnergyWindowRangeSequence = one(EnergyWindowLowerLimit="435", EnergyWindowUpperLimit="650")
    whole.ViewCodeSequence = code("24422004", "Axial")
    whole.SliceProgressionDirection = "FEET_HEAD"
    for keyword, value in {
        "DecayCorrected": "YES",
        "AttenuationCorrected": "YES",
        "ScatterCorrected": "YES",
        "DeadTimeCorrected": "YES",
        "GantryMotionCorrected": "NO",
        "PatientMotionCorrected": "NO",
        "CountLossNormalizationCorrected": "NO",
        "RandomsCorrected": "YES",
        "NonUniformRadialSamplingCorrected": "NO",
        "SensitivityCalibrated": "YES",
        "DetectorNormalizationCorrection": "YES",
        "ScatterCorrectionMethod": "simulated",
        "RandomsCorrectionMethod": "DLYD",
        "AttenuationCorrectionSource": "CT",
        "AttenuationCorrectionTemporalRelationship": "SIMULTANEOUS",
        "DecayCorrectionDateTime": f"{reference:%Y%m%d%H%M%S}",
        "CountsSource": "EMISSION",
    }.items():
        setattr(whole, keyword, value)
    injected = datetime.strptime(f"{first.SeriesDate}{str(drug.RadiopharmaceuticalStartTime)[:6]}", "%Y%m%d%H%M%S")
    whole.RadiopharmaceuticalInformationSequence = one(
        RadiopharmaceuticalAgentNumber=1,
        RadionuclideCodeSequence=code("77004003", "^18^Fluorine"),
        RadiopharmaceuticalCodeSequence=code("35321007", "Fluorodeoxyglucose F^18^"),
        AdministrationRouteCodeSequence=code("47625008", "Intravenous route"),
        RadiopharmaceuticalStartDateTime=f"{injected:%Y%m%d%H%M%S}",
        RadiopharmaceuticalStopDateTime=None,
        RadionuclideTotalDose=drug.RadionuclideTotalDose,
        RadionuclideHalfLife=drug.RadionuclideHalfLife,
        RadionuclidePositronFraction="0.97",
    )
    shared = _shared(first)
    shared.PETFrameTypeSequence = one(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    shared.PETFrameAcquisitionSequence = one(
        TableHeight="1", GantryDetectorTilt="0", GantryDetectorSlew="0", DataCollectionDiameter="250"
    )
    shared.PETDetectorMotionDetailsSequence = one(RotationDirection="CC", RevolutionTime=1.0)
    shared.PETPositionSequence = one(
        TablePosition=0.0,
        DataCollectionCenterPatient=[0.0, 0.0, 0.0],
        ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
    )
    shared.PETReconstructionSequence = one(
        ReconstructionType="3D",
        ReconstructionAlgorithm="REPROJECTION",
        IterativeReconstructionMethod="YES",
        NumberOfIterations=4,
        NumberOfSubsets=8,
        ReconstructionDiameter="250",
    )
    shared.PETFrameCorrectionFactorsSequence = one(
        PrimaryPromptsCountsAccumulated=100000,
        SliceSensitivityFactor="1",
        DecayFactor="1.03",
        ScatterFractionFactor="0.3",
        DeadTimeFactor="1.01",
    )
    shared.RadiopharmaceuticalUsageSequence = one(RadiopharmaceuticalAgentNumber=1)
    whole.SharedFunctionalGroupsSequence = Items([shared])
    whole.PerFrameFunctionalGroupsSequence = Items(
        [
            _frame(header, number, began + 2 * SECONDS, 600000.0, "US", "Bq/ml", 30000.0)
            for number, header in enumerate(slices, 1)
        ]
    )
    return _save(whole, path)


def enhance_ct(folder: Path, path: Path) -> Path:
    """Write classic CT slices as Enhanced CT (PS3.3 A.38)."""
    whole, slices = _begin(folder, EnhancedCTImageStorage)
    first = slices[0]
    began = datetime.strptime(f"{first.SeriesDate}{str(first.SeriesTime)[:6]}", "%Y%m%d%H%M%S")
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.AcquisitionNumber, whole.AcquisitionDateTime, whole.AcquisitionDuration = 1, f"{began:%Y%m%d%H%M%S}", 9000.0
    shared = _shared(first)
    shared.CTImageFrameTypeSequence = one(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    shared.CTAcquisitionTypeSequence = one(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    shared.CTAcquisitionDetailsSequence = one(
        RotationDirection="CW",
        RevolutionTime=1.0,
        SingleCollimationWidth=1.2,
        TotalCollimationWidth=19.2,
        TableHeight="150",
        GantryDetectorTilt="0",
        DataCollectionDiameter="500",
    )
    shared.IrradiationEventIdentificationSequence = one(IrradiationEventUID="2.25.8")
    shared.CTTableDynamicsSequence = one(TableSpeed=20.0, TableFeedPerRotation=20.0, SpiralPitchFactor=1.04)
    shared.CTPositionSequence = one(
        TablePosition=0.0,
        DataCollectionCenterPatient=[0.0, 0.0, 0.0],
        ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
    )
    shared.CTGeometrySequence = one(DistanceSourceToDetector="1000", DistanceSourceToDataCollectionCenter=570.0)
    shared.CTReconstructionSequence = one(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel="H30s",
        ConvolutionKernelGroup="BRAIN",
        ReconstructionDiameter="250",
        ReconstructionPixelSpacing=[float(length) for length in first.PixelSpacing],
        ReconstructionAngle=360.0,
        ImageFilter="NONE",
    )
    shared.CTExposureSequence = one(
        ExposureTimeInms=1000.0, XRayTubeCurrentInmA=250.25, ExposureInmAs=250.25, ExposureModulationType="NONE"
    )
    shared.CTXRayDetailsSequence = one(KVP="120", FocalSpots=[1.2], FilterType="FLAT", FilterMaterial="ALUMINUM")
    whole.SharedFunctionalGroupsSequence = Items([shared])
    whole.PerFrameFunctionalGroupsSequence = Items(
        [
            _frame(header, number, began + SECONDS, 1000.0, "HU", "[hnsf'U]", 80.0)
            for number, header in enumerate(slices, 1)
        ]
    )
    return _save(whole, path)
