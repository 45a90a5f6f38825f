"""Information in grey levels: entropy, and what the fused picture's levels tell of its sources'."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medfuse.metrics.pictures import LEVELS


def mi(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mutual information with the MRI plus that with the partner, 256 levels, in bits.

    Qu et al. 2002, doi:10.1049/el:20020212. Each of the two is at most the entropy of its source.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) on the 8-bit scale; rounded.

    Returns
    -------
    Tensor
        (N,) at least 0.
    """
    levels = [_levels(picture) for picture in (fused, mri, partner)]
    of_fused, of_mri, of_partner = (_entropy(_histogram(level, LEVELS)) for level in levels)
    return sum(
        (
            of_fused + of_source - _entropy(_histogram(levels[0] * LEVELS + level, LEVELS**2))
            for of_source, level in ((of_mri, levels[1]), (of_partner, levels[2]))
        ),
        torch.zeros_like(of_fused),
    ).clamp(min=0)


def mi_nats(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`mi` in nats: 0.693 of its value in bits."""
    return mi(fused, mri, partner) * math.log(2)


def _levels(picture: Tensor) -> Tensor:
    return picture.round().clamp(0, LEVELS - 1).long().flatten(1)


def _histogram(levels: Tensor, bins: int) -> Tensor:
    """Count (N, pixels) whole numbers below ``bins`` for each picture: (N, bins)."""
    place = torch.arange(len(levels), device=levels.device)[:, None] * bins
    counts = torch.bincount((levels + place).flatten(), minlength=len(levels) * bins)
    return counts.view(len(levels), bins)


def _entropy(counts: Tensor) -> Tensor:
    """Shannon entropy of each row of counts, bits."""
    counts = counts.to(torch.float32 if counts.device.type == "mps" else torch.float64)
    share = counts / counts.sum(1, keepdim=True)
    return -torch.xlogy(share, share).sum(1) / math.log(2)
