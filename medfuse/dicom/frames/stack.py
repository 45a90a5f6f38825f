"""Sort frames along their normal and fit one grid: refuse gaps, duplicates and mixed planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfuse.dicom.frames.enhanced import group_of
from medfuse.dicom.frames.frame import Frame, Vector
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.frames.rounding import Lattice, fit_rounded
from medfuse.dicom.header import listed, numbers
from medfuse.volume.grid import LPS_FROM_RAS, Grid

POSITION_TOLERANCE = 0.02
"""How far a slice may lie off its place on the regular lattice, as a share of the slice spacing."""

ORIENTATION_TOLERANCE = 1e-3
"""How far direction cosines of one series may differ; headers round them, often to six decimals."""

MOST_SLICES_PER_FRAME = 2
"""Filling makes at most this many slices of each one that was acquired: beyond, most of a volume would be invented."""

SAME_POSITION_MM = 0.01
"""Slices closer than this lie at one position; no scanner cuts thinner."""


Slices = tuple[tuple[tuple[int, float], ...], ...]
"""For each slice the frames that it is made of, by place, and the weight of each."""


@dataclass(frozen=True)
class Stack:
    """Frames that form one volume.

    ``frames`` stand in order along the slice normal; ``slices`` names for each slice of ``grid`` the frames that it is
    made of, by place in ``frames``, and the weight of each: one frame of weight 1, or two where a gap was filled. No
    frame's stated position is farther than ``deviation`` mm from its slice.
    """

    frames: tuple[Frame, ...]
    grid: Grid
    slices: Slices
    deviation: float = 0.0

    @property
    def filled(self) -> int:
        """How many slices were interpolated."""
        return sum(len(parts) > 1 for parts in self.slices)


def stack(frames: Sequence[Frame], name: str, *, fill_gaps: bool = False) -> Stack:
    """Sort frames by their projection on the normal and fit the grid.

    The slice step need not be parallel to the normal: a tilted gantry is a shear, which the affine holds exactly.

    Raises
    ------
    SeriesError
        If they differ in matrix, spacing or orientation, lie off a regular lattice, or leave gaps that are not to be
        filled, or if two lie at one position.
    """
    if len(frames) < 2:
        raise NoVolumeError(
            "one slice only", f"{name} has one slice only; a volume needs at least two. Choose the whole series."
        )
    _require_common(frames, name)
    first = frames[0]
    normal = np.cross(first.row, first.column)
    order = np.argsort([frame.position @ normal for frame in frames], kind="stable")
    ordered = [frames[place] for place in order]
    positions = np.array([frame.position for frame in ordered])
    heights = positions @ normal
    _require_apart(ordered, heights, name)
    slices, origin, step, deviation = _regular(positions, heights) or _irregular(ordered, positions, name, fill_gaps)
    affine = np.eye(4)
    along_columns, along_rows = first.row * first.spacing[1], first.column * first.spacing[0]
    affine[:3] = np.stack((along_columns, along_rows, step, origin), axis=1)
    grid = Grid((*first.shape, len(slices)), LPS_FROM_RAS @ affine)
    return Stack(tuple(ordered), grid, slices, deviation)


def same_plane(frame: Frame, other: Frame) -> bool:
    """Whether two frames share matrix, spacing and orientation."""
    return not _difference(frame, other)


def _difference(first: Frame, frame: Frame) -> str:
    """What two frames of one volume must share and do not; empty where they share it."""
    if frame.shape != first.shape:
        sizes = [" × ".join(map(str, one.shape)) for one in (first, frame)]
        return f"matrix sizes: {sizes[0]}, but {frame.label} has {sizes[1]}. Separate the series before fusing."
    for what, values, others, tolerance in (
        ("pixel spacings", first.spacing, frame.spacing, 1e-4),
        ("orientations", [*first.row, *first.column], [*frame.row, *frame.column], ORIENTATION_TOLERANCE),
    ):
        if not np.abs(np.subtract(values, others)).max() <= tolerance:
            return (
                f"{what}: {listed(values)}, but {frame.label} has {listed(others)}. Separate scouts and reformats from "
                "the series before fusing."
            )
    return ""


def _require_common(frames: Sequence[Frame], name: str) -> None:
    """All slices of a volume share matrix, spacing and orientation."""
    for frame in frames[1:]:
        difference = _difference(frames[0], frame)
        if difference:
            raise NoVolumeError(difference.split(":")[0].join(("several ", "")), f"{name} mixes {difference}")


Placed = tuple[Slices, Vector, Vector, float]
"""What slices are made of, where the first lies and the step between them, LPS mm, and the greatest deviation, mm."""


def _require_apart(ordered: Sequence[Frame], heights: Vector, name: str) -> None:
    gaps = np.diff(heights)
    for place in np.flatnonzero(gaps < max(0.1 * float(np.median(gaps)), SAME_POSITION_MM)).tolist():
        raise NoVolumeError(
            "slices at one position",
            f"{_both(ordered, place)} of {name} lie at the same position, {heights[place]:.2f} mm along the normal. "
            "Remove the duplicate, or separate the acquisitions it mixes.",
        )


def _uneven(heights: Vector) -> list[int]:
    """The places of gaps that are not the typical one."""
    gaps = np.diff(heights)
    typical = float(np.median(gaps))
    return [int(place) for place in np.flatnonzero(np.abs(gaps - typical) > max(0.1 * typical, 0.01))]


def _regular(positions: Vector, heights: Vector) -> Placed | None:
    """Slices at even steps along one line, as they are; None where they are not."""
    count = len(positions)
    off = _off_line(positions, np.linspace(0, 1, count))
    if _uneven(heights) or off.max() > _line_tolerance(heights):
        return None
    slices = tuple(((place, 1.0),) for place in range(count))
    return slices, positions[0], (positions[-1] - positions[0]) / (count - 1), float(off.max())


def _irregular(ordered: Sequence[Frame], positions: Vector, name: str, fill_gaps: bool) -> Placed:
    """Slices that rounding made uneven, or with gaps that are to be filled; refuses others."""
    first = ordered[0]
    normal = np.cross(first.row, first.column)
    heights = positions @ normal
    lattice = fit_rounded(positions, normal, _stated_steps(first))
    if lattice is not None and (fill_gaps or not lattice.missing):
        _require_mostly_there(lattice.places[-1] + 1, heights, name)
        return _on_lattice(lattice), lattice.origin, lattice.step, lattice.deviation
    share = np.linspace(0, 1, len(ordered))
    if _uneven(heights):
        if not fill_gaps:
            raise _gap_error(ordered, heights, lattice, name)
        share = (heights - heights[0]) / (heights[-1] - heights[0])
    off = _off_line(positions, share)
    if off.max() > _line_tolerance(heights):
        worst = ordered[int(off.argmax())].label
        raise NoVolumeError(
            "slices off their line",
            f"the slices of {name} do not lie on a regular lattice: {worst} is {off.max():.2f} mm off its place. "
            "Export the series again without resorting or merging.",
        )
    slices, deviation = _filled(heights, name)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    return slices, positions[0], step, max(float(off.max()), deviation)


def _gap_error(ordered: Sequence[Frame], heights: Vector, lattice: Lattice | None, name: str) -> NoVolumeError:
    gaps = np.diff(heights)
    typical = float(np.median(gaps))
    uneven = _uneven(heights)
    more = [max(round(float(gap) / typical) - 1, 0) for gap in gaps] if lattice is None else np.diff(lattice.places) - 1
    place = next((one for one in uneven if more[one]), uneven[0])
    missing, every = int(more[place]), int(sum(more[one] for one in uneven))
    guess = f"; {missing} slice{'s seem' if missing > 1 else ' seems'} to be missing" if missing >= 1 else ""
    return NoVolumeError(
        f"{every} slice{'s' * (every > 1)} missing" if every else "uneven spacing",
        f"slice spacing is not uniform: {typical:.2f} mm, but {gaps[place]:.2f} mm between "
        f"{_both(ordered, place)} of {name}{guess}. Export the whole series again, or have the "
        "gaps interpolated (fill_gaps=True, --fill-gaps).",
        missing=every,
    )


def _both(ordered: Sequence[Frame], place: int) -> str:
    """The labels of a frame and the next one, as messages name them."""
    first, second = ordered[place].label, ordered[place + 1].label
    if first.startswith("instance ") and second.startswith("instance "):
        return f"instances {first.removeprefix('instance ')} and {second.removeprefix('instance ')}"
    return f"{first} and {second}"


def _stated_steps(frame: Frame) -> list[float]:
    """What the header says to be the step between slices, mm, where it says so; thickness is often the same."""
    header = frame.instance.header
    measures = group_of(header, frame.number - 1, "PixelMeasuresSequence") if frame.number else header
    return [
        abs(value)
        for keyword in ("SpacingBetweenSlices", "SliceThickness")
        for value in numbers(measures, keyword)[:1] or numbers(header, keyword)[:1]
    ]


def _on_lattice(lattice: Lattice) -> Slices:
    """Each slice as its frame, or between the two frames around it where it has none."""
    slices: list[tuple[tuple[int, float], ...]] = []
    for upper, place in enumerate(lattice.places):
        below = lattice.places[upper - 1] if upper else place - 1
        for between in range(below + 1, place):
            share = (between - below) / (place - below)
            slices.append(((upper - 1, 1 - share), (upper, share)))
        slices.append(((upper, 1.0),))
    return tuple(slices)


def _require_mostly_there(count: int, heights: Vector, name: str) -> None:
    if count - 1 > MOST_SLICES_PER_FRAME * len(heights):
        raise NoVolumeError(
            "too many slices missing",
            f"{name} spans {heights[-1] - heights[0]:.1f} mm with {len(heights)} slices "
            f"{float(np.median(np.diff(heights))):.2f} mm apart: to fill its gaps, more slices would be invented than "
            "there are. Export the whole series again.",
        )


def _filled(heights: Vector, name: str) -> tuple[Slices, float]:
    """Slices at even steps between the outermost frames, each weighted linearly from the two frames around it.

    With them how far the farthest frame that is taken as it is lies from its slice, mm.
    """
    length = float(heights[-1] - heights[0])
    ratio = length / float(np.median(np.diff(heights)))
    _require_mostly_there(min(round(ratio), MOST_SLICES_PER_FRAME * len(heights) + 1) + 1, heights, name)
    count = round(ratio) + 1
    step = length / (count - 1)
    slices: list[tuple[tuple[int, float], ...]] = []
    deviation = 0.0
    for height in heights[0] + np.arange(count) * step:
        upper = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        share = float((height - heights[upper - 1]) / (heights[upper] - heights[upper - 1]))
        nearest = upper if share > 0.5 else upper - 1
        off = abs(float(height - heights[nearest]))
        if off <= POSITION_TOLERANCE * step:
            slices.append(((nearest, 1.0),))
            deviation = max(deviation, off)
        else:
            slices.append(((upper - 1, 1 - share), (upper, share)))
    return tuple(slices), deviation


def _off_line(positions: Vector, share: Vector) -> Vector:
    """How far first voxels lie off the line from the first to the last, each at its share of the way, mm."""
    return np.asarray(
        np.linalg.norm(positions - (positions[0] + share[:, None] * (positions[-1] - positions[0])), axis=1)
    )


def _line_tolerance(heights: Vector) -> float:
    return max(POSITION_TOLERANCE * float(np.median(np.diff(heights))), 0.01)
