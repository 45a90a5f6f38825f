"""Describe one frame, whatever the form of its file: place, rescale, and what distinguishes its volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medfuse.dicom.frames.modality_lut import ModalityLut
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance, listed, named, numbers, said
from medfuse.volume.grid import FARTHEST_MM, LEAST_SPACING_MM

Vector = npt.NDArray[np.float64]

LARGEST_VALUE = 1e15
"""No measured value is larger, in any unit that headers state: a radioactivity of 1 GBq/ml is 1e9."""

SMALLEST_SPAN = 1e-25
"""No values of a series lie closer together than this: smaller ones reach the limit of float32."""

LEAST_SHARE = 2.0**-16
"""Values that differ by less than this share of the largest one lose most of their bits in float32."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice as a file stores it.

    ``number`` counts the frames of a multi-frame file from 1 and is None in a single-frame one; ``tile`` is the row and
    column of a mosaic's tile. ``position`` is the centre of the first voxel, ``row`` and ``column`` point along them,
    LPS mm; ``spacing`` is between rows and between columns, mm. A stored value times ``slope`` plus ``intercept`` is
    in the unit named by ``rescale_type``; where there is a ``lut``, the value it gives is. ``traits`` may tell it from
    frames of other volumes of the same series.
    """

    instance: Instance
    number: int | None
    tile: tuple[int, int] | None
    shape: tuple[int, int]
    position: Vector
    row: Vector
    column: Vector
    spacing: tuple[float, float]
    slope: float
    intercept: float
    traits: Mapping[str, str]
    lut: ModalityLut | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        if self.number is not None:
            return f"frame {self.number} of instance {self.instance.number}"
        return f"instance {self.instance.number}" + (f" (tile {self.tile})" if self.tile else "")


def place_of(
    position: Dataset, orientation: Dataset, measures: Dataset, label: str, name: str
) -> tuple[Vector, Vector, Vector, tuple[float, float]]:
    """Position, row and column directions (unit length), and the spacing between rows and columns, LPS mm."""
    found = []
    for header, keyword, count in (
        *((position, "ImagePositionPatient", 3), (orientation, "ImageOrientationPatient", 6)),
        (measures, "PixelSpacing", 2),
    ):
        values = numbers(header, keyword)
        if len(values) != count:
            raise NoVolumeError(
                "no geometry",
                f"{label} of {name} has no {keyword} of {count} numbers: its place in the patient is unknown. Export "
                "the original series, not a derived or screen copy.",
            )
        found.append(values)
    row, column = np.array(found[1][:3]), np.array(found[1][3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(row @ column) > 0.01:
        raise NoVolumeError(
            "no usable geometry",
            f"ImageOrientationPatient of {name} is not two perpendicular unit vectors: {listed(found[1])}. Export the "
            "series again.",
        )
    if not all(LEAST_SPACING_MM <= spacing <= FARTHEST_MM for spacing in found[2]):
        raise NoVolumeError(
            "no usable geometry",
            f"PixelSpacing of {name} is not two distances of at least {LEAST_SPACING_MM:g} mm: {listed(found[2])}. "
            "Export the series again.",
        )
    if max(map(abs, found[0])) > FARTHEST_MM:
        raise NoVolumeError(
            "no usable geometry",
            f"ImagePositionPatient of {label} of {name} lies more than {FARTHEST_MM / 1000:g} m from the origin: "
            f"{listed(found[0])} mm. Export the series again.",
        )
    return np.array(found[0]), row / lengths[0], column / lengths[1], (found[2][0], found[2][1])


def matrix_of(header: Dataset) -> tuple[int, int]:
    """Columns and rows."""
    return int(header.Columns), int(header.Rows)


def rescale_of(*holders: Dataset, mappings: Sequence[Dataset] = ()) -> tuple[float, float]:
    """Slope and intercept from stored numbers to values, as the first of the holders says that says so.

    MR and NM have no rescale; where they map linearly to real-world values in one way alone, that is theirs.
    """
    for holder in holders:
        slope, intercept = said(holder, "RescaleSlope"), said(holder, "RescaleIntercept")
        if slope or intercept:
            return float(slope or 1), float(intercept or 0)
    for found in (mappings, holders[-1].get("RealWorldValueMappingSequence") or ()):
        if len(found) == 1 and "RealWorldValueSlope" in found[0]:
            return float(found[0].RealWorldValueSlope), float(found[0].get("RealWorldValueIntercept", 0))
    return 1.0, 0.0


def usable_rescale(name: str, *holders: Dataset, mappings: Sequence[Dataset] = ()) -> tuple[float, float]:
    """As of `rescale_of`; `SeriesError` where it leads to no usable numbers.

    The last of the holders is the file's header, which says how many bits are rescaled.
    """
    try:
        slope, intercept = rescale_of(*holders, mappings=mappings)
    except (ValueError, TypeError):
        slope = intercept = np.nan
    stored = holders[-1].get("BitsStored")
    steps = 2.0 ** (stored if isinstance(stored, int) and 0 < stored <= 32 else 16)
    with np.errstate(over="ignore", invalid="ignore"):
        span = abs(slope) * steps
        farthest = span + abs(intercept)
    # Values are kept as float32, of 24 bits: beyond, those of a slice would all be alike, or infinite.
    if not (0 < farthest <= LARGEST_VALUE and span >= max(SMALLEST_SPAN, farthest * LEAST_SHARE)):
        raise NoVolumeError(
            "no usable rescale",
            f"the rescale of {name} (RescaleSlope {slope:g}, RescaleIntercept {intercept:g}) is no usable number: what "
            "its values mean is unknown. Export the series again.",
        )
    return slope, intercept


def require_same_rescale(frames: Sequence[Frame], name: str) -> None:
    """Raise `NoVolumeError` where some slices of a volume say their rescale, and others leave it out.

    What is left out means no rescale (PS3.3 C.11.1); among slices that have one, it was lost.
    """
    classic = [frame for frame in frames if frame.number is None and frame.lut is None]
    lacking = [frame for frame in classic if not said(frame.instance.header, "RescaleSlope")]
    others = [frame for frame in classic if said(frame.instance.header, "RescaleSlope")]
    if lacking and any((one.slope, one.intercept) != (lacking[0].slope, lacking[0].intercept) for one in others):
        raise NoVolumeError(
            "rescale of some slices only",
            f"{lacking[0].label} of {name} has no {named('RescaleSlope')}, which other slices have: what its values "
            "mean is unknown. Export the series again.",
        )


def traits_of(header: Dataset, keywords: Sequence[str]) -> dict[str, str]:
    """What the header says of each of these elements, where it says something."""
    return {keyword: text for keyword in keywords if (text := said(header, keyword))}
