"""Tell where the voxels of a NIfTI file lie, by its sform, its qform and its unit of length.

The header is read as it is stored: nibabel repairs what it finds wrong (a spacing of 0 becomes 1 mm, a negative one
positive, any qfac 1), and so gives a place to images that have none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.openers import ImageOpener
from nibabel.quaternions import quat2mat

from medfuse.errors import GeometryError, IntensityError, SeriesError
from medfuse.volume.grid import Grid

Affine = npt.NDArray[np.float64]

FORM_CODES = range(6)
"""Unknown, scanner, aligned, Talairach, MNI152, other template (nifti1.h, NIFTI_XFORM_*)."""

EXTENSION_BYTES = 4
"""Behind the header, they say whether extensions follow (nifti1.h)."""

UNIT_BITS = 7
"""What of xyzt_units says the unit of length."""

MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Unknown, metre, millimetre, micrometre (nifti1.h, NIFTI_UNITS_*)."""

ABOVE_ONE = 1e-6
"""How far rounding to single precision may bring the length of a unit quaternion above 1."""

AGAIN = "convert it again from the original study."


@dataclass(frozen=True, eq=False)
class Placed:
    """Where a volume lies.

    ``code`` is that of the form its affine comes from; ``forms_apart_mm`` is how far sform and qform put a corner from
    each other: 0 where one is not set, infinite where the qform is none.
    """

    grid: Grid
    code: int
    forms_apart_mm: float


def stated_header(path: Path) -> Any:
    """The header as it is stored, as nibabel's, nothing repaired; None where it is not NIfTI's."""
    with ImageOpener(path) as file:
        block = file.read(Nifti2Header.sizeof_hdr)
    for kind in (Nifti1Header, Nifti2Header):
        if len(block) >= kind.sizeof_hdr and kind.may_contain_header(block):
            return kind(block[: kind.sizeof_hdr], check=False)
    return None


def require_usable(stated: Any, path: Path) -> None:
    """Raise where a header places no voxel or scales by no number.

    Raises
    ------
    GeometryError
        If a form code or the unit of length is none of the Standard's, or the qform is needed and none.
    SeriesError
        If the voxels would begin within the header.
    IntensityError
        If scl_slope or scl_inter is not finite.
    """
    for name in ("sform_code", "qform_code"):
        if int(stated[name]) not in FORM_CODES:
            raise GeometryError(f"{path}: expected a {name} of 0 to 5, found {int(stated[name])}; {AGAIN}")
    unit = int(stated["xyzt_units"]) & UNIT_BITS
    if unit not in MM_PER_UNIT:
        raise GeometryError(
            f"{path} states an unknown unit of length: expected xyzt_units of 0 to 3, found {unit}; {AGAIN}"
        )
    if int(stated["sform_code"]) == 0 < int(stated["qform_code"]):
        fault = _qform_fault(stated)
        if fault:
            raise GeometryError(f"{path}: the qform places no voxel: {fault}; {AGAIN}")
    begin, header = float(stated["vox_offset"]), int(stated.sizeof_hdr) + EXTENSION_BYTES
    if bytes(stated["magic"])[:2] == b"n+" and begin < header:
        raise SeriesError(
            f"{path}: expected vox_offset of at least {header}, found {begin:g}: voxels in one file with their header "
            "begin after it; write the file again."
        )
    slope, offset = float(stated["scl_slope"]), float(stated["scl_inter"])
    if not np.isfinite(slope) or (slope != 0 and not np.isfinite(offset)):
        raise IntensityError(
            f"{path} scales its values by scl_slope {slope:g} and scl_inter {offset:g}: expected finite numbers, or a "
            "slope of 0 for no scaling; write the file again."
        )


def placed(shape: tuple[int, ...], stated: Any, path: Path) -> Placed:
    """Place a volume by its header, as stored: by the sform where its code is positive, else by the qform.

    Raises
    ------
    GeometryError
        If neither is set, the affine is singular or absurd, or the two forms contradict each other.
    """
    sform_code, qform_code = int(stated["sform_code"]), int(stated["qform_code"])
    if sform_code == qform_code == 0:
        raise GeometryError(
            f"{path} has neither sform nor qform: its place and orientation are unknown. Convert it again from the "
            "original study with its geometry."
        )
    if sform_code == 0:
        return Placed(_grid(shape, stated, _qform(stated), path), qform_code, 0.0)
    grid = _grid(shape, stated, np.asarray(stated.get_sform(), dtype=np.float64), path)
    if qform_code == 0:
        return Placed(grid, sform_code, 0.0)
    if _qform_fault(stated):
        return Placed(grid, sform_code, float("inf"))
    qform = _grid(shape, stated, _qform(stated), path)
    _require_agreement(grid, qform, sform_code == qform_code, path)
    return Placed(grid, sform_code, grid.corner_distance(qform))


def _require_agreement(sform: Grid, qform: Grid, one_world: bool, path: Path) -> None:
    """Raise `GeometryError` where the two forms cannot both be right.

    Forms with two codes lead to two worlds, as scanner and template are, but both to a right hand on the right side.
    Shear, which a qform cannot hold, is no contradiction.
    """
    repair = "Set the code of the wrong one to 0, or convert the file again from the original study."
    if np.linalg.det(sform.affine) * np.linalg.det(qform.affine) < 0:
        raise GeometryError(f"{path}: sform and qform contradict each other: one mirrors the other. {repair}")
    apart = sform.corner_distance(qform)
    if one_world and not sform.sheared and apart > min(sform.spacing):
        raise GeometryError(
            f"{path}: sform and qform contradict each other: both have one form code, but put a corner {apart:.3g} mm "
            f"apart, more than a voxel. {repair}"
        )


def _qform_fault(stated: Any) -> str:
    """What is wrong with a qform; empty where nothing is (nifti1.h, method 2)."""
    pixdim = np.asarray(stated["pixdim"][:4], dtype=np.float64)
    quaternion = np.array([stated[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    if not np.isfinite(pixdim[1:]).all() or (pixdim[1:] <= 0).any():
        return f"expected positive spacings in pixdim[1..3], found {_listed(pixdim[1:])}"
    if pixdim[0] not in (-1, 0, 1):
        return f"expected 1 or -1 in pixdim[0] (qfac), found {pixdim[0]:g}"
    # Compared by length, for squares of large numbers overflow.
    if not np.isfinite(quaternion).all() or math.hypot(*quaternion) > 1 + ABOVE_ONE:
        return f"expected the vector part of a unit quaternion in quatern_b, c and d, found {_listed(quaternion)}"
    return ""


def _qform(stated: Any) -> Affine:
    """The affine of a sound qform, in the file's unit of length."""
    b, c, d = (float(stated[f"quatern_{name}"]) for name in "bcd")
    length = max(1.0, float(np.sqrt(b * b + c * c + d * d)))
    quaternion = np.array([np.sqrt(max(0.0, 1 - b * b - c * c - d * d)), b, c, d]) / length
    affine = np.eye(4)
    qfac = -1.0 if stated["pixdim"][0] == -1 else 1.0
    affine[:3, :3] = quat2mat(quaternion) * np.asarray(stated["pixdim"][1:4], dtype=np.float64) * (1.0, 1.0, qfac)
    affine[:3, 3] = [stated[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _grid(shape: tuple[int, ...], stated: Any, affine: Affine, path: Path) -> Grid:
    """The grid of an affine in the file's unit of length; the file is named where there is none."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        affine[:3] *= MM_PER_UNIT[int(stated["xyzt_units"]) & UNIT_BITS]
    try:
        return Grid((shape[0], shape[1], shape[2]), affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def _listed(numbers: Affine) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
