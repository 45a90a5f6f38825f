"""Compute the steps between resampled volumes and a fused picture: pure functions on slabs of slices.

`medfuse.fuse`, the MONAI transforms, training on studies and scoring all call these, and so make the same values.
A slab is (N, 1, H, W) float32 in [0, 1], rows down and columns across.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import AirMask, Window, colour, to_unit
from medfuse.intensity.palette_join import join_uptake
from medfuse.methods.batches import fused_batches
from medfuse.methods.blend import in_colours
from medfuse.methods.method import FusionMethod
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import TRAITS, ColourJoin, SlicePairs, as_slices, like, meta_of, plain
from medfuse.volume.metatensor import HasMeta
from medfuse.volume.modality import require_palette

EMPTY_SLICE = 0.02
"""Mean of the brighter source below which a slice shows too little to learn from or to score."""

SLAB = 8
"""Slices of a volume that a transform works on at once: few, so that their colours are never held for all."""


def choose_palette(palette: str | None, partner: HasMeta) -> str | None:
    """The palette asked for, or that of the partner's modality; None for grey.

    Raises
    ------
    IntensityError
        If there is no such palette.
    """
    chosen = TRAITS[meta_of(partner)["modality"]].palette if palette is None else palette
    if chosen is not None:
        require_palette(chosen)
    return chosen


@default_settings()
def window_slab(values: Tensor, window: Window) -> Tensor:
    """Map (1, X, Y, N) values in their own unit to (N, 1, H, W) in [0, 1]."""
    return as_slices(to_unit(values, window))


@default_settings()
def blacken_air(mri: Tensor, partner: Tensor, air: AirMask, start: int) -> tuple[Tensor, Tensor]:
    """Set the air of two slabs of the slices from ``start`` on to 0; see `AirMask`."""
    outside = as_slices(air.air(start, start + len(partner), partner.permute(1, 3, 2, 0))[None])
    return mri.masked_fill(outside, 0), partner.masked_fill(outside, 0)


@default_settings()
def show_something(mri: Tensor, luma: Tensor) -> Tensor:
    """(N,) whether the slices of a slab are not empty."""
    return torch.maximum(mri, luma).mean(dim=(1, 2, 3)) > EMPTY_SLICE


@default_settings()
def split_luma(uptake: Tensor, palette: str | None) -> Tensor:
    """What the network sees of a slab: itself, or its luma in a palette."""
    if palette is None:
        return uptake
    return colour.palette_luma(uptake.contiguous().movedim(1, 0), palette_table(palette)).movedim(0, 1)


@default_settings()
def join_colour(luma: Tensor, mri: Tensor, uptake: Tensor, palette: str | None, join: ColourJoin = "oklab") -> Tensor:
    """Give a fused slab the partner's colours; itself without a palette.

    ``oklab`` leaves luma to both sources and hue to the uptake, see `medfuse.intensity.palette_join`; ``chroma``
    gives the fused luma the chroma of the partner in its palette (Eq. 5).

    Returns
    -------
    Tensor
        (N, 3, H, W) uint8 RGB, or the (N, 1, H, W) luma.
    """
    if palette is None:
        return luma
    table = palette_table(palette)
    luma, mri, uptake = (slab.contiguous().movedim(1, 0) for slab in (luma, mri, uptake))
    if join == "chroma":
        return colour.join_palette(luma, uptake, table).movedim(0, 1)
    return join_uptake(luma, mri, uptake, table).movedim(0, 1)


@dataclass(frozen=True, eq=False)
class _Colouring:
    """A method that colours by itself, called with MRI and uptake."""

    method: FusionMethod
    palette: str

    @property
    def device(self) -> torch.device:
        return self.method.device

    def __call__(self, mri: Tensor, uptake: Tensor) -> Tensor:
        return self.method.coloured(mri, in_colours(uptake, palette_table(self.palette)))


def shown_batches(
    method: FusionMethod,
    pairs: Callable[[int, int], SlicePairs],
    slices: int,
    *,
    palette: str | None,
    join: ColourJoin,
    batch_size: int,
) -> Iterator[Tensor]:
    """Fuse slices batch by batch and colour them: parameters as for `medfuse.methods.batches.fused_batches`.

    Yields
    ------
    Tensor
        (N, 3, H, W) uint8 RGB with a palette, joined to the luma or made by the method; else (N, 1, H, W) luma. On the
        CPU, in the order of the slices.
    """
    if method.colour is not None and palette is not None:

        def with_uptake(start: int, stop: int) -> SlicePairs:
            given = pairs(start, stop)
            return given._replace(luma=given.uptake)

        for _, _, rgb in fused_batches(_Colouring(method, palette), with_uptake, slices, batch_size=batch_size):
            yield rgb.cpu()
        return
    for _, given, luma in fused_batches(method, pairs, slices, batch_size=batch_size):
        yield join_colour(luma.cpu(), given.mri, given.uptake, palette, join)


def joined_by(method: FusionMethod, palette: str | None, join: ColourJoin) -> str | None:
    """How colours come into what a method fuses, for the provenance: ``method`` where it makes them; None in grey."""
    if palette is None:
        return None
    return join if method.colour is None else "method"


@default_settings()
def empty_volume(shape: tuple[int, int, int], channels: int) -> Tensor:
    """Memory for fused slices, (slices, H, W, channels): RGB in 8 bits or grey in float32, in the order of files."""
    columns, rows, slices = shape
    return torch.empty((slices, rows, columns, channels), dtype=torch.uint8 if channels == 3 else torch.float32)


def slabs(volume: MetaTensor) -> Iterator[slice]:
    """The numbers of a volume's slices, `SLAB` by `SLAB`."""
    slices = volume.shape[-1]
    return (slice(start, min(start + SLAB, slices)) for start in range(0, slices, SLAB))


@default_settings()
def over_slabs(volume: MetaTensor, channels: int, step: Callable[[slice, Tensor], Tensor]) -> MetaTensor:
    """Apply a step to all slabs of a (1, X, Y, Z) volume.

    Parameters
    ----------
    volume
        In [0, 1].
    channels
        Of the result, as in `empty_volume`.
    step
        Called with the slices' numbers and the slab; returns (N, channels, H, W).

    Returns
    -------
    MetaTensor
        (channels, X, Y, Z) on the same grid.
    """
    x, y, slices = volume.shape[1:]
    made = empty_volume((x, y, slices), channels)
    for here in slabs(volume):
        made[here] = step(here, as_slices(plain(volume)[..., here])).permute(0, 2, 3, 1)
    return like(made.permute(3, 2, 1, 0), volume)
