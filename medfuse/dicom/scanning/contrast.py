"""Tell frames of different contrast apart, which must never be slices of one volume, wherever they lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from medfuse.dicom.frames.frame import Frame, Vector
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.frames.nuclear import NM_TRAITS
from medfuse.dicom.scanning.split_volumes import shown
from medfuse.errors import counted

RELATIVE_TOLERANCE = 0.02
"""Numbers of one contrast differ by no more than this share: scanners write what was set, or what was measured."""

TOLERANCES: Mapping[str, float] = {
    "RepetitionTime": 0.25,
    **dict.fromkeys(("EchoNumbers", "TemporalPositionIdentifier", "TemporalPositionIndex", *NM_TRAITS), 0.0),
}
"""Breathing and the heart lengthen the repetition time of triggered acquisitions from slice to slice; ordinal numbers
are as they are."""

CONTRASTS = (
    *("EchoTime", "EffectiveEchoTime", "EchoNumbers", "RepetitionTime", "InversionTime", "InversionTimes"),
    *("FlipAngle", "DiffusionBValue", "DiffusionDirectionality", "DiffusionGradientOrientation", "ScanningSequence"),
    *("SequenceVariant", "SequenceName", "ScanOptions", "ImageType", "FrameType"),
    *("ComplexImageComponent", "KVP", "ConvolutionKernel", "ReconstructionDiameter", "ContrastBolusAgent"),
    *("CorrectedImage", "AttenuationCorrectionMethod", "ScatterCorrectionMethod", "RandomsCorrectionMethod"),
    *("DecayCorrection", "ReconstructionMethod", "ReconstructionType", "ContrastBolusAgentAdministered", "RescaleType"),
    *("SUVType", "CountsSource", "AcquisitionContrast", "FilterType"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase"),
    *("NominalCardiacTriggerDelayTime", "TriggerTime", *NM_TRAITS),
)
"""What all slices of one volume must agree on. Tube current, exposure, rescale, window and the time of acquisition may
differ from slice to slice."""

MOMENTS = ("NominalCardiacTriggerDelayTime", "TriggerTime")
"""Distinguish volumes where few of them alternate; many are the times of single slices."""

MOST_MOMENTS = 3

ORDINALS = ("TemporalPositionIdentifier", "TemporalPositionIndex")
"""Distinguish volumes, but where each slice has its own they merely count slices."""

ABSENCE_COUNTS = ("ContrastBolusAgent",)
"""Says something where it is absent, too; what some files leave out of other elements contradicts nothing."""

UNORDERED = ("CorrectedImage", "ScanOptions")
"""Lists whose order means nothing."""


def by_contrast(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Frames of one contrast, together, with what distinguishes each group; one group where all are alike."""
    labels: list[tuple[int, ...]] = [() for _ in frames]
    differing: list[tuple[str, list[str]]] = []
    for keyword in CONTRASTS:
        values = [frame.traits.get(keyword, "") for frame in frames]
        if len(set(values)) == 1:
            continue
        kinds = _kinds(keyword, set(values))
        different = len(set(kinds.values()))
        several = len(set(kinds.values()) - ({-1} if keyword not in ABSENCE_COUNTS else set())) > 1
        if not several or (keyword in MOMENTS and different > MOST_MOMENTS):
            continue
        if keyword in ORDINALS and different >= len(frames):
            continue
        labels = [(*label, kinds[value]) for label, value in zip(labels, values, strict=True)]
        differing.append((keyword, values))
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, label in enumerate(labels):
        groups.setdefault(label, []).append(place)
    return [
        (
            ", ".join(f"{keyword} {shown(keyword, values[group[0]], number)}" for keyword, values in differing),
            [frames[place] for place in group],
        )
        for number, group in enumerate(groups.values(), start=1)
    ]


def mixed_contrasts(groups: Sequence[tuple[str, Sequence[Frame]]], name: str) -> NoVolumeError:
    """Say that slices of one volume differ in what they must agree on, and that they cannot be taken apart."""
    parts = [f"{counted(len(group), 'slice')} of {traits}" for traits, group in groups[:4]]
    listed = "; ".join(parts + ["…"] * (len(groups) > 4))
    return NoVolumeError(
        "several contrasts",
        f"{name} mixes slices of different contrast ({listed}), and not all of them form volumes of their own. "
        "Separate them, or export the series again.",
    )


def _kinds(keyword: str, values: Collection[str]) -> dict[str, int]:
    """For each value which contrast it means, from 0; -1 for absence."""
    kinds = {"": -1} if "" in values else {}
    present = {value: _plain(keyword, value) for value in values if value}
    numbers = {value: _numbers(plain) for value, plain in present.items()}
    known = {value: number for value, number in numbers.items() if number is not None}
    if len(known) == len(present):
        return kinds | _clusters(known, TOLERANCES.get(keyword, RELATIVE_TOLERANCE))
    named: dict[str, int] = {}
    for value, plain in present.items():
        kinds[value] = named.setdefault(plain, len(named))
    return kinds


def _plain(keyword: str, value: str) -> str:
    """A value without what does not change its meaning."""
    parts = [" ".join(part.split()).casefold() for part in value.split("\\")]
    return "\\".join(sorted(parts) if keyword in UNORDERED else parts)


def _numbers(text: str) -> Vector | None:
    try:
        return np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None


def _clusters(numbers: Mapping[str, Vector], tolerance: float) -> dict[str, int]:
    """Number the kinds; a number is of the kind of the one before it in order if it lies within the tolerance of it."""
    kinds: dict[str, int] = {}
    last: list[Vector] = []
    for value in sorted(numbers, key=lambda one: (len(numbers[one]), tuple(numbers[one]))):
        number = numbers[value]
        kind = next((kind for kind, other in enumerate(last) if _alike(number, other, tolerance)), len(last))
        kinds[value] = kind
        last[kind : kind + 1] = [number]
    return kinds


def _alike(one: Vector, other: Vector, tolerance: float) -> bool:
    if len(one) != len(other):
        return False
    largest = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) <= tolerance * largest
