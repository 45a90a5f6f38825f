"""The fusion methods that GeSeNet is compared with."""

from __future__ import annotations

import numpy as np
import pywt
import torch
from networks import Method, as_published, by_network
from scipy.ndimage import gaussian_filter
from torch import Tensor

OURS = "medfuse"


def average(mri: Tensor, partner: Tensor) -> Tensor:
    return (mri + partner) / 2


def laplacian_pyramid(mri: Tensor, partner: Tensor, levels: int = 4) -> Tensor:
    """The stronger of both details at each scale, the brighter of both bases."""

    def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
        return gaussian_filter(image, (0, 0, sigma, sigma))

    fused = np.zeros(tuple(mri.shape))
    one, other = mri.double().numpy(), partner.double().numpy()
    for level in range(levels):
        coarse_one, coarse_other = blurred(one, 2.0**level), blurred(other, 2.0**level)
        detail_one, detail_other = one - coarse_one, other - coarse_other
        fused += np.where(abs(detail_one) > abs(detail_other), detail_one, detail_other)
        one, other = coarse_one, coarse_other
    return torch.from_numpy(fused + np.maximum(one, other)).float().clamp(0, 1)


def wavelets(mri: Tensor, partner: Tensor, levels: int = 3) -> Tensor:
    """The stronger of both coefficients, the mean of both approximations."""
    one, other = (pywt.wavedec2(side.double().numpy(), "db2", level=levels) for side in (mri, partner))
    fused: list[object] = [(one[0] + other[0]) / 2]
    for these, those in zip(one[1:], other[1:], strict=True):
        fused.append(tuple(np.where(abs(a) > abs(b), a, b) for a, b in zip(these, those, strict=True)))
    height, width = mri.shape[-2:]
    return torch.from_numpy(pywt.waverec2(fused, "db2")[..., :height, :width]).float().clamp(0, 1)


def methods(weights: str, published: str | None) -> dict[str, Method]:
    found: dict[str, Method] = {OURS: by_network(weights)}
    if published:
        network = by_network(published)
        found["published weights"] = as_published(network, black_air=False)
        found["published weights, black air"] = as_published(network, black_air=True)
    return found | {
        "average": average,
        "maximum": torch.maximum,
        "Laplacian pyramid": laplacian_pyramid,
        "wavelets": wavelets,
    }
