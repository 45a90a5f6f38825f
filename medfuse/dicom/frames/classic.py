"""Place the frame of a classic file: one slice, described by the header itself (PS3.3 C.7.6.2)."""

from __future__ import annotations

import struct
from math import isfinite
from typing import cast

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medfuse.dicom.frames.frame import Frame, matrix_of, place_of, traits_of, usable_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance

CLASSIC_TRAITS = (
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "DiffusionGradientOrientation"),
    *("NominalPercentageOfCardiacPhase", "TriggerTime", "InversionTime", "FlipAngle", "FrameReferenceTime"),
    *("ConvolutionKernel", "KVP", "RepetitionTime", "ScanningSequence", "SequenceVariant", "SequenceName"),
    *("ScanOptions", "ReconstructionDiameter", "ContrastBolusAgent", "CorrectedImage", "AttenuationCorrectionMethod"),
    *("ScatterCorrectionMethod", "RandomsCorrectionMethod", "DecayCorrection", "ReconstructionMethod"),
    *("SUVType", "CountsSource", "ComplexImageComponent", "AcquisitionContrast", "FilterType"),
    *("AcquisitionNumber", "ImageType", "AcquisitionTime"),
)
"""What distinguishes the volumes of one classic series, the most specific first."""


B_VALUES = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C, ""),
    ("Philips Imaging DD 001", 0x2001, 0x03, "<f"),
    ("GEMS_PARM_01", 0x0043, 0x39, ""),
    ("Image Private Header", 0x0065, 0x09, "<d"),  # of United Imaging
)
"""Where vendors write the b-value of classic files, in s/mm², as DiffusionBValue is of enhanced ones only: creator,
group, element, and how its bytes are a number where they are no text, for files that do not say it."""

GE_OFFSET = 1_000_000_000
"""GE adds this, or a multiple of it, to the b-value."""


def _private_b_value(header: Dataset) -> float | None:
    """The b-value in a vendor's element; None where none has one."""
    for creator, group, element, packed in B_VALUES:
        try:
            value: object = header.private_block(group, creator)[element].value
            if isinstance(value, bytes):
                value = struct.unpack(packed, value)[0] if packed else value.decode("latin-1").split("\\")[0]
            number = float(cast("str", value[0] if isinstance(value, MultiValue) else value))
        except (LookupError, ValueError, TypeError, struct.error):
            continue
        if isfinite(number):
            return number % GE_OFFSET
    return None


def classic_frames(instance: Instance, name: str) -> list[Frame]:
    """The one frame of a file that places it by the elements of its own header."""
    header = instance.header
    if instance.frames > 1:
        raise NoVolumeError(
            "places of frames not said",
            f"instance {instance.number} of {name} holds {instance.frames} frames in a class for single slices: where "
            "they lie is not said. Export the series in classic or enhanced form.",
        )
    label = f"instance {instance.number}"
    slope, intercept = usable_rescale(name, header)
    place = place_of(header, header, header, label, name)
    traits = traits_of(header, CLASSIC_TRAITS)
    if "DiffusionBValue" not in header and (b_value := _private_b_value(header)) is not None:
        traits["DiffusionBValue"] = f"{b_value:g}"
    return [Frame(instance, None, None, matrix_of(header), *place, slope, intercept, traits)]
