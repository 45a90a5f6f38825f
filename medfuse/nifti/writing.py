"""Write a volume as NIfTI with a JSON sidecar."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import ExportError
from medfuse.nifti.header import SUFFIXES, NiftiSource
from medfuse.nifti.pet_sidecar import sidecar_path
from medfuse.provenance import DISCLAIMER, printable, software
from medfuse.runtime.json_text import json_text
from medfuse.runtime.output.atomic_output import atomic_files
from medfuse.volume import Grid, grid_of, plain, source_of


def write(
    image: MetaTensor,
    path: str | Path,
    sidecar: Mapping[str, object],
    *,
    method: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a fused volume and its JSON sidecar.

    Parameters
    ----------
    image
        (1, X, Y, Z) floating point in [0, 1], stored as 16-bit integers scaled to [0, 1]; or (3, X, Y, Z) uint8,
        stored as RGB24 (datatype 128).
    path
        Where to; ends in .nii or .nii.gz. The sidecar has the same name with the suffix .json.
    sidecar
        What the JSON file holds.
    method
        What fused, for the header's description; None where that is not known.
    overwrite
        Whether files already there are replaced.

    Raises
    ------
    ExportError
        If the suffix is another, a file is taken, or they cannot be written.
    """
    path = _path(path)
    values = plain(image).cpu().numpy()
    if len(values) == 3:
        rgb = np.moveaxis(values, 0, -1)
        rgb = rgb if rgb.strides[-1] == 1 else np.ascontiguousarray(rgb)
        stored: npt.NDArray[Any] = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    else:
        stored = np.rint(values[0] * 65535.0).astype(np.uint16)
    nifti = _placed(stored, image)
    header: Any = nifti.header
    header["descrip"] = _description(method)
    if len(values) == 1:
        header.set_slope_inter(1 / 65535.0, 0.0)
        header["cal_min"], header["cal_max"] = 0.0, 1.0
    _save(nifti, path, sidecar, overwrite)


def encode(stored: npt.NDArray[Any], grid: Grid, *, slope: float = 1.0) -> bytes:
    """Encode a volume as a NIfTI file in memory, for viewers.

    Parameters
    ----------
    stored
        (X, Y, Z) whole numbers, or (X, Y, Z, 3) uint8, stored as RGB24.
    grid
        Where they lie; no description, date or name comes with them.
    slope
        What a stored number is multiplied by.

    Returns
    -------
    bytes
        Compressed by gzip, the same for the same input.
    """
    if stored.ndim == 4:
        stored = np.ascontiguousarray(stored).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nifti = nib.nifti1.Nifti1Image(stored, grid.affine)
    nifti.set_sform(grid.affine, 1)
    nifti.set_qform(grid.affine, 0 if grid.sheared else 1, strip_shears=True)
    header: Any = nifti.header
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(slope, 0.0)
    return gzip.compress(nifti.to_bytes(), compresslevel=9, mtime=0)


def _description(method: str | None) -> bytes:
    """What the header says of a fused volume; NIfTI has 79 bytes for it."""
    name = f" ({printable(method, 39)})" if method else ""
    return f"Fused by medfuse{name}. Research use only.".encode("ascii", "replace")


def write_measured(
    volume: MetaTensor, path: str | Path, sidecar: Mapping[str, object], *, overwrite: bool = False
) -> None:
    """Write measured values, (1, X, Y, Z) in their own unit, as float32, and a JSON sidecar; else as `write`."""
    path = _path(path)
    nifti = _placed(plain(volume)[0].cpu().numpy().astype(np.float32), volume)
    header: Any = nifti.header
    header["descrip"] = b"Resampled by medfuse. Research use only."
    _save(nifti, path, sidecar, overwrite)


def write_parts(
    volumes: MetaTensor, path: str | Path, sidecar: Mapping[str, object], *, overwrite: bool = False
) -> None:
    """Write several volumes (C, X, Y, Z) on one grid as one file of four dimensions, float32; else as `write`."""
    path = _path(path)
    nifti = _placed(np.moveaxis(plain(volumes).cpu().numpy().astype(np.float32), 0, -1), volumes)
    header: Any = nifti.header
    header["descrip"] = b"Attribution by medfuse. Research use only."
    _save(nifti, path, sidecar, overwrite)


def _path(path: str | Path) -> Path:
    path = Path(path)
    if not str(path).lower().endswith(SUFFIXES) or path.is_dir():
        raise ExportError(f"a NIfTI file ends in .nii or .nii.gz; found {path.name}.")
    return path


def _placed(stored: npt.NDArray[Any], volume: MetaTensor) -> nib.nifti1.Nifti1Image:
    grid, source = grid_of(volume), source_of(volume)
    nifti = nib.nifti1.Nifti1Image(stored, grid.affine)
    code = source.form_code if isinstance(source, NiftiSource) else 1
    nifti.set_sform(grid.affine, code)
    # A quaternion cannot hold shear; the sform does.
    nifti.set_qform(grid.affine, 0 if grid.sheared else code, strip_shears=True)
    header: Any = nifti.header
    header.set_xyzt_units("mm", "sec")
    return nifti


def _save(nifti: nib.nifti1.Nifti1Image, path: Path, sidecar: Mapping[str, object], overwrite: bool) -> None:
    with atomic_files((path, sidecar_path(path)), overwrite) as (temporary, temporary_sidecar):
        nib.save(nifti, temporary)
        temporary_sidecar.write_text(json_text(sidecar, indent=2) + "\n")


def dataset_description() -> dict[str, object]:
    """What a BIDS derivative dataset says of itself (dataset_description.json)."""
    name, version = software().split(" ")
    return {
        "Name": "Studies fused by medfuse",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": name, "Version": version, "Description": DISCLAIMER}],
    }
