"""Read what a NIfTI file's JSON sidecar says of a PET's uptake, under the names of BIDS and dcm2niix."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from medfuse.errors import IntensityError
from medfuse.intensity.decay import (
    LATEST_S,
    Limits,
    given_moment,
    lasting,
    parse_injected_at,
    require_uncorrected,
    seconds_between,
    without_attenuation,
)
from medfuse.intensity.nuclides import half_life_of
from medfuse.volume import SUV_UNITS, Patient, Stated, SuvInputs, Unit, Uptake, activity_per_ml, becquerels_in
from medfuse.volume.uptake import NO_CORRECTION

PET_FIELDS = (
    *("Units", "TracerRadionuclide", "TracerName", "Radiopharmaceutical", "RadionuclideHalfLife"),
    *("InjectedRadioactivity", "InjectedRadioactivityUnits", "RadionuclideTotalDose"),
    *("SpecificRadioactivity", "SpecificRadioactivityUnits", "InjectedMass", "InjectedMassUnits"),
    *("DecayCorrection", "ImageDecayCorrected", "ImageDecayCorrectionTime", "TimeZero", "InjectionStart"),
    *("ScanStart", "FrameTimesStart", "FrameDuration", "PatientWeight", "PatientSize", "PatientSex"),
    *("AttenuationCorrection", "AttenuationCorrectionMethod"),
)
"""Fields of a PET's JSON sidecar that say what its values mean: BIDS 1.10 (PET), and those that dcm2niix adds."""

UNITS: dict[str, Unit] = {
    "suv": "SUV",
    "suvbw": "SUV",
    "suvlbm": "SUVlbm",
    "suvbsa": "SUVbsa",
    "gml": "SUV",
    "cm2ml": "SUVbsa",
    "cnts": "counts",
    "counts": "counts",
}
"""Spellings of units other than activity: medfuse's own, and DICOM's as dcm2niix copies them."""

MASSES_G = {"g": 1.0, "mg": 1e-3, "ug": 1e-6, "ng": 1e-9, "mol": 1.0, "mmol": 1e-3, "umol": 1e-6, "nmol": 1e-9}
"""Masses and amounts, each in its own base: g or mol."""

APART = 2.0
"""By what factor a dose may differ from specific radioactivity times mass, which are often of an earlier time."""

SAME = 0.02
"""By what share two statements of the dose may differ."""

SAME_S = 60.0
"""By how much two statements of one time may differ, s."""

CLOCK = re.compile(r"(\d\d?):(\d\d)(?::(\d\d(?:\.\d*)?))?")


def sidecar_path(path: Path) -> Path:
    """The JSON file that belongs to a NIfTI file."""
    length = len(".nii.gz") if path.name.lower().endswith(".gz") else len(".nii")
    return path.with_name(path.name[:-length] + ".json")


def read_pet_sidecar(path: Path) -> dict[str, object]:
    """Read what the JSON sidecar of a PET says of its uptake, or nothing; a byte order mark is allowed."""
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return {}
    try:
        said = json.loads(sidecar.read_bytes())  # finds UTF-8, UTF-16 and UTF-32 by themselves, and drops their mark
    except (OSError, ValueError, RecursionError) as error:
        raise IntensityError(f"{sidecar} is not readable JSON; correct or remove it.") from error
    return {name: said[name] for name in PET_FIELDS if name in said} if isinstance(said, dict) else {}


def unit_of(said: Mapping[str, object]) -> tuple[Unit, float]:
    """The unit that the values are in once they are multiplied by the factor beside it."""
    text = str(said.get("Units", ""))
    activity = activity_per_ml(text)
    if activity is not None:
        return "Bq/ml", activity
    return UNITS.get(text.replace("/", "").lower(), "arbitrary"), 1.0


def uptake(said: Mapping[str, object], unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
    """What a PET volume's values are to be multiplied with and divided by to become SUV, by what its sidecar says.

    Raises
    ------
    IntensityError
        If the sidecar does not say it, or contradicts itself.
    """
    sex = str(said.get("PatientSex", ""))
    patient = Patient(_number(said, "PatientWeight"), _number(said, "PatientSize"), sex)
    for name in ("AttenuationCorrection", "AttenuationCorrectionMethod"):
        if str(said.get(name, "")).strip().casefold() in NO_CORRECTION:
            raise without_attenuation(f"{name} of its JSON sidecar says so")
    if unit in SUV_UNITS.values():
        require_uncorrected(given)
        return Uptake(unit=unit, patient=patient)
    if unit != "Bq/ml":
        raise IntensityError(
            "an SUV needs Units of activity in the JSON sidecar of the PET, such as Bq/mL or kBq/mL; correct it, or "
            "leave the SUV out."
        )
    dose, overridden = _dose(said, given)
    remaining, delay, inferred, times = _decay(said, given)
    return Uptake(
        unit="Bq/ml",
        dose=dose,
        remaining=remaining,
        injected_before_s=delay,
        patient=patient,
        overridden=(*overridden, *times),
        inferred=inferred,
    )


def _dose(said: Mapping[str, object], given: SuvInputs) -> tuple[Stated, tuple[str, ...]]:
    """The dose in Bq, and the fields that it overrides."""
    stated = []
    total, injected = _number(said, "RadionuclideTotalDose"), _number(said, "InjectedRadioactivity")
    if total is not None:
        stated.append(total)
    becquerels = becquerels_in(str(said.get("InjectedRadioactivityUnits")))
    if injected is not None and becquerels is not None:
        stated.append(Stated(injected.value * becquerels, injected.name))
    if given.dose_mbq is not None:
        by_hand = Stated(given.dose_mbq * 1e6, "--dose (dose_mbq)")
        return by_hand, tuple(one.name for one in stated if not math.isclose(one.value, by_hand.value, rel_tol=SAME))
    if not stated and injected is not None:
        raise IntensityError(
            "an SUV needs InjectedRadioactivityUnits in the JSON sidecar of the PET, such as MBq; correct it, or give "
            "the dose in MBq (dose_mbq=..., --dose)."
        )
    if not stated:
        raise _missing("RadionuclideTotalDose or InjectedRadioactivity", "give the dose in MBq (dose_mbq=..., --dose)")
    if len(stated) == 2:
        _require_agreement(stated[0], stated[1], SAME)
    by_mass = _by_mass(said)
    if by_mass is not None:
        _require_agreement(stated[-1], by_mass, APART - 1)
    return stated[0], ()


def _by_mass(said: Mapping[str, object]) -> Stated | None:
    """The dose in Bq as specific radioactivity times mass, where both have known units of one kind."""
    specific, mass = _number(said, "SpecificRadioactivity"), _number(said, "InjectedMass")
    activity, _, per = str(said.get("SpecificRadioactivityUnits", "")).partition("/")
    becquerels, unit = becquerels_in(activity), _mass_unit(per)
    of = _mass_unit(str(said.get("InjectedMassUnits", "")))
    if specific is None or mass is None or becquerels is None or unit is None or of is None or unit[1] != of[1]:
        return None
    value = specific.value * becquerels / unit[0] * mass.value * of[0]
    return Stated(value, "SpecificRadioactivity times InjectedMass") if math.isfinite(value) and value > 0 else None


def _mass_unit(text: str) -> tuple[float, bool] | None:
    """How many g or mol a unit is, and whether it is one of mol."""
    plain = text.strip().replace("\u00b5", "u").replace("\u03bc", "u")
    return (MASSES_G[plain], plain.endswith("mol")) if plain in MASSES_G else None


def _require_agreement(one: Stated, other: Stated, share: float) -> None:
    smaller, larger = sorted((one.value, other.value))
    if larger > smaller * (1 + share):
        raise IntensityError(
            f"{one.name} is {one.value:.5g} Bq, but {other.name} {other.value:.5g} Bq; there is no SUV. Correct the "
            "JSON sidecar of the PET, or give the dose in MBq (dose_mbq=..., --dose)."
        )


def _decay(
    said: Mapping[str, object], given: SuvInputs
) -> tuple[float, float | None, tuple[str, ...], tuple[str, ...]]:
    """The share of the dose that was left at the time that values are corrected to, and how long before that it was.

    Also what was inferred, and which fields are overridden.
    """
    correction = str(said.get("DecayCorrection", ""))
    corrected = said.get("ImageDecayCorrected")
    if corrected is not None and correction in ("ADMIN", "START", "NONE") and corrected is (correction == "NONE"):
        raise IntensityError(
            f"DecayCorrection is {correction}, but ImageDecayCorrected {str(corrected).lower()}; there is no SUV. "
            "Correct the JSON sidecar of the PET, or leave the SUV out."
        )
    if corrected is False or correction == "NONE":
        raise IntensityError("the PET is not corrected for decay; there is no SUV. Leave the SUV out.")
    reference, injection = _number(said, "ImageDecayCorrectionTime"), _number(said, "InjectionStart")
    if correction == "ADMIN":
        _require_one_time(reference, injection, correction)
        return 1.0, None, (), ()
    if correction == "START":
        start = _number(said, "ScanStart")
        _require_one_time(reference, start, correction)
        reference = reference or start
    if reference is None:
        raise _missing("ImageDecayCorrectionTime")
    half_life, inferred = _half_life(said, given)
    limits = _limits(said, reference, half_life)
    if given.injected_at is not None:
        delay, day = _given_delay(said, reference, limits, given)
        differs = injection is not None and abs(reference.value - injection.value - delay) > SAME_S
        notes = tuple(one for one in (inferred, day) if one)
        return 2.0 ** (-delay / half_life), delay, notes, ("InjectionStart",) * differs
    if injection is None:
        raise _missing("InjectionStart", "add it, or give the time of injection (injected_at=..., --injected-at)")
    delay = limits.require(reference.value - injection.value, injection.name, reference.name)
    return 2.0 ** (-delay / half_life), delay, (inferred,) if inferred else (), ()


def _limits(said: Mapping[str, object], reference: Stated, half_life: float) -> Limits:
    """How late the injection may be: by the end of the last frame, for those before it show nothing of it."""
    starts, durations = said.get("FrameTimesStart"), said.get("FrameDuration")
    if not isinstance(starts, list) or not isinstance(durations, list) or len(starts) != len(durations) or not starts:
        return Limits(half_life)
    try:
        end = max(float(start) + float(duration) for start, duration in zip(starts, durations, strict=True))
    except (TypeError, ValueError, OverflowError):
        return Limits(half_life)
    latest = end - reference.value
    if latest < -LATEST_S:
        raise IntensityError(
            f"{reference.name} in the JSON sidecar of the PET is {reference.value:g} s, {lasting(-latest)} after the "
            f"last frame ended by FrameTimesStart and FrameDuration, at {end:g} s; there is no SUV. Correct one of "
            "them, or leave the SUV out."
        )
    if not 0 <= latest < LATEST_S:
        return Limits(half_life)
    return Limits(half_life, latest, "FrameDuration after FrameTimesStart")


def _half_life(said: Mapping[str, object], given: SuvInputs) -> tuple[float, str]:
    stated = _number(said, "RadionuclideHalfLife")
    names = ("TracerRadionuclide", "TracerName", "Radiopharmaceutical")
    texts = [(str(said.get(name, "")), name) for name in names]
    return half_life_of([stated] if stated else [], texts, given.nuclide)


def _given_delay(said: Mapping[str, object], reference: Stated, limits: Limits, given: SuvInputs) -> tuple[float, str]:
    """The delay by a time of day that was given by hand, and TimeZero, to which all times of a sidecar refer."""
    assert given.injected_at is not None
    value = parse_injected_at(given.injected_at)
    if isinstance(value, datetime):
        raise IntensityError(
            "the JSON sidecar of the PET says no date; give the time of injection as a time of day, HH:MM:SS "
            "(injected_at=..., --injected-at)."
        )
    clock = CLOCK.fullmatch(str(said.get("TimeZero", "")))
    if clock is None:
        raise _missing("TimeZero (hh:mm:ss), to which the time of injection is compared")
    if abs(reference.value) > 1e7:
        raise IntensityError(f"{reference.name} in the JSON sidecar of the PET is no time of a scan; correct it.")
    zero = datetime(2000, 1, 1) + timedelta(hours=int(clock[1]), minutes=int(clock[2]), seconds=float(clock[3] or 0))
    scan = zero + timedelta(seconds=reference.value)
    delay = seconds_between(given_moment(value, scan), scan)
    name = "--injected-at (injected_at)"
    return (delay, "") if limits.allow(delay) else limits.choose_day(delay, name, reference.name)


def _require_one_time(one: Stated | None, other: Stated | None, correction: str) -> None:
    if one is not None and other is not None and abs(one.value - other.value) > SAME_S:
        raise IntensityError(
            f"DecayCorrection is {correction}, but {one.name} is {one.value:g} s and {other.name} {other.value:g} s; "
            "there is no SUV. Correct the JSON sidecar of the PET, or leave the SUV out."
        )


def _number(said: Mapping[str, object], name: str) -> Stated | None:
    """A finite number, also where it is written as text."""
    value = said.get(name)
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return Stated(number, name) if math.isfinite(number) else None


def _missing(what: str, how: str = "add it, or leave the SUV out") -> IntensityError:
    return IntensityError(f"an SUV needs {what}, which the JSON sidecar of the PET lacks; {how}.")
