"""Convert between uptake, RGB, luma and chroma: palettes, YCbCr, and the chroma of the fused picture.

Luma and chroma are those of ITU-R BT.601, full range, on [0, 1]; neutral chroma is 0.5.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Palette = npt.NDArray[np.float32]
"""(256, 3) RGB in [0, 1]; see `medfuse.dicom.palettes.palette_table`."""

LUMA_WEIGHTS = 0.299, 0.587, 0.114
"""Weights of red, green and blue in the brightness of a colour (ITU-R BT.601)."""

NEUTRAL_CHROMA = 0.5
"""τ of Eq. 5: 128 on the 8-bit scale."""

RED, GREEN, BLUE = LUMA_WEIGHTS


def colourise(uptake: Tensor, palette: Palette) -> Tensor:
    """Show values in the colours of a palette, interpolated between its 256 entries.

    Parameters
    ----------
    uptake
        (1, ...) floating point in [0, 1].
    palette
        (256, 3) float32 RGB in [0, 1].

    Returns
    -------
    Tensor
        (3, ...) float32 RGB in [0, 1].
    """
    return _looked_up(_table(palette, uptake), uptake)


def _table(palette: Palette, like: Tensor) -> Tensor:
    """A palette's (3, 256) colours in [0, 1], on the device of a tensor."""
    return torch.tensor(palette.T, device=like.device)


def _looked_up(table: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between the entries of a table (C, 256) at values (1, ...) in [0, 1]: (C, ...)."""
    place = values[0].float() * (table.shape[1] - 1)
    below = place.floor().clamp_(0, table.shape[1] - 2)
    entry = below.long()
    return torch.lerp(table[:, entry], table[:, entry + 1], place - below)


def split_luma(rgb: Tensor) -> Tensor:
    """RGB (3, ...) → luma (1, ...), both in [0, 1]."""
    return (RED * rgb[0] + GREEN * rgb[1] + BLUE * rgb[2])[None]


def split_chroma(rgb: Tensor) -> Tensor:
    """RGB (3, ...) → Cb and Cr (2, ...), in [0, 1], neutral at 0.5."""
    luma = split_luma(rgb)[0]
    return torch.stack(((rgb[2] - luma) / (2 - 2 * BLUE), (rgb[0] - luma) / (2 - 2 * RED))) + NEUTRAL_CHROMA


def tint(rgb: Tensor) -> Tensor:
    """What colours (3, ...) add to their own luma: (3, ...), each in [-1, 1]. It has no luma of its own."""
    return rgb - split_luma(rgb)


def shown_luma(luma: Tensor, tints: Tensor) -> Tensor:
    """Luma (1, ...) of fused luma (1, ...) in colours (3, ...), once what no screen can show is cut off.

    Differentiable: where one channel is at its end, the others still move.
    """
    return split_luma((luma + tints).clamp(0, 1))


def join_luma_chroma(luma: Tensor, chroma: Tensor) -> Tensor:
    """Luma (1, ...) with Cb and Cr (2, ...) → RGB (3, ...), clipped to [0, 1]."""
    blue_difference, red_difference = (chroma - NEUTRAL_CHROMA).unbind(0)
    red = luma[0] + (2 - 2 * RED) * red_difference
    blue = luma[0] + (2 - 2 * BLUE) * blue_difference
    green = (luma[0] - RED * red - BLUE * blue) / GREEN
    return torch.stack((red, green, blue)).clamp_(0, 1)


def fuse_chroma(first: Tensor, second: Tensor) -> Tensor:
    """Eq. 5: mean of two chromas weighted by their distance from neutral; neutral where both are.

    Takes and returns (2, ...) in [0, 1]. A grey picture's chroma is neutral, so that the other's survives unchanged.
    """
    first_weight = (first - NEUTRAL_CHROMA).abs()
    second_weight = (second - NEUTRAL_CHROMA).abs()
    total = first_weight + second_weight
    fused = (first * first_weight + second * second_weight) / total
    return torch.where(total > 0, fused, torch.full_like(fused, NEUTRAL_CHROMA))


def palette_luma(uptake: Tensor, palette: Palette) -> Tensor:
    """Luma (1, ...) of values (1, ...) in [0, 1] as a palette shows them: what the network sees of them."""
    # Luma is linear in the colours: that of what lies between two entries lies between theirs.
    return _looked_up(split_luma(_table(palette, uptake)), uptake)


def join_palette(luma: Tensor, uptake: Tensor, palette: Palette) -> Tensor:
    """Give fused luma (1, ...) the chroma of values (1, ...) in their palette: (3, ...) uint8 RGB.

    The MRI is grey, so that `fuse_chroma` would leave the partner's chroma as it is; and what has a colour's chroma
    differs from its own luma as the colour does: the palette's differences are added, without a way through chroma.
    """
    table = _table(palette, uptake)
    return _looked_up(tint(table), uptake).add_(luma).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
