"""NIfTI in and out: the only place that knows nibabel, xyzt_units and the form codes."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medfuse.errors import ExportError, GeometryError, IntensityError, SeriesError
from medfuse.export import whole
from medfuse.grid import MOST_VOXELS, Grid
from medfuse.intensity import LUMA_WEIGHTS
from medfuse.provenance import DISCLAIMER, SOFTWARE
from medfuse.sidecar import is_activity, read_pet_sidecar, sidecar_path
from medfuse.volume import Modality, Source, Unit, grid_of, like, make_volume, plain, source_of

SUFFIXES = (".nii", ".nii.gz")

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
"""Header and voxels in two files; read, never written."""

TEMPLATE_SPACES = {3: "Talairach", 4: "MNI152"}
"""Form codes (nifti1.h, NIFTI_XFORM_*) that declare a common world; scanner and aligned space are each image's own."""

LEAST_AIR_HU = -200.0
"""A CT in HU holds air far below this; one that does not is in some other unit."""

TRAILING_BYTES = 2**26
"""What may follow the voxels in a gzip file before it counts as a decompression bomb."""

MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True)
class NiftiSource(Source):
    """The form code a volume was read with, so that the output can carry it on.

    ``forms_apart_mm`` is how far sform and qform put a corner of the volume from each other; 0 where one is not set.
    ``sidecar`` holds what the JSON file beside a PET says of dose, weight and times, under the names of BIDS and
    dcm2niix, and nothing else of it.
    """

    form_code: int
    forms_apart_mm: float = 0.0
    sidecar: Mapping[str, object] = field(default_factory=dict)


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends as NIfTI's do, and is no folder's; an .img counts only beside its .hdr."""
    path, name = Path(path), str(path).lower()
    if path.is_dir() or not name.endswith((*SUFFIXES, *PAIR_SUFFIXES)):
        return False
    stem = name.removesuffix(".gz")
    return not stem.endswith(".img") or any(_header_beside(path).parent.glob(_header_beside(path).name + "*"))


def _header_beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".GZ")).with_suffix(".hdr")


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
        colour is no measured value.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32, axes as stored, scaled by scl_slope and scl_inter. The affine is the sform where its code
        is positive, else the qform, in mm whatever the file's unit; where both are set and disagree, the source says by
        how much. CT counts as HU only if it holds air; other values are arbitrary. Values that are not finite become
        0, CT air.

    Raises
    ------
    SeriesError
        If the file cannot be read, is not one scalar 3-D image, or has no such volume.
    GeometryError
        If neither form code is set, or the affine is singular.
    """
    path = Path(path)
    image = _open(path)
    affine, code = _place(image, path)
    values = _values(image, path, volume, luma)
    grid = _grid((values.shape[0], values.shape[1], values.shape[2]), affine, path)
    unknown = ~np.isfinite(values)
    sidecar = read_pet_sidecar(path) if modality == "PT" else {}
    unit: Unit = "HU" if modality == "CT" and values[~unknown].min() < LEAST_AIR_HU else "arbitrary"
    if is_activity(sidecar):
        unit = "Bq/ml"
    values[unknown] = -1000.0 if unit == "HU" else 0.0
    source = NiftiSource(
        modality=modality,
        frame_of_reference=TEMPLATE_SPACES.get(code),
        references=(path.name if volume is None else f"{path.name}[{volume}]",),
        path=path.resolve(),
        form_code=code,
        forms_apart_mm=_forms_apart(image, grid),
        sidecar=sidecar,
    )
    return make_volume(torch.from_numpy(values)[None], grid, modality=modality, unit=unit, source=source)


def read_grid(path: str | Path) -> Grid:
    """Read only the geometry of a NIfTI volume; raises as `read`."""
    path = Path(path)
    image = _open(path)
    _require_volume(image, path, None, luma=False)
    x, y, z = image.shape[:3]
    return _grid((x, y, z), _place(image, path)[0], path)


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
    image = _open(path)
    if image.get_data_dtype().names == ("R", "G", "B") and len(image.shape) == 3:
        affine, _ = _place(image, path)
        stored = _stored(image, path)
        rgb = torch.from_numpy(np.stack([stored[colour] for colour in ("R", "G", "B")]))
        return make_volume(rgb, _grid((rgb.shape[1], rgb.shape[2], rgb.shape[3]), affine, path), modality="MR")
    volume = read(path, "MR")
    values = plain(volume) / (255 if image.get_data_dtype() == np.uint8 and plain(volume).max() > 1 else 1)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > 1 + 1e-6:
        raise IntensityError(
            f"{path} holds values from {lowest:.4g} to {highest:.4g}; a fused volume has grey values in [0, 1], bytes, "
            "or RGB. Scale it first."
        )
    return like(values, volume)


def _grid(shape: tuple[int, int, int], affine: npt.NDArray[np.float64], path: Path) -> Grid:
    try:
        return Grid(shape, affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def _place(image: Any, path: Path) -> tuple[npt.NDArray[np.float64], int]:
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


def _forms_apart(image: Any, grid: Grid) -> float:
    """Largest distance between where sform and qform put a corner, mm; 0 where they need not agree."""
    if min(int(image.header["sform_code"]), int(image.header["qform_code"])) <= 0:
        return 0.0
    try:
        scale = MM_PER_UNIT[image.header.get_xyzt_units()[0]]
        quaternion = Grid(grid.shape, np.diag([scale, scale, scale, 1.0]) @ image.header.get_qform())
    except (HeaderDataError, GeometryError, ValueError):
        return float("inf")
    return grid.corner_distance(quaternion)


def _open(path: Path) -> Any:
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
    elif dtype.fields is not None or dtype.kind not in "fiu":
        raise SeriesError(f"{path} holds complex numbers; a volume of measured values is needed.")
    if len(shape) < 3 or min(shape) < 1:
        raise SeriesError(f"{path} has the shape {shape}; one 3-D volume is needed. Extract the volume you mean.")
    count = int(np.prod(shape[3:], dtype=np.float64))
    if count > 1 and volume is None:
        raise SeriesError(
            f"{path} has the shape {shape}; one 3-D volume is needed. Say which (volume=0 to volume={count - 1}; "
            "--mri-volume, --partner-volume)."
        )
    if volume is not None and (not 0 <= volume < count or max(shape[3:], default=1) != count):
        raise SeriesError(f"{path} has the shape {shape} and no volume {volume}; the first is 0, of {count}.")
    if min(shape[:3]) < 2:
        raise SeriesError(f"{path} has the shape {shape}: one slice only; a volume needs at least two.")
    if np.prod(shape[:3], dtype=np.float64) > MOST_VOXELS:
        raise SeriesError(f"{path} has the shape {shape}: no study is so large; check that it is whole.")


def _values(image: Any, path: Path, volume: int | None, luma: bool) -> npt.NDArray[np.float32]:
    _require_volume(image, path, volume, luma=luma)
    if _is_colour(image):
        rgb = _stored(image, path, volume=volume)
        values = np.zeros(rgb.shape, np.float32)
        for name, weight in zip("RGB", LUMA_WEIGHTS, strict=True):
            values += np.float32(weight) * rgb[name]
        return values.reshape(image.shape[:3])
    values = _stored(image, path, np.float32, volume)
    if not np.isfinite(values).any():
        raise IntensityError(f"{path} holds no finite value; check that it is the image you mean.")
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
        return np.asanyarray(stored, dtype=dtype)
    except (OSError, ValueError, EOFError, MemoryError, TypeError, zlib.error) as error:
        raise SeriesError(
            f"the voxels of {path} cannot be read ({type(error).__name__}); check that it is whole."
        ) from error


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


def write(image: MetaTensor, path: str | Path, sidecar: Mapping[str, object], *, overwrite: bool = False) -> None:
    """Write a fused volume and its JSON sidecar.

    Parameters
    ----------
    image
        (1, X, Y, Z) floating point in [0, 1], stored as 16-bit integers scaled to [0, 1]; or (3, X, Y, Z) uint8,
        stored as RGB24 (datatype 128).
    path
        Where to; ends in .nii or .nii.gz. The sidecar lies beside it with the suffix .json.
    sidecar
        What the JSON file holds.
    overwrite
        Whether files already there are replaced.

    Raises
    ------
    ExportError
        If the suffix is another, a file is taken, or they cannot be written.
    """
    path = Path(path)
    if not str(path).lower().endswith(SUFFIXES) or path.is_dir():
        raise ExportError(f"a NIfTI file ends in .nii or .nii.gz; found {path.name}.")
    grid = grid_of(image)
    values = plain(image).cpu().numpy()
    if len(values) == 3:
        rgb = np.moveaxis(values, 0, -1)
        rgb = rgb if rgb.strides[-1] == 1 else np.ascontiguousarray(rgb)
        stored: npt.NDArray[Any] = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    else:
        stored = np.rint(values[0] * 65535.0).astype(np.uint16)
    nifti = nib.nifti1.Nifti1Image(stored, grid.affine)
    source = source_of(image)
    code = source.form_code if isinstance(source, NiftiSource) else 1
    nifti.set_sform(grid.affine, code)
    # A quaternion cannot hold shear; the sform does.
    nifti.set_qform(grid.affine, 0 if grid.sheared else code, strip_shears=True)
    header: Any = nifti.header
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"Fused by medfuse (GeSeNet). Research use only."
    if len(values) == 1:
        header.set_slope_inter(1 / 65535.0, 0.0)
        header["cal_min"], header["cal_max"] = 0.0, 1.0
    with whole(path, overwrite) as beside, whole(sidecar_path(path), overwrite) as beside_sidecar:
        nib.save(nifti, beside)
        beside_sidecar.write_text(json.dumps(sidecar, indent=2) + "\n")


def dataset_description() -> dict[str, object]:
    """What a BIDS derivative dataset says of itself (dataset_description.json)."""
    name, version = SOFTWARE.split(" ")
    return {
        "Name": "Studies fused by medfuse",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": name, "Version": version, "Description": DISCLAIMER}],
    }
