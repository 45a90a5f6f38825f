"""Read what rules compare of a DICOM series: of its first header, and of how many slices it has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from medfuse.cohort.sequences import contrast_of, corrected_of, kernel_of, reconstruction_of, sequence_of, tracer_of
from medfuse.dicom.frames.enhanced import Groups
from medfuse.dicom.header import READABLE, Instance, items, numbers, said, series_name, short_text, texts
from medfuse.dicom.scanning.split_volumes import OVERVIEWS
from medfuse.volume.modality import MRI, TRAITS

RESULT = "a result of medfuse, which is never an input"

MR_ELEMENTS = (
    *("AcquisitionContrast", "ScanningSequence", "SequenceVariant", "RepetitionTime", "EchoTime", "InversionTime"),
    *("MRAcquisitionType", "DiffusionBValue"),
)

DYNAMIC = ("DYNAMIC", "GATED")
"""Values of SeriesType (PS3.3 C.8.9.1.1.4) that mean several volumes."""


class Header:
    """The first header of a series; elements that are damaged say nothing."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.dataset = instances[0].header

    def said(self, keyword: str) -> str:
        try:
            return said(self.dataset, keyword)
        except Exception:  # pydicom raises many kinds on damaged values
            return ""

    def has(self, keyword: str) -> bool:
        return keyword in self.dataset


def header_of(instances: Sequence[Instance]) -> Header:
    """The header that stands for a series."""
    return Header(instances)


def when_of(header: Header) -> datetime | None:
    """When a series was measured: by its acquisition, itself, or its study, whichever has a date first."""
    stamp = header.said("AcquisitionDateTime")[:14]
    pairs = [(stamp[:8], stamp[8:14])] + [
        (header.said(f"{of}Date"), header.said(f"{of}Time")) for of in ("Acquisition", "Series", "Study")
    ]
    for date, time in pairs:
        with suppress(ValueError):
            return datetime.strptime(date[:8] + (time.split(".")[0] + "000000")[:6], "%Y%m%d%H%M%S")
    return None


def facts_of(instances: Sequence[Instance], header: Header) -> dict[str, Any]:
    """What `medfuse.cohort.candidate.Candidate` holds of a series beside its place and subject."""
    modality = READABLE.get(header.said("SOPClassUID"), "")
    kinds = [one.upper() for one in header.said("ImageType").split("\\")]
    text = " ".join(header.said(keyword) for keyword in ("SeriesDescription", "ProtocolName", "SequenceName"))
    facts: dict[str, Any] = {
        "modality": modality or short_text(header.dataset, "Modality") or "unknown",
        "name": series_name(instances),
        "text": header.said("SeriesDescription"),
        "unusable": _unusable(header, kinds, modality),
        "original": {"ORIGINAL": True, "DERIVED": False}.get(kinds[0]),
    }
    facts |= _sizes(instances, header)
    if modality == MRI:
        facts["sequence"] = sequence_of(text, {name: header.said(name) for name in MR_ELEMENTS} | _shared_times(header))
        facts["contrast"] = contrast_of(text, _agent(header))
    elif modality == "CT":
        facts["kernel"] = kernel_of(_shared(header, "CTReconstructionSequence", "ConvolutionKernel"))
    elif modality in TRAITS:
        facts["corrected"] = corrected_of(text, _corrected(header))
        facts["reconstruction"] = reconstruction_of(header.said("ReconstructionMethod") or text)
        facts["tracer"] = _tracer(header)
    return facts


def _unusable(header: Header, kinds: Sequence[str], modality: str) -> str:
    if header.said("Manufacturer") == "medfuse" and kinds[0] == "DERIVED":
        return RESULT
    overview = OVERVIEWS.intersection(kinds)
    if overview:
        return f"made for an overview ({min(overview).lower()})"
    if not modality:
        return "no MR, CT, PET or NM image object"
    if header.said("SamplesPerPixel") not in ("", "1") or header.said("PhotometricInterpretation") in (
        "RGB",
        "PALETTE COLOR",
    ):
        return "a picture in colour, not measured values"
    if modality == "PT" and header.said("SeriesType").split("\\")[0] in DYNAMIC:
        return "a dynamic or gated PET, of which no one volume is meant; export its sum, or name a volume in a manifest"
    if modality == "NM" and not {"RECON TOMO", "RECON GATED TOMO"}.intersection(kinds):
        return "no reconstructed tomography (ImageType RECON TOMO)"
    return ""


def _sizes(instances: Sequence[Instance], header: Header) -> dict[str, Any]:
    """Slices, longest edge and extent, as far as the first header says."""
    slices = 0
    for one in instances:
        try:
            slices += one.frames
        except ValueError:  # SeriesError is one
            slices += 1
    spacing = _numbers(header, "PixelMeasuresSequence", "PixelSpacing")
    between = _numbers(header, "PixelMeasuresSequence", "SpacingBetweenSlices") or _numbers(
        header, "PixelMeasuresSequence", "SliceThickness"
    )
    step = abs(between[0]) if between else 0.0
    return {"slices": slices, "edge_mm": max(*spacing, step) if spacing and step else 0.0, "extent_mm": slices * step}


def _numbers(header: Header, group: str, keyword: str) -> list[float]:
    found = numbers(header.dataset, keyword)
    if found:
        return found
    try:
        return numbers(Groups(header.dataset).first(0, group), keyword)
    except Exception:  # as above
        return []


def _shared(header: Header, group: str, keyword: str) -> str:
    """A value of the header itself, or of a functional group of its first frame."""
    found = header.said(keyword)
    if found:
        return found
    with suppress(Exception):  # as above
        return said(Groups(header.dataset).first(0, group), keyword)
    return ""


def _shared_times(header: Header) -> dict[str, str]:
    """Times of an enhanced MRI, where the header itself has none."""
    places = (
        ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
        ("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        ("InversionTime", "MRModifierSequence", "InversionTimes"),
    )
    if header.said("EchoTime") or not header.has("SharedFunctionalGroupsSequence"):
        return {}
    return {name: _shared(header, group, keyword) for name, group, keyword in places}


def _agent(header: Header) -> str | None:
    if header.has("ContrastBolusAgentSequence"):
        with suppress(Exception):  # as above
            if items(header.dataset, "ContrastBolusAgentSequence"):
                return "given"
    return header.said("ContrastBolusAgent") if header.has("ContrastBolusAgent") else None


def _corrected(header: Header) -> bool | None:
    """Whether CorrectedImage (PS3.3 C.8.9.1) or the method says that attenuation is corrected."""
    stated = header.said("AttenuationCorrected").upper()
    if stated in ("YES", "NO"):
        return stated == "YES"
    if header.said("AttenuationCorrectionMethod").strip().casefold() in ("none", "no"):
        return False
    try:
        corrections = texts(header.dataset, "CorrectedImage")
    except Exception:  # as above
        return None
    return "ATTN" in corrections if corrections else None


def _tracer(header: Header) -> str:
    """The label of a tracer that the header names by code or text."""
    with suppress(Exception):  # as above
        for injected in items(header.dataset, "RadiopharmaceuticalInformationSequence"):
            codes = items(injected, "RadiopharmaceuticalCodeSequence")
            named = [said(injected, "Radiopharmaceutical")]
            named += [said(code, keyword) for code in codes for keyword in ("CodeMeaning", "CodeValue")]
            label = tracer_of(" ".join(named))
            if label:
                return label
    return ""
