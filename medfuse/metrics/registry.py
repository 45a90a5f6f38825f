"""List every score by its name: what it measures, and who defined it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from medfuse.errors import GeometryError

if TYPE_CHECKING:  # the command's help lists the scores, and must not wait for torch
    from torch import Tensor

BATCH_SIZE = 8
"""Pictures at once: what eight of them need still fits into a processor's cache."""


@dataclass(frozen=True)
class Score:
    """One definition of one score.

    Parameters
    ----------
    name
        The name of the score, and of the function that computes it: of (fused, MRI, partner), each (N, 1, H, W) on the
        8-bit scale; of the fused picture only where ``alone``.
    module
        The module of `medfuse.metrics` that holds the function; imported when the score is first computed.
    meaning
        What it measures, in half a sentence.
    doi
        The publication that defines it; None where that is this page.
    alone
        Whether the sources play no part.
    smallest
        Least height and width.
    """

    name: str
    module: str
    meaning: str
    doi: str | None
    alone: bool = False
    smallest: int = 2

    def __call__(self, fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
        """Score pictures on the 8-bit scale: three (N, 1, H, W) → (N,)."""
        function = getattr(import_module(f"medfuse.metrics.{self.module}"), self.name)
        return cast("Tensor", function(fused) if self.alone else function(fused, mri, partner))


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

FOUR_SCALES = 41
"""Height and width from which the fourth scale of visual information fidelity has a pixel."""

_DEFINITIONS = (
    Score("ssim", "structure", "SSIM, mean over the sources; 7 × 7 flat window", SSIM, smallest=7),
    Score("ssim_sum", "structure", "sum over the sources instead of mean: 2 × ssim", SSIM, smallest=7),
    Score("ssim_gaussian", "structure", "as ssim, 11 × 11 Gaussian window", SSIM, smallest=11),
    Score("mef_ssim", "structure", "structure against an ideal of both sources, one scale", MEF_SSIM, smallest=11),
    Score("mef_ssim_multiscale", "structure", "as mef_ssim, three scales", MEF_SSIM, smallest=44),
    Score("sd", "contrast", "standard deviation of grey levels 0–255", SURVEY, alone=True),
    Score("sd_unit", "contrast", "of grey levels in [0, 1]: sd / 255", SURVEY, alone=True),
    Score("sd_saturating", "contrast", "in 8-bit arithmetic that clips at 255", SURVEY, alone=True),
    Score("en", "histograms", "entropy of grey levels, bits", ENTROPY, alone=True),
    Score("mi", "histograms", "mutual information, sum over the sources, 256 bins, bits", MUTUAL),
    Score("mi_mean", "histograms", "mean over the sources instead of sum: mi / 2", MUTUAL),
    Score("mi_nats", "histograms", "in nats: 0.693 × mi", MUTUAL),
    Score("nmi", "histograms", "as mi, each part over the mean of its two entropies", NORMALISED_MUTUAL),
    Score("fmi_pixel", "features", "feature mutual information of pixels", FEATURE_MUTUAL, smallest=3),
    Score("fmi_gradient", "features", "of gradients along rows", FEATURE_MUTUAL, smallest=3),
    Score("fmi_edge", "features", "of thin Sobel edges", FEATURE_MUTUAL, smallest=3),
    Score("fmi_dct", "features", "of cosine transform coefficients", FEATURE_MUTUAL, smallest=3),
    Score(
        "vif", "information", "visual information fidelity, pixels, sum over the sources", VISUAL, smallest=FOUR_SCALES
    ),
    Score("vif_mean", "information", "mean over the sources instead of sum: vif / 2", VISUAL, smallest=FOUR_SCALES),
    Score(
        "viff",
        "information",
        "visual information fidelity for fusion: the stronger source, mean of scales",
        VISUAL_FUSION,
        smallest=FOUR_SCALES,
    ),
    Score(
        "viff_program",
        "information",
        "as its authors' program: the weaker source, weighted scales",
        VISUAL_FUSION,
        smallest=FOUR_SCALES,
    ),
    Score("scd", "correlation", "sum of the correlations of differences", DIFFERENCES),
    Score("cc", "correlation", "correlation, mean over the sources", SURVEY),
    Score("psnr", "correlation", "peak signal to noise, dB, of the sources' mean squared error", NOISE),
    Score("psnr_mean", "correlation", "mean of the two ratios instead of the two errors", NOISE),
    Score("qabf", "edges", "edges kept, Sobel, weighted by their strength", EDGES),
    Score("sf", "contrast", "spatial frequency, means over the differences", FREQUENCY, alone=True),
    Score("sf_all_pixels", "contrast", "means over all pixels", FREQUENCY, alone=True),
    Score("ag", "contrast", "average gradient, central differences", GRADIENT, alone=True),
    Score("ag_forward", "contrast", "forward differences", GRADIENT, alone=True),
    Score("detail_mri", "edges", "the MRI's edges kept where the partner is bright", EDGES),
    Score("detail_partner", "edges", "the partner's edges kept where the MRI is bright", EDGES),
    Score("detail_mri_correlation", "edges", "correlation with the MRI's gradient where the partner is bright", None),
    Score(
        "detail_partner_correlation", "edges", "correlation with the partner's gradient where the MRI is bright", None
    ),
)

SCORES: dict[str, Score] = {each.name: each for each in _DEFINITIONS}
"""All scores by name; more is better for each, as far as its definition goes."""

CORE = ("ssim", "sd", "mi", "vif", "scd", "qabf")
"""The six that papers on medical image fusion report most."""


def score(
    fused: Tensor, mri: Tensor, partner: Tensor, names: Iterable[str] | None = None, *, batch_size: int = BATCH_SIZE
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
    import torch

    from medfuse.metrics.pictures import eight_bit, require_alike
    from medfuse.runtime.torch_settings import default_settings

    require_alike(fused, mri, partner)
    names = list(CORE if names is None else names)
    for name in names:
        if min(fused.shape[-2:]) < SCORES[name].smallest:
            raise GeometryError(
                f"the score {name} needs pictures of at least {SCORES[name].smallest} × {SCORES[name].smallest}; found "
                f"{fused.shape[-2]} × {fused.shape[-1]}. Leave it out, or give larger pictures."
            )
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    with default_settings():
        for start in range(0, len(fused), batch_size):
            stored = [eight_bit(picture[start : start + batch_size]) for picture in (fused, mri, partner)]
            for name in names:
                parts[name].append(SCORES[name](*stored))
        return {name: torch.cat(values) for name, values in parts.items()}
