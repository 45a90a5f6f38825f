"""List the elements that tell what a series is and whether it is a volume: all that planning many studies reads."""

from __future__ import annotations

from medfuse.dicom.frames.classic import CLASSIC_TRAITS
from medfuse.dicom.frames.enhanced import ENHANCED_TRAITS
from medfuse.dicom.frames.nuclear import GEOMETRY, NM_TRAITS
from medfuse.dicom.scanning.completeness import CONCATENATED
from medfuse.dicom.scanning.contrast import CONTRASTS
from medfuse.dicom.scanning.duplicates import PLACED
from medfuse.dicom.scanning.read_headers import NEEDED
from medfuse.dicom.scanning.split_volumes import ONE_PER_VOLUME, TRAITS

IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "SeriesInstanceUID")

WHEN = (
    *("StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    "AcquisitionDateTime",
)

WHAT = (
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "ImageType", "Manufacturer", "MRAcquisitionType"),
    *("AcquisitionContrast", "SeriesType", "ContrastBolusAgentSequence", "RadiopharmaceuticalInformationSequence"),
    *("AttenuationCorrected", "FrameOfReferenceUID", "SliceThickness"),
)

PIXELS = (
    *("SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "NumberOfFrames"),
    *("PixelPaddingValue", "PixelPresentation", "RedPaletteColorLookupTableDescriptor", "ModalityLUTType"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "RealWorldValueMappingSequence"),
)

ORDER = (
    *("InstanceNumber", "ImagesInAcquisition", "NumberOfSlices", "ImageIndex", "SliceVector"),
    *("ConcatenationFrameOffsetNumber", "AcquisitionNumber", "DetectorInformationSequence"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
)

PLANNING_ELEMENTS: tuple[str, ...] = tuple(
    dict.fromkeys(
        name
        for name in (
            *NEEDED,
            *IDENTITY,
            *WHEN,
            *WHAT,
            *PIXELS,
            *ORDER,
            *CONCATENATED,
            *CONTRASTS,
            *CLASSIC_TRAITS,
            *(keyword for _, keyword in ENHANCED_TRAITS),
            *NM_TRAITS,
            *GEOMETRY,
            *PLACED,
            *ONE_PER_VOLUME,
            *TRAITS,
        )
        if name != "file"
    )
)
"""Keywords; the rest of a header is passed over, which makes it a quarter as large and sooner read."""
