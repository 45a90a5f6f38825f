"""Convert PET to SUV: the uptake for each gram of the patient, which can be compared between patients."""

from __future__ import annotations

from dataclasses import replace
from math import isclose
from typing import Any

from monai.data.meta_tensor import MetaTensor

from medfuse.errors import IntensityError
from medfuse.intensity.body_size import body_size, require_one_body
from medfuse.volume import NO_DOSE, SUV_UNITS, like, meta_of, plain, source_of
from medfuse.volume.modality import Unit
from medfuse.volume.uptake import NORMALISATIONS, Normalisation, Patient, Stated, SuvInputs, Uptake

DOSES_BQ = (1e5, 1e11)
DOSES_BQ_PER_KG = (3e4, 5e9)
"""What is injected for a PET, from trials of very low doses to therapies: anything else is in another unit."""

BY_HAND = "given by hand"
"""Stands in the record for what it does not repeat."""

SIZED_BY: dict[Unit, dict[str, str]] = {
    "SUV": {"weight_kg": "PatientWeight"},
    "SUVbsa": {"weight_kg": "PatientWeight", "height_m": "PatientSize"},
    "SUVlbm": {"weight_kg": "PatientWeight", "height_m": "PatientSize", "sex": "PatientSex"},
}
"""What the size depends on that an SUV of a unit refers to: names of `SuvInputs`, and the elements that say it."""

SAME = 0.01
"""Share by which a value given by hand may differ from the source's and still say the same."""


def to_suv(
    volume: MetaTensor,
    *,
    normalisation: Normalisation = "bw",
    given: SuvInputs = SuvInputs(),
    weight_kg: float | None = None,
) -> MetaTensor:
    """Convert a PET volume to SUV by the rules of QIBA's FDG-PET/CT profile.

    Parameters
    ----------
    volume
        (1, X, Y, Z) of modality PT as `medfuse.load` returns it, in Bq/ml, counts, or SUV already.
    normalisation
        What the dose is divided by: ``bw``, body weight; ``lbm``, lean body mass by Janmahasatian (2005); or ``bsa``,
        body surface area by Du Bois (1916).
    given
        What is given by hand, because the source lacks it or says it wrongly.
    weight_kg
        The patient's weight; the same as ``given=SuvInputs(weight_kg=...)``.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 on the same grid. Its unit is SUV (body weight, g/ml), SUVlbm (g/ml) or SUVbsa (cm²/ml);
        ``meta["suv"]`` records the factor, what was given by hand and what was inferred.

    Raises
    ------
    IntensityError
        If it is no PET; or if its source does not say what an SUV is made of, contradicts itself, or says what cannot
        be. The message names the element.
    """
    meta, source = meta_of(volume), source_of(volume)
    if meta["modality"] != "PT":
        raise IntensityError(f"an SUV is a measure of PET; found {meta['modality']}. Leave the SUV out.")
    if normalisation not in NORMALISATIONS:
        raise IntensityError(f"expected a normalisation of {', '.join(NORMALISATIONS)}; found {normalisation!r}.")
    if source is None:
        raise IntensityError(NO_DOSE)
    if weight_kg is not None:
        given = replace(given, weight_kg=weight_kg)
    uptake = source.uptake(meta["unit"], given)
    unit = SUV_UNITS[normalisation]
    body = Body(uptake.patient, given)
    factor = _factor(uptake, unit, body)
    filled = body.unsaid_for(uptake.unit) if uptake.dose is None else []
    converted = plain(volume) * factor
    record = {
        "normalisation": normalisation,
        "factor": factor,
        "injected_before_s": uptake.injected_before_s,
        # A date is of the patient: ``injected_before_s`` says all that the factor depends on.
        "given": {name: BY_HAND if name == "injected_at" else getattr(given, name) for name in given.names},
        "overridden": [*uptake.overridden, *body.overridden],
        "inferred": [*uptake.inferred, *(f"{name} in the source's SUV: as given by hand" for name in filled)],
    }
    if "padding" in meta:
        return like(converted, volume, unit=unit, suv=record, padding=float(meta["padding"]) * factor)
    return like(converted, volume, unit=unit, suv=record)


def without_patient(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The record of a conversion without what was given by hand of the patient: only that it was."""
    if record is None:
        return None
    of_patient = {"weight_kg", "height_m", "sex"} & record["given"].keys()
    return record | {"given": record["given"] | dict.fromkeys(of_patient, BY_HAND)}


def _factor(uptake: Uptake, unit: Unit, body: Body) -> float:
    """What values are multiplied by to become ``unit``.

    An SUV that the source computed is of the body that it says: what is given by hand takes that body's place.
    """
    if uptake.dose is not None:
        size = body.size(unit)
        _require_dose(uptake.dose, body.weight())
        return uptake.scale * size / (uptake.dose.value * uptake.remaining)
    if uptake.unit == unit:
        if not body.given_for(unit):
            return uptake.scale
        body.require_said(unit)
    return uptake.scale * body.size(unit) / body.of_source().size(uptake.unit)


class Body:
    """Weight, height and sex, as given by hand or else as the source says."""

    def __init__(self, patient: Patient, given: SuvInputs) -> None:
        self._patient, self._given = patient, given

    def given_for(self, unit: Unit) -> list[str]:
        """What is given by hand of all that the size of an SUV of this unit depends on."""
        return [name for name in SIZED_BY[unit] if name in self._given.names]

    def unsaid_for(self, unit: Unit) -> list[str]:
        """The elements of these that the source does not say."""
        return [SIZED_BY[unit][name] for name in self.given_for(unit) if name not in self._said]

    def require_said(self, unit: Unit) -> None:
        """Raise `IntensityError` where an SUV holds a value that nobody knows, so that no other can take its place."""
        if unsaid := self.unsaid_for(unit):
            raise IntensityError(
                f"the values of the PET are SUV already, of a body whose {' and '.join(unsaid)} its source lacks: what "
                f"is given by hand ({', '.join(self.given_for(unit))}) cannot take its place. Leave that out."
            )

    def of_source(self) -> Body:
        """The body that the source's own SUV is of: by hand is only what it does not say."""
        return Body(self._patient, replace(self._given, **dict.fromkeys(self._said)))

    @property
    def _said(self) -> set[str]:
        """What the source says, by the names of `SuvInputs`."""
        weight, height = self._patient.weight_kg, self._patient.height_m
        known = {"weight_kg": weight and weight.value > 0, "height_m": height and height.value > 0}
        return {name for name, told in (known | {"sex": self._patient.sex in ("F", "M")}).items() if told}

    def size(self, unit: Unit) -> float:
        """What an SUV of this unit refers to, g or cm²."""
        normalisation = next(name for name, one in SUV_UNITS.items() if one == unit)
        size = body_size(normalisation, self.weight, self.height, self.sex)
        known = self._given.height_m is not None or self._patient.height_m is not None
        require_one_body(self.weight(), self.height() if known else None)
        return size

    def weight(self) -> Stated:
        """In kg."""
        return _chosen(self._given.weight_kg, self._patient.weight_kg, "PatientWeight", "weight")

    def height(self) -> Stated:
        """In m."""
        return _chosen(self._given.height_m, self._patient.height_m, "PatientSize", "height")

    def sex(self) -> str:
        """F or M."""
        found = self._given.sex or self._patient.sex
        if found not in ("F", "M"):
            raise IntensityError(
                "lean body mass needs PatientSex F or M, which the PET's source lacks; give it (sex=..., --sex), or "
                "take another normalisation."
            )
        return found

    @property
    def overridden(self) -> list[str]:
        """What the source says otherwise than was given by hand."""
        given, patient = self._given, self._patient
        pairs = ((given.weight_kg, patient.weight_kg), (given.height_m, patient.height_m))
        names = [one.name for hand, one in pairs if hand and one and not isclose(one.value, hand, rel_tol=SAME)]
        return names + ["PatientSex"] * bool(given.sex and patient.sex not in ("", given.sex))


def _chosen(by_hand: float | None, stated: Stated | None, element: str, option: str) -> Stated:
    """What was given by hand, else what the source says."""
    argument = f"{option}_{'kg' if option == 'weight' else 'm'}"
    if by_hand is not None:
        return Stated(float(by_hand), f"--{option} ({argument})")
    if stated is None:
        raise IntensityError(
            f"an SUV needs {element}, which the PET's source lacks; give it ({argument}=..., --{option}), or leave the "
            "SUV out."
        )
    return stated


def _require_dose(dose: Stated, weight: Stated) -> None:
    """Raise `IntensityError` where a dose cannot have been injected."""
    absolute, relative = DOSES_BQ, DOSES_BQ_PER_KG
    lowest = max(absolute[0], relative[0] * weight.value)
    highest = min(absolute[1], relative[1] * weight.value)
    if lowest <= dose.value <= highest:
        return
    meant = next(
        (
            unit
            for factor, unit in ((1e6, "MBq"), (1e3, "kBq"), (1e9, "GBq"))
            if lowest * 10 <= dose.value * factor <= highest
        ),
        "",
    )
    raise IntensityError(
        f"expected {dose.name} from {lowest:.3g} to {highest:.3g} Bq for {weight.value:g} kg ({weight.name}); found "
        f"{dose.value:g} Bq{f', perhaps in {meant}' if meant else ''}. Correct it, or give the dose in MBq "
        "(dose_mbq=..., --dose)."
    )
