"""How much contrast the fused picture has, whatever its sources: noise raises these scores too."""

from __future__ import annotations

from torch import Tensor

from medfuse.metrics.pictures import LEVELS, mean


def sd(fused: Tensor) -> Tensor:
    """Standard deviation of the grey levels, population.

    Parameters
    ----------
    fused
        (N, 1, H, W) on the 8-bit scale.

    Returns
    -------
    Tensor
        (N,) at least 0.
    """
    return mean((fused - _mean_level(fused)) ** 2).sqrt()


def sd_saturating(fused: Tensor) -> Tensor:
    """What a program calls SD that never leaves 8-bit arithmetic: differences and squares clip at 0 and 255.

    What is darker than the mean counts nothing, and what is 16 levels brighter counts no more than 255: about 16 times
    the square root of the share of bright pixels. Several papers print values near 9 that only this explains.
    Shapes and range as in `sd`.
    """
    brighter = (fused - _mean_level(fused)).round().clamp(0, LEVELS - 1)
    return mean((brighter**2).clamp(max=LEVELS - 1)).sqrt()


def _mean_level(fused: Tensor) -> Tensor:
    return fused.mean(dim=(1, 2, 3), keepdim=True)
