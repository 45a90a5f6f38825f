"""Measure what a fused picture shows that no source has: invented gradients, and brightness above both sources."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.metrics.edges import sobel
from medfuse.metrics.pictures import share, total

OVERSHOOT_LEVELS = 8
"""Grey levels above the brighter source that count as overshoot: about what an eye sees side by side."""


def invented(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Share of the fused gradient's energy by which it exceeds the stronger of the sources' gradients.

    Takes (N, 1, H, W) on the 8-bit scale, gives (N,) in [0, 1]: 0 where no edge is stronger than in a source.
    """
    strength, *sources = (sobel(picture).strength for picture in (fused, mri, partner))
    excess = (strength - torch.maximum(*sources)).clamp(min=0)
    return share(total(excess**2), total(strength**2))


def overshoot(fused: Tensor, mri: Tensor, partner: Tensor, where: Tensor) -> Tensor:
    """Share of pixels (N, 1, H, W) bool that are more than `OVERSHOOT_LEVELS` brighter than both sources: (N,)."""
    above = fused > torch.maximum(mri, partner) + OVERSHOOT_LEVELS
    return share(total((above & where).double()), total(where.double()))
