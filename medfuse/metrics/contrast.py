"""Measure the contrast of the fused picture, whatever its sources: noise raises these scores too."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.metrics.pictures import LEVELS, mean, total


def sd(fused: Tensor) -> Tensor:
    """Standard deviation of the grey levels, population: (N, 1, H, W) on the 8-bit scale → (N,) at least 0."""
    return mean((fused - _mean_level(fused)) ** 2).sqrt()


def sd_saturating(fused: Tensor) -> Tensor:
    """What a program calls SD that never leaves 8-bit arithmetic: differences and squares clip at 0 and 255.

    What is darker than the mean counts nothing, and what is 16 levels brighter counts no more than 255: about 16 times
    the square root of the share of bright pixels. Several papers print values near 9 that only this explains.
    Shapes and range as in `sd`.
    """
    brighter = (fused - _mean_level(fused)).round().clamp(0, LEVELS - 1)
    return mean((brighter**2).clamp(max=LEVELS - 1)).sqrt()


def sd_unit(fused: Tensor) -> Tensor:
    """`sd` of grey levels in [0, 1]: 1/255 of it."""
    return sd(fused) / (LEVELS - 1)


def sf(fused: Tensor) -> Tensor:
    """Spatial frequency: root of the mean squared differences along rows plus that along columns.

    Eskicioglu and Fisher 1995, doi:10.1109/26.477498; each mean over the differences there are. Shapes as in `sd`.
    """
    across, down = _steps(fused)
    return (mean(across**2) + mean(down**2)).sqrt()


def sf_all_pixels(fused: Tensor) -> Tensor:
    """`sf` with both sums divided by the number of pixels instead of the number of differences: a little lower."""
    across, down = _steps(fused)
    pixels = fused.shape[-1] * fused.shape[-2]
    return ((total(across**2) + total(down**2)) / pixels).sqrt()


def ag(fused: Tensor) -> Tensor:
    """Average gradient by central differences, one-sided at the border: mean of √((x² + y²) / 2).

    Cui et al. 2015, doi:10.1016/j.optcom.2014.12.032, with the gradient that MATLAB and numpy have. Shapes as in `sd`.
    """
    down, across = torch.gradient(fused, dim=(-2, -1))
    return mean(((across**2 + down**2) / 2).sqrt())


def ag_forward(fused: Tensor) -> Tensor:
    """Average gradient by forward differences, without the last row and column: higher than `ag` on noise."""
    across, down = _steps(fused)
    return mean(((across[..., :-1, :] ** 2 + down[..., :-1] ** 2) / 2).sqrt())


def _steps(fused: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours along rows (N, 1, H, W - 1) and along columns (N, 1, H - 1, W)."""
    return fused.diff(dim=-1), fused.diff(dim=-2)


def _mean_level(fused: Tensor) -> Tensor:
    return fused.mean(dim=(1, 2, 3), keepdim=True)
