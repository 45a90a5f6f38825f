"""Hold what an SUV is made of: what was given by hand, and what a PET's source says."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, time
from numbers import Real
from typing import Literal, get_args

from medfuse.errors import IntensityError
from medfuse.volume.modality import Unit

Normalisation = Literal["bw", "lbm", "bsa"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
"""What the dose of an SUV is divided by: body weight, lean body mass, body surface area."""

Sex = Literal["F", "M"]

NO_CORRECTION = frozenset({"none", "no", "nac", "off", "false", "not corrected", "no correction", "uncorrected"})
"""What sources call the method of correcting attenuation where they did not, in small letters."""


@dataclass(frozen=True, kw_only=True)
class SuvInputs:
    """What is given by hand to compute an SUV; it goes before what the source says, and provenance records it.

    Parameters
    ----------
    dose_mbq
        Activity injected, MBq, at the time of the injection.
    injected_at
        When: a date and time, or a time of day on the scan's day; or their text in ISO 8601. Without a zone, it is by
        the clock of the source.
    nuclide
        Such as ``F-18``; its half-life is taken from the table of `medfuse.intensity.nuclides`.
    weight_kg, height_m
        Of the patient.
    sex
        ``F`` or ``M``, which lean body mass needs.

    Raises
    ------
    IntensityError
        If dose, weight or height is no number, or the sex is neither.
    """

    dose_mbq: float | None = None
    injected_at: datetime | time | str | None = None
    nuclide: str | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    sex: Sex | None = None

    def __post_init__(self) -> None:
        for name in ("dose_mbq", "weight_kg", "height_m"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise IntensityError(f"expected {name} as a number; found {type(value).__name__}. Give it as one.")
        if self.sex is not None and self.sex not in get_args(Sex):
            raise IntensityError(f"expected sex as 'F' or 'M'; found {str(self.sex)[:20]!r}. Give one of them.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is given."""
        return tuple(one.name for one in fields(self) if getattr(self, one.name) is not None)


@dataclass(frozen=True)
class Stated:
    """A number and the name of the element, field or option that says it."""

    value: float
    name: str


@dataclass(frozen=True)
class Patient:
    """What a source says of the patient: weight, height, and sex as DICOM writes it."""

    weight_kg: Stated | None = None
    height_m: Stated | None = None
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class Uptake:
    """How a PET's values become SUV, as far as its source says, or what was given by hand in its place.

    Parameters
    ----------
    unit
        What the values are once they are multiplied by ``scale``: Bq/ml, or an SUV.
    dose
        Activity injected, Bq; None where the values are SUV already.
    remaining
        Its share that had not decayed at the time that the values are corrected to; above 1 where that lies before the
        injection, as in a dynamic PET.
    injected_before_s
        How long before that time the injection was, s; None where the values are corrected to the injection itself.
    patient
        Who it was given to.
    overridden
        Elements or fields that say otherwise than what was given by hand.
    inferred
        What was not said and had to be inferred, in words for people.
    """

    unit: Unit
    scale: float = 1.0
    dose: Stated | None = None
    remaining: float = 1.0
    injected_before_s: float | None = None
    patient: Patient = Patient()
    overridden: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
