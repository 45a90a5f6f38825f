"""Every score by its name: what it measures, which way is better, and who defined it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.metrics import contrast, correlation, edges, histograms, information, structure
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
    source
        DOI of the publication that defines it.
    alone
        Whether the sources play no part.
    smallest
        Least height and width.
    higher_is_better
        False where a smaller value is better.
    """

    function: Callable[..., Tensor]
    meaning: str
    source: str
    alone: bool = False
    smallest: int = 2
    higher_is_better: bool = True

    def __call__(self, fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
        """Score pictures on the 8-bit scale: three (N, 1, H, W) → (N,)."""
        return self.function(fused) if self.alone else self.function(fused, mri, partner)


SCORES: dict[str, Score] = {
    "ssim": Score(
        structure.ssim,
        "SSIM with either source, mean of the two; 7 × 7 flat window",
        "10.1109/TIP.2003.819861",
        smallest=7,
    ),
    "sd": Score(contrast.sd, "standard deviation", "10.1016/j.inffus.2018.02.004", alone=True),
    "mi": Score(histograms.mi, "mutual information with either source, sum, bits", "10.1049/el:20020212"),
    "vif": Score(
        information.vif,
        "pixel-domain visual information fidelity to either source, sum",
        "10.1109/TIP.2005.859378",
        smallest=information.SMALLEST,
    ),
    "scd": Score(correlation.scd, "sum of the correlations of differences", "10.1016/j.aeue.2015.09.004"),
    "qabf": Score(edges.qabf, "edges kept, Sobel, weighted by their strength", "10.1049/el:20000267"),
    "ssim_gaussian": Score(
        structure.ssim_gaussian, "SSIM as `ssim`, 11 × 11 Gaussian window", "10.1109/TIP.2003.819861", smallest=11
    ),
    "sd_saturating": Score(
        contrast.sd_saturating, "“SD” in saturating 8-bit arithmetic", "10.1016/j.inffus.2018.02.004", alone=True
    ),
    "mi_nats": Score(histograms.mi_nats, "`mi` in nats", "10.1049/el:20020212"),
}

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
