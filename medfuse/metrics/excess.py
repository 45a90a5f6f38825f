"""Measure what a fused picture shows that no source has: invented gradients, and brightness above both sources.

An edge is invented as far as it is stronger than in either source. So Petrović and Xydeas tell fusion artifacts
(2005, doi:10.1109/ICCV.2005.175: gradients of the fused picture above those of both inputs); but they weigh them by the
gradients of the sources, and so count nothing where both are flat. Here the fused gradient itself is the weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.metrics.edges import sobel
from medfuse.metrics.pictures import LEVELS, eight_bit, share, total
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import Grid, make_volume

SOBEL_GAIN = 8
"""Strength of the Sobel gradient of a slope of one grey level a pixel: its filters add up to it."""

MOST_INVENTED = 0.1
"""What pictures of invented structure draw white, in shares of the range from black to white a pixel."""

OVERSHOOT_LEVELS = 8
"""Grey levels above the brighter source that count as overshoot: about what an eye sees side by side."""


def invented(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Share of the fused gradient's energy by which it exceeds the stronger of the sources' gradients.

    Takes (N, 1, H, W) on the 8-bit scale, gives (N,) in [0, 1]: 0 where no edge is stronger than in a source.
    """
    excess, strength = _excess(fused, mri, partner)
    return share(total(excess**2), total(strength**2))


def invented_map(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """How far each pixel's gradient is above the stronger of the sources', in shares of black to white a pixel.

    Takes (N, 1, H, W), as `invented` does, and gives the same shape: 0 where no edge is stronger than in a source.
    """
    return _as_share(_excess(fused, mri, partner)[0])


def _as_share(excess: Tensor) -> Tensor:
    return excess / (SOBEL_GAIN * (LEVELS - 1))


def _excess(fused: Tensor, mri: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """How far the fused gradient is above the stronger of the sources' at each pixel, and its own strength."""
    strength, *sources = (sobel(picture).strength for picture in (fused, mri, partner))
    return (strength - torch.maximum(*sources)).clamp(min=0), strength


@dataclass(frozen=True, eq=False)
class InventedStructure:
    """Where a fused study shows edges that neither source has.

    Parameters
    ----------
    map
        (1, X, Y, Z) float32 on the fused grid: how far the fused picture's gradient is above the stronger of the two
        sources', in shares of the range from black to white, a pixel. Within slices, by Sobel filters, in luma.
    share
        Of the energy of the fused gradients, over the whole study; 0 where no edge is stronger than in a source.
    """

    map: MetaTensor
    share: float


@default_settings()
def invented_structure(slabs: Iterable[tuple[Tensor, Tensor, Tensor]], grid: Grid) -> InventedStructure:
    """Find edges that neither source has in the slices of a grid; `invented` is the same of single pictures.

    Parameters
    ----------
    slabs
        Fused luma, MRI and partner luma, (N, 1, H, W) each, floating point in [0, 1] or uint8, in the order of the
        slices. They are compared as they are stored in 8 bits.
    grid
        On which they lie.
    """
    columns, rows, slices = grid.shape
    made = torch.empty((slices, rows, columns), dtype=torch.float32)
    done, above, whole = 0, 0.0, 0.0
    for slab in slabs:
        excess, strength = _excess(*map(eight_bit, slab))
        made[done : done + len(excess)] = _as_share(excess)[:, 0]
        done += len(excess)
        above, whole = above + float((excess**2).sum()), whole + float((strength**2).sum())
    found = make_volume(made.permute(2, 1, 0)[None], grid, modality="MR")
    return InventedStructure(found, above / whole if whole else 0.0)


def overshoot(fused: Tensor, mri: Tensor, partner: Tensor, where: Tensor) -> Tensor:
    """Share of pixels (N, 1, H, W) bool that are more than `OVERSHOOT_LEVELS` brighter than both sources: (N,)."""
    above = fused > torch.maximum(mri, partner) + OVERSHOOT_LEVELS
    return share(total((above & where).double()), total(where.double()))
