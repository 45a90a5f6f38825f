"""Translate a slice's header from enhanced to classic form: functional groups and newer attributes.

The registered partner is written in classic form, which more programs read; what enhanced forms say elsewhere or
otherwise is translated here (PS3.3 C.8.9 and C.8.22 for PET, C.8.2 and C.8.15 for CT).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from math import isfinite

from pydicom.dataset import Dataset

from medfuse.dicom.decimals import decimals
from medfuse.dicom.frames.enhanced import group_of
from medfuse.dicom.header import ENHANCED, said
from medfuse.dicom.reading.moments import moment_of, parse_date_time, parse_zone
from medfuse.dicom.reading.volume import DicomSource
from medfuse.errors import ExportError

GROUPED: Mapping[str, tuple[str, str]] = {
    "KVP": ("CTXRayDetailsSequence", "KVP"),
    "FilterType": ("CTXRayDetailsSequence", "FilterType"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "ExposureTime": ("CTExposureSequence", "ExposureTimeInms"),
    "XRayTubeCurrent": ("CTExposureSequence", "XRayTubeCurrentInmA"),
    "Exposure": ("CTExposureSequence", "ExposureInmAs"),
    "ActualFrameDuration": ("FrameContentSequence", "FrameAcquisitionDuration"),
    "DecayFactor": ("PETFrameCorrectionFactorsSequence", "DecayFactor"),
}
"""Classic keyword, and the functional group and attribute that say the same."""

WHOLE = ("ExposureTime", "XRayTubeCurrent", "Exposure", "ActualFrameDuration")
"""Integer strings in classic form."""

CORRECTIONS: Mapping[str, str] = {
    "DecayCorrected": "DECY",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "RandomsCorrected": "RAN",
    "NonUniformRadialSamplingCorrected": "RADL",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
"""Flags of an enhanced PET, and the values of CorrectedImage that say the same (PS3.3 C.8.9.1.1.3)."""

UNCONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Where a legacy conversion keeps classic attributes that have no group."""


def classic_header(source: DicomSource, k: int) -> Dataset:
    """Return slice ``k``'s header in classic form; the header itself where it is classic.

    Raises
    ------
    ExportError
        If a PET is corrected for decay to a time that classic form cannot say.
    """
    header = source.header_of(k)
    if str(header.get("SOPClassUID")) not in ENHANCED:
        return header
    place = (source.slices[k][0][1] or 1) - 1
    classic = Dataset()
    classic.update({tag: header.get_item(tag) for tag in header.keys() if tag.group < 0x5000})  # noqa: SIM118
    for group in UNCONVERTED:
        for element in group_of(header, place, group):
            classic.setdefault(element.tag, element)
    for keyword, (group, attribute) in GROUPED.items():
        value = group_of(header, place, group).get(attribute)
        if keyword not in classic and value is not None:
            _set(classic, keyword, value)
    content = group_of(header, place, "FrameContentSequence")
    zone = _set_zone(classic)
    acquired = said(content, "FrameAcquisitionDateTime") or said(header, "AcquisitionDateTime")
    _set_moment(classic, "Acquisition", _by_clock(acquired, zone))
    if source.modality == "PT":
        _translate_pet(classic, content, zone)
    return classic


def _set(classic: Dataset, keyword: str, value: object) -> None:
    if not isinstance(value, (int, float)):
        setattr(classic, keyword, value)
    elif isfinite(value):
        setattr(classic, keyword, round(value) if keyword in WHOLE else decimals([value])[0])


def _set_zone(classic: Dataset) -> timezone | None:
    """The zone of the header's dates and times, which have none of their own in classic form.

    Where TimezoneOffsetFromUTC is absent and the time of decay correction has a zone, the classic header takes that.
    """
    text = said(classic, "TimezoneOffsetFromUTC")
    if not text:
        text = said(classic, "DecayCorrectionDateTime").lstrip("0123456789.")
        if parse_zone(text) is not None:
            classic.TimezoneOffsetFromUTC = text
    return parse_zone(text)


def _by_clock(text: str, zone: timezone | None) -> datetime | None:
    """A date and time as DICOM writes them together, by the clock of a zone and without it, as in classic headers."""
    moment = parse_date_time(text, zone)
    if moment is not None and moment.tzinfo is not None and zone is not None:
        moment = moment.astimezone(zone)
    return moment.replace(tzinfo=None) if moment else None


def _set_moment(classic: Dataset, which: str, moment: datetime | None) -> None:
    if moment is not None:
        setattr(classic, f"{which}Date", f"{moment:%Y%m%d}")
        setattr(classic, f"{which}Time", f"{moment:%H%M%S.%f}".removesuffix(".000000"))


def _translate_pet(classic: Dataset, content: Dataset, zone: timezone | None) -> None:
    corrected = [said for flag, said in CORRECTIONS.items() if classic.get(flag) == "YES"]
    classic.setdefault("CorrectedImage", corrected)
    classic.setdefault("CountsSource", "EMISSION")  # enhanced PET is nothing else
    for keyword in ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"):
        classic.setdefault(keyword, [])
    for drug in classic.get("RadiopharmaceuticalInformationSequence") or []:
        drug.pop("RadiopharmaceuticalAgentNumber", None)
    if "DecayCorrection" not in classic:
        _translate_decay(classic, zone)
    began = moment_of(classic, "Series", None)
    reference = _by_clock(said(content, "FrameReferenceDateTime"), zone)
    if "FrameReferenceTime" not in classic and began and reference:
        classic.FrameReferenceTime = decimals([(reference - began).total_seconds() * 1000])[0]


def _translate_decay(classic: Dataset, zone: timezone | None) -> None:
    """Name the time that values are corrected to: the injection, or the start of the series, which it then becomes."""
    if classic.get("DecayCorrected") != "YES":
        classic.DecayCorrection = "NONE"
        return
    reference = _by_clock(said(classic, "DecayCorrectionDateTime"), zone)
    drugs = classic.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    injected = _by_clock(said(drugs[0], "RadiopharmaceuticalStartDateTime"), zone)
    acquired = moment_of(classic, "Acquisition", None)
    if reference is None or (acquired is not None and reference > acquired):
        raise ExportError(
            "the PET is corrected for decay to a time after its acquisition began, or to none that it says; a classic "
            "series cannot say so, and its SUV would be wrong. Write NIfTI, or leave the registered partner out."
        )
    if reference == injected:
        classic.DecayCorrection = "ADMIN"
        return
    classic.DecayCorrection = "START"
    _set_moment(classic, "Series", reference)
