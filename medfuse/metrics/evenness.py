"""Measure flicker: brightness that jumps from slice to slice, which no score of single slices sees."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.metrics.pictures import require_alike


def flicker(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """How much a fused volume flickers, relative to the source that flickers more.

    A slice's brightness is the mean of its pixels; its flicker, how far that is from the mean of its neighbours'
    brightness. A volume's flicker is the root mean square over its inner slices: anatomy changes slowly, so that
    what remains is jumps.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W): at least three slices in their order, on one scale.

    Returns
    -------
    Tensor
        () at least 0: 1 where the fused volume flickers as much as its less even source, above 1 where fusion added
        flicker.

    Raises
    ------
    GeometryError
        If the sizes differ, or there are fewer than three slices.
    """
    require_alike(fused, mri, partner)
    if len(fused) < 3:
        raise GeometryError(f"flicker needs at least three slices in their order; found {len(fused)}.")
    of_fused, *of_sources = (_roughness(volume) for volume in (fused, mri, partner))
    return of_fused / torch.stack(of_sources).max().clamp(min=torch.finfo(of_fused.dtype).eps)


def _roughness(volume: Tensor) -> Tensor:
    brightness = volume.double().mean(dim=(1, 2, 3))
    return (brightness[1:-1] - (brightness[:-2] + brightness[2:]) / 2).square().mean().sqrt()
