"""Measure whether lesions survive fusion: put them into one source, fuse with and without, and look at the difference.

A lesion is a soft disc that is brighter or darker than what is there. What is left of it is compared with what was put
in, and with how much the picture around it varies over places of the lesion's size: that is the signal and the noise of
a model observer (Barrett and Myers, Foundations of Image Science, 2004, 13.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medfuse.errors import GeometryError

Side = Literal["mri", "partner"]

DIAMETERS_MM = (3.0, 6.0, 10.0, 15.0)
CONTRASTS = (0.15, 0.3, 0.5)
"""Of a source's range."""

TISSUE = 0.08
"""Brightness of the brighter source above which a pixel is no air."""

EDGE_MM: dict[Side, float] = {"mri": 1.0, "partner": 2.0}
"""Width over which a lesion's border is blurred (standard deviation): partners are coarser."""

RING = 1.6
"""Outer radius of the surroundings that a lesion is compared with, in radii of the lesion."""

NEIGHBOURHOOD = 4.0
"""Radius of the neighbourhood whose variation is the observer's noise, in diameters of the lesion."""

EYE = 0.01
"""Standard deviation of the observer's own noise, of a range of 1: half of a difference that is just seen."""

LOST = 0.25
"""Share of its contrast below which a lesion counts as lost."""


@dataclass(frozen=True)
class Lesion:
    """One lesion in a stack of slices.

    Parameters
    ----------
    side
        The source that has it.
    index, row, column
        The slice and the pixel of its centre.
    diameter
        Pixels.
    contrast
        What is added to the source in its middle, of a range of 1; negative where it is darker.
    """

    side: Side
    index: int
    row: int
    column: int
    diameter: float
    contrast: float


class Observed(NamedTuple):
    """What an observer makes of lesions, each (lesions,) float64.

    ``kept`` is the share of the source's contrast that is left in luma; ``luma`` and ``colour`` are d′, the contrast
    over the standard deviation of the noise, in luma and over the three axes of OKLab.
    """

    kept: Tensor
    luma: Tensor
    colour: Tensor

    @property
    def lost(self) -> float:
        """Share of the lesions of which less than `LOST` is left."""
        return float((self.kept < LOST).double().mean())

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers, for JSON: how many, the share lost, and the medians of d′; None where there are none."""
        if not len(self.kept):
            return {"count": 0, "lost": None, "luma_dprime": None, "colour_dprime": None}
        return {
            "count": len(self.kept),
            "lost": self.lost,
            "luma_dprime": float(self.luma.median()),
            "colour_dprime": float(self.colour.median()),
        }


def plan_lesions(
    mri: Tensor,
    partner: Tensor,
    side: Side,
    *,
    bright: bool,
    pixel_mm: float = 1.0,
    seed: int = 0,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    contrasts: Sequence[float] = CONTRASTS,
    first: int = 0,
) -> list[Lesion]:
    """Choose places for lesions: inside tissue, where the source has room for their contrast; one in a slice.

    Parameters
    ----------
    mri, partner
        (N, 1, H, W) in [0, 1].
    side, bright
        Which source has them, and whether they are brighter than what is around.
    pixel_mm
        Width of a pixel.
    seed
        Draws the places. Sizes and contrasts are gone through in turn.
    first
        Which combination of size and contrast the first slice gets.
    """
    generator = np.random.default_rng(seed)
    source = (mri if side == "mri" else partner)[:, 0].numpy()
    tissue = torch.maximum(mri, partner)[:, 0].numpy() > TISSUE
    found = []
    kinds = islice(cycle(product(diameters_mm, contrasts)), first, first + len(source))
    for index, (diameter_mm, contrast) in enumerate(kinds):
        diameter = diameter_mm / pixel_mm
        inside = ndimage.binary_erosion(
            ndimage.binary_fill_holes(tissue[index]), iterations=round(RING * diameter / 2) + 1
        )
        level = ndimage.uniform_filter(source[index], max(1, round(diameter)))
        room = level + contrast <= 1 if bright else level - contrast >= 0
        places = np.argwhere(inside & room)
        if len(places):
            row, column = (int(place) for place in places[generator.integers(len(places))])
            found.append(Lesion(side, index, row, column, diameter, contrast if bright else -contrast))
    return found


def insert_lesions(source: Tensor, lesions: Iterable[Lesion], pixel_mm: float = 1.0) -> Tensor:
    """Add lesions to a copy of the source that has them, (N, 1, H, W) in [0, 1]; what leaves [0, 1] is cut."""
    changed = source.clone()
    for lesion in lesions:
        profile = _profile(lesion, source.shape[-2:], EDGE_MM[lesion.side] / pixel_mm)
        changed[lesion.index, 0] += lesion.contrast * profile
    return changed.clamp_(0, 1)


def observe(
    without: Tensor, inserted: Tensor, shown: tuple[Tensor, Tensor], lesions: Sequence[Lesion], tissue: Tensor
) -> Observed:
    """Compare pictures fused with and without lesions.

    Parameters
    ----------
    without, inserted
        (N, 4, H, W) of both: luma in [0, 1], then OKLab; see `observed_axes`.
    shown
        (N, 1, H, W) luma of the source without and with the lesions, as it is shown by itself.
    lesions
        What was inserted.
    tissue
        (N, 1, H, W) bool: where noise is looked for.
    """
    if without.shape != inserted.shape or without.shape[1] != 4:
        raise GeometryError(
            f"an observer needs two stacks (N, 4, H, W) of one size; found {tuple(without.shape)} and "
            f"{tuple(inserted.shape)}."
        )
    rows = [_observed(lesion, without, inserted, shown, tissue) for lesion in lesions]
    return Observed(*torch.tensor(rows, dtype=torch.float64).reshape(-1, 3).unbind(1))


def _observed(
    lesion: Lesion, without: Tensor, inserted: Tensor, shown: tuple[Tensor, Tensor], tissue: Tensor
) -> tuple[float, float, float]:
    index, shape = lesion.index, without.shape[-2:]
    weights = _disc(lesion.diameter / 2, shape, (lesion.row, lesion.column))
    weights = weights / weights.sum()

    def within(stack: Tensor) -> Tensor:
        return (stack[index].double() * weights).sum((-2, -1))

    change = within(inserted) - within(without)
    put_in = float(within(shown[1]) - within(shown[0]))
    noise = _noise(lesion, without[index].double(), tissue[index, 0])
    kept = float(change[0]) / put_in if abs(put_in) > 1e-6 else 0.0
    luma = float(change[0].abs() / noise[0, 0].sqrt())
    colour = float((change[1:] @ torch.linalg.solve(noise[1:, 1:], change[1:])).clamp(min=0).sqrt())
    return kept, luma, colour


def _noise(lesion: Lesion, picture: Tensor, tissue: Tensor) -> Tensor:
    """Covariance (4, 4) of discs less their rings, over the tissue around a lesion, and the observer's own."""
    reach = max(8, round(NEIGHBOURHOOD * lesion.diameter / 2))
    radius = lesion.diameter / 2
    size = 2 * (int(RING * radius) + 1) + 1
    middle = (size // 2, size // 2)
    disc, wide = (_disc(each, (size, size), middle) for each in (radius, RING * radius))
    ring = (wide - disc).clamp(min=0)
    kernel = disc / disc.sum() - ring / ring.sum()
    rows, columns = (slice(max(0, at - reach), at + reach + 1) for at in (lesion.row, lesion.column))
    contrast = functional.conv2d(picture[:, None, rows, columns], kernel[None, None], padding=size // 2)[:, 0]
    inside = tissue[rows, columns]
    samples = contrast[:, inside] if int(inside.sum()) > len(picture) else contrast.flatten(1)
    return torch.cov(samples) + EYE**2 * torch.eye(len(picture), dtype=torch.float64)


def _disc(radius: float, shape: Sequence[int], middle: tuple[int, int]) -> Tensor:
    """1 within a radius of a pixel, falling over one pixel at the border: float64."""
    rows = torch.arange(shape[0], dtype=torch.float64)[:, None] - middle[0]
    columns = torch.arange(shape[1], dtype=torch.float64) - middle[1]
    return (radius + 0.5 - (rows**2 + columns**2).sqrt()).clamp(0, 1)


def _profile(lesion: Lesion, shape: Sequence[int], edge: float) -> Tensor:
    disc = _disc(lesion.diameter / 2, shape, (lesion.row, lesion.column)).numpy()
    return torch.from_numpy(ndimage.gaussian_filter(disc, edge)).float()


CLASSES: tuple[tuple[str, Side, bool], ...] = (
    ("MRI bright", "mri", True),
    ("MRI dark", "mri", False),
    ("partner bright", "partner", True),
    ("partner dark", "partner", False),
)
"""Kinds of lesions by name, with the source that has them and whether they are brighter than what is around."""
