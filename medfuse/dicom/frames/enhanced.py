"""Place the frames of enhanced files, which functional groups describe (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from medfuse.dicom.frames.frame import Frame, matrix_of, place_of, usable_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import ENHANCED, Instance, items, said
from medfuse.errors import counted

EMPTY = Dataset()
"""Stands for a group that is not there; never written to."""

ENHANCED_TRAITS = (
    *(("FrameContentSequence", "StackID"), ("MRImageFrameTypeSequence", "FrameType")),
    *(("MRImageFrameTypeSequence", "ComplexImageComponent"), ("CTImageFrameTypeSequence", "FrameType")),
    *(("PETFrameTypeSequence", "FrameType"), ("MREchoSequence", "EffectiveEchoTime")),
    *(("MRDiffusionSequence", "DiffusionBValue"), ("MRDiffusionSequence", "DiffusionDirectionality")),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    *(("CTReconstructionSequence", "ConvolutionKernel"), ("CTXRayDetailsSequence", "KVP")),
    *(("MRModifierSequence", "InversionTimes"), ("MRTimingAndRelatedParametersSequence", "FlipAngle")),
    *(("PETReconstructionSequence", "ReconstructionType"), ("FrameContentSequence", "TemporalPositionIndex")),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("CTReconstructionSequence", "ReconstructionDiameter"),
    ("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered"),
    ("PixelValueTransformationSequence", "RescaleType"),
    *(("FrameContentSequence", "FrameAcquisitionNumber"), ("FrameContentSequence", "FrameReferenceDateTime")),
)
"""What distinguishes the volumes of one enhanced series, the most specific first: functional group and attribute."""


def is_enhanced(instance: Instance) -> bool:
    """Whether functional groups place the frames, as in multi-frame Secondary Capture, too."""
    if instance.sop_class in ENHANCED:
        return True
    if instance.sop_class == NuclearMedicineImageStorage:  # its frames are placed by vectors, unless groups place them
        return instance.frames > 1 and "PlanePositionSequence" in Groups(instance.header).first_own
    return instance.frames > 1 and "PerFrameFunctionalGroupsSequence" in instance.header


class Groups:
    """The functional groups of a file's frames (PS3.3 C.7.6.16): a frame's own, else those that all share."""

    def __init__(self, header: Dataset) -> None:
        self.own = items(header, "PerFrameFunctionalGroupsSequence")
        self.shared = next(iter(items(header, "SharedFunctionalGroupsSequence")), EMPTY)
        self.first_own = next(iter(self.own), EMPTY)
        self._known: dict[str, Sequence[Dataset]] = {}

    def all(self, place: int, keyword: str) -> Sequence[Dataset]:
        """All items of a group of the frame at ``place`` from 0."""
        found = items(self.own[place], keyword) if place < len(self.own) else ()
        if found:
            return found
        if keyword not in self._known:
            self._known[keyword] = items(self.shared, keyword)
        return self._known[keyword]

    def first(self, place: int, keyword: str) -> Dataset:
        """The first item of a group; else an empty one."""
        return next(iter(self.all(place, keyword)), EMPTY)


def group_of(header: Dataset, place: int, keyword: str) -> Dataset:
    """The first item of a functional group of the frame at ``place`` from 0; else an empty one."""
    return Groups(header).first(place, keyword)


def enhanced_frames(instance: Instance, name: str) -> list[Frame]:
    """The frames of a file, each placed by its functional groups."""
    header = instance.header
    count = instance.frames
    groups = Groups(header)
    described = len(groups.own)
    if described != count:
        raise NoVolumeError(
            "places of frames not said",
            f"instance {instance.number} of {name} holds {counted(count, 'frame')} but describes {described} "
            "(PerFrameFunctionalGroupsSequence): the place of the others is unknown. Export it again.",
        )
    frames = []
    for index in range(count):
        position, orientation, measures, values = (
            groups.first(index, keyword)
            for keyword in (
                *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
                "PixelValueTransformationSequence",
            )
        )
        place = place_of(position, orientation, measures, f"frame {index + 1} of instance {instance.number}", name)
        traits = {}
        for group, keyword in ENHANCED_TRAITS:
            value = said(groups.first(index, group), keyword)
            if value:
                traits[keyword] = value
        directions = items(groups.first(index, "MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
        if directions:
            traits["DiffusionGradientOrientation"] = said(directions[0], "DiffusionGradientOrientation")
        mappings = groups.all(index, "RealWorldValueMappingSequence")
        slope, intercept = usable_rescale(name, values, header, mappings=mappings)
        frames.append(Frame(instance, index + 1, None, matrix_of(header), *place, slope, intercept, traits))
    return frames
