"""Read single elements of a PET's headers for its SUV: numbers, private elements, what slices share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import cast

from pydicom.dataset import Dataset

from medfuse.dicom.header import numbers
from medfuse.errors import IntensityError
from medfuse.intensity.tracers import tracer_named

GE = "GEMS_PETD_01"
PHILIPS = "Philips PET Private Group"

MONTH_S = 31 * 86400.0


def positive(header: Dataset, keyword: str) -> float | None:
    """A positive number; None where there is none."""
    found = number(header, keyword)
    return found if found is not None and found > 0 else None


def number(header: Dataset, keyword: str) -> float | None:
    """The one finite number of an element; None where there is none."""
    found = numbers(header, keyword)
    return found[0] if len(found) == 1 else None


def duration_s(header: Dataset, keyword: str) -> float | None:
    """A positive duration that the header has in ms, in s; None where there is none, or one of more than a month."""
    found = positive(header, keyword)
    return found / 1000 if found is not None and found / 1000 < MONTH_S else None


def tracer_of(header: Dataset) -> str:
    """The tracer of a PET or SPECT (PS3.3 C.8.9.2 and C.8.4.10), by its short name; empty where none is known."""
    told: list[object] = []
    for item in header.get("RadiopharmaceuticalInformationSequence") or ():
        codes = item.get("RadiopharmaceuticalCodeSequence") or ()
        told += [item.get("Radiopharmaceutical"), *(code.get("CodeMeaning") for code in codes)]
    return tracer_named(*(text for text in told if text))


def private_number(header: Dataset, group: int, creator: str, element: int) -> float | None:
    """A positive number of a private element, also where the file does not say what kind it is."""
    try:
        number = float(cast("str", _private(header, group, creator, element)))
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) and number > 0 else None


def private_text(header: Dataset, group: int, creator: str, element: int) -> str:
    """The text of a private element; empty where it is absent."""
    value = _private(header, group, creator, element)
    return "" if value is None else str(value)


def _private(header: Dataset, group: int, creator: str, element: int) -> object:
    try:
        value = header.private_block(group, creator)[element].value
    except (KeyError, ValueError):
        return None
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else value


def same_in_slices(headers: Sequence[Dataset], get: Callable[[Dataset], float | None]) -> float | None:
    """A factor that all slices share; `IntensityError` where they differ."""
    value, *others = {get(header) for header in headers}
    if others:
        raise IntensityError("the factor to SUV differs between the slices of the PET; export the series again.")
    return value


def missing(what: str, how: str = "export the series with it, or leave the SUV out") -> IntensityError:
    """The error where a header lacks what an SUV needs."""
    return IntensityError(f"an SUV needs {what}, which the PET's header lacks; {how}.")
