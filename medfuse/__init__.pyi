from . import cohort, export, gesenet, methods, transforms
from .errors import (
    CohortError,
    DeviceError,
    ExportError,
    GeometryError,
    IntensityError,
    MedfuseError,
    MethodError,
    RegistrationError,
    SeriesError,
    StudyError,
    TrainingError,
    WeightsError,
)
from .intensity.presets import Window
from .load_study import load
from .phantom.study import phantom_study
from .pipeline.fuse import fuse
from .pipeline.fused_study import FusedStudy
from .registration.align import register
from .registration.transform import Registration
from .version import __version__ as __version__
from .volume.grid import Grid

__all__ = [
    "CohortError",
    "DeviceError",
    "ExportError",
    "FusedStudy",
    "GeometryError",
    "Grid",
    "IntensityError",
    "MedfuseError",
    "MethodError",
    "Registration",
    "RegistrationError",
    "SeriesError",
    "StudyError",
    "TrainingError",
    "WeightsError",
    "Window",
    "__version__",
    "cohort",
    "export",
    "fuse",
    "gesenet",
    "load",
    "methods",
    "phantom_study",
    "register",
    "transforms",
]
