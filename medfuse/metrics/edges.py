"""Which edges of the sources the fused picture keeps, in strength and direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.metrics.pictures import total


class Edges(NamedTuple):
    """Strength and direction (radians, in (-π/2, π/2]) of the gradient at each pixel."""

    strength: Tensor
    direction: Tensor


def sobel(picture: Tensor) -> Edges:
    """Gradient by Sobel filters, zeros beyond the border; (N, 1, H, W) → the same size."""
    padded = functional.pad(picture, (1, 1, 1, 1))
    across = padded[..., :-2] - padded[..., 2:]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    direction = torch.where(across == 0, math.pi / 2, (down / across).atan())
    return Edges((across * across + down * down).sqrt_(), direction)


def edge_preservation(fused: Edges, source: Edges) -> Tensor:
    """Share of a source's edge kept at each pixel, in (0, 1): kept strength times kept direction, both by a sigmoid.

    Xydeas and Petrović 2000, doi:10.1049/el:20000267, Eq. 3–6 with Γg = 0.9994, κg = −15, σg = 0.5, Γα = 0.9879,
    κα = −22, σα = 0.8.
    """
    weaker = torch.minimum(fused.strength, source.strength)
    stronger = torch.maximum(fused.strength, source.strength)
    # The published programs take the strength itself, not 1, where both are equal: those edges count 0.0005 more.
    strength = torch.where(weaker == stronger, stronger, weaker / stronger)
    direction = 1 - (fused.direction - source.direction).abs_() / (math.pi / 2)
    kept_strength = 0.9994 * torch.sigmoid(15 * (strength - 0.5))
    kept_direction = 0.9879 * torch.sigmoid(22 * (direction - 0.8))
    return kept_strength * kept_direction


def qabf(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Edge preservation from both sources, weighted by the strength of their edges.

    Xydeas and Petrović 2000, doi:10.1049/el:20000267, with L = 1.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) on the 8-bit scale.

    Returns
    -------
    Tensor
        (N,) in [0, 1); 0 where neither source has an edge.
    """
    of_fused, of_mri, of_partner = sobel(fused), sobel(mri), sobel(partner)
    kept = total(edge_preservation(of_fused, of_mri) * of_mri.strength)
    kept = kept + total(edge_preservation(of_fused, of_partner) * of_partner.strength)
    there = total(of_mri.strength + of_partner.strength)
    return torch.where(there > 0, kept / there, torch.zeros_like(kept))
