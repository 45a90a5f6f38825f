"""Tell what the values of a DICOM series measure, and bring activity to Bq/ml; nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from medfuse.dicom.frames.enhanced import EMPTY, Groups
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import code_value, items, said
from medfuse.volume import TRAITS, Modality, Unit, activity_per_ml

if TYPE_CHECKING:
    from torch import Tensor

SUV_TYPES: dict[str, Unit] = {"": "SUV", "BW": "SUV", "LBMJANMA": "SUVlbm", "BSA": "SUVbsa"}
"""SUVType of a PET, body weight by default (PS3.3 C.8.9.1); lean body mass by other formulas is not known."""

UCUM_UNITS: dict[str, Unit] = {
    "{counts}": "counts",
    "g/ml{SUVbw}": "SUV",
    "g/ml{SUVlbm(Janma)}": "SUVlbm",
    "cm2/ml{SUVbsa}": "SUVbsa",
}
"""Codes of PS3.16 CID 84 beside those of activity."""


@dataclass(frozen=True)
class Quantity:
    """What a volume measures: ``unit``, of values that are multiplied by ``scale`` and moved by ``offset``."""

    unit: Unit
    scale: float = 1.0
    offset: float = 0.0

    @property
    def unchanged(self) -> bool:
        """Whether the values are in the unit as they are."""
        return (self.scale, self.offset) == (1.0, 0.0)

    def of(self, values: Tensor) -> Tensor:
        """The values in the unit."""
        return values * self.scale + self.offset


def quantity_of(frames: Sequence[Frame], modality: Modality, name: str) -> Quantity:
    """What the values of a series' frames, rescaled as its headers say, measure.

    An emission scan says it in Units (PET), RescaleType, or the MeasurementUnitsCodeSequence of a linear mapping to
    real-world values, of the file, of all its frames or of each (PS3.3 C.7.6.16.2.11). Other units of activity than
    Bq/ml are converted, such as kBq/ml; so are values whose mapping is another than their rescale.

    Raises
    ------
    NoVolumeError
        If the frames do not measure one quantity, or a header says two.
    """
    if not TRAITS[modality].emission:
        return Quantity(_plain_unit(frames[0], modality))
    found: list[Quantity] = []
    known: dict[tuple[int, float, float], Quantity] = {}
    groups: dict[int, Groups] = {}
    for frame in frames:
        header = frame.instance.header
        shared = groups.setdefault(id(header), Groups(header))
        own = bool(frame.number and shared.own)
        key = (id(header) if not own else id(frame), frame.slope, frame.intercept)
        if key not in known:
            known[key] = _emission(frame, modality, shared)
            found.append(known[key])
    first = found[0]
    for one in found[1:]:
        same_scale = isclose(one.scale, first.scale, rel_tol=1e-4) and isclose(one.offset, first.offset, abs_tol=1e-6)
        if one.unit != first.unit or not same_scale:
            raise NoVolumeError(
                "several units",
                f"the slices of {name} are in different units (Units, RescaleType, RealWorldValueMappingSequence): "
                f"{first.unit} and {one.unit}. Export the series again, or choose another.",
            )
    return first


def _plain_unit(frame: Frame, modality: Modality) -> Unit:
    """The unit of a CT or an MRI."""
    if "HU" not in TRAITS[modality].units:
        return TRAITS[modality].units[0]
    if frame.lut is not None:
        return "HU" if frame.lut.kind == "HU" else "arbitrary"
    header = frame.instance.header
    values = (
        Groups(header).first((frame.number or 1) - 1, "PixelValueTransformationSequence") if frame.number else EMPTY
    )
    holder = values if "RescaleSlope" in values else header
    rescaled = "RescaleSlope" in holder and "RescaleIntercept" in holder
    return "HU" if rescaled and str(holder.get("RescaleType") or "HU") == "HU" else "arbitrary"


def _emission(frame: Frame, modality: Modality, groups: Groups) -> Quantity:
    header = frame.instance.header
    place = (frame.number or 1) - 1
    values = groups.first(place, "PixelValueTransformationSequence")
    mapped = [found for mapping in _mappings(header, groups, place) if (found := _mapped(mapping, frame)) is not None]
    # A PET says the factor from stored numbers to its unit (PS3.3 C.8.9.4); where it was lost, they are in none.
    scaled = bool(mapped) or any(said(one, "RescaleSlope") for one in (values, header))
    if said(header, "Units") in ("GML", "CM2ML"):
        if not scaled:
            return Quantity("arbitrary")
        unit = SUV_TYPES.get(said(header, "SUVType"))
        # Of body surface alone are cm2/ml; without SUVType, nothing else says so.
        area = said(header, "Units") == "CM2ML"
        return Quantity(unit if unit and area == (unit == "SUVbsa") else "arbitrary")
    # Of several, activity can be used for most; SUV and counts are what they are.
    mapped.sort(key=lambda one: one.unit != "Bq/ml")
    named = (("Units", header), ("RescaleType", values), ("RescaleType", header))
    for keyword, holder in named:
        text = said(holder, keyword)
        if text == "CNTS":
            return Quantity("counts")
        activity = activity_per_ml(text)
        if activity is not None:
            if not scaled:
                return Quantity("arbitrary")
            _require_agreement(activity, mapped, keyword)
            return Quantity("Bq/ml", activity)
    if mapped and (said(header, "Units") or "NONE") == "NONE":
        return mapped[0]
    return Quantity("arbitrary" if modality == "PT" or _of_unknown_unit(header, groups, place) else "counts")


def _require_agreement(activity: float, mapped: Sequence[Quantity], keyword: str) -> None:
    """Raise `NoVolumeError` where a mapping leads to another activity than the rescaled values are said to be."""
    for one in mapped:
        if one.unit == "Bq/ml" and not isclose(one.scale, activity, rel_tol=0.01):
            raise NoVolumeError(
                "contradicting units",
                f"{keyword} says that a value is {activity:g} Bq/ml, but MeasurementUnitsCodeSequence with "
                f"RealWorldValueSlope that it is {one.scale:g} Bq/ml. Correct one of them, or export the series again.",
            )


def _mappings(header: Dataset, groups: Groups, place: int) -> Iterator[Dataset]:
    """Linear mappings to real-world values, those of the frame first."""
    for mapping in (
        *groups.all(place, "RealWorldValueMappingSequence"),
        *items(header, "RealWorldValueMappingSequence"),
    ):
        if "RealWorldValueSlope" in mapping:
            yield mapping


def _mapped(mapping: Dataset, frame: Frame) -> Quantity | None:
    """The quantity that a mapping leads to from the frame's rescaled values; None where its unit is not known."""
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.get("RealWorldValueIntercept") or 0)
    for code in items(mapping, "MeasurementUnitsCodeSequence"):
        text = code_value(code)
        activity = activity_per_ml(text)
        unit = "Bq/ml" if activity is not None else UCUM_UNITS.get(text)
        if unit is None or slope == 0:
            continue
        factor = activity or 1.0
        if isclose(slope, frame.slope, rel_tol=1e-4) and isclose(intercept, frame.intercept, abs_tol=abs(slope) * 1e-3):
            return Quantity(unit, factor)
        scale = slope / frame.slope
        return Quantity(unit, scale * factor, (intercept - frame.intercept * scale) * factor)
    return None


def _of_unknown_unit(header: Dataset, groups: Groups, place: int) -> bool:
    """Whether a mapping that was applied leads to something that is neither counts nor known."""
    return any(
        code_value(code) not in ("", "{counts}", "{propcounts}", "{counts}/s", "{propcounts}/s")
        for mapping in _mappings(header, groups, place)
        for code in items(mapping, "MeasurementUnitsCodeSequence")
    )
