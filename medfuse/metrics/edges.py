"""Measure which edges of the sources the fused picture keeps, in strength and direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.metrics.pictures import share, total


class Edges(NamedTuple):
    """Strength and direction (radians, in (-π/2, π/2]) of the gradient at each pixel."""

    strength: Tensor
    direction: Tensor


def gradient(picture: Tensor, beyond: str = "constant") -> tuple[Tensor, Tensor]:
    """Differences along rows (left minus right) and columns (below minus above) by Sobel filters.

    Zeros lie ``beyond`` the picture, or, with ``"replicate"``, its outermost pixels once more.
    """
    padded = functional.pad(picture, (1, 1, 1, 1), mode=beyond)
    across = padded[..., :-2] - padded[..., 2:]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return across, down


def sobel(picture: Tensor) -> Edges:
    """Strength and direction of the Sobel gradient; (N, 1, H, W) → the same size."""
    across, down = gradient(picture)
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

    (N, 1, H, W) on the 8-bit scale → (N,) in [0, 1); 0 where neither source has an edge. Xydeas and Petrović 2000,
    doi:10.1049/el:20000267, with L = 1.
    """
    of_fused, of_mri, of_partner = (sobel(picture) for picture in (fused, mri, partner))
    kept = total(edge_preservation(of_fused, of_mri) * of_mri.strength)
    kept = kept + total(edge_preservation(of_fused, of_partner) * of_partner.strength)
    there = total(of_mri.strength + of_partner.strength)
    return share(kept, there)


BRIGHT = 0.5
"""Share of its brightest pixel above which a source counts as bright."""


def detail_mri(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Which of the MRI's edges survive where the partner is bright, where they are lost first.

    Edge preservation from the MRI, weighted by the strength of the MRI's edges, over the inner pixels at which the
    partner is above half of its own maximum: (N, 1, H, W) on the 8-bit scale → (N,) in [0, 1); 0 where the MRI has no
    edge there.
    """
    return _edges_kept(fused, mri, partner)


def detail_partner(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`detail_mri` with the sources' parts exchanged: the partner's edges where the MRI is bright."""
    return _edges_kept(fused, partner, mri)


def detail_mri_correlation(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Correlation of the fused gradient with the MRI's where the partner is bright: the cosine between both fields.

    Unlike `detail_mri` it tells an edge from its inverse, and counts foreign edges against the result. (N,) in
    [-1, 1]; 0 where either field is zero.
    """
    return _gradients_agree(fused, mri, partner)


def detail_partner_correlation(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`detail_mri_correlation` with the sources' parts exchanged."""
    return _gradients_agree(fused, partner, mri)


def _where_bright(source: Tensor) -> Tensor:
    """Pixels of a bright source, without the outermost: what lies beyond the picture would be an edge there."""
    bright = source > BRIGHT * source.amax(dim=(1, 2, 3), keepdim=True)
    return functional.pad(bright[..., 1:-1, 1:-1], (1, 1, 1, 1))


def _edges_kept(fused: Tensor, source: Tensor, other: Tensor) -> Tensor:
    of_source = sobel(source)
    weight = of_source.strength * _where_bright(other)
    return share(total(edge_preservation(sobel(fused), of_source) * weight), total(weight))


def _gradients_agree(fused: Tensor, source: Tensor, other: Tensor) -> Tensor:
    where = _where_bright(other)
    of_fused, of_source = (gradient(picture) for picture in (fused, source))
    product, *powers = (
        total((one[0] * two[0] + one[1] * two[1]) * where)
        for one, two in ((of_fused, of_source), (of_fused, of_fused), (of_source, of_source))
    )
    length = (powers[0] * powers[1]).sqrt()
    return share(product, length)
