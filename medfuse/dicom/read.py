"""Read a DICOM series into a volume: stored values become quantities, headers stay beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom import dcmread
from pydicom.dataset import Dataset

from medfuse.dicom.scan import choose, quiet
from medfuse.dicom.series import READABLE, Series
from medfuse.errors import SeriesError
from medfuse.grid import Grid
from medfuse.volume import Modality, Source, Unit, make_volume

PET_UNITS: dict[str, Unit] = {"BQML": "Bq/ml", "CNTS": "counts"}


@dataclass(frozen=True)
class DicomSource(Source):
    """The headers of the series a volume was read from, in slice order and without pixels, and its grid.

    NM holds one header for all its frames.
    """

    headers: tuple[Dataset, ...]
    grid: Grid

    @property
    def first(self) -> Dataset:
        """The header of the first slice."""
        return self.headers[0]


def read(path: str | Path, series: str | None = None, *, progress: Callable[[float], None] | None = None) -> MetaTensor:
    """Read the one series under ``path``.

    Parameters
    ----------
    path
        A folder or file.
    series
        SeriesInstanceUID or SeriesNumber, where the path holds several.
    progress
        Called with the share of the files read, in (0, 1].

    Returns
    -------
    MetaTensor
        (1, columns, rows, slices) float32 in the series' unit: HU, Bq/ml, counts, or arbitrary. MONOCHROME1 is a way of
        display and does not change the values.

    Raises
    ------
    SeriesError
        If the files do not form one volume.
    """
    return read_series(choose(path, series), Path(path), progress)


def read_series(series: Series, path: Path, progress: Callable[[float], None] | None = None) -> MetaTensor:
    """Read the pixels of a scanned series; see `read`."""
    grid = series.require_volume()
    with quiet():
        return _read_pixels(series, grid, path, progress or (lambda share: None))


def _read_pixels(series: Series, grid: Grid, path: Path, report: Callable[[float], None]) -> MetaTensor:
    columns, rows, slices = grid.shape
    # Filled in the order of the files; (X, Y, Z) is a view of it, so that a slice stays contiguous.
    values = np.empty((slices, rows, columns), dtype=np.float32)
    headers = []
    start = 0
    for instance in series.instances:
        try:
            dataset = dcmread(instance.path, force=True)
            frames = np.asarray(dataset.pixel_array).reshape(-1, rows, columns)
            slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        except Exception as error:  # Each decoder raises its own kinds.
            raise SeriesError(
                f"the pixels of instance {instance.number} of {series.name} cannot be decoded "
                f"({type(error).__name__}): the file is damaged, its compression is not supported, or its rescale is "
                "no number. Export the series again."
            ) from error
        into = values[start : start + len(frames)]
        np.multiply(frames, slope, out=into, casting="unsafe")
        into += intercept
        start += len(frames)
        headers.append(instance.header)
        report(len(headers) / len(series.instances))
    first = series.first
    modality = READABLE[str(first.SOPClassUID)]
    source = DicomSource(
        modality=modality,
        frame_of_reference=str(first.get("FrameOfReferenceUID", "")) or None,
        references=(f"urn:oid:{series.uid}",),
        path=path.resolve(),
        headers=tuple(headers),
        grid=grid,
    )
    volume = torch.from_numpy(values).permute(2, 1, 0)[None]
    return make_volume(volume, grid, modality=modality, unit=_unit(first, modality), source=source)


def _unit(header: Dataset, modality: Modality) -> Unit:
    """What the values are measured in; nothing is guessed."""
    if modality == "CT":
        rescaled = "RescaleSlope" in header and "RescaleIntercept" in header
        return "HU" if rescaled and str(header.get("RescaleType", "HU")) in ("HU", "") else "arbitrary"
    if modality == "PT":
        return PET_UNITS.get(str(header.get("Units", "")), "arbitrary")
    return "counts" if modality == "NM" else "arbitrary"
