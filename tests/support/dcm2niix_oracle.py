"""Read a folder with dcm2niix, which shares no code with medfuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data.meta_tensor import MetaTensor

DCM2NIIX = shutil.which("dcm2niix")

needs_dcm2niix = pytest.mark.skipif(DCM2NIIX is None, reason="dcm2niix is not installed")


def dcm2niix(folder: Path, out: Path) -> list[nib.Nifti1Image]:
    """Every volume that dcm2niix finds, 3-D.

    Both with the rescale of the Standard (``-p n``) and with the one that Philips states beside it: the former alone
    goes wrong where slopes differ from slice to slice.
    """
    volumes = []
    for precise in "ny":
        place = out / precise
        place.mkdir(parents=True, exist_ok=True)
        command = f"{DCM2NIIX} -z n -b n -m n -p {precise} -f %s_%t_%p -o".split()
        subprocess.run([*command, str(place), str(folder)], check=False, capture_output=True, timeout=300)
        for path in sorted(place.glob("*.nii")):
            image = nib.load(path)
            volumes += nib.four_to_three(image) if image.ndim == 4 else [image]
    return volumes


def canonical(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its axes nearest to RAS+: neither side has to store slices in the other's order."""
    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    return np.asarray(image.dataobj), image.affine


def differences(volume: MetaTensor, image: nib.Nifti1Image) -> tuple[float, float]:
    """Largest difference of the affines (mm, at the far corner too) and of the voxels; infinite if the sizes differ."""
    ours, our_affine = canonical(volume.as_tensor()[0].numpy(), np.asarray(volume.affine))
    theirs, their_affine = canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    if ours.shape != theirs.shape:
        return np.inf, np.inf
    far = np.array([*ours.shape, 1.0])
    apart = np.abs(np.column_stack([our_affine - their_affine, (our_affine - their_affine) @ far])).max()
    return float(apart), float(np.abs(ours - theirs).max())


def nearest(volume: MetaTensor, images: list[nib.Nifti1Image]) -> tuple[float, float]:
    """The differences from whichever image is nearest."""
    return min((differences(volume, image) for image in images), key=lambda pair: (pair[0] > 0.01, pair[1], pair[0]))
