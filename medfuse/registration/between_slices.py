"""Follow structures from one thick slice to the next, so that what lies between them is not two faint copies of both.

A skull that leans crosses slices of 5 mm in places some millimetres apart. Halfway between two of them, linear
interpolation shows both places at half their strength: a zipper in every other plane. Here values between two slices
are taken along the way from a structure's place in one to its place in the other. Each value still lies between the
two that it is taken from, and at a slice it is the slice's own.

Places are matched as by Thirion's demons (1998, doi:10.1016/S1361-8415(98)80022-4), from both slices to halfway; values
are taken along the matches as in Penney et al. (2004, doi:10.1109/TMI.2004.828352).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.runtime.torch_settings import default_settings
from medfuse.volume.grid import Grid

THICK = 2.0
"""Slices further apart than this many pixels' widths are thick."""

FILLED = 0.6
"""Steps of the new grid, in slices, up to which places between slices are shown at all."""

MATCHING_MM = 1.5
"""Width of the pixels that are matched, at least."""

COARSER = (4, 2, 1)
"""Pixels are matched at first four times as wide: structures move by several between two slices."""

ITERATIONS = 12
SMOOTHNESS = 1.5
"""Standard deviation, in pixels, by which the matches of neighbours are held together in each iteration."""

MOST_SLICES = 2.0
"""How far a match may lead, in distances of slices: what leans more is seen by too few slices to be followed."""

TRUSTED = 0.6
"""Share of the difference between two slices below which what is left of it shows that a match is right."""

LEAST_PIXELS, LEAST_DIFFERENCE = 0.25, 0.01
"""Shorter matches, or those between slices that differ by a smaller share of the range, change nothing that is seen."""


SAMPLES = 1_000_000
"""About as many voxels tell the range of values."""


@dataclass(frozen=True, eq=False)
class BetweenSlices:
    """Where structures lie in the next slice.

    Parameters
    ----------
    axis
        Across the slices.
    slices
        (C, Z, A, B) values; A and B are the other axes in their order.
    shifts
        (2, Z - 1, A, B) how far along A and B, in pixels, a structure lies further in the next slice; for what is at
        this place halfway.
    moves
        (Z - 1, A, B) bool, where that is not nothing.
    """

    axis: int
    slices: Tensor
    shifts: Tensor
    moves: Tensor

    @default_settings()
    def fill(self, values: Tensor, index: Tensor) -> None:
        """Replace what linear interpolation gave (C, P) at fractional indices (P, 3) wherever structures move."""
        sizes = torch.tensor([self.slices.shape[1], *self.slices.shape[2:]])
        index = torch.cat((index[:, self.axis : self.axis + 1], index[:, [a for a in range(3) if a != self.axis]]), 1)
        cell = index[:, 0].floor().clamp(0, int(sizes[0]) - 2)
        near = torch.stack((cell, *index[:, 1:].round().unbind(1)), 1).long()
        inside = ((index >= 0) & (index <= sizes - 1)).all(1)
        chosen = inside.nonzero()[:, 0]
        chosen = chosen[self.moves[tuple(near[chosen].unbind(1))]]
        if not len(chosen):
            return
        cell, places = cell[chosen], index[chosen, 1:]
        part = index[chosen, 0] - cell
        shift = _sampled(self.shifts, cell, places).T
        before = _sampled(self.slices, cell, places - part[:, None] * shift)
        after = _sampled(self.slices, cell + 1, places + (1 - part[:, None]) * shift)
        values[:, chosen] = torch.lerp(before, after, part.to(before))


def thick_axis(grid: Grid, stride: Tensor) -> int | None:
    """The axis across slices that are thick, and between which a new grid has places.

    Parameters
    ----------
    grid
        Of the volume.
    stride
        (3,) steps of the new grid along each axis, in voxels.
    """
    spacing = torch.tensor(grid.spacing, dtype=torch.float32)
    axis = int(spacing.argmax())
    others = [float(spacing[other]) for other in range(3) if other != axis]
    thick = float(spacing[axis]) >= THICK * max(others) and min(grid.shape) > 1
    return axis if thick and float(stride[axis]) <= FILLED else None


@default_settings()
def between_slices(values: Tensor, grid: Grid, axis: int) -> BetweenSlices | None:
    """Match each slice across an axis with the next; None if nothing moves.

    Parameters
    ----------
    values
        (C, X, Y, Z) float32 on ``grid``; the first channel is matched.
    """
    slices = values.movedim(axis + 1, 1)
    pixels_mm = [spacing for other, spacing in enumerate(grid.spacing) if other != axis]
    factors = [max(1, round(MATCHING_MM / width)) for width in pixels_mm]
    sample = slices[0].flatten()[:: max(1, slices[0].numel() // SAMPLES)]
    low, high = torch.quantile(sample, values.new_tensor([0.01, 0.99]))
    if not high > low:
        return None
    shown = ((slices[0] - low) / (high - low)).clamp_(0, 1)[:, None]
    shifts, differ = _matched(functional.avg_pool2d(shown, factors, ceil_mode=True))
    shifts = shifts * shifts.new_tensor(factors)[:, None, None]
    shifts, differ = (functional.interpolate(each, shown.shape[-2:], mode="bilinear") for each in (shifts, differ))
    length_mm = (shifts * shifts.new_tensor(pixels_mm)[:, None, None]).norm(dim=1, keepdim=True)
    shifts = shifts * (MOST_SLICES * grid.spacing[axis] / length_mm.clamp(min=1e-6)).clamp(max=1)
    moves = (shifts.norm(dim=1) > LEAST_PIXELS) & (differ[:, 0] > LEAST_DIFFERENCE)
    return BetweenSlices(axis, slices.contiguous(), shifts.movedim(1, 0).contiguous(), moves) if moves.any() else None


def _matched(slices: Tensor) -> tuple[Tensor, Tensor]:
    """Match (Z, 1, A, B) in [0, 1].

    Returns
    -------
    tuple
        (Z - 1, 2, A, B) how far structures lie further in the next slice, in pixels, and (Z - 1, 1, A, B) by how much
        the two slices differ.
    """
    shifts = torch.zeros((len(slices) - 1, 2, 1, 1), dtype=torch.float32)
    for coarser in COARSER:
        level = functional.avg_pool2d(slices, coarser, ceil_mode=True)
        before, after = level[:-1], level[1:]
        wider = functional.interpolate(shifts, level.shape[-2:], mode="bilinear")
        shifts = wider * 2 if coarser != COARSER[0] else wider
        for _ in range(ITERATIONS):
            near, far = _moved(before, -shifts / 2), _moved(after, shifts / 2)
            slope = (_slope(near) + _slope(far)) / 2
            missed = near - far
            force = missed * slope / (slope.square().sum(1, keepdim=True) + missed.square() + 1e-4)
            shifts = _smoothed(shifts + force, SMOOTHNESS)
    missed = _smoothed((_moved(before, -shifts / 2) - _moved(after, shifts / 2)).abs(), SMOOTHNESS)
    differ = _smoothed((before - after).abs(), SMOOTHNESS)
    # Where matching does not make the two slices alike, it followed nothing: what ends there is left as it is.
    trust = ((TRUSTED * differ - missed) / (0.25 * TRUSTED * differ + 1e-3)).clamp(0, 1)
    return shifts * _smoothed(trust, 1.0), differ


def _moved(pictures: Tensor, shifts: Tensor) -> Tensor:
    """(N, 1, A, B) looked at (N, 2, A, B) pixels further along A and B."""
    rows, columns = pictures.shape[-2:]
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    place = torch.stack((across + shifts[:, 1], down + shifts[:, 0]), -1)
    unit = place * 2 / torch.tensor([max(columns - 1, 1), max(rows - 1, 1)]) - 1
    return functional.grid_sample(pictures, unit, padding_mode="border", align_corners=True)


def _slope(pictures: Tensor) -> Tensor:
    """Differences along A and B: (N, 1, A, B) → (N, 2, A, B)."""
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    return torch.cat((down, across), 1) / 2


def _smoothed(pictures: Tensor, sigma: float) -> Tensor:
    """Blur (N, C, A, B) by a Gaussian."""
    reach = round(2 * sigma) + 1
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma).square())
    weights = weights / weights.sum()
    channels = pictures.flatten(0, 1)[:, None]
    for kernel, pad in ((weights[:, None], (0, 0, reach, reach)), (weights[None], (reach, reach, 0, 0))):
        channels = functional.conv2d(functional.pad(channels, pad, mode="replicate"), kernel[None, None])
    return channels.reshape(pictures.shape)


def _sampled(stack: Tensor, plane: Tensor, places: Tensor) -> Tensor:
    """(C, Z, A, B) at whole planes (P,) and fractional places (P, 2): (C, P)."""
    sizes = torch.tensor(stack.shape[1:], dtype=torch.float64)
    index = torch.cat((plane[:, None], places), 1)
    unit = (index * 2 / (sizes - 1).clamp_min(1) - 1).float().flip(-1)
    return functional.grid_sample(stack[None], unit[None, :, None, None], padding_mode="border", align_corners=True)[
        0, :, :, 0, 0
    ]
