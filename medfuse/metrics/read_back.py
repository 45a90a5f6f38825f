"""Measure whether a reader can tell both sources' values from the colours of a fused picture.

By a table: what each colour means is learnt on every second slice and looked up on the others, so that only what a
colour always means can be read. By the legend: the uptake is that of its colour with the nearest hue and chroma.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import KDTree
from scipy.stats import spearmanr
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.intensity.colour import Palette
from medfuse.intensity.oklab import to_oklab

LEVELS = 32
"""Levels of red, green and blue that the table tells apart: about as finely as a reader sees."""


class ReadBack(NamedTuple):
    """How well values were read.

    Parameters
    ----------
    spearman
        Rank correlation of read and true values.
    mean_error
        Mean absolute difference, of a range of 1.
    """

    spearman: float
    mean_error: float


def read_by_table(fused: Tensor, values: Tensor, where: Tensor) -> ReadBack:
    """Learn on slices 0, 2, 4 … what colours mean, and read slices 1, 3, 5 … by it.

    Parameters
    ----------
    fused
        (N, 3, H, W) uint8 sRGB, or (N, 1, H, W) uint8 grey.
    values
        (N, 1, H, W) in [0, 1]: the MRI or the uptake that was fused.
    where
        (N, 1, H, W) bool, the pixels that count: the head without the air around it.

    Raises
    ------
    GeometryError
        If the sizes differ, or there are fewer than two slices that count.
    """
    _require_two(fused, values, where)
    codes = _codes(fused)
    learnt, read = (slice(start, None, 2) for start in (0, 1))
    known, place = np.unique(codes[learnt], return_inverse=True)
    count = np.bincount(place.ravel())
    mean = np.bincount(place.ravel(), values[learnt].double().numpy().ravel()) / count
    counted = where[read].numpy().ravel()
    sought, which = np.unique(codes[read].ravel()[counted], return_inverse=True)
    nearest = KDTree(_levels(known)).query(_levels(sought))[1][which.ravel()]
    return _compared(mean[nearest], values[read].double().numpy().ravel()[counted])


def read_by_legend(fused: Tensor, uptake: Tensor, where: Tensor, legend: Palette) -> ReadBack:
    """Read the uptake by hue and chroma of a legend (256, 3), whose colours stand for 0 to 1; arguments as above.

    Hue and chroma are places in OKLab's plane of colours: how bright the MRI makes a colour is left out.
    """
    _require_two(fused, uptake, where)
    plane = to_oklab(torch.tensor(legend.T, dtype=torch.float64))[1:].T.numpy()
    counted = where[:, 0]
    # One number for each colour: a volume has far fewer colours than voxels.
    red, green, blue = fused.movedim(1, 0)[:, counted].int().numpy()
    shown, which = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    channels = torch.from_numpy(np.stack([shown >> 16, shown >> 8 & 255, shown & 255]))
    colours = to_oklab(channels.double() / 255)[1:].T.numpy()
    nearest = KDTree(plane).query(colours)[1][which.ravel()]
    return _compared(nearest / (len(legend) - 1), uptake[:, 0][counted].double().numpy())


def clipped_share(fused: Tensor, where: Tensor) -> float:
    """Share of pixels that count (N, 1, H, W) in which a channel of (N, 3, H, W) uint8 is at an end of its range."""
    at_end = ((fused == 0) | (fused == 255)).any(dim=1, keepdim=True)
    return float(at_end[where].double().mean())


def two_count(where: Tensor) -> bool:
    """Whether both the slices that a table is learnt on and those that it reads have pixels that count."""
    return bool(where[::2].any() and where[1::2].any())


def _compared(read: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> ReadBack:
    constant = np.ptp(read) == 0 or np.ptp(true) == 0
    rank = 0.0 if constant else float(spearmanr(read, true).statistic)
    return ReadBack(rank, float(np.abs(read - true).mean()))


def _codes(fused: Tensor) -> npt.NDArray[np.int64]:
    """One number for each colour that the table tells apart: (N, H, W)."""
    levels = (fused.expand(-1, 3, -1, -1).numpy().astype(np.int64) * LEVELS) // 256
    return np.asarray(np.tensordot(LEVELS ** np.arange(3), levels, (0, 1)), dtype=np.int64)


def _levels(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.stack([codes // LEVELS**power % LEVELS for power in range(3)], axis=-1)


def _require_two(fused: Tensor, values: Tensor, where: Tensor) -> None:
    sizes = [tuple(side.shape) for side in (fused[:, :1], values, where)]
    if len(set(sizes)) > 1 or fused.dtype != torch.uint8 or fused.shape[1] not in (1, 3):
        raise GeometryError(
            f"reading back needs uint8 pictures (N, 3 or 1, H, W) with values and a mask (N, 1, H, W); found "
            f"{fused.dtype} {tuple(fused.shape)}, {tuple(values.shape)} and {tuple(where.shape)}."
        )
    if not two_count(where):
        raise GeometryError("reading back learns on every second slice and reads the others; it needs two that count.")
