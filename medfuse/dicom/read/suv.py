"""Compute the factor from a PET's values to SUV (body weight), by the rules of QIBA's FDG-PET/CT profile.

A value that the rules need and the header lacks raises an `IntensityError` that names it. The only assumption is that
an injection without a date took place in the 24 hours before the scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import cast

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from medfuse.dicom.header import ENHANCED, quiet
from medfuse.errors import IntensityError
from medfuse.volume import Unit

PHILIPS = "Philips PET Private Group"
GE = "GEMS_PETD_01"


def suv_factor(headers: Sequence[Dataset], unit: Unit, weight_kg: float | None = None) -> float:
    """What a PET volume's values are multiplied by to become SUV (body weight), g/ml.

    Parameters
    ----------
    headers
        Of the PET series, in slice order.
    unit
        What its values are now.
    weight_kg
        The patient's weight, where the header lacks it; the header's goes first.

    Raises
    ------
    IntensityError
        If the header does not say what the factor is made of.
    """
    with quiet():
        header = headers[0]
        if unit == "SUV":
            return 1.0
        if unit == "counts":
            direct = _same(headers, lambda one: _private(one, 0x7053, PHILIPS, 0x00))
            if direct:
                return direct
            to_activity = _same(headers, lambda one: _private(one, 0x7053, PHILIPS, 0x09))
            if not to_activity:
                raise IntensityError(
                    "the PET is in counts, and its header has no factor to activity (Philips (7053,xx00) or "
                    "(7053,xx09)); there is no SUV. Export it in Bq/ml, or leave the SUV out."
                )
        elif unit == "Bq/ml":
            to_activity = 1.0
        else:
            raise IntensityError(
                "the unit of the PET is not known (Units must be BQML, CNTS or GML); leave the SUV out."
            )
        weight_kg = _positive(header, "PatientWeight") or weight_kg
        if not weight_kg:
            raise _missing("PatientWeight", "give the weight (weight_kg=...)")
        return to_activity * weight_kg * 1000 / _decayed_dose(headers)


def _decayed_dose(headers: Sequence[Dataset]) -> float:
    """The dose in Bq at the time that the values are corrected to."""
    header = headers[0]
    drug = _drug(header)
    dose, half_life = (_positive(drug, keyword) for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife"))
    if not dose:
        raise _missing("RadionuclideTotalDose")
    if not half_life:
        raise _missing("RadionuclideHalfLife")
    if str(header.get("SOPClassUID")) in ENHANCED:
        reference = _enhanced_reference(header)
    else:
        corrected = {str(one) for one in header.get("CorrectedImage") or ()}
        if not {"ATTN", "DECY"} <= corrected:
            raise IntensityError(
                "the PET is not corrected for attenuation and decay (CorrectedImage must hold ATTN and DECY); there is "
                "no SUV. Leave the SUV out."
            )
        correction = header.get("DecayCorrection")
        if correction == "ADMIN":
            return dose
        if correction != "START":
            raise _missing("DecayCorrection", "it must be START or ADMIN")
        reference = _start_of_scan(headers, half_life)
    delay = _delay(drug, reference)
    if delay > 40 * half_life:
        raise IntensityError(
            "more than 40 half-lives lie between injection and scan: one of the dates is wrong, and there is no SUV."
        )
    return float(dose * 2.0 ** (-delay / half_life))


def _delay(drug: Dataset, reference: datetime) -> float:
    """Seconds from the injection to the time that values are corrected to."""
    when = _moment(str(drug.get("RadiopharmaceuticalStartDateTime") or ""))
    if when is not None:
        delay = (reference - when).total_seconds()
        if delay < 0:
            raise IntensityError("the header dates the injection after the scan; there is no SUV. Leave the SUV out.")
        return delay
    text = str(drug.get("RadiopharmaceuticalStartTime") or "")
    time = TM(text) if text else None
    if time is None:
        raise _missing("RadiopharmaceuticalStartDateTime or RadiopharmaceuticalStartTime")
    # A time of day alone: over midnight, the injection was on the day before.
    return (reference - datetime.combine(reference.date(), time)).total_seconds() % 86400


def _start_of_scan(headers: Sequence[Dataset], half_life: float) -> datetime:
    """When the scan began, to which DecayCorrection START corrects (PS3.3 C.8.9.1.1.5).

    SeriesDate and SeriesTime, unless the series was made later from the images; then GE's private scan time; then, as
    Siemens alters SeriesTime, counted back from a frame's reference time, at which its activity is the frame's mean.
    """
    acquired = [one for one in (_at(header, "Acquisition") for header in headers) if one]
    series = _at(headers[0], "Series")
    if series and acquired and series <= min(acquired):
        return series
    scan = _moment(str(_private(headers[0], 0x0009, GE, 0x0D, text=True) or ""))
    if scan:
        return scan
    began = _at(headers[0], "Acquisition")
    reference, duration = (_positive(headers[0], keyword) for keyword in ("FrameReferenceTime", "ActualFrameDuration"))
    if not began or not reference or not duration:
        raise _missing(
            "a SeriesDate and SeriesTime not after AcquisitionDate and AcquisitionTime, or FrameReferenceTime and "
            "ActualFrameDuration"
        )
    decay = math.log(2) / half_life
    faded = decay * duration / 1000
    mean = math.log(faded / -math.expm1(-faded)) / decay
    return began + timedelta(seconds=mean - reference / 1000)


def _enhanced_reference(header: Dataset) -> datetime:
    """The time that an enhanced PET's values are corrected to (PS3.3 C.8.22.2)."""
    for keyword in ("DecayCorrected", "AttenuationCorrected"):
        if header.get(keyword) != "YES":
            raise _missing(keyword, "it must be YES")
    when = _moment(str(header.get("DecayCorrectionDateTime") or ""))
    if when is None:
        raise _missing("DecayCorrectionDateTime")
    return when


def _drug(header: Dataset) -> Dataset:
    drugs: list[Dataset] = list(header.get("RadiopharmaceuticalInformationSequence") or [])
    if len(drugs) != 1:
        raise _missing("RadiopharmaceuticalInformationSequence with one item")
    return drugs[0]


def _at(header: Dataset, which: str) -> datetime | None:
    day, time = (str(header.get(f"{which}{part}") or "") for part in ("Date", "Time"))
    try:
        date, clock = DA(day), TM(time)
    except ValueError:
        return None
    return datetime.combine(date, clock) if date and clock is not None else None


def _moment(text: str) -> datetime | None:
    """A DICOM date and time; the zone is left out, for the times it is held against have none."""
    try:
        found = DT(text) if len(text) >= 12 else None
    except ValueError:
        return None
    return found.replace(tzinfo=None) if found else None


def _positive(header: Dataset, keyword: str) -> float | None:
    return _number(header.get(keyword))


def _number(value: object) -> float | None:
    try:
        number = float(cast("str", value))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _private(header: Dataset, group: int, creator: str, element: int, *, text: bool = False) -> str | float | None:
    """A private element, also where the file does not say what kind it is."""
    try:
        value = header.private_block(group, creator)[element].value
    except KeyError:
        return None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip(" \0")
    return str(value) if text else _number(value)


def _same(headers: Sequence[Dataset], get: Callable[[Dataset], str | float | None]) -> float | None:
    """A factor that all slices share."""
    value, *others = {get(header) for header in headers}
    if others:
        raise IntensityError("the factor to SUV differs between the slices of the PET; export the series again.")
    return value if isinstance(value, float) else None


def _missing(what: str, how: str = "export the series with it, or leave the SUV out") -> IntensityError:
    return IntensityError(f"an SUV needs {what}, which the PET's header lacks; {how}.")
