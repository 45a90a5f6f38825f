"""Reproduce the arithmetic of the authors' published program, as the baseline of speed.

It never leaves training mode: masks are drawn anew for every picture, soft, so that nothing can be left out, and each
masked convolution but the first is computed twice. Its pictures differ from run to run; use it to time, not to fuse.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.masks import PRINCIPAL, REDUNDANT, CoupleMaskConvolutions
from medfuse.gesenet.network import GeSeNet, RegionMask


class PublishedBody(nn.Module):
    """Four masked convolutions as the published program computes them: everything, then times the masks."""

    def __init__(self, body: CoupleMaskConvolutions) -> None:
        super().__init__()
        self.body = body

    def channel_mask(self) -> Tensor:
        """Soft and random: (layers, 2, channels, 1, 1)."""
        drawn = functional.gumbel_softmax(self.body.channel_logits[0], dim=-1)
        return drawn.permute(1, 2, 0)[..., None, None]

    def forward(self, features: Tensor, spatial: Tensor, mask: Tensor) -> Tensor:
        """Convolve (N, C, H, W) under a spatial mask (N, 1, H, W) and the channel mask."""
        collected = []
        for layer, convolution in enumerate(self.body.convolutions):
            principal, redundant = mask[layer, PRINCIPAL], mask[layer, REDUNDANT]
            if layer == 0:
                sums = convolution(features)
                features = sums * redundant * spatial + sums * principal
            else:
                dense = convolution(features * mask[layer - 1, PRINCIPAL])
                sparse = convolution(features * mask[layer - 1, REDUNDANT])
                marked = dense * redundant * spatial + sparse * redundant * spatial + sparse * principal * spatial
                features = dense * principal + marked
            features = features.relu()
            collected.append(features)
        gathered: Tensor = self.body.collect(torch.cat(collected, dim=1))
        return gathered


def as_published(network: GeSeNet) -> GeSeNet:
    """A copy of a network that computes as the published program does: eager, dense, in training mode, float32."""
    copy = cast("GeSeNet", cast("Any", deepcopy(network)).to(memory_format=torch.contiguous_format))
    for branch in (copy.mri, copy.partner):
        if isinstance(branch.region, RegionMask):
            branch.region.body = cast("Any", PublishedBody(branch.region.body))
    return copy.train()
