"""Read a fused series back: a picture with its place, but no measured values, which `read` therefore refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from medfuse.dicom.encoding.pictures import StoredPicture
from medfuse.dicom.frames.forms import frames_of
from medfuse.dicom.frames.stack import stack
from medfuse.dicom.header import MULTIFRAME_PICTURES, quiet, series_name
from medfuse.dicom.reading.volume import read_series
from medfuse.dicom.scanning.scan import scan
from medfuse.dicom.scanning.series import Series
from medfuse.errors import MedfuseError, SeriesError
from medfuse.volume import MRI, like, make_volume, plain


def read_fused(path: str | Path) -> MetaTensor:
    """Read a series as `write_series` writes it.

    Parameters
    ----------
    path
        A folder with one series, or a file of it: Secondary Capture with its place, in one file or many, or grey MR;
        grey over the full range of its bits.

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
    if found[0].instances[0].sop_class in (SecondaryCaptureImageStorage, *MULTIFRAME_PICTURES):
        return _read_picture(found[0])
    volume = read_series(found[0], Path(path))
    return like(_as_share(plain(volume), found[0].first), volume)


def _read_picture(series: Series) -> MetaTensor:
    name = series_name(series.instances)
    placed = stack(frames_of(series.instances, name), name)
    columns, rows, slices = placed.grid.shape
    samples = int(series.first.get("SamplesPerPixel", 1))
    values = np.empty((slices, rows, columns, samples), dtype=np.uint8 if samples == 3 else np.float32)
    instances = {frame.instance.path: frame.instance for frame in placed.frames}
    pictures = {path: StoredPicture(instance, name) for path, instance in instances.items()}
    for into, frame in zip(values, placed.frames, strict=True):
        try:
            with quiet():
                into[:] = pictures[frame.instance.path].frame((frame.number or 1) - 1).reshape(into.shape)
        except MedfuseError:
            raise
        except Exception as error:  # Each decoder raises its own kinds.
            raise SeriesError(
                f"the pixels of {frame.label} of {name} cannot be read as a fused picture "
                f"({type(error).__name__}). Fuse the study again."
            ) from error
    picture = torch.from_numpy(values).permute(3, 2, 1, 0)
    return make_volume(picture if samples == 3 else _as_share(picture, series.first), placed.grid, modality=MRI)


def _as_share(stored: torch.Tensor, header: Dataset) -> torch.Tensor:
    """From all of its bits to [0, 1]."""
    return stored.div(2 ** int(header.get("BitsStored", 16)) - 1)
