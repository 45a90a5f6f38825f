"""Fuse two grey pictures without learning: average, maximum, Laplacian pyramid and guided filter.

Each takes MRI and partner, (N, 1, H, W) float32 in [0, 1], and returns the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Method = Callable[[Tensor, Tensor], Tensor]

LEVELS = 4
"""Scales of the Laplacian pyramid."""

BASE = 31
"""Pixels of the mean that parts base and detail before the guided filter."""

BASE_GUIDE, DETAIL_GUIDE = (45, 0.3), (7, 1e-6)
"""Window (pixels) and regularisation of the filter that smooths the weights of the base and of the detail."""


def average(mri: Tensor, partner: Tensor) -> Tensor:
    """The mean of both."""
    return (mri + partner) / 2


def maximum(mri: Tensor, partner: Tensor) -> Tensor:
    """The brighter of both at each pixel."""
    return torch.maximum(mri, partner)


def laplacian(mri: Tensor, partner: Tensor) -> Tensor:
    """The stronger of both details at each scale, the brighter of both at the coarsest (Burt and Adelson 1983)."""
    fused = torch.zeros_like(mri)
    for level in range(LEVELS):
        coarse_mri, coarse_partner = (_blurred(side, 2.0**level) for side in (mri, partner))
        details = mri - coarse_mri, partner - coarse_partner
        fused += torch.where(details[0].abs() > details[1].abs(), *details)
        mri, partner = coarse_mri, coarse_partner
    return (fused + torch.maximum(mri, partner)).clamp_(0, 1)


def guided_filter(mri: Tensor, partner: Tensor) -> Tensor:
    """Weigh base and detail by saliency, smoothed along each source's edges (Li, Kang and Hu 2013).

    doi:10.1109/TIP.2013.2244222, with the parameters given there.
    """
    sources = torch.stack((mri, partner))
    base = torch.stack([_mean(side, BASE) for side in sources])
    saliency = torch.stack([_blurred(_laplace(side).abs(), 5.0) for side in sources])
    chosen = functional.one_hot(saliency.argmax(0), 2).movedim(-1, 0).to(mri.dtype)
    fused = torch.zeros_like(mri)
    for layer, (window, softness) in ((base, BASE_GUIDE), (sources - base, DETAIL_GUIDE)):
        smooth = [_guided(side, weight, window, softness) for side, weight in zip(sources, chosen, strict=True)]
        weights = torch.stack(smooth).clamp(min=0)
        fused += (layer * weights).sum(0) / weights.sum(0).clamp(min=1e-6)
    return fused.clamp_(0, 1)


CLASSIC: dict[str, Method] = {
    "average": average,
    "max": maximum,
    "laplacian": laplacian,
    "guided-filter": guided_filter,
}
"""By name."""


def _guided(guide: Tensor, weights: Tensor, window: int, softness: float) -> Tensor:
    """He, Sun and Tang 2013, doi:10.1109/TPAMI.2012.213: the weights as a local linear function of the guide."""
    of_guide, of_weights = _mean(guide, window), _mean(weights, window)
    slope = (_mean(guide * weights, window) - of_guide * of_weights) / (
        _mean(guide**2, window) - of_guide**2 + softness
    )
    offset = of_weights - slope * of_guide
    return _mean(slope, window) * guide + _mean(offset, window)


def _mean(image: Tensor, window: int) -> Tensor:
    return functional.avg_pool2d(image, window, 1, window // 2, count_include_pad=False)


def _laplace(image: Tensor) -> Tensor:
    kernel = image.new_tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    return functional.conv2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), kernel[None, None])


def _blurred(image: Tensor, deviation: float) -> Tensor:
    reach = min(round(4 * deviation), min(image.shape[-2:]) - 1)
    places = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum())[None, None, None]
    wide = functional.conv2d(functional.pad(image, (reach, reach, 0, 0), mode="reflect"), kernel)
    return functional.conv2d(functional.pad(wide, (0, 0, reach, reach), mode="reflect"), kernel.mT)
