"""Join MRI, fused luma and uptake to one colour: luma tells the MRI, hue and chroma tell the uptake.

Eq. 5 of the paper gives the fused luma the partner's chroma, whatever its brightness: where both are bright, no screen
shows that colour, and what is cut off takes uptake and MRI with it. Here hue and chroma are the palette's at that
uptake, in OKLab, within what a screen shows at that luma, and luma is left to both sources; both can be read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medfuse.intensity.colour import LUMA_WEIGHTS, Palette
from medfuse.intensity.oklab import lightness, shown_colour, to_oklab


@dataclass(frozen=True)
class Shares:
    """What the luma of a joined colour is made of.

    Parameters
    ----------
    mri, uptake
        The luma (BT.601) is these shares of MRI and uptake together. The MRI has the larger one, for the uptake has hue
        and chroma besides.
    both
        What is taken away where both are bright, a share of their product: near white, no colour is left to tell a hot
        spot by.
    fused
        How much of the MRI's part the fused luma takes: more shows more of what the network brings out, and blurs what
        the MRI measured.
    """

    mri: float = 0.75
    uptake: float = 0.25
    both: float = 0.15
    fused: float = 0.2


@dataclass(frozen=True)
class Stops:
    """How hue, lightness and chroma of the palette go with uptake.

    Parameters
    ----------
    first_hue, last_hue
        Degrees in OKLab's plane: violet, through blue, green and yellow, to orange.
    top_grey, top_chroma
        Of the last colour: as bright as an orange may be before a screen shows it paler.
    lightness_power, chroma_power
        Powers of uptake with which the two rise: low uptake is not so dark and grey that its hue cannot be seen.
    """

    first_hue: float = 315.0
    last_hue: float = 48.0
    top_grey: float = 0.64
    top_chroma: float = 0.18
    lightness_power: float = 0.35
    chroma_power: float = 0.6


SHARES, STOPS = Shares(), Stops()
"""Chosen by `benchmarks/colour_choice.py`."""

COARSE, FINE = 256, 1024
"""Steps of the table of colours along brightness and uptake: computed, and interpolated to. A fine step is a quarter of
a grey level of 8 bits."""


def violet_to_orange(stops: Stops = STOPS) -> Palette:
    """Make the palette of uptake: (256, 3) float32 sRGB in [0, 1].

    It starts in black. Lightness and chroma rise with uptake in OKLab and hue turns evenly, so that colours keep their
    order in black and white, too, and the highest uptake is coloured, not white.
    """
    uptake = torch.linspace(0, 1, COARSE, dtype=torch.float64)
    hue = torch.deg2rad(stops.first_hue + (stops.last_hue - stops.first_hue) * uptake)
    top = lightness(uptake.new_tensor(stops.top_grey))
    chroma = stops.top_chroma * uptake**stops.chroma_power
    return shown_colour(top * uptake**stops.lightness_power, chroma, hue).T.numpy().astype(np.float32)


def join_uptake(luma: Tensor, mri: Tensor, uptake: Tensor, palette: Palette, shares: Shares = SHARES) -> Tensor:
    """Show fused luma, MRI and uptake in one colour.

    Parameters
    ----------
    luma, mri, uptake
        (1, ...) float32 in [0, 1] of one shape.
    palette
        (256, 3) sRGB in [0, 1]; its hue and its chroma, not its lightness, are what the uptake is shown by.
    shares
        What luma is made of.

    Returns
    -------
    Tensor
        (3, ...) uint8 sRGB; nothing in it is clipped.
    """
    table = _table(palette.tobytes()).to(luma.device)
    shown = torch.lerp(mri[0], luma[0], shares.fused)
    brightness = shown * (shares.mri - shares.both * uptake[0]) + uptake[0] * shares.uptake
    row, column = (side.mul(FINE - 1).round_().long() for side in (brightness, uptake[0]))
    return table[:, row * FINE + column]


def legend(palette: Palette, mri: float = 0.5) -> Palette:
    """The colours (256, 3) of uptake from 0 to 1 as `join_uptake` shows them over an MRI of one brightness."""
    uptake = torch.linspace(0, 1, COARSE, dtype=torch.float32)[None]
    brightness = torch.full_like(uptake, mri)
    return join_uptake(brightness, brightness, uptake, palette).T.numpy().astype(np.float32) / np.float32(255)


@lru_cache(maxsize=8)
def _table(palette: bytes) -> Tensor:
    """Colours by luma, the slower index, and uptake: (3, FINE · FINE) uint8."""
    colours = torch.frombuffer(bytearray(palette), dtype=torch.float32).reshape(COARSE, 3).T.double()
    _, green_red, blue_yellow = to_oklab(colours)
    chroma, hue = green_red.hypot(blue_yellow), blue_yellow.atan2(green_red)
    coarse = _shown(_lightness_for_luma(chroma, hue), chroma, hue).float()[None]
    fine = functional.interpolate(coarse, (FINE, FINE), mode="bilinear", align_corners=True)
    return fine[0].mul(255).round_().to(torch.uint8).flatten(1)


def _lightness_for_luma(chroma: Tensor, hue: Tensor) -> Tensor:
    """OKLab's lightness that gives each luma, (COARSE, n) from black to white, to n hues with as much chroma as fits.

    Of one lightness, luma is the less the more chroma there is, of blue and green most: uptake would darken what it
    colours.
    """
    tried = lightness(torch.linspace(0, 1, 2 * COARSE, dtype=torch.float64))
    luma = torch.tensordot(tried.new_tensor(LUMA_WEIGHTS), _shown(tried[:, None].expand(-1, len(hue)), chroma, hue), 1)
    wanted = np.linspace(0, 1, COARSE)
    return torch.from_numpy(np.stack([np.interp(wanted, its, tried) for its in luma.T.numpy()], axis=1))


def _shown(of_lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """`shown_colour` of a table of lightness whose columns have a chroma and a hue each."""
    return shown_colour(of_lightness, *(side.expand_as(of_lightness) for side in (chroma, hue)))
