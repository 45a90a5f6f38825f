from .align import Align, judge, register
from .resampling import Resampled, resample, resampled
from .transform import Registration
from .transform_files import READ_SUFFIXES, WRITTEN_SUFFIXES
from .verdict import Verdict
from .warp import Warp

__all__ = [
    "READ_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "Align",
    "Registration",
    "Resampled",
    "Verdict",
    "Warp",
    "judge",
    "register",
    "resample",
    "resampled",
]
