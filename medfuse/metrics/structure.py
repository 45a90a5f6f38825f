"""Measure the structural similarity of the fused picture with its sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.metrics.pictures import LEVELS, mean
from medfuse.metrics.windows import Moments, covariance, gaussian, moments, uniform

LUMINANCE_CONSTANT = (0.01 * (LEVELS - 1)) ** 2
CONTRAST_CONSTANT = (0.03 * (LEVELS - 1)) ** 2

FLAT_WINDOW = uniform(7)
ROUND_WINDOW = gaussian(11, 1.5)


def ssim(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """SSIM with each source, averaged: 7 × 7 flat window, sample covariance.

    (N, 1, H, W) on the 8-bit scale, at least 7 × 7 → (N,) in [-1, 1]. The mean leaves out the border where the window
    does not fit. Wang et al. 2004, doi:10.1109/TIP.2003.819861, as scikit-image computes it by default.
    """
    count = len(FLAT_WINDOW) ** 2
    return _mean_ssim(fused, mri, partner, FLAT_WINDOW, count / (count - 1))


def ssim_gaussian(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """SSIM with each source, averaged: 11 × 11 Gaussian window of deviation 1.5, as its authors' program has it.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861. Shapes and range as in `ssim`, at least 11 × 11.
    """
    return _mean_ssim(fused, mri, partner, ROUND_WINDOW, 1.0)


def ssim_sum(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """The sum of both sources' SSIM, as some programs print it: twice `ssim`, in [-2, 2]."""
    return 2 * ssim(fused, mri, partner)


def _mean_ssim(fused: Tensor, mri: Tensor, partner: Tensor, window: Sequence[float], unbiased: float) -> Tensor:
    of_fused = moments(fused, window)
    similar = []
    for source in (mri, partner):
        of_source = moments(source, window)
        together = covariance(fused, source, (of_fused.mean, of_source.mean), window)
        similar.append(mean(ssim_map(of_fused, of_source, together, unbiased)))
    return (similar[0] + similar[1]) / 2


def ssim_map(first: Moments, second: Moments, together: Tensor, unbiased: float = 1.0) -> Tensor:
    """SSIM of each place from local moments and covariance; ``unbiased`` makes sample variances of population ones."""
    luminance = (2 * first.mean * second.mean + LUMINANCE_CONSTANT) / (
        first.mean**2 + second.mean**2 + LUMINANCE_CONSTANT
    )
    structure = (2 * unbiased * together + CONTRAST_CONSTANT) / (
        unbiased * (first.variance + second.variance) + CONTRAST_CONSTANT
    )
    return luminance * structure


def mef_ssim(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """MEF-SSIM at one scale: structure of the fused picture against the best structure that both sources offer.

    At each place an ideal patch is made: the sum of the sources' structures, the stronger one favoured, with the
    contrast of the stronger one. Brightness does not count. This is what several papers on medical fusion print as
    "SSIM": values near 0.95 are likely it. (N, 1, H, W) on the 8-bit scale, at least 11 × 11 → (N,) in [-1, 1]. Ma et
    al. 2015, doi:10.1109/TIP.2015.2442920; Gaussian window 11 × 11, K = 0.03.
    """
    window = ROUND_WINDOW
    share_mri, share_partner, contrast = _ideal_patch(mri, partner, uniform(len(window)))
    of_fused, of_mri, of_partner = (moments(picture, window) for picture in (fused, mri, partner))
    sources = covariance(mri, partner, (of_mri.mean, of_partner.mean), window)
    ideal_variance = contrast**2 * (
        share_mri**2 * of_mri.variance
        + share_partner**2 * of_partner.variance
        + 2 * share_mri * share_partner * sources
    ).clamp(min=0)
    together = contrast * (
        share_mri * covariance(fused, mri, (of_fused.mean, of_mri.mean), window)
        + share_partner * covariance(fused, partner, (of_fused.mean, of_partner.mean), window)
    )
    return mean((2 * together + CONTRAST_CONSTANT) / (ideal_variance + of_fused.variance + CONTRAST_CONSTANT))


def _ideal_patch(mri: Tensor, partner: Tensor, window: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Shares of both sources in the ideal patch, as factors of their centred values, and the factor of the sum."""
    size = len(window)
    of_mri, of_partner = moments(mri, window), moments(partner, window)
    together = covariance(mri, partner, (of_mri.mean, of_partner.mean), window) * size**2
    # Energies: squared lengths of the centred patches. Pixels are whole numbers, so that less than 1/2 is rounding.
    energies = [one.variance * size**2 for one in (of_mri, of_partner)]
    flat = [energy < 0.5 for energy in energies]
    lengths = [energy.masked_fill(none, 0).sqrt() for energy, none in zip(energies, flat, strict=True)]
    together = together.masked_fill(flat[0] | flat[1], 0)
    summed = (lengths[0] ** 2 + lengths[1] ** 2 + 2 * together).clamp(min=0).sqrt()
    apart = lengths[0] + lengths[1]
    consistency = torch.where(apart > 0, summed / apart, torch.ones_like(apart)).clamp(0, 1)
    power = (math.pi / 2 * consistency).tan().clamp(0, 10)
    strengths = [length + 0.001 for length in lengths]
    weights = [(strength / size) ** power + torch.finfo(power.dtype).eps for strength in strengths]
    shares = [
        (weight / (weights[0] + weights[1]) / strength).masked_fill(none, 0)
        for weight, strength, none in zip(weights, strengths, flat, strict=True)
    ]
    energy = (shares[0] * lengths[0]) ** 2 + (shares[1] * lengths[1]) ** 2 + 2 * shares[0] * shares[1] * together
    # Sources that cancel one another offer no structure.
    length = energy.clamp(min=0).sqrt()
    contrast = torch.where(length > 1e-6, torch.maximum(*strengths) / length, torch.zeros_like(length))
    return shares[0], shares[1], contrast


MULTISCALE_WEIGHTS = (0.0448, 0.2856, 0.3001)


def mef_ssim_multiscale(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """MEF-SSIM as its authors propose it: three scales, halved by 2 × 2 means, weighted 0.0448 : 0.2856 : 0.3001.

    Ma et al. 2015, doi:10.1109/TIP.2015.2442920. Shapes as in `mef_ssim`, at least 44 × 44; (N,) in [0, 1], scales
    that are anticorrelated as a whole counting 0.
    """
    product = torch.ones_like(mean(fused))
    for scale, weight in enumerate(MULTISCALE_WEIGHTS):
        if scale:
            fused, mri, partner = (halve(picture) for picture in (fused, mri, partner))
        product = product * mef_ssim(fused, mri, partner).clamp(min=0) ** (weight / sum(MULTISCALE_WEIGHTS))
    return product


def halve(picture: Tensor) -> Tensor:
    """Mean of each 2 × 2 block, the last row or column repeated where their number is odd."""
    height, width = picture.shape[-2:]
    return functional.avg_pool2d(functional.pad(picture, (0, width % 2, 0, height % 2), mode="replicate"), 2)
