"""Measure how well a fused picture can be read: both sources read back, what it invents, and lesions that survive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from medfuse.intensity.colour import Palette, palette_luma, split_luma
from medfuse.intensity.oklab import to_oklab
from medfuse.metrics.excess import invented, overshoot
from medfuse.metrics.lesions import CLASSES, TISSUE, Observed, insert_lesions, observe, plan_lesions
from medfuse.metrics.pictures import eight_bit
from medfuse.metrics.read_back import ReadBack, clipped_share, read_by_legend, read_by_table

Show = Callable[[Tensor, Tensor], Tensor]
"""A method of fusion as a reader sees it: (N, 1, H, W) MRI and uptake in [0, 1] → (N, 3 or 1, H, W) uint8."""


@dataclass(frozen=True)
class Reading:
    """How well fused pictures can be read.

    Parameters
    ----------
    uptake, mri
        Both read back by a table; see `medfuse.metrics.read_back`.
    uptake_by_legend
        The uptake read by hue and chroma; None for grey pictures.
    clipped
        Share of pixels with a channel at an end of its range; None for grey pictures, whose black and white are meant.
    overshoot
        Share of pixels brighter than both sources; see `medfuse.metrics.excess`.
    invented
        Share of the gradient's energy beyond the sources'.
    """

    uptake: ReadBack
    mri: ReadBack
    uptake_by_legend: ReadBack | None
    clipped: float | None
    overshoot: float
    invented: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            name: value._asdict() if isinstance(value, ReadBack) else value
            for name, value in ((each, getattr(self, each)) for each in asdict(self))
        }


def read_pictures(
    fused: Tensor, mri: Tensor, uptake: Tensor, palette: Palette | None, legend: Palette | None
) -> Reading:
    """Measure fused pictures against their sources.

    Parameters
    ----------
    fused
        (N, 3 or 1, H, W) uint8: at least two slices.
    mri, uptake
        (N, 1, H, W) in [0, 1].
    palette
        (256, 3) colours in which the partner is shown by itself; None for grey.
    legend
        (256, 3) colours of uptake in the fused pictures; None where there is none.
    """
    tissue = torch.maximum(mri, uptake) > TISSUE
    luma = in_luma(fused)
    sides = [eight_bit(side) for side in (luma, mri, _shown(uptake, palette))]
    coloured = fused.shape[1] == 3
    return Reading(
        read_by_table(fused, uptake, tissue),
        read_by_table(fused, mri, tissue),
        read_by_legend(fused, uptake, tissue, legend) if coloured and legend is not None else None,
        clipped_share(fused, tissue) if coloured else None,
        float(overshoot(sides[0], sides[1], sides[2], tissue).mean()),
        float(invented(sides[0], sides[1], sides[2]).mean()),
    )


def lesions_by_class(
    show: Show, mri: Tensor, uptake: Tensor, palette: Palette | None, *, pixel_mm: float = 1.0, seed: int = 0
) -> dict[str, Observed]:
    """Insert lesions of every kind, fuse with and without them, and observe them.

    Parameters
    ----------
    show
        The method.
    mri, uptake
        (N, 1, H, W) in [0, 1]; each slice gets one lesion of a kind at a time.
    palette
        As for `read_pictures`.
    pixel_mm, seed
        As for `medfuse.metrics.lesions.plan_lesions`.

    Returns
    -------
    dict[str, Observed]
        By the names of `medfuse.metrics.lesions.CLASSES`.
    """
    tissue = torch.maximum(mri, uptake) > TISSUE
    without = observed_axes(show(mri, uptake))
    found = {}
    for name, side, bright in CLASSES:
        lesions = plan_lesions(mri, uptake, side, bright=bright, pixel_mm=pixel_mm, seed=seed)
        source = mri if side == "mri" else uptake
        changed = insert_lesions(source, lesions, pixel_mm)
        inserted = observed_axes(show(changed, uptake) if side == "mri" else show(mri, changed))
        seen = (source, changed) if side == "mri" else (_shown(source, palette), _shown(changed, palette))
        found[name] = observe(without, inserted, seen, lesions, tissue)
    return found


def in_luma(fused: Tensor) -> Tensor:
    """(N, 3 or 1, H, W) uint8 → luma (N, 1, H, W) in [0, 1]."""
    shown = fused.float() / 255
    return shown if fused.shape[1] == 1 else split_luma(shown.movedim(1, 0)).movedim(0, 1)


def observed_axes(fused: Tensor) -> Tensor:
    """(N, 3 or 1, H, W) uint8 → luma, then OKLab: (N, 4, H, W) float32."""
    rgb = (fused.float() / 255).expand(-1, 3, -1, -1).movedim(1, 0)
    return torch.cat((split_luma(rgb), to_oklab(rgb))).movedim(0, 1)


def _shown(uptake: Tensor, palette: Palette | None) -> Tensor:
    """The partner's luma as it is shown by itself."""
    return uptake if palette is None else palette_luma(uptake.movedim(1, 0), palette).movedim(0, 1)
