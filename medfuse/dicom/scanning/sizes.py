"""Tell from a few headers how many voxels a series has, and which modality, before it is read."""

from __future__ import annotations

from dataclasses import dataclass

from medfuse.dicom.header import Instance, quiet, said, short_text
from medfuse.dicom.scanning.find_files import Place, find_files
from medfuse.dicom.scanning.read_headers import read_headers

BESIDE = 16
"""Files that are looked at for one that is an image, where no series is named: others may lie beside it."""


@dataclass(frozen=True)
class Size:
    """How much a series holds at most, and what its header says that it is; ``modality`` is empty where it says none.

    ``slice_pixels`` are those of its largest slice.
    """

    voxels: int = 0
    slice_pixels: int = 0
    modality: str = ""


def series_size(place: Place, series: str = "") -> Size:
    """Estimate the size of the series under a path; of files that hold no image, it is zero.

    Parameters
    ----------
    place
        As for `medfuse.dicom.scan`.
    series
        SeriesInstanceUID or SeriesNumber. With it every header is read; without, all files count as like the first
        image among them.

    Raises
    ------
    SeriesError
        If there is no such path.
    """
    files = find_files(place)
    with quiet():
        if not series:
            for found in read_headers(type(files)(files.paths[:BESIDE], files.kept)):
                if isinstance(found, Instance):
                    rows, columns, frames = _shape(found)
                    return Size(rows * columns * frames * len(files.paths), rows * columns, _modality(found))
            return Size()
        voxels = largest = 0
        modality = ""
        wanted = series.split(":")[0]
        for found in read_headers(files):
            if isinstance(found, Instance) and wanted in (
                said(found.header, "SeriesInstanceUID"),
                short_text(found.header, "SeriesNumber"),
            ):
                rows, columns, frames = _shape(found)
                voxels, largest = voxels + rows * columns * frames, max(largest, rows * columns)
                modality = modality or _modality(found)
        return Size(voxels, largest, modality)


def _shape(found: Instance) -> tuple[int, int, int]:
    """Rows, columns and frames as far as they are numbers; what is none is told when the series is read."""
    numbers = []
    for keyword, absent in (("Rows", 0), ("Columns", 0), ("NumberOfFrames", 1)):
        try:
            numbers.append(max(int(found.header.get(keyword) or absent), 0))
        except (TypeError, ValueError):
            numbers.append(absent)
    rows, columns, frames = numbers
    return rows, columns, frames


def _modality(found: Instance) -> str:
    return short_text(found.header, "Modality")
