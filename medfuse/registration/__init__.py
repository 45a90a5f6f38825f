"""Where the moving study lies in the fixed one, and the one interpolation that takes it there.

A `Registration` maps points **fixed → moving** in RAS+ mm, as an ITK resampler uses it. SimpleITK's LPS+ stays in here.
"""

from medfuse.registration.align import Align, judge, register
from medfuse.registration.files import READ_SUFFIXES, WRITTEN_SUFFIXES
from medfuse.registration.resampling import Resampled, resample, resampled
from medfuse.registration.transform import Registration
from medfuse.registration.verdict import Verdict
from medfuse.registration.warp import Warp

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
