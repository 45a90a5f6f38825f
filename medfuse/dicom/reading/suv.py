"""Read from a PET's headers what an SUV is made of, by the rules of QIBA's FDG-PET/CT profile.

A value that the rules need and the header lacks, or that contradicts another, raises an `IntensityError` that names it.
The only assumptions are the half-life of a nuclide that is named, and the day of an injection of which only the time is
said, where no other day is possible; both are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import isclose

from pydicom.dataset import Dataset

from medfuse.dicom.header import ENHANCED, items, quiet, said
from medfuse.dicom.reading.decay_reference import (
    Reference,
    corrected_to_injection,
    reference_of,
    refuse_without_attenuation,
)
from medfuse.dicom.reading.half_life import half_life
from medfuse.dicom.reading.moments import date_time_of, parse_date_time, parse_time, require_same_time, zone_of
from medfuse.dicom.reading.pet_elements import PHILIPS, missing, number, positive, private_number, same_in_slices
from medfuse.errors import IntensityError
from medfuse.intensity.decay import Limits, given_moment, require_uncorrected, seconds_between
from medfuse.intensity.suv import DOSES_BQ
from medfuse.volume import SUV_UNITS, Patient, Stated, SuvInputs, Unit, Uptake

SAME_FACTOR = 0.1
"""Share by which two ways to one factor may differ: scanners count decay to the frame or to the series."""

BY_HAND = "(dose_mbq=..., injected_at=..., nuclide=...; --dose, --injected-at, --nuclide)"

IN_ALL_SLICES = {
    "": (
        "Units",
        "DecayCorrection",
        "PatientWeight",
        "PatientSize",
        "TimezoneOffsetFromUTC",
        "SeriesDate",
        "SeriesTime",
    ),
    "RadiopharmaceuticalInformationSequence": (
        *("RadionuclideTotalDose", "RadionuclideHalfLife"),
        *("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"),
    ),
}
"""What all slices of a series say alike."""

OPTION_FOR = {
    "PatientWeight": "weight_kg",
    "PatientSize": "height_m",
    "RadionuclideTotalDose": "dose_mbq",
    "RadionuclideHalfLife": "nuclide",
    "RadiopharmaceuticalStartDateTime": "injected_at",
    "RadiopharmaceuticalStartTime": "injected_at",
}
"""What is given by hand in place of an element."""


def uptake(headers: Sequence[Dataset], unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
    """What a PET volume's values are to be multiplied with and divided by to become SUV.

    Parameters
    ----------
    headers
        Of the PET series, in slice order.
    unit
        What its values are now.
    given
        What is given by hand, and goes before what the headers say.

    Raises
    ------
    IntensityError
        If the headers do not say it, or contradict each other.
    """
    with quiet():
        header = headers[0]
        weight, height = _stated(header, "PatientWeight"), _stated(header, "PatientSize")
        patient = Patient(weight, height, said(header, "PatientSex"))
        if unit in SUV_UNITS.values():
            require_uncorrected(given)
            refuse_without_attenuation(header)
            return Uptake(unit=unit, patient=patient)
        _require_same_in_slices(headers, given)
        _require_rescale(headers)
        scale = _scale(headers, unit, given)
        if scale.direct:
            refuse_without_attenuation(header)
            _require_same_factor(headers, scale.factor, weight)
            return Uptake(unit="SUV", scale=scale.factor, patient=patient)
        drug = _drug(headers, given)
        dose, overridden = _dose(drug, given)
        decay = _decay(headers, drug, given)
        return Uptake(
            unit="Bq/ml",
            scale=scale.factor,
            dose=dose,
            remaining=decay.remaining,
            injected_before_s=decay.injected_before_s,
            overridden=(*overridden, *decay.overridden),
            inferred=decay.inferred,
            patient=patient,
        )


def _require_rescale(headers: Sequence[Dataset]) -> None:
    """Raise where a slice of a classic PET does not say its rescale, without which activity is of no known scale."""
    for header in headers:
        if said(header, "SOPClassUID") not in ENHANCED and not said(header, "RescaleSlope"):
            raise missing("RescaleSlope in all slices")


@dataclass(frozen=True)
class Scale:
    """The factor to Bq/ml or, directly, to SUV."""

    factor: float = 1.0
    direct: bool = False


def _scale(headers: Sequence[Dataset], unit: Unit, given: SuvInputs) -> Scale:
    if unit == "Bq/ml":
        return Scale()
    if unit != "counts":
        raise IntensityError(
            "the unit of the PET is not known (Units must be BQML, CNTS or GML; SUVType BW, LBMJANMA or BSA); leave "
            "the SUV out."
        )
    direct = same_in_slices(headers, lambda one: private_number(one, 0x7053, PHILIPS, 0x00))
    to_activity = same_in_slices(headers, lambda one: private_number(one, 0x7053, PHILIPS, 0x09))
    # Another weight can take the place of the one in the scanner's factor, but of none that is not said.
    by_weight = bool(to_activity) and _is_other_weight(headers[0], given)
    if direct and not by_weight and not {"dose_mbq", "injected_at", "nuclide"} & set(given.names):
        return Scale(direct, direct=True)
    if not to_activity:
        raise IntensityError(
            "the PET is in counts, and its header has no factor to activity (Philips (7053,xx00) or (7053,xx09)); "
            "there is no SUV. Export it in Bq/ml, or leave the SUV out."
        )
    return Scale(to_activity)


def _require_same_factor(headers: Sequence[Dataset], direct: float, weight: Stated | None) -> None:
    """Raise `IntensityError` where a scanner's factor to SUV is another than its factor to activity leads to.

    Where dose, decay or weight cannot be told, there is nothing to compare with.
    """
    to_activity = same_in_slices(headers, lambda one: private_number(one, 0x7053, PHILIPS, 0x09))
    if not to_activity or weight is None or weight.value <= 0:
        return
    by_hand = SuvInputs()
    try:
        drug = _drug(headers, by_hand)
        dose, _ = _dose(drug, by_hand)
        decay = _decay(headers, drug, by_hand)
    except IntensityError:
        return
    if not DOSES_BQ[0] <= dose.value <= DOSES_BQ[1]:
        return
    computed = to_activity * weight.value * 1000 / (dose.value * decay.remaining)
    if not isclose(computed, direct, rel_tol=SAME_FACTOR):
        raise IntensityError(
            f"Philips (7053,xx00) says a factor to SUV of {direct:.4g}, but (7053,xx09) with dose, decay and weight "
            f"leads to {computed:.4g}; there is no SUV. Correct the header, or give the dose, which leaves (7053,xx00) "
            "out (dose_mbq=..., --dose)."
        )


def _is_other_weight(header: Dataset, given: SuvInputs) -> bool:
    """Whether a weight is given by hand that the header does not say."""
    weight = positive(header, "PatientWeight")
    return given.weight_kg is not None and not (weight and isclose(weight, given.weight_kg, rel_tol=0.01))


def _stated(header: Dataset, keyword: str) -> Stated | None:
    value = number(header, keyword)  # what cannot be is refused where it is used, with its range
    return None if value is None else Stated(value, keyword)


@dataclass(frozen=True)
class Decay:
    """How much of a dose was left at the time that values are corrected to; see `medfuse.volume.uptake.Uptake`."""

    remaining: float = 1.0
    injected_before_s: float | None = None
    overridden: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()


def _drug(headers: Sequence[Dataset], given: SuvInputs) -> Dataset:
    """What was injected: the one item, or nothing where all that it says is given by hand.

    Raises
    ------
    IntensityError
        If there is none, or several, or slices differ in what they say.
    """
    drugs = items(headers[0], "RadiopharmaceuticalInformationSequence")
    if len(drugs) == 1:
        return drugs[0]
    if {"dose_mbq", "injected_at", "nuclide"} <= set(given.names):
        return Dataset()
    if drugs:
        raise IntensityError(
            f"an SUV needs RadiopharmaceuticalInformationSequence with one item; found {len(drugs)}. Say what was "
            f"measured {BY_HAND}."
        )
    raise IntensityError(
        "an SUV needs RadiopharmaceuticalInformationSequence, which the PET's header lacks; give what it would say "
        f"{BY_HAND}, or leave the SUV out."
    )


def _dose(drug: Dataset, given: SuvInputs) -> tuple[Stated, tuple[str, ...]]:
    """The dose in Bq, and the element that it overrides."""
    stated = number(drug, "RadionuclideTotalDose")
    if given.dose_mbq is not None:
        differs = stated is not None and not isclose(stated, given.dose_mbq * 1e6, rel_tol=0.01)
        return Stated(given.dose_mbq * 1e6, "--dose (dose_mbq)"), ("RadionuclideTotalDose",) * differs
    if stated is None:
        raise missing("RadionuclideTotalDose", "give the dose in MBq (dose_mbq=..., --dose)")
    return Stated(stated, "RadionuclideTotalDose"), ()


def _decay(headers: Sequence[Dataset], drug: Dataset, given: SuvInputs) -> Decay:
    """What decayed between the injection and the time that the values are corrected to."""
    header = headers[0]
    zone = zone_of(header, [drug])
    if corrected_to_injection(header):
        return Decay()
    seconds, *inferred = half_life(header, drug, given)
    if zone and not said(header, "TimezoneOffsetFromUTC"):
        inferred.append("zone of the header's times: by a moment that it says with a zone and without")
    reference, limits = reference_of(headers, seconds, zone)
    overridden: tuple[str, ...] = ()
    if given.injected_at is not None:
        injected = given_moment(given.injected_at, reference.local(zone))
        delay = limits.require(seconds_between(injected, reference.when), "--injected-at (injected_at)", reference.name)
        overridden = _overridden_times(drug, injected, zone)
    else:
        delay, day = _delay(drug, reference, limits, zone)
        inferred.append(day)
    remaining = 2.0 ** (-delay / seconds)
    return Decay(remaining, delay, overridden, tuple(one for one in inferred if one))


def _delay(drug: Dataset, reference: Reference, limits: Limits, zone: timezone | None) -> tuple[float, str]:
    """Seconds from the injection to the reference, and what was inferred for it."""
    moment, clock = "RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"
    injected = date_time_of(drug, moment, zone)
    text = said(drug, clock)
    time = parse_time(text)
    if text and time is None:
        raise missing(f"a readable {clock} (HHMMSS)", "give the time (injected_at=..., --injected-at)")
    if injected is not None:
        if time is not None:
            require_same_time(time, injected, (clock, moment), zone)
        return limits.require(_between(injected, moment, reference), moment, reference.name), ""
    if time is None:
        raise missing(f"{moment} or {clock}", "give the time (injected_at=..., --injected-at)")
    same_day = datetime.combine(reference.local(zone).date(), time, tzinfo=zone)
    return limits.choose_day(_between(same_day, clock, reference), clock, reference.name)


def _between(injected: datetime, name: str, reference: Reference) -> float:
    if (injected.tzinfo is None) != (reference.when.tzinfo is None):
        raise IntensityError(
            f"{name} and {reference.name} of the PET are by different clocks: only one has a zone, and nothing says "
            "the other's (TimezoneOffsetFromUTC); there is no SUV. Give the time of injection by the scanner's clock "
            "(injected_at=..., --injected-at)."
        )
    return seconds_between(injected, reference.when)


def _overridden_times(drug: Dataset, injected: datetime, zone: timezone | None) -> tuple[str, ...]:
    """The elements that say another time of the injection than was given by hand."""
    keyword = "RadiopharmaceuticalStartDateTime"
    stated = parse_date_time(said(drug, keyword), zone)
    if stated is not None and (stated.tzinfo is None) == (injected.tzinfo is None):
        return (keyword,) if abs(seconds_between(stated, injected)) > 60 else ()
    keyword = "RadiopharmaceuticalStartTime"
    clock = parse_time(said(drug, keyword))
    if clock is None:
        return ()
    local = injected.astimezone(zone) if injected.tzinfo and zone else injected
    return (keyword,) if (clock.hour, clock.minute) != (local.hour, local.minute) else ()


def _require_same_in_slices(headers: Sequence[Dataset], given: SuvInputs) -> None:
    for sequence, keywords in IN_ALL_SLICES.items():
        holders = [one for header in headers for one in (items(header, sequence)[:1] if sequence else [header])]
        for keyword in keywords:
            found = {positive(one, keyword) or said(one, keyword) for one in holders} - {""}
            if len(found) > 1 and OPTION_FOR.get(keyword) not in given.names:
                raise IntensityError(
                    f"{keyword} differs between the slices of the PET; there is no SUV. Export the series again, or "
                    "choose one of its series."
                )
