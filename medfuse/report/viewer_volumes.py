"""Make volumes small enough for a page, without changing what a voxel holds by more than can be read."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.intensity import Window, to_unit
from medfuse.nifti.writing import encode
from medfuse.report.slice_view import share_shown
from medfuse.volume import Grid, grid_of, like, plain
from medfuse.volume.grid import Points

MOST_VOXELS = 2_600_000
"""Of one volume in a page: 128 × 128 × 150, and what a phone's browser still shows."""

STEPS = 1000
"""A window has at least as many steps of value: more than a picture of 256 greys shows."""

COLOUR_STEP = 4
"""Red, green and blue are kept to multiples of it."""

MARGIN_MM, LEAST_SHOWN = 10.0, 0.001
"""A viewer shows so much more around slices of which at least this share shows something: the rest is air."""

MOST_STORED = 32_000
"""Within int16."""


@dataclass(frozen=True)
class Shown:
    """A volume for a viewer.

    Parameters
    ----------
    name, label
        For scripts, and for people.
    volume
        (1, X, Y, Z) values in their own unit, or (3, X, Y, Z) uint8.
    unit
        What stands behind a value; empty where it has none.
    window
        The values that are shown from the first to the last colour; None for RGB.
    colours
        (256, 3) in [0, 1].
    """

    name: str
    label: str
    volume: MetaTensor
    unit: str = ""
    window: Window | None = None
    colours: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Packed:
    """Volumes as a page holds them, and what became of them.

    Parameters
    ----------
    volumes
        As JSON: ``name``, ``label``, ``unit``, ``step`` and ``decimals`` of a value, ``lower`` and ``upper`` of the
        window, ``colours`` (256 times red, green, blue, 0 to 255) and ``nifti``, a NIfTI file in base64.
    kept
        Every how manieth voxel is there, along each axis of the grid.
    grid
        Where those lie.
    """

    volumes: list[dict[str, object]]
    kept: tuple[int, int, int]
    grid: Grid


def pack(shown: Sequence[Shown], most_bytes: int) -> Packed:
    """Thin volumes on one grid until they fit into a page; what stays is rounded to a step, and not interpolated.

    Parameters
    ----------
    shown
        Volumes; voxels are left out where they lie closest together, so that the value at a place that is shown is the
        volume's own.
    most_bytes
        What all take together in base64.
    """
    grid = grid_of(shown[0].volume)
    kept, most_voxels = (1, 1, 1), MOST_VOXELS
    while True:
        thin = thinned(grid, kept)
        if math.prod(thin.shape) <= most_voxels or max(thin.shape) <= 1:
            files = [_encoded(each, kept, thin) for each in shown]
            taken = sum(len(content) for content, _ in files) * 4 / 3
            if taken <= most_bytes or max(thin.shape) <= 1:
                break
            # What is left of voxels further apart is packed less well.
            most_voxels = int(math.prod(thin.shape) * most_bytes / taken)
        kept = _coarser(kept, thin)
    volumes = [_described(each, content, step) for each, (content, step) in zip(shown, files, strict=True)]
    return Packed(volumes, kept, thin)


def cropped(shown: Sequence[Shown], sources: Sequence[MetaTensor]) -> list[Shown]:
    """Leave the margin out of volumes on one grid where no source, (1, X, Y, Z) in [0, 1], shows anything."""
    grid = grid_of(sources[0])
    box = tuple(_extent(sources, axis, MARGIN_MM / grid.spacing[axis]) for axis in range(3))
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world([each.start for each in box])
    x, y, z = (each.stop - each.start for each in box)
    inner = Grid((x, y, z), affine)
    return [
        replace(each, volume=like(plain(each.volume)[:, box[0], box[1], box[2]], each.volume, inner)) for each in shown
    ]


def _extent(sources: Sequence[MetaTensor], axis: int, margin: float) -> slice:
    """From the first to the last slice across an axis that shows something, and a margin in voxels."""
    share = np.max([share_shown(each, axis) for each in sources], axis=0)
    seen = np.flatnonzero(share > LEAST_SHOWN)
    if not len(seen):
        return slice(0, len(share))
    return slice(max(0, math.floor(seen[0] - margin)), min(len(share), math.ceil(seen[-1] + margin) + 1))


def thinned(grid: Grid, kept: tuple[int, int, int]) -> Grid:
    """The places of every so manieth voxel, beginning half as many from the edge."""
    first = _first(kept)
    shape = tuple(-(-(length - start) // step) for length, start, step in zip(grid.shape, first, kept, strict=True))
    affine = grid.affine @ np.diag([*map(float, kept), 1.0])
    affine[:3, 3] = grid.world(first)
    return Grid((shape[0], shape[1], shape[2]), affine)


def step_of_values(window: Window, largest: float) -> float:
    """The step that values are rounded to: 1, 2 or 5 times a power of ten, at most 1/1000 of the window's width.

    It is larger only where int16 could not hold the largest value.
    """
    wanted = max(window.width / STEPS, 1e-30)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = power * max(each for each in (1, 2, 5) if each * power <= wanted * (1 + 1e-9))
    while largest / step > MOST_STORED:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    return float(f"{step:.6g}")


def decimals_of(step: float) -> int:
    """Digits behind the point that a value in such steps has."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _first(kept: tuple[int, int, int]) -> Points:
    return np.array([step // 2 for step in kept])


def _coarser(kept: tuple[int, int, int], thin: Grid) -> tuple[int, int, int]:
    """One voxel fewer along the axis whose voxels lie closest, of those that have more than one."""
    spacing = [gap if length > 1 else math.inf for gap, length in zip(thin.spacing, thin.shape, strict=True)]
    closest = int(np.argmin(np.round(spacing, 3)))
    x, y, z = (step + 1 if axis == closest else step for axis, step in enumerate(kept))
    return x, y, z


def _encoded(shown: Shown, kept: tuple[int, int, int], thin: Grid) -> tuple[bytes, float]:
    """A volume as NIfTI, and the step of its values."""
    x, y, z = (slice(int(start), None, step) for start, step in zip(_first(kept), kept, strict=True))
    values = plain(shown.volume)[:, x, y, z].cpu()
    if shown.window is None:
        stored = (values.permute(1, 2, 3, 0) // COLOUR_STEP * COLOUR_STEP).numpy()
        return encode(stored, thin), float(COLOUR_STEP)
    largest = float(values.abs().max())
    step = step_of_values(shown.window, largest)
    stored = torch.round(values[0].double() / step).to(torch.int16).numpy()
    return encode(stored, thin, slope=step), step


def _described(shown: Shown, content: bytes, step: float) -> dict[str, object]:
    about: dict[str, object] = {
        "name": shown.name,
        "label": shown.label,
        "unit": shown.unit,
        "nifti": base64.b64encode(content).decode("ascii"),
    }
    if shown.window is None or shown.colours is None:
        return about
    window = shown.window
    # A viewer knows linear windows alone: a tone curve goes into the colours.
    places = torch.linspace(window.lower, window.upper, 256)
    order = torch.round(to_unit(places, window) * 255).long().numpy()
    return about | {
        "step": step,
        "decimals": decimals_of(step),
        "lower": window.lower,
        "upper": window.upper,
        "colours": np.rint(shown.colours[order] * 255).astype(int).ravel().tolist(),
    }
