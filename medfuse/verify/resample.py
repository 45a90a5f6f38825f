"""Interpolate a source series anew with SimpleITK alone, to compare what an export holds of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medfuse.dicom.consistency import without_negatives
from medfuse.verify.readers import Affine, View, read
from medfuse.volume.grid import LPS_FROM_RAS


def resampled(source: list[Path], uid: str, to_moving: Affine, shape: tuple[int, int, int], onto: Affine) -> View:
    """Interpolate a source series onto a grid with SimpleITK alone; ``to_moving`` maps that grid's world, RAS+ mm.

    Raises
    ------
    ReadingError
        If SimpleITK does not read the source.
    """
    with tempfile.TemporaryDirectory() as folder:
        view = read("SimpleITK", without_negatives(source, Path(folder)), uid)
    assert view.affine is not None
    lps = LPS_FROM_RAS @ view.affine
    moving = sitk.GetImageFromArray(view.values[..., 0].transpose(2, 1, 0).astype(np.float32))
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    moving.SetSpacing(spacing.tolist())
    moving.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    moving.SetOrigin(lps[:3, 3].tolist())
    # Index of the wanted grid → index-sized world, so that a sheared grid needs no direction matrix of its own.
    total = LPS_FROM_RAS @ to_moving @ onto
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(total[:3, :3].ravel().tolist())
    transform.SetTranslation(total[:3, 3].tolist())
    size = [int(length) for length in shape]
    out = sitk.Resample(
        moving, size, transform, sitk.sitkLinear, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist(), np.nan
    )
    return View(sitk.GetArrayFromImage(out).transpose(2, 1, 0)[..., None], onto)
