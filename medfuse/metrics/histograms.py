"""Measure information in grey levels: entropy, and what the fused picture's levels tell of its sources'."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medfuse.metrics.pictures import LEVELS


def en(fused: Tensor) -> Tensor:
    """Entropy of the grey levels, bits: (N, 1, H, W) on the 8-bit scale → (N,) in [0, 8].

    Roberts et al. 2008, doi:10.1117/1.2945910.
    """
    return _entropy(_histogram(_levels(fused), LEVELS))


def mi(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mutual information with the MRI plus that with the partner, 256 levels, in bits.

    (N, 1, H, W) on the 8-bit scale, rounded → (N,) at least 0. Each of the two is at most the entropy of its source.
    Qu et al. 2002, doi:10.1049/el:20020212.
    """
    with_mri, with_partner, *_ = _shared(fused, mri, partner)
    return with_mri + with_partner


def mi_mean(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Half of `mi`: the mean over the sources instead of their sum."""
    return mi(fused, mri, partner) / 2


def mi_nats(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`mi` in nats: 0.693 of its value in bits."""
    return mi(fused, mri, partner) * math.log(2)


def nmi(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`mi` with each of its parts divided by the mean of the two entropies: (N,) in [0, 2].

    Hossny et al. 2008, doi:10.1049/el:20081754: the plain sum favours the source of higher entropy. 0 where a source
    and the fused picture are constant.
    """
    with_mri, with_partner, of_fused, of_mri, of_partner = _shared(fused, mri, partner)
    parts = [
        2 * shared / torch.where(shared > 0, of_fused + of_source, torch.ones_like(shared))
        for shared, of_source in ((with_mri, of_mri), (with_partner, of_partner))
    ]
    return parts[0] + parts[1]


def _shared(fused: Tensor, mri: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Information shared with MRI and partner, then the entropies of fused, MRI and partner; bits."""
    levels, *sources = (_levels(picture) for picture in (fused, mri, partner))
    of_fused, of_mri, of_partner = (_entropy(_histogram(one, LEVELS)) for one in (levels, *sources))
    jointly = [_entropy(_histogram(levels * LEVELS + source, LEVELS**2)) for source in sources]
    with_mri = (of_fused + of_mri - jointly[0]).clamp(min=0)
    with_partner = (of_fused + of_partner - jointly[1]).clamp(min=0)
    return with_mri, with_partner, of_fused, of_mri, of_partner


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
