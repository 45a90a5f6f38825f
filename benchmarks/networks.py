"""Run GeSeNet with weights of a file, as medfuse does and as the published program does."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.gesenet import load_engine
from medfuse.methods import Method


def by_network(weights: str) -> Method:
    """By the engine that `medfuse.fuse` takes by itself."""
    engine = load_engine(weights=weights)

    def fuse(mri: Tensor, partner: Tensor) -> Tensor:
        return torch.cat([engine(*sides) for sides in zip(mri.split(4), partner.split(4), strict=True)])

    return fuse


def as_published(network: Method, *, black_air: bool) -> Method:
    """The published program around its network: each picture stretched to its own range, then cut to whole numbers."""

    def fuse(mri: Tensor, partner: Tensor) -> Tensor:
        fused = network(mri, partner)
        low, high = fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
        fused = ((fused - low) / (high - low) * 255).floor() / 255
        return torch.where(torch.maximum(mri, partner) == 0, 0.0, fused) if black_air else fused

    return fuse
