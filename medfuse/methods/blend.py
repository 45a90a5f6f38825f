"""Blend a grey MRI with the partner in its colours, as imaging programs overlay them."""

from __future__ import annotations

from torch import Tensor

from medfuse.intensity.colour import Palette, colourise


def blend(mri: Tensor, uptake: Tensor, palette: Palette, opacity: float = 0.5) -> Tensor:
    """Weigh both pictures by the opacity of the partner.

    Parameters
    ----------
    mri, uptake
        (N, 1, H, W) in [0, 1].
    palette
        (256, 3) sRGB in [0, 1].
    opacity
        0 shows the MRI alone, 1 the partner alone.

    Returns
    -------
    Tensor
        (N, 3, H, W) sRGB in [0, 1].
    """
    return overlay(mri, in_colours(uptake, palette), opacity)


def overlay(mri: Tensor, colours: Tensor, opacity: float = 0.5) -> Tensor:
    """As `blend`, of the partner as it is shown: colours (N, 3, H, W) in [0, 1]."""
    return mri * (1 - opacity) + colours * opacity


def in_colours(uptake: Tensor, palette: Palette) -> Tensor:
    """Show a slab (N, 1, H, W) in [0, 1] in its palette: (N, 3, H, W) sRGB in [0, 1]."""
    return colourise(uptake.movedim(1, 0), palette).movedim(0, 1)
