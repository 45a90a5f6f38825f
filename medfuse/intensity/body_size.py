"""Compute what the dose of an SUV is divided by: body weight, lean body mass, body surface area."""

from __future__ import annotations

from collections.abc import Callable

from medfuse.errors import IntensityError
from medfuse.volume.uptake import Normalisation, Stated

WEIGHTS_KG = (0.5, 350.0)
HEIGHTS_M = (0.2, 2.5)
"""What a patient's weight and height may be: anything else is in another unit, or an error."""


def body_size(
    normalisation: Normalisation, weight: Callable[[], Stated], height: Callable[[], Stated], sex: Callable[[], str]
) -> float:
    """The size that an SUV refers to: g of body weight or lean body mass, or cm² of body surface.

    Parameters
    ----------
    normalisation
        ``bw``; ``lbm`` by Janmahasatian et al., Clin Pharmacokinet 44:1051-1065 (2005), DICOM's LBMJANMA; or ``bsa`` by
        Du Bois and Du Bois, Arch Intern Med 17:863-871 (1916).
    weight, height, sex
        Asked for only where they are needed; kg, m, and ``F`` or ``M``.

    Raises
    ------
    IntensityError
        If one of them is missing, or cannot be a patient's.
    """
    kilograms = _within(weight(), WEIGHTS_KG, "kg", 1000.0, "g", "weight_kg=..., --weight")
    if normalisation == "bw":
        return kilograms * 1000
    metres = _within(height(), HEIGHTS_M, "m", 100.0, "cm", "height_m=..., --height")
    if normalisation == "bsa":
        return float(71.84 * kilograms**0.425 * (metres * 100) ** 0.725)
    index = kilograms / metres**2
    base, slope = {"F": (8780.0, 244.0), "M": (6680.0, 216.0)}[sex()]
    return 9270.0 * kilograms / (base + slope * index) * 1000


def _within(stated: Stated, limits: tuple[float, float], unit: str, smaller: float, other: str, option: str) -> float:
    lowest, highest = limits
    if lowest <= stated.value <= highest:
        return stated.value
    meant = f", perhaps in {other}" if lowest <= stated.value / smaller <= highest else ""
    raise IntensityError(
        f"expected {stated.name} from {lowest:g} to {highest:g} {unit}; found {stated.value:g}{meant}. Correct it, or "
        f"give it ({option})."
    )
