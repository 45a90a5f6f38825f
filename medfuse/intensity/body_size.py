"""Compute what the dose of an SUV is divided by: body weight, lean body mass, body surface area."""

from __future__ import annotations

from collections.abc import Callable

from medfuse.errors import IntensityError
from medfuse.volume.uptake import Normalisation, Stated

WEIGHTS_KG = (0.5, 350.0)
HEIGHTS_M = (0.2, 2.5)
"""What a patient's weight and height may be: anything else is in another unit, or an error."""

BODY_MASS_INDICES = (5.0, 150.0)
"""What weight and height may be together, kg/m²: from the smallest preterm children to the heaviest people known."""


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


def require_one_body(weight: Stated, height: Stated | None) -> None:
    """Raise `IntensityError` where weight and height cannot be of one body: one of them is wrong, or they are swapped.

    A height that can only be in cm counts as such; one that is none, such as 0 where it is not known, says nothing.
    """
    if height is None:
        return
    lowest, highest = HEIGHTS_M
    metres = height.value if height.value <= highest else height.value / 100
    if not lowest <= metres <= highest:
        return
    index = weight.value / metres**2
    if not BODY_MASS_INDICES[0] <= index <= BODY_MASS_INDICES[1]:
        raise IntensityError(
            f"expected {weight.name} and {height.name} of one body, with {BODY_MASS_INDICES[0]:g} to "
            f"{BODY_MASS_INDICES[1]:g} kg/m²; found {weight.value:g} kg and {metres:g} m, which is {index:.3g} kg/m². "
            "Correct them, or give them (weight_kg=..., height_m=...; --weight, --height)."
        )
