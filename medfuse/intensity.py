"""What values mean, and how a volume becomes [0, 1]: by one range for the whole volume, never per slice.

MRI has no unit: robust percentiles of the head. CT is in HU: a window. PET and SPECT start at zero: up to a robust
maximum or a given uptake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.errors import IntensityError
from medfuse.volume import Modality, like, meta_of, plain

LARGEST = 1e30
"""Window limits stay below this, so that float32 holds them and their width."""


@dataclass(frozen=True)
class Window:
    """A range of values that is mapped linearly onto [0, 1], in the volume's own unit; values outside are clipped."""

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (self.lower > -LARGEST and self.lower < self.upper < LARGEST):
            raise IntensityError(
                f"a window needs finite limits and a positive width; found {self.lower:g} to {self.upper:g}."
            )

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
    "head": Window(-20.0, 1000.0),
    "brain": Window.from_level(40.0, 80.0),
    "stroke": Window.from_level(40.0, 40.0),
    "subdural": Window.from_level(75.0, 215.0),
    "soft-tissue": Window.from_level(50.0, 350.0),
    "bone": Window.from_level(600.0, 2800.0),
    "lung": Window.from_level(-600.0, 1500.0),
}
"""CT windows by name, HU. ``head``, the default, keeps the brain dark so that the MRI shows it, and bone bright."""

DEFAULT_CT_WINDOW = "head"

LUMA_WEIGHTS = 0.299, 0.587, 0.114
"""Weights of red, green and blue in the brightness of a colour (ITU-R BT.601)."""

MAXIMUM_SAMPLES = 2_000_000
"""Percentiles are taken of an evenly spaced subset no larger than this; their error is far below one grey level."""

OUTSIDE: dict[Modality, float] = {"MR": 0.0, "CT": -1024.0, "PT": 0.0, "NM": 0.0}
"""What a modality measures where there is nothing, in its own unit: the value outside a field of view."""

TOP_SHARE: dict[Modality, float] = {"MR": 0.995, "CT": 0.998, "PT": 0.998, "NM": 0.998}
"""Share of the tissue's values that stay below 1; in MRI fat and vessels outshine the brain, in PET hot spots count."""


def outside_value(volume: MetaTensor) -> float:
    """The value that stands for "nothing here" in a volume: air."""
    meta = meta_of(volume)
    modality: Modality = meta["modality"]
    # A CT in some unit other than HU starts at its own minimum.
    return float(plain(volume).min()) if modality == "CT" and meta["unit"] != "HU" else OUTSIDE[modality]


def parse_window(text: str) -> Window:
    """Read a window from a preset's name, ``LEVEL,WIDTH``, or one number: the uptake shown brightest, from 0.

    Raises
    ------
    IntensityError
        If it is neither.
    """
    if text in CT_WINDOWS_HU:
        return CT_WINDOWS_HU[text]
    try:
        numbers = [float(number) for number in text.split(",")]
        level, width = numbers if len(numbers) == 2 else (numbers[0] / 2, *numbers)
    except ValueError:
        raise IntensityError(
            f"expected a window as LEVEL,WIDTH, as one largest value, or one of {', '.join(CT_WINDOWS_HU)}; "
            f"found {text!r}."
        ) from None
    return Window.from_level(level, width)


def choose_window(volume: MetaTensor, window: str | Window | None = None) -> Window:
    """Decide the range that becomes [0, 1].

    Parameters
    ----------
    volume
        (1, X, Y, Z), in its own unit.
    window
        A preset's name, ``"LEVEL,WIDTH"``, ``"MAXIMUM"`` (from 0) or a window in the volume's unit; None for the
        modality's rule.

    Raises
    ------
    IntensityError
        If a preset in HU is asked of a volume in another unit, or the volume is constant.
    """
    return known_window(volume, window) or _robust_window(volume, meta_of(volume)["modality"])


def known_window(volume: MetaTensor, window: str | Window | None) -> Window | None:
    """`choose_window` where that needs no look at the values, else None; raises as it does."""
    meta = meta_of(volume)
    modality: Modality = meta["modality"]
    if isinstance(window, Window):
        return window
    if window is not None:
        if window in CT_WINDOWS_HU and meta["unit"] != "HU":
            raise IntensityError(
                f"the window {window!r} is in HU, but the {modality} volume is in {meta['unit']} units; give "
                "LEVEL,WIDTH in the volume's own unit, or leave the window out."
            )
        return parse_window(window)
    return CT_WINDOWS_HU[DEFAULT_CT_WINDOW] if modality == "CT" and meta["unit"] == "HU" else None


def _robust_window(volume: MetaTensor, modality: Modality) -> Window:
    values = plain(volume).flatten()
    step = -(-len(values) // MAXIMUM_SAMPLES)
    while math.gcd(step, volume.shape[-1]) > 1:  # else some slices would never be looked at
        step += 1
    sample = values[::step].float()
    lowest, highest = float(sample.min()), float(sample.max())
    if lowest == highest:
        raise IntensityError(f"the {modality} volume is constant ({lowest:g}); check that it is the image you mean.")
    # Air fills most of a volume: percentiles of everything would follow the field of view, not the head.
    air = lowest + 0.05 * (float(torch.quantile(sample, 0.999)) - lowest) if modality == "MR" else max(lowest, 0.0)
    tissue = sample[sample > air]
    top = float(torch.quantile(tissue, TOP_SHARE[modality])) if len(tissue) else highest
    if modality in ("PT", "NM"):
        return Window(0.0, top if top > 0 else highest)
    return Window(lowest if modality == "CT" else float(torch.quantile(sample, 0.01)), top)


def scale(volume: MetaTensor, window: Window) -> MetaTensor:
    """Map ``window`` onto [0, 1] and clip.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 in [0, 1] on the same grid, the window kept in ``meta["window"]``.
    """
    return like(to_unit(plain(volume), window), volume, window=window)


def to_unit(values: Tensor, window: Window) -> Tensor:
    """Map ``window`` onto [0, 1] and clip: values of any shape, into memory of their own."""
    return (values - window.lower).div_(window.width).clamp_(0, 1)
