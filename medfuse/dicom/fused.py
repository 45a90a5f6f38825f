"""Read a fused series back: pictures in place, no measured values, and therefore not for `read`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from medfuse.dicom.frames import frames_of
from medfuse.dicom.header import Instance, series_name
from medfuse.dicom.lattice import stack
from medfuse.dicom.read import read_series
from medfuse.dicom.scan import quiet, scan
from medfuse.dicom.series import Series
from medfuse.errors import SeriesError
from medfuse.volume import like, make_volume, plain


def read_fused(path: str | Path) -> MetaTensor:
    """Read a series as `write_series` writes it.

    Parameters
    ----------
    path
        A folder with one series, or a file of it: RGB Secondary Capture with its place, or grey MR over the full
        range of its bits.

    Returns
    -------
    MetaTensor
        (3, X, Y, Z) uint8 RGB, or (1, X, Y, Z) float32 in [0, 1].

    Raises
    ------
    SeriesError
        If there is not exactly one series, or it is no volume.
    """
    found = scan(path).series
    if len(found) != 1:
        raise SeriesError(f"expected one fused series in {path}, found {len(found)}; give the folder of one.")
    first = found[0].first
    if str(first.get("SOPClassUID", "")) == SecondaryCaptureImageStorage and first.get("SamplesPerPixel") == 3:
        return _read_colour(found[0])
    volume = read_series(found[0], Path(path))
    return like(plain(volume) / (2 ** int(first.get("BitsStored", 16)) - 1), volume)


def _read_colour(series: Series) -> MetaTensor:
    # Its slices lie as those of any stack; only what their pixels mean is different.
    grey = [Instance(one.path, _as_grey(one.header)) for one in series.instances]
    name = series_name(grey)
    placed = stack(frames_of(grey, name), name)
    columns, rows, slices = placed.grid.shape
    values = np.empty((slices, rows, columns, 3), dtype=np.uint8)
    for into, frame in zip(values, placed.frames, strict=True):
        try:
            with quiet():
                into[:] = dcmread(frame.instance.path, force=True).pixel_array
        except Exception as error:  # Each decoder raises its own kinds.
            raise SeriesError(
                f"the pixels of {frame.label} of {name} cannot be read as 8-bit colour "
                f"({type(error).__name__}). Fuse the study again."
            ) from error
    return make_volume(torch.from_numpy(values).permute(3, 2, 1, 0), placed.grid, modality="MR")


def _as_grey(header: Dataset) -> Dataset:
    grey = Dataset()
    grey.update(header)
    grey.SOPClassUID = MRImageStorage
    grey.SamplesPerPixel = 1
    return grey
