"""Classic series of small volumes, changed header by header."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from synthetic import acquired, oblique_grid

from medfuse.dicom.simulate import write_acquisition
from medfuse.volume.grid import Grid


def small_series(
    folder: Path, modality: str = "MR", slices: int = 12, *, grid: Grid | None = None, number: int = 4
) -> tuple[Path, float, float]:
    """Write world-linear slices along the normal; the scale and offset lead back to x + 2y + 3z."""
    volume, scale, offset = acquired(grid or oblique_grid((9, 8, slices)), modality)
    write_acquisition(volume, folder, study=1, series_number=number)
    return folder, scale, offset


def edit(folder: Path, change: Callable[[Dataset, int], object]) -> None:
    """Apply ``change(dataset, place)`` to every file, in the order of the slices."""
    for place, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(dataset, place)
        dataset.save_as(path)


def leave(folder: Path, places: range | tuple[int, ...]) -> None:
    """Delete all slices but those at these places."""
    for place, path in enumerate(sorted(folder.iterdir())):
        if place not in places:
            path.unlink()
