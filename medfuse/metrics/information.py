"""Measure visual information fidelity: what an eye could learn from the sources, and still can from the fusion."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medfuse.metrics.pictures import LEVELS, total
from medfuse.metrics.windows import covariance, gaussian, moments, smooth

SCALES = [gaussian(2**power + 1, (2**power + 1) / 5) for power in (4, 3, 2, 1)]
"""Windows of the four scales, 17 to 3 wide."""

EYE_NOISE = 2.0
"""Variance of the visual noise on the 8-bit scale."""

NEARLY_ZERO = 1e-10

NEGLIGIBLE = 1e-7
"""Information of a pixel that has none, so that a ratio exists."""


def vif(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity of the fused picture to the MRI plus that to the partner.

    Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378, in the simplified form of its authors ("vifp_mscale"): four
    scales, no padding, noise variance 2. (N, 1, H, W) on the 8-bit scale, at least 41 × 41 → (N,) at least 0; 1 for
    each source that is kept unchanged, above 1 where its contrast is raised. A constant source counts as kept: it has
    no information.
    """
    kept = torch.zeros_like(total(fused)).expand(2, -1).clone()
    there = torch.zeros_like(kept)
    for pyramid in _pyramids(fused, mri, partner):
        for place, (gain, left, variance) in enumerate(pyramid):
            kept[place] += total((gain**2 * variance / (left + EYE_NOISE)).log1p_())
            there[place] += total((variance / EYE_NOISE).log1p_())
    return ((kept + NEARLY_ZERO) / (there + NEARLY_ZERO)).sum(0)


def vif_mean(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Half of `vif`: the mean over the sources instead of their sum."""
    return vif(fused, mri, partner) / 2


FUSION_NOISE = 0.005 * (LEVELS - 1) ** 2
"""Variance of the visual noise in `viff`: 325."""

PROGRAM_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)


def viff(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Visual information fidelity for fusion: at each place, that to the source that reaches the result more strongly.

    After Han et al. 2013, doi:10.1016/j.inffus.2011.08.002: noise variance 325, the source of larger gain, mean over
    the scales of `vif`. (N, 1, H, W) on the 8-bit scale, at least 41 × 41 → (N,) at least 0. Its authors' program does
    otherwise, see `viff_program`.
    """
    scales = _pyramids(fused, mri, partner)
    return torch.stack([_chosen(mri, partner, mri[0] > partner[0]) for mri, partner in scales]).mean(0)


def viff_program(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """`viff` as the program "VIFF_Public" computes it: the source of smaller gain, scales weighted 1 : 0 : 0.15 : 1.

    About two thirds of `viff`.
    """
    result = torch.zeros_like(total(fused))
    for weight, (from_mri, from_partner) in zip(PROGRAM_WEIGHTS, _pyramids(fused, mri, partner), strict=True):
        result = result + weight * _chosen(from_mri, from_partner, from_mri[0] < from_partner[0])
    return result


Channel = tuple[Tensor, Tensor, Tensor]
"""Gain from a source to the fused picture, variance that it leaves unexplained, variance of the source."""


def _chosen(mri: Channel, partner: Channel, choose_mri: Tensor) -> Tensor:
    """Information kept over information there, each place taken from one of the sources."""
    gain, left, variance = (torch.where(choose_mri, *both) for both in zip(mri, partner, strict=True))
    kept = total((gain**2 * variance / (left + FUSION_NOISE)).log1p_() + NEGLIGIBLE)
    return kept / total((variance / FUSION_NOISE).log1p_() + NEGLIGIBLE)


def _pyramids(fused: Tensor, mri: Tensor, partner: Tensor) -> Iterator[tuple[Channel, Channel]]:
    """For each scale: the channels from the MRI and from the partner."""
    for scale, window in enumerate(SCALES):
        if scale:
            fused, mri, partner = (smooth(picture, window)[..., ::2, ::2] for picture in (fused, mri, partner))
        of_fused = moments(fused, window)
        channels = []
        for source in (mri, partner):
            of_source = moments(source, window)
            together = covariance(fused, source, (of_fused.mean, of_source.mean), window)
            channels.append(_channel(of_fused.variance, of_source.variance, together))
        yield channels[0], channels[1]


def _channel(of_fused: Tensor, of_source: Tensor, together: Tensor) -> Channel:
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
