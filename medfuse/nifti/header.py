"""Open a NIfTI file and read its geometry: file names, form codes, units."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medfuse.errors import GeometryError, SeriesError
from medfuse.nifti.pet_sidecar import uptake
from medfuse.runtime.exchange import settle
from medfuse.volume import Source, SuvInputs, Unit, Uptake
from medfuse.volume.grid import Grid

SUFFIXES = (".nii", ".nii.gz")

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
"""Header and voxels in two files; read, never written."""

MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True)
class NiftiSource(Source):
    """The form code a volume was read with, so that the output can carry it on.

    ``forms_apart_mm`` is how far sform and qform put a corner of the volume from each other; 0 where one is not set.
    ``sidecar`` holds what the JSON sidecar of a PET says of dose, weight and times, under the names of BIDS and
    dcm2niix, and nothing else of it.
    """

    form_code: int
    forms_apart_mm: float = 0.0
    sidecar: Mapping[str, object] = field(default_factory=dict)

    def uptake(self, unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
        return uptake(self.sidecar, unit, given)


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends as NIfTI's do, and is no folder's; an .img counts only with its .hdr."""
    path, name = Path(path), str(path).lower()
    if path.is_dir() or not name.endswith((*SUFFIXES, *PAIR_SUFFIXES)):
        return False
    stem = name.removesuffix(".gz")
    return not stem.endswith(".img") or any(_header_beside(path).parent.glob(_header_beside(path).name + "*"))


def _header_beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".GZ")).with_suffix(".hdr")


def opened(path: Path) -> Any:
    """The file as nibabel's image, its voxels unread.

    Raises
    ------
    SeriesError
        If it is not there, not readable, or not NIfTI.
    """
    settle(path)
    if not path.is_file():
        raise SeriesError(f"there is no file {path}; check the path.")
    try:
        image = nib.load(path)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError, OverflowError, zlib.error) as error:
        raise SeriesError(
            f"{path} is not a readable NIfTI file ({type(error).__name__}); check that it is whole."
        ) from error
    if not isinstance(image, nib.nifti1.Nifti1Pair):
        raise SeriesError(
            f"{path} is not NIfTI but {type(image).__name__}, which has no full geometry; convert it first."
        )
    return image


def place_of(image: Any, path: Path) -> tuple[npt.NDArray[np.float64], int]:
    """The affine in mm and the form code that it comes from."""
    header: Any = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    code = codes[0] if codes[0] > 0 else codes[1]
    if code <= 0:
        raise GeometryError(
            f"{path} has neither sform nor qform: its place and orientation are unknown. Convert it again from the "
            "original study with its geometry."
        )
    affine = np.array(image.affine, dtype=np.float64)
    try:
        affine[:3] *= MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError:
        raise GeometryError(f"{path} states an unknown unit of length; expected mm. Convert it again.") from None
    return affine, code


def grid_at(shape: tuple[int, int, int], affine: npt.NDArray[np.float64], path: Path) -> Grid:
    """The grid of a volume in a file, which is named where there is none."""
    try:
        return Grid(shape, affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def forms_apart(image: Any, grid: Grid) -> float:
    """Largest distance between where sform and qform put a corner, mm; 0 where they need not agree."""
    if min(int(image.header["sform_code"]), int(image.header["qform_code"])) <= 0:
        return 0.0
    try:
        scale = MM_PER_UNIT[image.header.get_xyzt_units()[0]]
        quaternion = Grid(grid.shape, np.diag([scale, scale, scale, 1.0]) @ image.header.get_qform())
    except (HeaderDataError, GeometryError, ValueError):
        return float("inf")
    return grid.corner_distance(quaternion)
