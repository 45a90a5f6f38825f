"""Place the frame of a classic file: one slice, described by the header itself (PS3.3 C.7.6.2)."""

from __future__ import annotations

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
    return [Frame(instance, None, None, matrix_of(header), *place, slope, intercept, traits)]
