"""Name ranges of values: windows, and the presets for CT."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from medfuse.errors import IntensityError, did_you_mean

LARGEST = 1e30
"""Window limits stay below this, so that float32 holds them and their width."""


@dataclass(frozen=True)
class Window:
    """A range of values that is mapped onto [0, 1], in the volume's own unit; values outside are clipped.

    Parameters
    ----------
    lower, upper
        What becomes 0 and 1.
    bends
        Values between the two with their place in [0, 1], both rising: between them the map is linear. Without any it
        is linear from end to end, else it is a tone curve.
    """

    lower: float
    upper: float
    bends: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self.lower > -LARGEST and self.lower < self.upper < LARGEST):
            raise IntensityError(
                f"a window needs finite limits and a positive width; found {self.lower:g} to {self.upper:g}."
            )
        points = self.points
        if not all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(points)):
            raise IntensityError(f"a tone curve must rise from its lower to its upper limit; found {points}.")

    def __str__(self) -> str:
        """Both limits by four digits that count, as people write them: ``0 to 17360``."""
        lower, upper = (f"{float(f'{limit:.4g}'):g}" for limit in (self.lower, self.upper))
        return f"{lower} to {upper}"

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Values and their places in [0, 1], from end to end."""
        return ((self.lower, 0.0), *self.bends, (self.upper, 1.0))

    @property
    def linear(self) -> Window:
        """What stands for a tone curve where only a linear window can be given: from its start to its steepest end."""
        _, (high, _) = max(pairwise(self.points), key=lambda ends: ends[1][1] - ends[0][1])
        return Window(self.lower, high)

    @classmethod
    def from_level(cls, level: float, width: float) -> Window:
        """Make a window from its centre and width, as viewers name it."""
        return cls(level - width / 2, level + width / 2)

    @property
    def level(self) -> float:
        return (self.lower + self.upper) / 2

    @property
    def width(self) -> float:
        return self.upper - self.lower


CT_WINDOWS_HU: dict[str, Window] = {
    "head": Window(-10.0, 1500.0, ((35.0, 0.2), (75.0, 0.85), (200.0, 0.9))),
    "body": Window(-160.0, 1500.0, ((240.0, 0.75),)),
    "brain": Window.from_level(40.0, 80.0),
    "stroke": Window.from_level(40.0, 40.0),
    "subdural": Window.from_level(75.0, 215.0),
    "soft-tissue": Window.from_level(50.0, 350.0),
    "bone": Window.from_level(600.0, 2800.0),
    "lung": Window.from_level(-600.0, 1500.0),
}
"""CT windows by name, HU. ``head``, the default where a head is shown, is a tone curve: healthy brain (up to 40 HU)
stays dark, so that the MRI shows it; blood (50 to 90 HU) rises steeply out of it; calcifications and bone share what is
left. ``body``, the default elsewhere, is the usual window of soft tissue (level 40, width 400) with room for bone above
it: fat and muscle of a limb or a trunk lie on either side of the curve for heads, whose steep part would show little
but noise."""

HEAD_WINDOW, BODY_WINDOW = "head", "body"


def parse_window(text: str) -> Window:
    """Read a window from a preset's name, ``LEVEL,WIDTH``, or one number: the uptake shown brightest, from 0.

    Raises
    ------
    IntensityError
        If it is none of these, or no text at all.
    """
    if not isinstance(text, str):
        raise IntensityError(
            f"expected a window as text or as medfuse.Window; found an object of type {type(text).__name__}. Give "
            "Window(LOWER, UPPER), Window.from_level(LEVEL, WIDTH) or 'LEVEL,WIDTH'."
        )
    if text in CT_WINDOWS_HU:
        return CT_WINDOWS_HU[text]
    try:
        numbers = [float(number) for number in text.split(",")]
        level, width = numbers if len(numbers) == 2 else (numbers[0] / 2, *numbers)
    except ValueError:
        raise IntensityError(
            f"expected a window as LEVEL,WIDTH, as one largest value, or one of {', '.join(CT_WINDOWS_HU)}; "
            f"found {text[:60]!r}.{did_you_mean(text, CT_WINDOWS_HU)}"
        ) from None
    try:
        return Window.from_level(level, width)
    except IntensityError:
        raise IntensityError(
            f"expected a window as LEVEL,WIDTH with a positive width, or as one positive value, no number beyond "
            f"{LARGEST:g}; found {text[:60]!r}."
        ) from None
