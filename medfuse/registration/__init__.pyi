from .align import assess_registration, register
from .files.suffixes import READ_SUFFIXES, WRITTEN_SUFFIXES
from .files.words import Align
from .resampling import Resampled, resample, resampled
from .segmentations.report import SegmentationReport, Structure, compare_segmentations, read_segmentation
from .transform import Registration
from .verdict import Verdict
from .warp import Warp

__all__ = [
    "READ_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "Align",
    "Registration",
    "Resampled",
    "SegmentationReport",
    "Structure",
    "Verdict",
    "Warp",
    "assess_registration",
    "compare_segmentations",
    "read_segmentation",
    "register",
    "resample",
    "resampled",
]
