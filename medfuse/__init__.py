"""Fuse an MRI with its CT, PET or SPECT, slice by slice with GeSeNet, and keep every voxel's place.

    mri = medfuse.load("study/mri")                     # DICOM folder or NIfTI file → MetaTensor, RAS+ mm
    pet = medfuse.load("study/pet")
    fused = medfuse.fuse(mri, pet)                      # register, resample once, scale, fuse, join colour
    fused.write_dicom("fused/dicom")                    # a series that viewers open in the right place
    fused.write_nifti("fused/fused.nii.gz")

Research use only: not a medical device, not for diagnosis or treatment.
"""

import sys as _sys

import lazy_loader

from medfuse.moved_modules import answer_old_names
from medfuse.runtime import forked as _forked  # noqa: F401 - it must know of every fork
from medfuse.runtime.cache_folders import provide_user

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

answer_old_names()
provide_user()


def load_ipython_extension(shell: object) -> None:
    """Show volumes as pictures in an IPython shell (``%load_ext medfuse``); an import in a notebook does so itself."""
    from medfuse.pipeline.report.notebook import show_volumes

    show_volumes(shell)


# A module of that name may be half imported, or another's.
if (_shell := getattr(_sys.modules.get("IPython"), "get_ipython", lambda: None)()) is not None:
    load_ipython_extension(_shell)
