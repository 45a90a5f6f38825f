"""Read and write maps as files: ITK transforms (LPS+ mm) or 4×4 text (RAS+ mm), always fixed → moving."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

from medfuse.errors import ExportError, GeometryError, RegistrationError
from medfuse.registration.files import itk_transforms
from medfuse.registration.files.declared_sizes import require_sizes
from medfuse.registration.files.itk_transforms import NOT_A_MAP
from medfuse.registration.files.suffixes import ITK_SUFFIXES, READ_SUFFIXES, WRITTEN_SUFFIXES
from medfuse.registration.warp import Warp
from medfuse.runtime.apart import CannotRunApartError, run_apart
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.output.exchange import settle
from medfuse.volume.grid import LPS_FROM_RAS, Grid, Points

CHECKED_SUFFIXES = (".tfm", ".mat")
"""ITK formats whose sizes can be compared without ITK; in HDF5 only ITK finds them."""

READER = Path(itk_transforms.__file__)

MOST_SECONDS = 600
"""What reading a transform may take."""

MOST_TEXT_BYTES = 2**20
"""Of a file of sixteen numbers and comments."""

ENDED = "ITK stopped on it, as on damaged files and on those that claim more than they hold"


def write_map(path: Path, matrix: Points, warp: Warp | None, overwrite: bool, remark: str = "") -> None:
    """Write a map to a file that appears whole or not at all; `ExportError` as `Registration.save` says."""
    if path.suffix not in WRITTEN_SUFFIXES:
        raise ExportError(
            f"a registration is written as {', '.join(WRITTEN_SUFFIXES)}; found the suffix {path.suffix!r}."
        )
    if path.suffix == ".txt" and warp is not None:
        raise ExportError("4×4 numbers cannot hold a deformation; save it as .h5 or .tfm, or align by 'rigid'.")
    with atomic_file(path, overwrite) as temporary:
        if path.suffix == ".txt":
            np.savetxt(temporary, matrix, fmt="%.17g", header=f"fixed to moving, RAS+ mm{remark}", encoding="utf-8")
            return
        transform: sitk.Transform = affine_transform(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)
        if warp is not None:
            # ITK applies the last one first.
            transform = sitk.CompositeTransform([transform, _field_of(warp)])
        try:
            sitk.WriteTransform(transform, str(temporary))
        except RuntimeError as error:
            raise ExportError(f"ITK cannot write {path}; choose a writable folder with free space.") from error


def read_map(path: Path) -> tuple[Points, Warp | None]:
    """Read matrix and deformation; `RegistrationError` as `Registration.load` says."""
    if path.suffix not in READ_SUFFIXES:
        raise RegistrationError(
            f"a registration is read from {', '.join(READ_SUFFIXES)} or DICOM; found the suffix {path.suffix!r}."
        )
    settle(path)
    if not path.is_file():
        raise RegistrationError(f"there is no registration file {path}; check the path.")
    try:
        if path.suffix in ITK_SUFFIXES:
            if path.suffix in CHECKED_SUFFIXES:
                require_sizes(path)
            return _read_apart(path)
        if path.stat().st_size > MOST_TEXT_BYTES:
            raise ValueError("far more than sixteen numbers")
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        return np.array(rows, dtype=np.float64), None
    except RegistrationError:
        raise
    except (OSError, ValueError) as error:
        wanted = "four rows of four numbers" if path.suffix == ".txt" else "an ITK transform"
        raise RegistrationError(f"{path.name} could not be read as {wanted}; check the path and the file.") from error


def _read_apart(path: Path) -> tuple[Points, Warp | None]:
    """Read an ITK transform in a process of its own, which a damaged file may end without harm."""
    with TemporaryDirectory(prefix="medfuse-transform-") as folder:
        arrays = Path(folder, "arrays.npz")
        try:
            done = run_apart(READER, [str(path.resolve()), str(arrays)], MOST_SECONDS)
        except CannotRunApartError as error:
            raise RegistrationError(
                f"{path.name} needs a Python interpreter to be read by, and this program has none; give 4×4 numbers as "
                ".txt."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise RegistrationError(
                f"{path.name} took more than {MOST_SECONDS} s to read; it is damaged. Save it again."
            ) from error
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace") if done.returncode == NOT_A_MAP else ENDED
            raise RegistrationError(
                f"{path.name} could not be read as an ITK transform: {said}; check the path and the file."
            )
        with np.load(arrays) as found:
            if "lattice" not in found:
                return found["matrix"], None
            return found["matrix"], _warp(found["lattice"], found["displacement"], path)


def _warp(lattice: Points, displacement: Points, path: Path) -> Warp:
    shape = displacement.shape[1:]
    try:
        grid = Grid((shape[0], shape[1], shape[2]), lattice)
    except GeometryError as error:
        raise RegistrationError(f"the deformation in {path.name} lies nowhere: {error}") from error
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return Warp(grid, displacement.astype(np.float32))


def affine_transform(matrix: Points) -> sitk.AffineTransform:
    """ITK transform of a (4, 4) matrix, in the matrix's own coordinates."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel())
    transform.SetTranslation(matrix[:3, 3])
    return transform


def _field_of(warp: Warp) -> sitk.DisplacementFieldTransform:
    lps = LPS_FROM_RAS @ warp.grid.affine
    vectors = LPS_FROM_RAS[:3, :3] @ warp.displacement.reshape(3, -1).astype(np.float64)
    image = sitk.GetImageFromArray(vectors.reshape(3, *warp.grid.shape).transpose(3, 2, 1, 0), isVector=True)
    image.SetOrigin(lps[:3, 3])
    image.SetSpacing(warp.grid.spacing)
    image.SetDirection((LPS_FROM_RAS[:3, :3] @ warp.grid.directions).ravel())
    return sitk.DisplacementFieldTransform(image)
