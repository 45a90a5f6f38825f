"""Linear agreement of the fused picture with its sources, and of its differences with the other source."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.metrics.pictures import total


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of two pictures (N, 1, H, W) → (N,); 0 where one is constant."""
    first = first - first.mean(dim=(1, 2, 3), keepdim=True)
    second = second - second.mean(dim=(1, 2, 3), keepdim=True)
    spread = (total(first * first) * total(second * second)).sqrt()
    return torch.where(spread > 0, total(first * second) / spread, torch.zeros_like(spread))


def scd(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Sum of the correlations of differences: what fusion added to one source must look like the other.

    corr(MRI, fused − partner) + corr(partner, fused − MRI). Aslantas and Bendes 2015,
    doi:10.1016/j.aeue.2015.09.004.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) on the 8-bit scale.

    Returns
    -------
    Tensor
        (N,) in [-2, 2].
    """
    return correlation(mri, fused - partner) + correlation(partner, fused - mri)
