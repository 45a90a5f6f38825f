"""Compute local means under a window, as all scores of structure need them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


def gaussian(size: int, deviation: float) -> list[float]:
    """The weights of a Gaussian window along one axis; they sum to 1."""
    weights = [math.exp(-((place - size // 2) ** 2) / (2 * deviation**2)) for place in range(size)]
    return [weight / sum(weights) for weight in weights]


def uniform(size: int) -> list[float]:
    """The weights of a flat window along one axis; they sum to 1."""
    return [1 / size] * size


def smooth(picture: Tensor, window: Sequence[float]) -> Tensor:
    """Filter along rows and columns, only where the window lies inside the picture.

    Parameters
    ----------
    picture
        (..., H, W).
    window
        An odd number of weights, the same from both ends.

    Returns
    -------
    Tensor
        (..., H - n + 1, W - n + 1) for n weights.
    """
    return _along(_along(picture, window, -1), window, -2)


def _along(picture: Tensor, window: Sequence[float], axis: int) -> Tensor:
    # Sums of shifted views: several times faster than a convolution in float64, and the same on any device.
    last = len(window) - 1
    length = picture.shape[axis] - last
    filtered = picture.narrow(axis, last // 2, length) * window[last // 2]
    for place in range(last // 2):
        both = picture.narrow(axis, place, length) + picture.narrow(axis, last - place, length)
        filtered.add_(both, alpha=window[place])
    return filtered


class Moments(NamedTuple):
    """Means and variances of one picture under a window."""

    mean: Tensor
    variance: Tensor


def moments(picture: Tensor, window: Sequence[float]) -> Moments:
    """Local mean and (population) variance."""
    mean = smooth(picture, window)
    return Moments(mean, (smooth(picture * picture, window) - mean * mean).clamp_(min=0))


def covariance(first: Tensor, second: Tensor, means: tuple[Tensor, Tensor], window: Sequence[float]) -> Tensor:
    """Local (population) covariance of two pictures whose local means are known."""
    return smooth(first * second, window) - means[0] * means[1]
