from .align import Align, assess_registration, register
from .resampling import Resampled, resample, resampled
from .suffixes import READ_SUFFIXES, WRITTEN_SUFFIXES
from .transform import Registration
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
    "assess_registration",
    "register",
    "resample",
    "resampled",
]
