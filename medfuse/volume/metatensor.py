"""Make and read volumes: MONAI MetaTensors that carry grid, modality, unit and source.

Rule: never compute with two MetaTensors at once, the result silently takes the first one's affine. Check their grids,
compute on ``as_tensor()``, wrap the result again with `make_volume` or `like`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.errors import GeometryError, StudyError
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume.grid import Grid
from medfuse.volume.modality import MODALITIES, TRAITS, Modality, Unit
from medfuse.volume.source import Source


@default_settings()
def make_volume(
    values: Tensor,
    grid: Grid,
    *,
    modality: Modality,
    unit: Unit = "arbitrary",
    source: Source | None = None,
    **more: object,
) -> MetaTensor:
    """Join values and geometry to a volume.

    Parameters
    ----------
    values
        (C, X, Y, Z) tensor, not copied.
    grid
        The lattice of (X, Y, Z).
    modality, unit, source, **more
        Kept in ``meta`` under these names.

    Raises
    ------
    GeometryError
        If the values' shape is not the grid's.
    """
    if tuple(values.shape[1:]) != grid.shape:
        raise GeometryError(f"values of shape {tuple(values.shape)} do not fill {grid!r}.")
    meta: dict[str, object] = {"modality": modality, "unit": unit, "source": source, "space": "RAS", **more}
    return MetaTensor(values, affine=torch.from_numpy(np.array(grid.affine)), meta=meta)


@default_settings()
def like(values: Tensor, volume: MetaTensor, grid: Grid | None = None, **more: object) -> MetaTensor:
    """Wrap new values with what ``volume`` knows of itself, on its grid or another; ``more`` goes into ``meta``."""
    return make_volume(values, grid or grid_of(volume), **(known_of(volume) | more))


def known_of(volume: MetaTensor) -> dict[str, Any]:
    """Modality, unit and source of a volume, as far as it says them."""
    return {name: volume.meta[name] for name in ("modality", "unit", "source") if name in volume.meta}


def grid_of(volume: MetaTensor) -> Grid:
    """Read the grid that a (C, X, Y, Z) volume lies on."""
    if volume.ndim != 4:
        raise GeometryError(f"a volume has the axes (C, X, Y, Z); found the shape {tuple(volume.shape)}.")
    x, y, z = volume.shape[1:]
    return Grid((x, y, z), np.asarray(volume.affine.cpu(), dtype=np.float64))


class HasMeta(Protocol):
    """What carries metadata: a `MetaTensor`, or a volume that is still to be made."""

    @property
    def meta(self) -> Mapping[str, Any]: ...


def require_volume(given: object, name: str = "the volume") -> None:
    """Raise `StudyError` unless something is a volume as `medfuse.load` returns it: (1, X, Y, Z) with its metadata."""
    if isinstance(given, MetaTensor) and given.ndim == 4 and len(given) == 1:
        return
    found = "None" if given is None else f"an object of type {type(given).__name__}"
    if isinstance(given, MetaTensor):
        found, how = f"a MetaTensor of shape {tuple(given.shape)}", "give one volume of one channel, medfuse.load(path)"
    elif given is None or isinstance(given, str | Path):
        how = "load it first, medfuse.load(path)"
    elif isinstance(given, list | tuple | dict):
        how = "give one volume, medfuse.load(path)"
    else:
        how = (
            "load its file, medfuse.load(path, modality=...), or join values and geometry by medfuse.volume.make_volume"
        )
    raise StudyError(f"expected {name} as medfuse.load returns it, (1, X, Y, Z); found {found}; {how}.")


def meta_of(volume: HasMeta) -> Mapping[str, Any]:
    """Read the metadata of a volume; `StudyError` where it does not say its modality."""
    if volume.meta.get("modality") not in MODALITIES:
        raise StudyError(
            "the volume does not say its modality; load it with medfuse.load(path, modality=...), one of "
            f"{', '.join(MODALITIES)}."
        )
    return volume.meta


def source_of(volume: HasMeta) -> Source | None:
    """Read where a volume came from, as far as it knows."""
    source = volume.meta.get("source")
    if isinstance(source, np.ndarray):  # how it passes MONAI's LoadImage, which knows no other container
        source = source.item()
    return source if isinstance(source, Source) else None


def plain(volume: MetaTensor | Tensor) -> Tensor:
    """The values without metadata; shares memory."""
    return volume.as_tensor() if isinstance(volume, MetaTensor) else volume


def label_of(volume: HasMeta, *, unit: bool = False) -> str:
    """What people call a volume: ``MRI``, ``CT``, ``FDG PET``; with its unit, where it has one, ``FDG PET, SUV``."""
    source = volume.meta.get("source")
    tracer = source.tracer if isinstance(source, Source) else ""
    modality = volume.meta.get("modality")
    name = TRAITS[modality].label if modality in TRAITS else "volume"
    named = volume.meta.get("unit", "arbitrary")
    return f"{tracer} {name}".strip() + (f", {named}" if unit and named != "arbitrary" else "")
