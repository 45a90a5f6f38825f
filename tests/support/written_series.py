"""Write small series, read them back, and ask the validators."""

import shutil
import subprocess

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from synthetic import acquired, oblique_grid, rotation

import medfuse
from medfuse.dicom.simulate import write_acquisition
from medfuse.intensity import Window
from medfuse.provenance import Provenance, software
from medfuse.volume import like
from medfuse.volume.grid import Grid

CLEAN = {"SCImage", "MRImage"}


def provenance(modality="PT", palette="hot-iron", matrix=None):
    return Provenance(
        mri_source=("urn:oid:1",),
        partner_source=("urn:oid:2",),
        partner_modality=modality,
        registration={"method": "rigid", "matrix": (np.eye(4) if matrix is None else matrix).tolist()},
        plane="native",
        mri_window=Window(0, 100),
        partner_window=Window(0, 5),
        partner_unit="Bq/ml",
        palette=palette,
        colour_join="oklab" if palette else None,
        method={"name": "gesenet", "version": software(), "source": "medfuse.gesenet"},
        engine="reference",
        weights={"name": "default", "sha256": "0" * 64},
    )


def sources(folder, grid, partner="PT"):
    """An MRI series on ``grid`` and a partner series, written and loaded."""
    mri, _, _ = acquired(grid)
    other, _, _ = acquired(oblique_grid((11, 12, 14), turns=(0, 0, 3)), partner)
    write_acquisition(mri, folder / "mri", study=1, series_number=2)
    write_acquisition(other, folder / "partner", study=1, series_number=3)
    return medfuse.load(folder / "mri"), medfuse.load(folder / "partner")


def fused_on(mri, channels, seed=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (channels, *mri.shape[1:])
    if channels == 3:
        return like(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), mri)
    return like(torch.rand(shape, generator=generator), mri)


GRIDS = {
    "oblique": oblique_grid(),
    "sagittal": oblique_grid(turns=(2, 88, 95)),
    "coronal": oblique_grid(turns=(-85, 4, 3)),
    "left-handed": Grid((17, 22, 13), oblique_grid().affine @ np.diag([1, 1, -1, 1])),
    "flipped": Grid((17, 22, 13), oblique_grid().affine @ np.diag([-1, 1, -1, 1])),
}


def read_back(folder):
    """Positions, values and orientation as SimpleITK reads them: (X, Y, Z[, C]) with a RAS affine."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image)
    return np.moveaxis(values, (0, 1, 2), (2, 1, 0)), np.diag([-1, -1, 1, 1]) @ affine


def at_world(values, affine, world):
    """Values at given world positions, which must fall on voxel centres."""
    index = world @ np.linalg.inv(affine)[:3, :3].T + np.linalg.inv(affine)[:3, 3]
    np.testing.assert_allclose(index, np.rint(index), atol=2e-3)
    i, j, k = np.rint(index).astype(int).T
    return values[i, j, k]


def validate(command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


KINDS = {
    (3, 8, False): "SCImage",
    (3, 8, True): "MultiframeTrueColorSCImage",
    (1, 8, False): "SCImage",
    (1, 8, True): "MultiframeGrayscaleByteSCImage",
    (1, 16, False): "MRImage",
    (1, 16, True): "MultiframeGrayscaleWordSCImage",
}

MATRIX = np.eye(4)

MATRIX[:3, :3] = rotation(3, -2, 5)

MATRIX[:3, 3] = (1.5, -2.0, 3.0)
