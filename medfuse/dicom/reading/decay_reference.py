"""Find the time that a PET's values are corrected to for decay, and when its frames ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset

from medfuse.dicom.header import ENHANCED, said, texts
from medfuse.dicom.reading.moments import date_time_of, moment_of, parse_date_time, parse_time, require_same_time
from medfuse.dicom.reading.pet_elements import GE, duration_s, missing, positive, private_text
from medfuse.errors import IntensityError
from medfuse.intensity.decay import LATEST_S, Limits, lasting, seconds_between, without_attenuation
from medfuse.volume.uptake import NO_CORRECTION

SAME_DECAY = 1.1
"""By what factor a decay may be off that is said twice."""

EARLIEST_S = 6 * 3600.0
"""How long before the first acquisition a series may say that it began."""


@dataclass(frozen=True)
class Reference:
    """The time that values are corrected to, and the element that says it."""

    when: datetime
    name: str

    def local(self, zone: timezone | None) -> datetime:
        """The time by the header's clock."""
        return self.when.astimezone(zone) if self.when.tzinfo and zone else self.when


def corrected_to_injection(header: Dataset) -> bool:
    """Whether values are as if at the injection; `IntensityError` where their corrections make no SUV possible."""
    if str(header.get("SOPClassUID")) in ENHANCED:
        for keyword in ("DecayCorrected", "AttenuationCorrected"):
            if header.get(keyword) != "YES":
                raise missing(keyword, "it must be YES")
        return False
    corrected = set(texts(header, "CorrectedImage"))
    correction = said(header, "DecayCorrection")
    if "ATTN" not in corrected:
        raise without_attenuation("CorrectedImage must hold ATTN and DECY")
    refuse_without_attenuation(header)
    if correction not in ("START", "ADMIN", "NONE"):
        raise missing("DecayCorrection", "it must be START, ADMIN or NONE")
    if ("DECY" in corrected) != (correction != "NONE"):
        has = "holds" if "DECY" in corrected else "lacks"
        raise IntensityError(
            f"DecayCorrection is {correction}, but CorrectedImage {has} DECY; there is no SUV. Correct one of them, or "
            "leave the SUV out."
        )
    return correction == "ADMIN"


def refuse_without_attenuation(header: Dataset) -> None:
    """Raise `IntensityError` where a header says that attenuation was not corrected; one that says nothing passes.

    Values that a scanner calls SUV are none then: they tell how deep a tissue lies as much as what it took up.
    """
    if said(header, "AttenuationCorrected") == "NO":
        raise without_attenuation("AttenuationCorrected is NO")
    corrected = texts(header, "CorrectedImage")
    if corrected and "ATTN" not in corrected:
        raise without_attenuation("CorrectedImage lacks ATTN")
    if said(header, "AttenuationCorrectionMethod").casefold() in NO_CORRECTION:
        raise without_attenuation("AttenuationCorrectionMethod says so")


def reference_of(headers: Sequence[Dataset], half_life: float, zone: timezone | None) -> tuple[Reference, Limits]:
    """The time that values are corrected to, and how much later than that an injection may be."""
    header = headers[0]
    if str(header.get("SOPClassUID")) in ENHANCED:
        when = date_time_of(header, "DecayCorrectionDateTime", zone)
        if when is None:
            raise missing("DecayCorrectionDateTime")
        _require_not_after_scan(header, when, zone)
        return Reference(when, "DecayCorrectionDateTime"), Limits(half_life)
    if said(header, "DecayCorrection") == "NONE":
        reference = _middle(headers, half_life, zone)
    else:
        reference = _start_of_scan(headers, half_life, zone)
        require_decay_factor(headers, reference, half_life, zone)
    ends = []
    for one in headers:
        began, duration = acquired_at(one, zone), duration_s(one, "ActualFrameDuration")
        if began is None or duration is None or (began.tzinfo is None) != (reference.when.tzinfo is None):
            return reference, Limits(half_life)
        ends.append(seconds_between(reference.when, began) + duration)
    latest = min(max(max(ends), 0.0), LATEST_S)
    why = "ActualFrameDuration after AcquisitionTime" if latest < LATEST_S else Limits.why
    return reference, Limits(half_life, latest, why)


def _require_not_after_scan(header: Dataset, when: datetime, zone: timezone | None) -> None:
    """Raise `IntensityError` where an enhanced PET's values are corrected to a time long after its acquisition."""
    began = date_time_of(header, "AcquisitionDateTime", zone)
    if began is None or (began.tzinfo is None) != (when.tzinfo is None):
        return
    late = seconds_between(began, when) - (positive(header, "AcquisitionDuration") or 0.0)
    if late > LATEST_S:
        raise IntensityError(
            f"DecayCorrectionDateTime of the PET is {lasting(late)} after AcquisitionDateTime and AcquisitionDuration; "
            "there is no SUV. Correct one of them, or leave the SUV out."
        )


def acquired_at(header: Dataset, zone: timezone | None) -> datetime | None:
    """When a classic header says that acquisition began; `IntensityError` where it says two times."""
    moment = parse_date_time(said(header, "AcquisitionDateTime"), zone)
    clock = parse_time(said(header, "AcquisitionTime"))
    if moment is not None and clock is not None:
        require_same_time(clock, moment, ("AcquisitionTime", "AcquisitionDateTime"), zone)
    return moment_of(header, "Acquisition", zone) or moment


def _start_of_scan(headers: Sequence[Dataset], half_life: float, zone: timezone | None) -> Reference:
    """When the scan began, to which DecayCorrection START corrects (PS3.3 C.8.9.1.1.5).

    SeriesDate and SeriesTime, unless the series was made later from the images; then GE's private scan time; then, as
    Siemens alters SeriesTime, counted back from a frame's reference time, at which its activity is the frame's mean.
    """
    acquired = [one for one in (acquired_at(header, zone) for header in headers) if one]
    if len({one.tzinfo is None for one in acquired}) > 1:
        raise missing("AcquisitionDate and AcquisitionTime in all slices")
    series = moment_of(headers[0], "Series", zone)
    if series and acquired and (series.tzinfo is None) == (acquired[0].tzinfo is None) and series <= min(acquired):
        early = seconds_between(series, min(acquired))
        if early > EARLIEST_S:
            raise IntensityError(
                f"SeriesDate and SeriesTime of the PET lie {early / 3600:.4g} h before its first AcquisitionDate and "
                "AcquisitionTime, but say when one scan began; there is no SUV. Correct them, or leave the SUV out."
            )
        _require_frames_agree(headers, series, half_life, zone)
        return Reference(series, "SeriesTime")
    scan = parse_date_time(private_text(headers[0], 0x0009, GE, 0x0D), zone)
    if scan:
        return Reference(scan, "GE's private scan time (0009,xx0D)")
    began = acquired_at(headers[0], zone)
    reference, duration = (duration_s(headers[0], keyword) for keyword in ("FrameReferenceTime", "ActualFrameDuration"))
    if not began or not reference or not duration:
        raise missing(
            "a SeriesDate and SeriesTime not after AcquisitionDate and AcquisitionTime, or FrameReferenceTime and "
            "ActualFrameDuration"
        )
    return Reference(began + timedelta(seconds=_mean_s(duration, half_life) - reference), "FrameReferenceTime")


def _require_frames_agree(
    headers: Sequence[Dataset], series: datetime, half_life: float, zone: timezone | None
) -> None:
    """Raise `IntensityError` where no frame's own times lead back to when the series says that the scan began.

    One that does is enough: some scanners count FrameReferenceTime from each bed position. A difference that changes
    less than a tenth of the activity passes.
    """
    apart = []
    for header in headers:
        began = acquired_at(header, zone)
        reference, duration = (duration_s(header, keyword) for keyword in ("FrameReferenceTime", "ActualFrameDuration"))
        if began is None or reference is None or duration is None or (began.tzinfo is None) != (series.tzinfo is None):
            return
        apart.append(abs(seconds_between(series, began) + _mean_s(duration, half_life) - reference))
    if min(apart) > max(60.0, half_life * math.log2(1.1)):
        raise IntensityError(
            f"SeriesTime of the PET and AcquisitionTime less FrameReferenceTime put the start of the scan "
            f"{lasting(min(apart))} apart; there is no SUV. Correct them, or leave the SUV out."
        )


def require_decay_factor(
    headers: Sequence[Dataset], reference: Reference, half_life: float, zone: timezone | None
) -> None:
    """Raise `IntensityError` where DecayFactor contradicts that values are corrected to the start of the scan.

    The factor that was applied to a frame (PS3.3 C.8.9.4) is of the time since the start: by FrameReferenceTime or by
    AcquisitionTime, of which some vendors fill one only, and by the frame's begin or end. One frame that agrees is
    enough. A factor of 1 may be a default, and says nothing.
    """
    found = []
    for header in headers:
        factor, frame = positive(header, "DecayFactor"), duration_s(header, "ActualFrameDuration")
        began = moment_of(header, "Acquisition", zone)
        since = [duration_s(header, "FrameReferenceTime") or 0.0]
        if began is not None and (began.tzinfo is None) == (reference.when.tzinfo is None):
            since.append(max(seconds_between(reference.when, began), 0.0))
        if factor is None or factor == 1:
            return
        lowest, highest = min(since) - (frame or 0.0), max(since) + (frame or 0.0)
        found.append((factor, 2 ** (lowest / half_life), 2 ** (highest / half_life)))
    if any(lowest / SAME_DECAY <= factor <= highest * SAME_DECAY for factor, lowest, highest in found):
        return
    factor, lowest, highest = found[0]
    raise IntensityError(
        f"DecayCorrection is START, which needs a DecayFactor from {lowest:.4g} to {highest:.4g} by "
        f"FrameReferenceTime, AcquisitionTime and ActualFrameDuration; found {factor:.4g}, as if values were corrected "
        "to another time; there is no SUV. Correct one of them, or leave the SUV out."
    )


def _middle(headers: Sequence[Dataset], half_life: float, zone: timezone | None) -> Reference:
    """When activity had its mean of the frame, which values are that were not corrected for decay."""
    began, duration = acquired_at(headers[0], zone), duration_s(headers[0], "ActualFrameDuration")
    if began is None or duration is None:
        raise missing("AcquisitionDate, AcquisitionTime and ActualFrameDuration, without correction for decay,")
    for header in headers:
        if (acquired_at(header, zone), duration_s(header, "ActualFrameDuration")) != (began, duration):
            raise IntensityError(
                "DecayCorrection is NONE, and AcquisitionTime or ActualFrameDuration differs between the slices: they "
                "have no common factor to SUV. Correct the series for decay, or leave the SUV out."
            )
    return Reference(began + timedelta(seconds=_mean_s(duration, half_life)), "AcquisitionTime")


def _mean_s(duration: float, half_life: float) -> float:
    """How long after its start a frame's activity equals its mean, s."""
    decay = math.log(2) / half_life
    faded = decay * duration
    return math.log(faded / -math.expm1(-faded)) / decay
