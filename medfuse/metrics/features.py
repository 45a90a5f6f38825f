"""Measure feature mutual information: how much each pixel's neighbourhood tells of the same one in a source."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.metrics.edges import gradient
from medfuse.metrics.pictures import mean

Pair = tuple[Tensor, Tensor]

SIDE = 3
"""Width of the neighbourhood."""


def fmi_pixel(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Feature mutual information of the pixels themselves, mean over both sources.

    The values of a 3 × 3 neighbourhood are taken as a distribution over its nine places; the joint distribution is the
    one between independence and the extreme that has the correlation found. Haghighat et al. 2011,
    doi:10.1016/j.compeleceng.2011.07.012, in the fast form of Haghighat and Razian 2014,
    doi:10.1109/ICAICT.2014.7036000. (N, 1, H, W) on the 8-bit scale, at least 3 × 3 → (N,), 1 where every neighbourhood
    equals the sources'.
    """
    return _fmi(fused, mri, partner)


def fmi_gradient(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`fmi_pixel` of the gradient along rows, by central differences: the feature that the authors' program takes."""
    return _fmi(*(torch.gradient(picture, dim=-1)[0] for picture in (fused, mri, partner)))


def fmi_edge(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`fmi_pixel` of thin Sobel edges, 1 on an edge and 0 elsewhere, as MATLAB's ``edge`` finds them by default."""
    return _fmi(*(thin_edges(picture) for picture in (fused, mri, partner)))


def fmi_dct(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`fmi_pixel` of the coefficients of the picture's orthonormal cosine transform."""
    return _fmi(*(cosine_transform(picture) for picture in (fused, mri, partner)))


def thin_edges(picture: Tensor) -> Tensor:
    """Pixels whose Sobel gradient is above twice its quadratic mean and largest across the edge; 0 or 1."""
    across, down = (one.abs() / 8 for one in gradient(picture, "replicate"))
    power = across**2 + down**2
    strong = power > 4 * power.mean(dim=(1, 2, 3), keepdim=True)
    inner = power[..., 1:-1, 1:-1]
    across, down = across[..., 1:-1, 1:-1], down[..., 1:-1, 1:-1]
    along_rows = (across >= down) & (power[..., 1:-1, :-2] <= inner) & (inner > power[..., 1:-1, 2:])
    along_columns = (down >= across) & (power[..., :-2, 1:-1] <= inner) & (inner > power[..., 2:, 1:-1])
    crest = functional.pad((along_rows | along_columns).to(picture.dtype), (1, 1, 1, 1))
    return crest * strong


def cosine_transform(picture: Tensor) -> Tensor:
    """Orthonormal type-II cosine transform along rows and columns; (N, 1, H, W) → the same size."""
    rows, columns = (_cosines(length, picture) for length in picture.shape[-2:])
    return rows @ picture @ columns.T


def _cosines(length: int, like: Tensor) -> Tensor:
    place = torch.arange(length, dtype=like.dtype, device=like.device)
    waves = (math.pi / length * place[:, None] * (place + 0.5)).cos() * math.sqrt(2 / length)
    waves[0] /= math.sqrt(2)
    return waves


def _fmi(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    of_fused = _neighbourhoods(fused)
    maps = [_alike(of_fused, _neighbourhoods(source)) for source in (mri, partner)]
    return mean(maps[0] + maps[1]) / 2


def _neighbourhoods(feature: Tensor) -> Tensor:
    """(N, 1, H, W) → (N, 9, H - 2, W - 2), column after column, the order in which distributions accumulate."""
    height, width = (length - SIDE + 1 for length in feature.shape[-2:])
    return torch.cat([feature[..., y : y + height, x : x + width] for x in range(SIDE) for y in range(SIDE)], dim=1)


def _alike(first: Tensor, second: Tensor) -> Tensor:
    """Normalised mutual information of each pair of neighbourhoods: (N, 9, H, W) → (N, 1, H, W)."""
    shares = (_shares(first), _shares(second))
    sums = (shares[0].cumsum(1), shares[1].cumsum(1))
    correlated = _correlation(*shares)
    extreme = _extreme_covariance(*sums, correlated)
    spread = _spread(shares[0]) * _spread(shares[1])
    usable = (spread > 0) & (extreme != 0)
    weight = torch.where(usable, correlated * spread / torch.where(usable, extreme, 1), 0)
    entropy = _information(shares[0]).sum(1, keepdim=True) + _information(shares[1]).sum(1, keepdim=True)
    shared = entropy - _joint_entropy(shares, sums, correlated, weight)
    # A distribution that lies in one place has no entropy to share.
    alike = torch.where(entropy > 0, 2 * shared / entropy, 0)
    return torch.where((first == second).all(1, keepdim=True), 1, alike)


def _shares(values: Tensor) -> Tensor:
    """Values of a neighbourhood, from its lowest up, as a distribution; uniform where all are equal."""
    lowest, highest = values.aminmax(dim=1, keepdim=True)
    raised = torch.where(highest > lowest, (values - lowest) / (highest - lowest), 1)
    return raised / raised.sum(1, keepdim=True)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    first = first - first.mean(1, keepdim=True)
    second = second - second.mean(1, keepdim=True)
    lengths = ((first**2).sum(1, keepdim=True) * (second**2).sum(1, keepdim=True)).sqrt()
    # A uniform distribution varies by rounding only.
    flat = lengths < 1e-12
    return ((first * second).sum(1, keepdim=True) / lengths.masked_fill(flat, 1)).masked_fill(flat, 0)


def _spread(shares: Tensor) -> Tensor:
    """Standard deviation of the place, 1 to 9, under a distribution over the places."""
    place = torch.arange(1, SIDE**2 + 1, dtype=shares.dtype, device=shares.device)[:, None, None]
    middle = (place * shares).sum(1, keepdim=True)
    variance = (place**2 * shares).sum(1, keepdim=True) - middle**2
    return torch.where(variance > 1e-12, variance, 0).sqrt()


def _bound(first: Tensor, second: Tensor, correlated: Tensor) -> Tensor:
    """Largest (where correlated) or smallest joint cumulative distribution that two cumulative ones allow."""
    return torch.where(correlated >= 0, torch.minimum(first, second), (first + second - 1).clamp(min=0))


def _extreme_covariance(first: Tensor, second: Tensor, correlated: Tensor) -> Tensor:
    total = -first.sum(1, keepdim=True) * second.sum(1, keepdim=True)
    for place in range(SIDE**2):
        total = total + _bound(first[:, place, None], second, correlated).sum(1, keepdim=True)
    return total


def _joint_entropy(shares: Pair, sums: Pair, correlated: Tensor, weight: Tensor) -> Tensor:
    entropy = torch.zeros_like(weight)
    before = torch.zeros_like(sums[1])
    for place in range(SIDE**2):
        row, share = sums[0][:, place, None], shares[0][:, place, None]
        until = _bound(row, sums[1], correlated)
        within = (until - before).diff(dim=1, prepend=torch.zeros_like(row))
        entropy = entropy + _information(weight * within + (1 - weight) * share * shares[1]).sum(1, keepdim=True)
        before = until
    return entropy


def _information(share: Tensor) -> Tensor:
    # Where the correlation is beyond the extreme, shares turn negative; the program keeps the real part of their log.
    return -torch.xlogy(share, share.abs()) / math.log(2)
