"""Fuse an MRI with its CT, PET or SPECT, slice by slice with GeSeNet, and keep every voxel's place.

    mri = medfuse.load("study/mri")                     # DICOM folder or NIfTI file → MetaTensor, RAS+ mm
    pet = medfuse.load("study/pet")
    fused = medfuse.fuse(mri, pet)                      # register, resample once, scale, fuse, join colour
    fused.write_dicom("fused/dicom")                    # a series that viewers open in the right place
    fused.write_nifti("fused/fused.nii.gz")

Research use only: not a medical device, not for diagnosis or treatment.
"""

from medfuse import gesenet, transforms
from medfuse.errors import (
    DeviceError,
    ExportError,
    GeometryError,
    IntensityError,
    MedfuseError,
    RegistrationError,
    SeriesError,
    StudyError,
    TrainingError,
    WeightsError,
)
from medfuse.fused import FusedStudy
from medfuse.fusion import fuse
from medfuse.grid import Grid
from medfuse.intensity import Window
from medfuse.phantom import phantom_study
from medfuse.registration import Registration, register
from medfuse.study import load

__all__ = [
    "DeviceError",
    "ExportError",
    "FusedStudy",
    "GeometryError",
    "Grid",
    "IntensityError",
    "MedfuseError",
    "Registration",
    "RegistrationError",
    "SeriesError",
    "StudyError",
    "TrainingError",
    "WeightsError",
    "Window",
    "fuse",
    "gesenet",
    "load",
    "phantom_study",
    "register",
    "transforms",
]
