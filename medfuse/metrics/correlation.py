"""Measure how far the fused picture follows its sources pixel by pixel: correlations and squared errors."""

from __future__ import annotations

from torch import Tensor

from medfuse.metrics.pictures import LEVELS, mean, share, total


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of two pictures (N, 1, H, W) → (N,); 0 where one is constant."""
    first = first - first.mean(dim=(1, 2, 3), keepdim=True)
    second = second - second.mean(dim=(1, 2, 3), keepdim=True)
    spread = (total(first * first) * total(second * second)).sqrt()
    return share(total(first * second), spread)


def scd(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Sum of the correlations of differences: what fusion added to one source must look like the other.

    corr(MRI, fused − partner) + corr(partner, fused − MRI): (N, 1, H, W) on the 8-bit scale → (N,) in [-2, 2].
    Aslantas and Bendes 2015, doi:10.1016/j.aeue.2015.09.004.
    """
    return correlation(mri, fused - partner) + correlation(partner, fused - mri)


def cc(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mean of the correlations with the two sources: (N, 1, H, W) → (N,) in [-1, 1].

    Ma et al. 2019, doi:10.1016/j.inffus.2018.02.004, section 4.
    """
    return (correlation(fused, mri) + correlation(fused, partner)) / 2


SMALLEST_ERROR = 1 / 12
"""Mean squared error of rounding to whole levels: what is closer than that, 8 bits cannot tell."""


def psnr(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Peak signal to noise, dB, from the mean of both sources' squared errors; at most 58.9.

    (N, 1, H, W) on the 8-bit scale → (N,). Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019.
    """
    return _decibel((mean((fused - mri) ** 2) + mean((fused - partner) ** 2)) / 2)


def psnr_mean(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mean of the two peak signal to noise ratios, dB: higher than `psnr` where one source is closer."""
    return (_decibel(mean((fused - mri) ** 2)) + _decibel(mean((fused - partner) ** 2))) / 2


def _decibel(error: Tensor) -> Tensor:
    return 10 * ((LEVELS - 1) ** 2 / error.clamp(min=SMALLEST_ERROR)).log10()
