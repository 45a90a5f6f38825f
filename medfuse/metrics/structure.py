"""Structural similarity of the fused picture with its sources."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medfuse.metrics.pictures import LEVELS, mean
from medfuse.metrics.windows import Moments, covariance, gaussian, moments, uniform

LUMINANCE_CONSTANT = (0.01 * (LEVELS - 1)) ** 2
CONTRAST_CONSTANT = (0.03 * (LEVELS - 1)) ** 2

FLAT_WINDOW = uniform(7)
ROUND_WINDOW = gaussian(11, 1.5)


def ssim(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """SSIM with each source, averaged: 7 × 7 flat window, sample covariance.

    The mean leaves out the border where the window does not fit. Wang et al. 2004, doi:10.1109/TIP.2003.819861, as
    scikit-image computes it by default.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) on the 8-bit scale, at least 7 × 7.

    Returns
    -------
    Tensor
        (N,) in [-1, 1].
    """
    count = len(FLAT_WINDOW) ** 2
    return _mean_ssim(fused, mri, partner, FLAT_WINDOW, count / (count - 1))


def ssim_gaussian(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """SSIM with each source, averaged: 11 × 11 Gaussian window of deviation 1.5, as its authors' program has it.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861. Shapes and range as in `ssim`, at least 11 × 11.
    """
    return _mean_ssim(fused, mri, partner, ROUND_WINDOW, 1.0)


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
