"""Find the values of a cohort that lie far from the others, and lay out histograms that mark them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import MaxNLocator

LEAST_VALUES = 8
"""Of fewer values none is called an outlier: their quartiles say little."""

FENCE = 1.5
"""How many interquartile ranges beyond a quartile a value is an outlier (Tukey 1977, Exploratory Data Analysis)."""

SAME = 1e-6
"""Values that differ by less than this share of the largest are equal: they are stored as text of six digits."""

BINS = 32

WIDTH, HEIGHT = 640, 150
LEFT, RIGHT, TOP, BOTTOM = 12, 12, 22, 30
"""Of a histogram's drawing, in its own units, and the margins of its axes."""

RULE = (
    f"An outlier lies more than {FENCE} interquartile ranges below the first or above the third quartile (Tukey); of "
    f"alignment errors only above. Of fewer than {LEAST_VALUES} values none is marked."
)
"""The rule, as pages state it."""


@dataclass(frozen=True)
class Measure:
    """One figure of each study of a cohort, or of those that are comparable.

    Parameters
    ----------
    name
        What it is, for people, with its unit.
    flag
        What a study is called that is an outlier in it.
    values
        By study; finite.
    low_is_odd
        Whether values far below the others are outliers, too.
    """

    name: str
    flag: str
    values: Mapping[str, float]
    low_is_odd: bool = True
    outliers: tuple[str, ...] = field(init=False)
    """Studies whose value is an outlier, the farthest first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outliers", tuple(_outliers(self.values, self.low_is_odd)))

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median, third quartile."""
        first, median, third = np.percentile(list(self.values.values()), (25, 50, 75)).tolist()
        return first, median, third

    @property
    def constant(self) -> bool:
        """Whether all values are the same, so that there is nothing to draw."""
        low, high = min(self.values.values()), max(self.values.values())
        return high - low <= SAME * max(abs(low), abs(high))


def _outliers(values: Mapping[str, float], low_is_odd: bool) -> list[str]:
    if len(values) < LEAST_VALUES:
        return []
    numbers = np.array(list(values.values()), dtype=np.float64)
    first, middle, third = np.percentile(numbers, (25, 50, 75))
    margin = max(FENCE * (third - first), SAME * float(np.abs(numbers).max()))
    odd = [
        study for study, value in values.items() if value > third + margin or (low_is_odd and value < first - margin)
    ]
    return sorted(odd, key=lambda study: (-abs(values[study] - middle), study))


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in the drawing's units: left, top, width and height."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Histogram:
    """A measure as it is drawn.

    Parameters
    ----------
    measure
        Whose values.
    bars
        How many values lie between two edges.
    ticks
        Where the axis has numbers, and these.
    marks
        Where outliers lie.
    box
        Places of the quartiles and of the median.
    """

    measure: Measure
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[float, ...]
    box: tuple[float, float, float]


def histogram(measure: Measure) -> Histogram:
    """Lay out a measure that is not constant."""
    numbers = np.array(list(measure.values.values()), dtype=np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    scale = (WIDTH - LEFT - RIGHT) / (high - low)

    def place(value: float) -> float:
        return round(LEFT + (value - low) * scale, 2)

    counts, edges = np.histogram(numbers, bins=BINS, range=(low, high))
    most = int(counts.max())
    floor = HEIGHT - BOTTOM
    bars = []
    for count, begin, end in zip(counts.tolist(), edges.tolist(), edges[1:].tolist(), strict=False):
        if count:
            tall = max(2.0, round((floor - TOP) * count / most, 2))
            bars.append(Bar(place(begin), floor - tall, round(place(end) - place(begin) - 0.6, 2), tall, count))
    steps = [value for value in MaxNLocator(nbins=6).tick_values(low, high) if low <= value <= high]
    first, median, third = measure.quartiles
    return Histogram(
        measure,
        tuple(bars),
        tuple((place(value), f"{value:.6g}") for value in _thinned(steps)),
        tuple(place(measure.values[study]) for study in measure.outliers),
        (place(first), place(median), place(third)),
    )


def _thinned(steps: Sequence[float]) -> Sequence[float]:
    """At most seven of the numbers."""
    return steps[:: len(steps) // 7 + 1]
