"""Read picture pairs for a MONAI bundle, run its network slice by slice, and write what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.data.image_writer import NibabelWriter
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.transforms.io.array import LoadImage
from monai.transforms.transform import Transform
from torch import Tensor

from medfuse.errors import IntensityError, SeriesError
from medfuse.gesenet.engines.registry import SLACK
from medfuse.intensity.picture_files import read_picture
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.output.place import shown
from medfuse.volume.planes import as_slices, require_same_grid

SIDES = "mri", "partner"
"""Folders of a data set, and keys of a pair."""

PICTURES = ".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"
NIFTI = ".nii", ".nii.gz"


def list_pairs(folder: str | Path) -> list[dict[str, str]]:
    """List the pairs of a folder that holds ``mri/`` and ``partner/`` with files of the same names, sorted by name.

    Returns
    -------
    list
        Of dictionaries with the paths ``mri`` and ``partner``.

    Raises
    ------
    SeriesError
        If there is no such folder, a file has no counterpart, two have one name, or there is none at all.
    """
    found = {side: _by_name(Path(folder) / side) for side in SIDES}
    alone = sorted(found["mri"].keys() ^ found["partner"].keys())
    if alone:
        side = next(side for side in SIDES if alone[0] in found[side])
        other = SIDES[1 - SIDES.index(side)]
        raise SeriesError(
            f"expected a file of the same name in {other}/ for each of {side}/; {shown(found[side][alone[0]])} has "
            "none. Add it, or take that file out."
        )
    if not found["mri"]:
        raise SeriesError(
            f"{shown(Path(folder) / 'mri')} holds no pictures or volumes; put files of {', '.join(PICTURES + NIFTI)} "
            "there, and their partners under the same names into partner/."
        )
    return [{side: str(found[side][name]) for side in SIDES} for name in sorted(found["mri"])]


def _by_name(folder: Path) -> dict[str, Path]:
    """The readable files of a folder by their names without ending."""
    if not folder.is_dir():
        raise SeriesError(
            f"expected a folder {shown(folder)}; there is none. Give a folder that holds mri/ and partner/, with files "
            "of the same names."
        )
    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith((*NIFTI, *PICTURES)):
            continue
        name = _name_of(path)
        if name in named:
            raise SeriesError(
                f"{shown(folder)} holds two files of the name {name!r}: {named[name].name} and {path.name}; take one "
                "of them out."
            )
        named[name] = path
    return named


def _name_of(path: Path) -> str:
    """The name of a file without its ending."""
    ending = next(end for end in (NIFTI[1], NIFTI[0], *PICTURES) if path.name.lower().endswith(end))
    return path.name[: -len(ending)]


class LoadPair(Transform):
    """Load one of the pairs of `list_pairs` as ``image``, a (2, X, Y, Z) `MetaTensor`: MRI and partner in [0, 1].

    8-bit pictures are divided by 255, colours read as their BT.601 luma, and Z is 1. NIfTI volumes must lie on one grid
    and hold values in [0, 1].
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Load the pair.

        Raises
        ------
        SeriesError
            If a file is no readable picture.
        GeometryError
            If the two have different sizes, or lie on different grids.
        IntensityError
            If values are not in [0, 1].
        """
        mri, partner = (_volume(Path(data[side])) for side in SIDES)
        require_same_grid(mri, partner)
        stacked = torch.cat((mri.as_tensor(), partner.as_tensor()))
        meta = {"filename_or_obj": str(data["mri"])}
        return dict(data) | {"image": MetaTensor(stacked, affine=mri.affine, meta=meta)}


def _volume(path: Path) -> MetaTensor:
    """(1, X, Y, Z) in [0, 1], of a picture or a NIfTI file."""
    if not path.name.lower().endswith(NIFTI):
        luma, _ = read_picture(path)
        return MetaTensor(luma.permute(0, 2, 1)[..., None].float() / 255)
    try:
        volume: MetaTensor = LoadImage(ensure_channel_first=True, dtype=np.float32)(str(path))
    except Exception as error:  # whatever the reader meets in bytes that are no NIfTI
        raise SeriesError(f"{shown(path)} is no readable NIfTI file ({type(error).__name__}); check it.") from None
    if volume.ndim == 3:
        volume = cast("MetaTensor", volume[..., None])
    if volume.ndim != 4 or len(volume) != 1:
        raise SeriesError(f"{shown(path)} must hold one grey volume; found the shape {tuple(volume.shape)}.")
    lowest, highest = (float(limit) for limit in volume.as_tensor().aminmax())
    if not (lowest >= -SLACK and highest <= 1 + SLACK):  # NaN is not
        raise IntensityError(
            f"{shown(path)}: expected values in [0, 1]; found {lowest:g} to {highest:g}. Window the volume first, or "
            "fuse studies in their own units by `medfuse fuse`."
        )
    return volume


class SaveFused(Transform):
    """Write ``pred``, (1, X, Y, Z) in [0, 1], as ``NAME_fused.nii.gz``: (X, Y, Z) float32, on the MRI's grid.

    Parameters
    ----------
    output_dir
        Folder to write to; made where it is absent. A file of the same name is replaced.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.folder = Path(output_dir)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Write the file; `ExportError` where that is not possible."""
        fused: MetaTensor = data["pred"]
        name = _name_of(Path(fused.meta["filename_or_obj"]))
        writer = NibabelWriter(output_dtype=np.float32)
        # Its own `set_data_array` adds an axis of channels, or takes a single slice for no axis.
        writer.data_obj = fused.as_tensor()[0].cpu().numpy()
        writer.set_metadata({"affine": fused.affine}, resample=False)
        with atomic_file(self.folder / f"{name}_fused.nii.gz", overwrite=True) as temporary:
            writer.write(str(temporary))
        return dict(data)


class SliceBySlice(Inferer):
    """Run a network on each slice along the last axis, rows down and columns across, as medfuse does.

    Parameters
    ----------
    batch_size
        Slices at once, at least 1.
    """

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {batch_size}.")
        self.batch_size = batch_size

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> MetaTensor | Tensor:
        """(B, 2, X, Y, Z) → (B, 1, X, Y, Z), on the same grid."""
        fused = [self._volume(volume, network) for volume in inputs.as_subclass(Tensor)]
        made = torch.stack(fused).to(inputs.device)
        return cast("Any", MetaTensor(made)).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else made

    def _volume(self, volume: Tensor, network: Callable[..., Any]) -> Tensor:
        slices = torch.cat([as_slices(side[None]) for side in volume], dim=1)
        batches = [network(batch.contiguous()) for batch in torch.split(slices, self.batch_size)]
        return torch.cat(batches).permute(1, 3, 2, 0)
