"""Read dates and times of a header as moments on one clock: DA and TM, DT, and their zones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone

from pydicom.dataset import Dataset

from medfuse.dicom.header import said
from medfuse.errors import IntensityError

TIME = re.compile(r"(\d\d)(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?")
DATE_TIME = re.compile(r"(\d{8})(\d{4}(?:\d\d(?:\.\d{1,6})?)?)([+-]\d{4})?")
ZONE = re.compile(r"([+-])(\d\d)(\d\d)")

SAME_S = 60.0
"""Within what two statements of one moment say the same: some are rounded to minutes."""

QUARTER_S = 900.0
"""Zones differ by whole quarters of an hour."""

ONLY_HOURS = 10
"""Beyond so many hours from UTC, a time of day alone fits two zones."""


def parse_zone(text: str) -> timezone | None:
    """A zone as DICOM writes it, ±HHMM from -1200 to +1400 (PS3.3 C.12.1.1.8); None for anything else."""
    found = ZONE.fullmatch(text.replace(":", ""))
    if found is None or int(found[3]) > 59:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (1 if found[1] == "+" else -1)
    return timezone(offset) if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def parse_date(text: str) -> date | None:
    """A date (DA), in the older form with points, too; None where it is none, or none of a scan."""
    digits = text.replace(".", "")
    try:
        found = datetime.strptime(digits, "%Y%m%d").date() if len(digits) == 8 else None
    except ValueError:
        return None
    return found if found and 1900 <= found.year < 3000 else None


def parse_time(text: str) -> time | None:
    """A time of day (TM) to the minute or better; a leap second counts as the one before it."""
    found = TIME.fullmatch(text.replace(":", ""))
    if found is None:
        return None
    try:
        return time(int(found[1]), int(found[2]), min(int(found[3] or 0), 59), int((found[4] or "0").ljust(6, "0")))
    except ValueError:
        return None


def parse_date_time(text: str, zone: timezone | None) -> datetime | None:
    """A moment (DT) to the minute or better; its own zone goes before the header's."""
    found = DATE_TIME.fullmatch(text)
    if found is None:
        return None
    day, clock = parse_date(found[1]), parse_time(found[2])
    own = parse_zone(found[3]) if found[3] else zone
    if day is None or clock is None or (found[3] and own is None):
        return None
    return datetime.combine(day, clock, tzinfo=own)


def moment_of(header: Dataset, which: str, zone: timezone | None) -> datetime | None:
    """The moment of, say, ``Series``, of which date and time stand in two elements."""
    day, clock = parse_date(said(header, f"{which}Date")), parse_time(said(header, f"{which}Time"))
    return datetime.combine(day, clock, tzinfo=zone) if day and clock is not None else None


def measured_at(header: Dataset) -> tuple[date, time | None] | None:
    """The day and, where it is told, the time of day at which a series was measured, as its scanner's clock has it.

    Of its acquisition, itself, or its study, whichever has a date first; None where none has.
    """
    stamp = said(header, "AcquisitionDateTime")[:14]
    pairs = [(stamp[:8], stamp[8:])]
    pairs += [(said(header, f"{of}Date"), said(header, f"{of}Time")) for of in ("Acquisition", "Series", "Study")]
    return next(((day, parse_time(clock)) for text, clock in pairs if (day := parse_date(text)) is not None), None)


def date_time_of(header: Dataset, keyword: str, zone: timezone | None) -> datetime | None:
    """The moment of a DT element; None where it is absent.

    Raises
    ------
    IntensityError
        If it is there, and no date and time can be read from it.
    """
    text = said(header, keyword)
    if not text:
        return None
    found = parse_date_time(text, zone)
    if found is None:
        raise IntensityError(
            f"{keyword} of the PET is no date with a time to the minute, as DICOM writes it; there is no SUV. Correct "
            "it, or leave the SUV out."
        )
    return found


def zone_of(header: Dataset, drugs: Sequence[Dataset]) -> timezone | None:
    """The zone of the header's dates and times: as it says, or as two statements of one moment imply.

    Without TimezoneOffsetFromUTC, the zone is known where the same moment is said in a DT with a zone and again without
    one: the injection, or the acquisition. Daylight saving is of no concern: an offset is one for a whole header.

    Raises
    ------
    IntensityError
        If TimezoneOffsetFromUTC is no offset, or two such pairs imply different zones.
    """
    text = said(header, "TimezoneOffsetFromUTC")
    if text:
        zone = parse_zone(text)
        if zone is None:
            raise IntensityError(
                "expected TimezoneOffsetFromUTC of the PET as ±HHMM, from -1200 to +1400; found something else. "
                "Correct it, or leave the SUV out."
            )
        return zone
    implied = set(_implied_zones(header, drugs))
    if len(implied) > 1:
        raise IntensityError(
            "the PET has no TimezoneOffsetFromUTC, and RadiopharmaceuticalStartDateTime and AcquisitionDateTime imply "
            "different zones for its times; there is no SUV. Correct them, or leave the SUV out."
        )
    return implied.pop() if implied else None


def _implied_zones(header: Dataset, drugs: Sequence[Dataset]) -> Iterator[timezone]:
    acquired = parse_date_time(said(header, "AcquisitionDateTime"), None)
    local = moment_of(header, "Acquisition", None)
    if acquired and acquired.tzinfo and local:
        offset = (local.replace(tzinfo=timezone.utc) - acquired).total_seconds()
        yield from _whole_zone(offset)
    for drug in drugs:
        injected = parse_date_time(said(drug, "RadiopharmaceuticalStartDateTime"), None)
        clock = parse_time(said(drug, "RadiopharmaceuticalStartTime"))
        if injected and injected.tzinfo and clock:
            if _apart(injected.time(), clock) <= SAME_S:
                yield timezone(injected.utcoffset() or timedelta())
                continue
            offset = _seconds(clock) - _seconds(injected.astimezone(timezone.utc).time())
            offset = (offset + 43200) % 86400 - 43200
            if abs(offset) < ONLY_HOURS * 3600:
                yield from _whole_zone(offset)


def _whole_zone(offset: float) -> Iterator[timezone]:
    """The zone that an offset in seconds is, if it is one."""
    rounded = round(offset / QUARTER_S) * QUARTER_S
    if abs(offset - rounded) <= SAME_S and -12 * 3600 <= rounded <= 14 * 3600:
        yield timezone(timedelta(seconds=rounded))


def require_same_time(clock: time, moment: datetime, names: tuple[str, str], zone: timezone | None) -> None:
    """Raise `IntensityError` where a time of day and a moment, which say the same, differ by more than a minute."""
    local = moment.astimezone(zone) if moment.tzinfo and zone else moment
    apart = _apart(clock, local.time())
    if apart > SAME_S:
        raise IntensityError(
            f"{names[0]} and {names[1]} of the PET are {apart / 60:.4g} min apart on its clock, but say the same "
            "moment; there is no SUV. Correct one of them, or give the time (injected_at=..., --injected-at)."
        )


def _seconds(clock: time) -> float:
    return clock.hour * 3600 + clock.minute * 60 + clock.second + clock.microsecond / 1e6


def _apart(one: time, two: time) -> float:
    """Seconds between two times of day, the shorter way round the clock."""
    seconds = abs(_seconds(one) - _seconds(two))
    return min(seconds, 86400 - seconds)
