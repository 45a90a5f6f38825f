"""Read one structure of an RT Structure Set (PS3.3 A.19, C.8.8.6) or a Segmentation (PS3.3 A.51, C.8.20).

Names of structures are what people typed. They are told where one must be chosen, except those that hold the patient's
name or identifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medfuse.dicom.frames.enhanced import Groups
from medfuse.dicom.frames.frame import place_of
from medfuse.dicom.header import items, numbers, quiet, said
from medfuse.dicom.objects.read_object import kind_of, read_object
from medfuse.errors import GeometryError, SeriesError, StudyError, counted, did_you_mean
from medfuse.volume.grid import LPS_FROM_RAS, Grid, Points

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage: stored values are segment numbers."""

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Types of contours that enclose something (PS3.3 C.8.8.6.1); points and open lines do not."""

OFF_LATTICE = 0.05
"""Share of the slice spacing by which a frame may lie beside its place."""

MOST_SLICES = 4096
"""Of one segmentation."""

NOT_OF_A_NAME = 4
"""Parts of a patient's name or identifier that are shorter stand in other words by chance."""


@dataclass(frozen=True, eq=False)
class Contours:
    """A structure as closed polygons.

    ``polygons`` are (N, 3) vertices each, RAS+ mm; ``frame_of_reference`` is the UID of the world that they lie in,
    empty where the file does not say; ``header`` says whose they are.
    """

    name: str
    polygons: tuple[Points, ...]
    frame_of_reference: str
    header: Dataset = field(repr=False)


@dataclass(frozen=True, eq=False)
class SegmentMask:
    """A structure as voxels: ``values`` (X, Y, Z) bool on ``grid``, RAS+ mm; else as `Contours`."""

    name: str
    values: npt.NDArray[np.bool_]
    grid: Grid
    frame_of_reference: str
    header: Dataset = field(repr=False)


def read_structure(path: str | Path, name: str | None = None) -> Contours | SegmentMask:
    """Read one structure.

    Parameters
    ----------
    path
        An RT Structure Set or a Segmentation (binary, fractional or label map; a fraction of half or more counts), or a
        folder with this file alone.
    name
        ROIName or SegmentLabel; None where the file holds one structure only.

    Raises
    ------
    SeriesError
        If the file is neither, cannot be read, or holds no contours or voxels of the structure.
    StudyError
        If it holds no structure of that name, or several and none was named.
    GeometryError
        If it does not say where the voxels lie.
    """
    path = Path(path)
    with quiet():
        dataset = read_object(path, "segmentation", SeriesError, pixels=True)
        kind = dataset.get("SOPClassUID")
        if kind not in (RTStructureSetStorage, SegmentationStorage, LABEL_MAP_STORAGE):
            raise SeriesError(
                f"expected an RT Structure Set, a DICOM Segmentation or a NIfTI mask in {path}; found "
                f"{kind_of(dataset)}."
            )
        try:
            return _contours(dataset, name) if kind == RTStructureSetStorage else _mask(dataset, name)
        except (SeriesError, StudyError, GeometryError):
            raise
        except Exception as error:  # pydicom raises many kinds on damaged files
            raise SeriesError(f"the segmentation {path} is damaged; export it again.") from error


def chosen(names: Sequence[str], name: str | None, header: Dataset) -> int:
    """The place of the structure that is meant among those of a file."""
    if not names:
        raise StudyError("the segmentation holds no structure; export it again.")
    shown = [each for each in names if not _tells_patient(each, header)]
    listing = ", ".join(repr(each) for each in shown[:20]) or "none with a name that can be told"
    if name is None:
        if len(names) == 1:
            return 0
        raise StudyError(
            f"the segmentation holds {len(names)} structures: {listing}; name one (structure=..., --structure, "
            "--moving-structure)."
        )
    exact = [place for place, each in enumerate(names) if each == name]
    for places in (exact, [place for place, each in enumerate(names) if each.strip().lower() == name.strip().lower()]):
        if len(places) == 1:
            return places[0]
        if places:
            raise StudyError(
                f"the segmentation holds {len(places)} structures of the name that was asked for; expected one. Rename "
                "them, or export the one that is meant alone."
            )
    raise StudyError(
        f"the segmentation holds no structure {name!r}; found {listing}.{did_you_mean(name, shown)} Name one of these "
        "(structure=..., --structure, --moving-structure)."
    )


def _tells_patient(name: str, header: Dataset) -> bool:
    """Whether a name holds a part of the patient's name or identifier."""
    known = f"{header.get('PatientName') or ''}^{said(header, 'PatientID')}"
    parts = known.replace("=", "^").replace(" ", "^").split("^")
    return any(len(part) >= NOT_OF_A_NAME and part.lower() in name.lower() for part in parts)


def _contours(dataset: Dataset, name: str | None) -> Contours:
    regions = items(dataset, "StructureSetROISequence")
    place = chosen([said(region, "ROIName") for region in regions], name, dataset)
    region, number = regions[place], said(regions[place], "ROINumber")
    drawn = [
        contour
        for each in items(dataset, "ROIContourSequence")
        if said(each, "ReferencedROINumber") == number
        for contour in items(each, "ContourSequence")
        if said(contour, "ContourGeometricType") in CLOSED
    ]
    polygons = []
    for contour in drawn:
        values = numbers(contour, "ContourData")
        if len(values) % 3 or not values:
            raise SeriesError(
                "a contour of the structure is damaged: expected three finite numbers a point in ContourData; found "
                f"{counted(len(values), 'number')}. Export it again."
            )
        if len(values) >= 9:  # fewer points enclose nothing
            polygons.append(np.reshape(values, (-1, 3)) @ LPS_FROM_RAS[:3, :3])
    if not polygons:
        raise SeriesError(
            "the structure is empty: expected at least one closed contour; found none. Choose another structure, or "
            "export it again."
        )
    frames = items(dataset, "ReferencedFrameOfReferenceSequence")
    only = said(frames[0], "FrameOfReferenceUID") if len(frames) == 1 else ""
    frame = said(region, "ReferencedFrameOfReferenceUID") or only or said(dataset, "FrameOfReferenceUID")
    return Contours(said(region, "ROIName"), tuple(polygons), frame, dataset)


def _mask(dataset: Dataset, name: str | None) -> SegmentMask:
    segments = items(dataset, "SegmentSequence")
    segment = segments[chosen([said(each, "SegmentLabel") for each in segments], name, dataset)]
    number = int(segment.SegmentNumber)
    label_map = said(dataset, "SegmentationType") == "LABELMAP" or dataset.SOPClassUID == LABEL_MAP_STORAGE
    groups = Groups(dataset)
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(groups.own) != count:
        raise SeriesError(
            f"the segmentation is damaged: expected {counted(count, 'frame')} to be described, found "
            f"{len(groups.own)}. Export it again."
        )
    places = [
        place
        for place in range(count)
        if label_map
        or said(groups.first(place, "SegmentIdentificationSequence"), "ReferencedSegmentNumber") == str(number)
    ]
    if not places:
        raise SeriesError("the segment is empty: no frame belongs to it. Choose another structure, or export it again.")
    grid, slots = _lattice(groups, places, dataset)
    values = np.zeros(grid.shape, dtype=bool)
    half = 0.5 * int(dataset.get("MaximumFractionalValue") or 1)
    fractional = said(dataset, "SegmentationType") == "FRACTIONAL"
    # All at once: frames of single bits need not begin at a byte, so they cannot be read one by one.
    frames = pixel_array(dataset).reshape(count, int(dataset.Rows), int(dataset.Columns))
    for slot, pixels in zip(slots, frames[places], strict=True):
        inside = pixels == number if label_map else pixels >= half if fractional else pixels > 0
        values[..., slot] |= inside.T
    if not values.any():
        raise SeriesError("the segment is empty: no voxel belongs to it. Choose another structure, or export it again.")
    return SegmentMask(said(segment, "SegmentLabel"), values, grid, said(dataset, "FrameOfReferenceUID"), dataset)


def _lattice(groups: Groups, places: Sequence[int], dataset: Dataset) -> tuple[Grid, list[int]]:
    """The grid that frames lie on, without those between that hold nothing and are left out; and each one's slice."""
    found = [
        place_of(
            groups.first(place, "PlanePositionSequence"),
            groups.first(place, "PlaneOrientationSequence"),
            groups.first(place, "PixelMeasuresSequence"),
            f"frame {place + 1}",
            "the segmentation",
        )
        for place in places
    ]
    _, row, column, (between_rows, between_columns) = found[0]
    if any(not np.allclose(np.hstack(each[1:3]), np.hstack(found[0][1:3]), atol=1e-3) for each in found):
        raise GeometryError("frames of the segmentation lie in different planes; export those of one plane.")
    normal = np.cross(row, column)
    heights = np.array([each[0] @ normal for each in found])
    gaps = np.diff(np.unique(np.round(heights, 3)))
    measures = groups.first(places[0], "PixelMeasuresSequence")
    stated = [*numbers(measures, "SpacingBetweenSlices"), *numbers(measures, "SliceThickness")]
    step = float(gaps.min()) if len(gaps) else 0.0
    if stated and abs(stated[0]) > 0 and (not step or round(step / abs(stated[0])) > 0):
        step = abs(stated[0])
    slots = (heights - heights.min()) / step if step else np.zeros(1)
    if not step or np.abs(slots - slots.round()).max() > OFF_LATTICE or slots.max() >= MOST_SLICES:
        raise GeometryError(
            f"frames of the segmentation are not evenly spaced, or by no known distance; found {_gaps_told(gaps)}. "
            "Export it again on the grid of its images."
        )
    lowest = found[int(heights.argmin())][0]
    lps = np.eye(4)
    lps[:3, :3] = np.stack([row * between_columns, column * between_rows, normal * step], axis=1)
    lps[:3, 3] = lowest
    shape = (int(dataset.Columns), int(dataset.Rows), int(slots.max().round()) + 1)
    return Grid(shape, LPS_FROM_RAS @ lps), [int(slot) for slot in slots.round()]


def _gaps_told(gaps: Points) -> str:
    """Distances between slices, for a message."""
    return f"{gaps.min():.3g} to {gaps.max():.3g} mm" if len(gaps) else "one slice"
