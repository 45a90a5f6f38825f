"""Find how long before a PET's reference time its dose was injected, and refuse what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from medfuse.errors import IntensityError
from medfuse.volume.uptake import SuvInputs

MOST_HALF_LIVES = 8.0
"""After so many, 0.4 % of a dose is left, of which no scanner makes a picture: longer delays are errors of dates."""

LATEST_S = 3600.0
"""A dynamic PET begins before the injection, but not by more than this."""

DAY_S = 86400.0

HOW = "Correct one of them, or say when it was (injected_at=..., --injected-at)"


@dataclass(frozen=True)
class Limits:
    """How late or early an injection may be against the time that a PET's values are corrected to.

    ``latest_s`` is how long after it the injection may be: a frame that ended before the injection shows nothing of it.
    ``why`` says what limits that.
    """

    half_life_s: float
    latest_s: float = LATEST_S
    why: str = "a dynamic PET begins shortly before the injection"

    def allow(self, delay_s: float) -> bool:
        """Whether an injection may be so many seconds before the reference."""
        return -self.latest_s <= delay_s <= MOST_HALF_LIVES * self.half_life_s

    def require(self, delay_s: float, injection: str, reference: str) -> float:
        """Return the delay; `IntensityError` naming both elements where it cannot be."""
        if self.allow(delay_s):
            return delay_s
        if delay_s < 0:
            raise IntensityError(
                f"{injection} dates the injection {lasting(-delay_s)} after the scan's {reference}, which allows "
                f"{lasting(self.latest_s)} ({self.why}); there is no SUV. {HOW}."
            )
        raise IntensityError(
            f"{injection} dates the injection {lasting(delay_s)} before the scan's {reference}: that is "
            f"{delay_s / self.half_life_s:.3g} half-lives, of which at most {MOST_HALF_LIVES:g} make a picture; there "
            f"is no SUV. {HOW}."
        )

    def choose_day(self, delay_s: float, injection: str, reference: str) -> tuple[float, str]:
        """The delay of an injection of which only the time of day is known, and what was inferred, in words.

        Parameters
        ----------
        delay_s
            The delay if it was on the reference's day.

        Raises
        ------
        IntensityError
            If no day is possible, or more than one.
        """
        first = (delay_s + self.latest_s) % DAY_S - self.latest_s
        if not self.allow(first):
            # On its own day it is nearest to what people meant, and says most of what is wrong.
            self.require(delay_s if delay_s < 0 and -delay_s < DAY_S / 2 else first, injection, reference)
        if self.allow(first + DAY_S):
            side = "before" if first >= 0 else "after"
            raise IntensityError(
                f"{injection} has no date, and with a half-life of {lasting(self.half_life_s)} the injection may have "
                f"been {lasting(abs(first))} {side} the scan's {reference} or one or more days earlier; there is no "
                "SUV without its date. Give RadiopharmaceuticalStartDateTime, or the date and time (injected_at=..., "
                "--injected-at)."
            )
        days = round((first - delay_s) / DAY_S)
        which = {0: "the day of the scan", 1: "the day before the scan", -1: "the day after the scan's start"}[days]
        return first, f"day of the injection: {which}"


def parse_injected_at(value: datetime | time | str) -> datetime | time:
    """Read when an injection was, in ISO 8601: a date and time, or a time of day.

    Raises
    ------
    IntensityError
        If it is neither.
    """
    if isinstance(value, datetime | time):
        return value
    text = value.strip().replace("Z", "+00:00")
    for kind in (time, datetime):
        try:
            if ":" in text or "T" in text:
                return kind.fromisoformat(text)
        except ValueError:
            continue
    raise IntensityError(
        "expected the time of injection (injected_at=..., --injected-at) as HH:MM, HH:MM:SS or YYYY-MM-DDTHH:MM:SS, "
        "with a zone such as +02:00 where it is by another clock than the scan's; found something else."
    )


def given_moment(value: datetime | time | str, scan: datetime) -> datetime:
    """When an injection was that was given by hand; a time of day is of the day of ``scan``, by its clock.

    Raises
    ------
    IntensityError
        If it has a zone and the scan has none.
    """
    given = parse_injected_at(value)
    moment = given if isinstance(given, datetime) else datetime.combine(scan.date(), given)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=scan.tzinfo)
    if scan.tzinfo is None:
        raise IntensityError(
            "the time of injection (injected_at=..., --injected-at) has a zone, but the PET does not say its own "
            "(TimezoneOffsetFromUTC); give the time by the scanner's clock, without a zone."
        )
    return moment


def require_uncorrected(given: SuvInputs) -> None:
    """Raise `IntensityError` where dose, time or nuclide are given by hand for values that are SUV already."""
    useless = [name for name in ("dose_mbq", "injected_at", "nuclide") if name in given.names]
    if useless:
        raise IntensityError(
            "the values of the PET are SUV already, in which dose and time are accounted for; leave "
            f"{', '.join(useless)} out."
        )


def without_attenuation(why: str) -> IntensityError:
    """The error where attenuation was not corrected: values then tell how deep a tissue lies, too."""
    return IntensityError(f"the PET is not corrected for attenuation ({why}); there is no SUV. Leave the SUV out.")


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Seconds from one moment to another; negative where they are the other way round."""
    return (later - earlier) / timedelta(seconds=1)


def lasting(seconds: float) -> str:
    """A duration for people."""
    for length, unit in ((DAY_S, "days"), (3600.0, "h"), (60.0, "min")):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
