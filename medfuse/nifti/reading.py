"""Read NIfTI files: volumes of measured values, and fused ones."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import IntensityError, SeriesError
from medfuse.intensity.colour import LUMA_WEIGHTS
from medfuse.nifti.forms import placed
from medfuse.nifti.header import NiftiSource, opened
from medfuse.nifti.pet_sidecar import read_pet_sidecar, unit_of
from medfuse.volume import MRI, TRAITS, Modality, Unit, like, make_volume, plain
from medfuse.volume.grid import MOST_VOXELS, Grid

TEMPLATE_SPACES = {3: "Talairach", 4: "MNI152"}
"""Form codes (nifti1.h, NIFTI_XFORM_*) that declare a common world; scanner and aligned space are each image's own."""

LEAST_AIR_HU = -200.0
"""A CT in HU holds air far below this; one that does not is in some other unit."""

MOST_VALUE = 1e15
"""Nothing that is measured is larger in any unit: a radioactivity of 1 GBq/ml is 1e9."""

TRAILING_BYTES = 2**26
"""What may follow the voxels in a gzip file before it counts as a decompression bomb."""


def read(path: str | Path, modality: Modality, volume: int | None = None, *, luma: bool = False) -> MetaTensor:
    """Read a NIfTI volume.

    Parameters
    ----------
    path
        A .nii or .nii.gz file, or one of a pair of .hdr and .img.
    modality
        What the file holds; NIfTI has no field for it.
    volume
        Which volume of a 4-D file, counted from 0; only this one is read.
    luma
        Read colours (RGB24, RGBA32) as their brightness, 0 to 255 (ITU-R BT.601); without it they are refused, for a
        colour is no measured value. A file without colours is refused with it.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32, axes as stored, scaled by scl_slope and scl_inter. The affine is the sform where its code
        is positive, else the qform, in mm whatever the file's unit; where both are set and differ, the source says by
        how much. CT counts as HU only if it holds air; activity that a JSON sidecar names, such as
        kBq/mL, is brought to Bq/ml; other values are arbitrary. Values that are not finite become 0, CT air.

    Raises
    ------
    SeriesError
        If the file cannot be read, is not one scalar 3-D image, or has no such volume.
    GeometryError
        If neither form code is set, the form that counts is none (a spacing that is not positive, a qfac other than 1
        and -1, no unit quaternion), the affine is singular or absurd, or sform and qform contradict each other: with
        one code and more than a voxel apart, or one mirrors the other.
    IntensityError
        If the scaling is not finite, or leads to values larger than any measured one.
    """
    path = Path(path)
    image, stated = opened(path)
    _require_volume(image, path, volume, luma=luma)
    place = placed(image.shape, stated, path)
    values = _values(image, path, volume)
    unknown = ~np.isfinite(values)
    units = TRAITS[modality].units
    sidecar = read_pet_sidecar(path) if TRAITS[modality].emission else {}
    unit: Unit = "HU" if "HU" in units and values[~unknown].min() < LEAST_AIR_HU else "arbitrary"
    if sidecar:
        unit, factor = unit_of(sidecar)
        if factor != 1:
            values *= np.float32(factor)
    values[unknown] = -1000.0 if unit == "HU" else 0.0
    source = NiftiSource(
        modality=modality,
        frame_of_reference=TEMPLATE_SPACES.get(place.code),
        references=(path.name if volume is None else f"{path.name}[{volume}]",),
        path=path.resolve(),
        form_code=place.code,
        forms_apart_mm=place.forms_apart_mm,
        sidecar=sidecar,
    )
    return make_volume(torch.from_numpy(values)[None], place.grid, modality=modality, unit=unit, source=source)


def read_grid(path: str | Path) -> Grid:
    """Read only the geometry of a NIfTI volume; raises as `read`."""
    path = Path(path)
    image, stated = opened(path)
    _require_volume(image, path, None, luma=False)
    return placed(image.shape, stated, path).grid


def read_size(path: str | Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Read only the shape, of four axes and more, too, and the spacing of the first three, mm.

    Raises
    ------
    SeriesError, GeometryError, IntensityError
        If the file cannot be read, or its geometry is none.
    """
    path = Path(path)
    image, stated = opened(path)
    shape = tuple(int(length) for length in image.shape)
    return shape, tuple(float(length) for length in placed(shape, stated, path).grid.spacing)


def read_fused(path: str | Path) -> MetaTensor:
    """Read a fused volume as `write` writes it: RGB24, or grey in [0, 1] (or, unscaled, in bytes).

    Returns
    -------
    MetaTensor
        (3, X, Y, Z) uint8 RGB, or (1, X, Y, Z) float32 in [0, 1].

    Raises
    ------
    SeriesError, GeometryError
        As `read`.
    IntensityError
        If grey values lie outside of [0, 1].
    """
    path = Path(path)
    image, stated = opened(path)
    if image.get_data_dtype().names == ("R", "G", "B") and len(image.shape) == 3:
        grid = placed(image.shape, stated, path).grid
        stored = _stored(image, path)
        rgb = torch.from_numpy(np.stack([stored[colour] for colour in ("R", "G", "B")]))
        return make_volume(rgb, grid, modality=MRI)
    volume = read(path, MRI)
    values = plain(volume) / (255 if image.get_data_dtype() == np.uint8 and plain(volume).max() > 1 else 1)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > 1 + 1e-6:
        raise IntensityError(
            f"{path} holds values from {lowest:.4g} to {highest:.4g}; a fused volume has grey values in [0, 1], bytes, "
            "or RGB. Scale it first."
        )
    return like(values, volume)


def holds_colours(path: str | Path) -> bool:
    """Whether a NIfTI file holds colours instead of one value a voxel; raises as `read` where it cannot be opened."""
    return _is_colour(opened(Path(path))[0])


def _is_colour(image: Any) -> bool:
    """RGB24 and RGBA32, whose voxels nibabel reads as records of bytes."""
    return (image.get_data_dtype().names or ())[:3] == ("R", "G", "B")


def _require_volume(image: Any, path: Path, volume: int | None, *, luma: bool) -> None:
    shape = image.shape
    dtype = image.get_data_dtype()
    if _is_colour(image):
        if not luma:
            raise SeriesError(
                f"{path} holds colours; a volume of measured values is needed. Give the volume that they were made of, "
                "or say that their brightness is meant (luma=True, --luma)."
            )
    elif luma:
        raise SeriesError(f"{path} holds one value a voxel and no colours; leave luma out, for its values are read.")
    elif dtype.fields is not None or dtype.kind not in "fiu":
        raise SeriesError(f"{path} holds complex numbers; a volume of measured values is needed.")
    if len(shape) < 3 or min(shape) < 1:
        raise SeriesError(f"{path} has the shape {shape}; one 3-D volume is needed. Extract the volume you mean.")
    count = int(np.prod(shape[3:], dtype=np.float64))
    if count > 1 and volume is None:
        raise SeriesError(
            f"{path} has the shape {shape}; one 3-D volume is needed. Say which (volume=0 to volume={count - 1}; "
            "--mri-volume, --partner-volume; of align: --fixed-volume, --moving-volume)."
        )
    if not isinstance(volume, int | None):
        raise SeriesError(f"expected the volume of {path} as a whole number from 0; found {volume!r}.")
    if volume is not None and (not 0 <= volume < count or max(shape[3:], default=1) != count):
        raise SeriesError(f"{path} has the shape {shape} and no volume {volume}; the first is 0, of {count}.")
    if min(shape[:3]) < 2:
        raise SeriesError(f"{path} has the shape {shape}: one slice only; a volume needs at least two.")
    if np.prod(shape[:3], dtype=np.float64) > MOST_VOXELS:
        raise SeriesError(f"{path} has the shape {shape}: no study is so large; check that it is whole.")


def _values(image: Any, path: Path, volume: int | None) -> npt.NDArray[np.float32]:
    if _is_colour(image):
        rgb = _stored(image, path, volume=volume)
        values = np.zeros(rgb.shape, np.float32)
        for name, weight in zip("RGB", LUMA_WEIGHTS, strict=True):
            values += np.float32(weight) * rgb[name]
        return values.reshape(image.shape[:3])
    values = _stored(image, path, np.float32, volume)
    finite = np.isfinite(values)
    if not finite.any():
        raise IntensityError(f"{path} holds no finite value; check that it is the image you mean.")
    largest = max(values.max(where=finite, initial=0), -values.min(where=finite, initial=0))
    if largest > MOST_VALUE:
        raise IntensityError(_beyond(path, image, f"{largest:.3g}"))
    # A file may be memory-mapped read-only.
    return np.array(values.reshape(image.shape[:3]), copy=not values.flags.writeable)


def _stored(image: Any, path: Path, dtype: npt.DTypeLike | None = None, volume: int | None = None) -> npt.NDArray[Any]:
    """The voxels of the image, or of one volume of a 4-D image, once the file is known to hold them."""
    try:
        _require_whole(image, path)
        stored = image.dataobj
        if volume is not None:
            time = [axis for axis, length in enumerate(image.shape) if axis > 2 and length > 1]
            stored = stored[tuple(volume if axis in time else slice(None) for axis in range(len(image.shape)))]
        with np.errstate(over="raise"):
            return np.asanyarray(stored, dtype=dtype)
    except FloatingPointError as error:
        raise IntensityError(_beyond(path, image, "more than single precision holds")) from error
    except (OSError, ValueError, EOFError, MemoryError, TypeError, zlib.error) as error:
        raise SeriesError(
            f"the voxels of {path} cannot be read ({type(error).__name__}); check that it is whole."
        ) from error


def _beyond(path: Path, image: Any, found: str) -> str:
    """Say that values are larger than any measured one."""
    return (
        f"expected values up to {MOST_VALUE:g} in {path}, found {found}, scaled by scl_slope {image.dataobj.slope:g} "
        f"and scl_inter {image.dataobj.inter:g}; check the scaling and write the file again."
    )


def _require_whole(image: Any, path: Path) -> None:
    """Raise where the file does not hold the bytes that its header claims, before memory is asked for.

    A gzip file is read to its end, where its checksum stands; nibabel stops before it, and damage decodes to noise.
    """
    claimed = int(image.dataobj.offset) + image.get_data_dtype().itemsize * math.prod(map(int, image.shape))
    voxels = Path(image.file_map["image"].filename)
    found = voxels.stat().st_size
    if voxels.suffix.lower() == ".gz":
        found = 0
        with gzip.open(voxels) as stream:
            while block := stream.read(2**20):
                found += len(block)
                if found > claimed + TRAILING_BYTES:
                    raise EOFError("more voxels than the header claims")
    if found < claimed:
        raise EOFError("fewer voxels than the header claims")
