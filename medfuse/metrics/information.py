"""Visual information fidelity: how much of what an eye could learn from the sources reaches it through the fusion."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medfuse.metrics.pictures import total
from medfuse.metrics.windows import covariance, gaussian, moments, smooth

SCALES = [gaussian(2**power + 1, (2**power + 1) / 5) for power in (4, 3, 2, 1)]
"""Windows of the four scales, 17 to 3 wide."""

SMALLEST = 41
"""Height and width from which the fourth scale has a pixel."""

EYE_NOISE = 2.0
"""Variance of the visual noise on the 8-bit scale."""

NEARLY_ZERO = 1e-10


def vif(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity of the fused picture to the MRI plus that to the partner.

    Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378, in the simplified form of its authors ("vifp_mscale"): four
    scales, no padding, noise variance 2.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) on the 8-bit scale, at least 41 × 41.

    Returns
    -------
    Tensor
        (N,) at least 0; 1 for each source that is kept unchanged, above 1 where its contrast is raised. A constant
        source counts as kept: it has no information.
    """
    kept = torch.zeros_like(total(fused)).expand(2, -1).clone()
    there = torch.zeros_like(kept)
    for pyramid in _pyramids(fused, mri, partner):
        for place, (gain, left, variance) in enumerate(pyramid):
            kept[place] += total((gain**2 * variance / (left + EYE_NOISE)).log1p_())
            there[place] += total((variance / EYE_NOISE).log1p_())
    return ((kept + NEARLY_ZERO) / (there + NEARLY_ZERO)).sum(0)


def _pyramids(fused: Tensor, mri: Tensor, partner: Tensor) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """For each scale and source: gain from source to fused, variance left unexplained, variance of the source."""
    for scale, window in enumerate(SCALES):
        if scale:
            fused, mri, partner = (smooth(picture, window)[..., ::2, ::2] for picture in (fused, mri, partner))
        of_fused = moments(fused, window)
        channels = []
        for source in (mri, partner):
            of_source = moments(source, window)
            together = covariance(fused, source, (of_fused.mean, of_source.mean), window)
            channels.append(_channel(of_fused.variance, of_source.variance, together))
        yield channels


def _channel(of_fused: Tensor, of_source: Tensor, together: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The source as a signal that reaches the fused picture with a gain and additive noise."""
    gain = together / (of_source + NEARLY_ZERO)
    left = of_fused - gain * together
    # What is flat carries no signal; an inverted contrast is none either.
    silent = of_source < NEARLY_ZERO
    mute = of_fused < NEARLY_ZERO
    lost = silent | mute | (gain < 0)
    left = torch.where(lost, of_fused, left)
    left = torch.where(mute, torch.zeros_like(left), left).clamp(min=NEARLY_ZERO)
    return gain.masked_fill(lost, 0), left, of_source.masked_fill(silent, 0)
