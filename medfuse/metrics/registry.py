"""List every score by its name: what it measures, and who defined it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.metrics import contrast, correlation, edges, features, histograms, information, structure
from medfuse.metrics.pictures import eight_bit, require_alike

BATCH_SIZE = 8
"""Pictures at once: what eight of them need still fits into a processor's cache."""


@dataclass(frozen=True)
class Score:
    """One definition of one score.

    Parameters
    ----------
    function
        Of (fused, MRI, partner), each (N, 1, H, W) on the 8-bit scale; of the fused picture only where ``alone``.
    meaning
        What it measures, in half a sentence.
    doi
        The publication that defines it; None where that is this page.
    alone
        Whether the sources play no part.
    smallest
        Least height and width.
    """

    function: Callable[..., Tensor]
    meaning: str
    doi: str | None
    alone: bool = False
    smallest: int = 2

    def __call__(self, fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
        """Score pictures on the 8-bit scale: three (N, 1, H, W) → (N,)."""
        return self.function(fused) if self.alone else self.function(fused, mri, partner)


SSIM = "10.1109/TIP.2003.819861"
MEF_SSIM = "10.1109/TIP.2015.2442920"
SURVEY = "10.1016/j.inffus.2018.02.004"
MUTUAL = "10.1049/el:20020212"
NORMALISED_MUTUAL = "10.1049/el:20081754"
FEATURE_MUTUAL = "10.1109/ICAICT.2014.7036000"
ENTROPY = "10.1117/1.2945910"
VISUAL = "10.1109/TIP.2005.859378"
VISUAL_FUSION = "10.1016/j.inffus.2011.08.002"
DIFFERENCES = "10.1016/j.aeue.2015.09.004"
NOISE = "10.1016/j.aqpro.2015.02.019"
EDGES = "10.1049/el:20000267"
FREQUENCY = "10.1109/26.477498"
GRADIENT = "10.1016/j.optcom.2014.12.032"

SCORES: dict[str, Score] = {
    "ssim": Score(structure.ssim, "SSIM, mean over the sources; 7 × 7 flat window", SSIM, smallest=7),
    "ssim_sum": Score(structure.ssim_sum, "sum over the sources instead of mean: 2 × ssim", SSIM, smallest=7),
    "ssim_gaussian": Score(structure.ssim_gaussian, "as ssim, 11 × 11 Gaussian window", SSIM, smallest=11),
    "mef_ssim": Score(
        structure.mef_ssim, "structure against an ideal of both sources, one scale", MEF_SSIM, smallest=11
    ),
    "mef_ssim_multiscale": Score(structure.mef_ssim_multiscale, "as mef_ssim, three scales", MEF_SSIM, smallest=44),
    "sd": Score(contrast.sd, "standard deviation of grey levels 0–255", SURVEY, alone=True),
    "sd_unit": Score(contrast.sd_unit, "of grey levels in [0, 1]: sd / 255", SURVEY, alone=True),
    "sd_saturating": Score(contrast.sd_saturating, "in 8-bit arithmetic that clips at 255", SURVEY, alone=True),
    "en": Score(histograms.en, "entropy of grey levels, bits", ENTROPY, alone=True),
    "mi": Score(histograms.mi, "mutual information, sum over the sources, 256 bins, bits", MUTUAL),
    "mi_mean": Score(histograms.mi_mean, "mean over the sources instead of sum: mi / 2", MUTUAL),
    "mi_nats": Score(histograms.mi_nats, "in nats: 0.693 × mi", MUTUAL),
    "nmi": Score(histograms.nmi, "as mi, each part over the mean of its two entropies", NORMALISED_MUTUAL),
    "fmi_pixel": Score(features.fmi_pixel, "feature mutual information of pixels", FEATURE_MUTUAL, smallest=3),
    "fmi_gradient": Score(features.fmi_gradient, "of gradients along rows", FEATURE_MUTUAL, smallest=3),
    "fmi_edge": Score(features.fmi_edge, "of thin Sobel edges", FEATURE_MUTUAL, smallest=3),
    "fmi_dct": Score(features.fmi_dct, "of cosine transform coefficients", FEATURE_MUTUAL, smallest=3),
    "vif": Score(
        information.vif,
        "visual information fidelity, pixels, sum over the sources",
        VISUAL,
        smallest=information.SMALLEST,
    ),
    "vif_mean": Score(
        information.vif_mean, "mean over the sources instead of sum: vif / 2", VISUAL, smallest=information.SMALLEST
    ),
    "viff": Score(
        information.viff,
        "visual information fidelity for fusion: the stronger source, mean of scales",
        VISUAL_FUSION,
        smallest=information.SMALLEST,
    ),
    "viff_program": Score(
        information.viff_program,
        "as its authors' program: the weaker source, weighted scales",
        VISUAL_FUSION,
        smallest=information.SMALLEST,
    ),
    "scd": Score(correlation.scd, "sum of the correlations of differences", DIFFERENCES),
    "cc": Score(correlation.cc, "correlation, mean over the sources", SURVEY),
    "psnr": Score(correlation.psnr, "peak signal to noise, dB, of the sources' mean squared error", NOISE),
    "psnr_mean": Score(correlation.psnr_mean, "mean of the two ratios instead of the two errors", NOISE),
    "qabf": Score(edges.qabf, "edges kept, Sobel, weighted by their strength", EDGES),
    "sf": Score(contrast.sf, "spatial frequency, means over the differences", FREQUENCY, alone=True),
    "sf_all_pixels": Score(contrast.sf_all_pixels, "means over all pixels", FREQUENCY, alone=True),
    "ag": Score(contrast.ag, "average gradient, central differences", GRADIENT, alone=True),
    "ag_forward": Score(contrast.ag_forward, "forward differences", GRADIENT, alone=True),
    "detail_mri": Score(edges.detail_mri, "the MRI's edges kept where the partner is bright", EDGES),
    "detail_partner": Score(edges.detail_partner, "the partner's edges kept where the MRI is bright", EDGES),
    "detail_mri_correlation": Score(
        edges.detail_mri_correlation, "correlation with the MRI's gradient where the partner is bright", None
    ),
    "detail_partner_correlation": Score(
        edges.detail_partner_correlation, "correlation with the partner's gradient where the MRI is bright", None
    ),
}
"""All scores by name; more is better for each, as far as its definition goes."""

CORE = ("ssim", "sd", "mi", "vif", "scd", "qabf")
"""The six that papers on medical image fusion report most."""


def score(
    fused: Tensor,
    mri: Tensor,
    partner: Tensor,
    names: Iterable[str] | None = None,
    *,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Tensor]:
    """Score fused pictures by name.

    Parameters
    ----------
    fused, mri, partner
        (N, 1, H, W) of one size on one device: floating point in [0, 1], or uint8. The partner is its luma.
    names
        Keys of `SCORES`; by default the six of `CORE`.
    batch_size
        Pictures at once; it changes no result.

    Returns
    -------
    dict[str, Tensor]
        (N,) for each name, in the order of the names, on the pictures' device.

    Raises
    ------
    GeometryError
        If the pictures differ in size, or are too small for a score.
    KeyError
        If there is no score of a name.
    """
    require_alike(fused, mri, partner)
    names = list(CORE if names is None else names)
    for name in names:
        if min(fused.shape[-2:]) < SCORES[name].smallest:
            raise GeometryError(
                f"the score {name} needs pictures of at least {SCORES[name].smallest} × {SCORES[name].smallest}; found "
                f"{fused.shape[-2]} × {fused.shape[-1]}. Leave it out, or give larger pictures."
            )
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, len(fused), batch_size):
        stored = [eight_bit(picture[start : start + batch_size]) for picture in (fused, mri, partner)]
        for name in names:
            parts[name].append(SCORES[name](*stored))
    return {name: torch.cat(values) for name, values in parts.items()}
