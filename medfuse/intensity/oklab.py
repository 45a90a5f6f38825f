"""Convert colours between sRGB and OKLab, a colour space in which equal distances look alike.

Ottosson, "A perceptual color space for image processing", 2020, https://bottosson.github.io/posts/oklab; sRGB as in
IEC 61966-2-1. Lightness is in [0, 1] from black to white; chroma of what a screen shows stays below 0.33.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONE_RESPONSES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
"""Linear red, green and blue → long, medium and short cones."""

OPPONENTS = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""Cube roots of the cones' responses → lightness, green to red, blue to yellow."""

LARGEST_CHROMA = 0.4
"""More than any colour of sRGB has."""

HALVINGS = 16
"""Of the interval in which the largest chroma is sought: to 1e-5, far below a level of 8 bits."""

LEAST_LEVEL = 0.5 / 255
"""How far channels stay from black and white: where 8 bits clip one, a colour is ambiguous."""


def linear(rgb: Tensor) -> Tensor:
    """SRGB values in [0, 1] → linear light in [0, 1], any shape."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0).pow(2.4))


def companded(light: Tensor) -> Tensor:
    """Linear light → sRGB values; what is outside [0, 1] is cut, any shape."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def to_oklab(rgb: Tensor) -> Tensor:
    """SRGB (3, ...) in [0, 1] → lightness, green to red and blue to yellow, (3, ...)."""
    light = linear(rgb)
    cones = torch.tensordot(light.new_tensor(CONE_RESPONSES), light, 1)
    roots = cones.sign() * cones.abs() ** (1 / 3)
    lab: Tensor = torch.tensordot(light.new_tensor(OPPONENTS), roots, 1)
    return lab


def from_oklab(lab: Tensor) -> Tensor:
    """OKLab (3, ...) → linear light of red, green and blue, (3, ...); outside [0, 1] where no screen shows it."""
    roots = torch.tensordot(torch.linalg.inv(lab.new_tensor(OPPONENTS, dtype=torch.float64)).to(lab), lab, 1)
    inverse = torch.linalg.inv(lab.new_tensor(CONE_RESPONSES, dtype=torch.float64)).to(lab)
    light: Tensor = torch.tensordot(inverse, roots**3, 1)
    return light


def lightness(grey: Tensor) -> Tensor:
    """OKLab lightness of sRGB greys in [0, 1], any shape."""
    return linear(grey).pow(1 / 3)


def largest_chroma(of_lightness: Tensor, hue: Tensor) -> Tensor:
    """The chroma up to which a screen shows a hue (radians) at a lightness; both of one shape."""
    lowest, highest = (linear(of_lightness.new_tensor(end)) for end in (LEAST_LEVEL, 1 - LEAST_LEVEL))
    low, high = torch.zeros_like(hue), torch.full_like(hue, LARGEST_CHROMA)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        light = from_oklab(torch.stack((of_lightness, middle * hue.cos(), middle * hue.sin())))
        shown = ((light >= lowest) & (light <= highest)).all(0)
        low, high = torch.where(shown, middle, low), torch.where(shown, high, middle)
    return low


def shown_colour(of_lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """SRGB (3, ...) in [0, 1] of a lightness and a hue, with the chroma or as much of it as a screen shows."""
    chroma = torch.minimum(chroma, largest_chroma(of_lightness, hue))
    return companded(from_oklab(torch.stack((of_lightness, chroma * hue.cos(), chroma * hue.sin()))))
