"""Sort frames along their normal and fit one grid: refuse gaps, duplicates and mixed planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfuse.dicom.frames.frame import Frame, Vector
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import listed
from medfuse.volume.grid import LPS_FROM_RAS, Grid

POSITION_TOLERANCE = 0.02
"""How far a slice may lie off its place on the regular lattice, as a share of the slice spacing."""

ORIENTATION_TOLERANCE = 1e-3
"""How far direction cosines of one series may differ; headers round them, often to six decimals."""

MOST_SLICES_PER_FRAME = 2
"""Filling makes at most this many slices of each one that was acquired: beyond, most of a volume would be invented."""

SAME_POSITION_MM = 0.01
"""Slices closer than this lie at one position; no scanner cuts thinner."""


@dataclass(frozen=True)
class Stack:
    """Frames that form one volume.

    ``frames`` stand in order along the slice normal; ``slices`` names for each slice of ``grid`` the frames that it is
    made of, by place in ``frames``, and the weight of each: one frame of weight 1, or two where a gap was filled.
    """

    frames: tuple[Frame, ...]
    grid: Grid
    slices: tuple[tuple[tuple[int, float], ...], ...]

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
    slices = _slices(ordered, heights, name, fill_gaps)
    _require_line(ordered, positions, heights, name)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    shape = (*first.shape, len(slices))
    affine = np.eye(4)
    along_columns, along_rows = first.row * first.spacing[1], first.column * first.spacing[0]
    affine[:3] = np.stack((along_columns, along_rows, step, positions[0]), axis=1)
    return Stack(tuple(ordered), Grid(shape, LPS_FROM_RAS @ affine), slices)


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


def _slices(
    ordered: Sequence[Frame], heights: Vector, name: str, fill_gaps: bool
) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Which frames each slice is made of; refuses duplicates, and gaps that are not to be filled."""
    gaps = np.diff(heights)
    typical = float(np.median(gaps))
    for place in np.flatnonzero(gaps < max(0.1 * typical, SAME_POSITION_MM)).tolist():
        raise NoVolumeError(
            "slices at one position",
            f"{_both(ordered, place)} of {name} lie at the same position, {heights[place]:.2f} mm along the normal. "
            "Remove the duplicate, or separate the acquisitions it mixes.",
        )
    uneven = np.flatnonzero(np.abs(gaps - typical) > max(0.1 * typical, 0.01)).tolist()
    if not uneven:
        return tuple(((place, 1.0),) for place in range(len(ordered)))
    if fill_gaps:
        return _filled(heights, typical, name)
    place = uneven[0]
    missing = round(gaps[place] / typical) - 1
    guess = f"; {missing} slice{'s seem' if missing > 1 else ' seems'} to be missing" if missing >= 1 else ""
    every = sum(max(round(float(gap) / typical) - 1, 0) for gap in gaps[uneven])
    raise NoVolumeError(
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


def _filled(heights: Vector, typical: float, name: str) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Slices at even steps between the outermost frames, each weighted linearly from the two frames around it."""
    length = float(heights[-1] - heights[0])
    if length / typical > MOST_SLICES_PER_FRAME * len(heights):
        raise NoVolumeError(
            "too many slices missing",
            f"{name} spans {length:.1f} mm with {len(heights)} slices {typical:.2f} mm apart: to fill its gaps, more "
            "slices would be invented than there are. Export the whole series again.",
        )
    count = round(length / typical) + 1
    step = length / (count - 1)
    slices: list[tuple[tuple[int, float], ...]] = []
    for height in heights[0] + np.arange(count) * step:
        upper = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        share = float((height - heights[upper - 1]) / (heights[upper] - heights[upper - 1]))
        nearest = upper if share > 0.5 else upper - 1
        if abs(height - heights[nearest]) <= POSITION_TOLERANCE * step:
            slices.append(((nearest, 1.0),))
        else:
            slices.append(((upper - 1, 1 - share), (upper, share)))
    return tuple(slices)


def _require_line(ordered: Sequence[Frame], positions: Vector, heights: Vector, name: str) -> None:
    """First voxels lie on one line, each where its height along the normal puts it."""
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    typical = float(np.median(np.diff(heights)))
    if np.abs(np.diff(heights) - typical).max() <= max(0.1 * typical, 0.01):
        share = np.linspace(0, 1, len(heights))
    off = np.linalg.norm(positions - (positions[0] + share[:, None] * (positions[-1] - positions[0])), axis=1)
    if off.max() > max(POSITION_TOLERANCE * typical, 0.01):
        worst = ordered[int(off.argmax())].label
        raise NoVolumeError(
            "slices off their line",
            f"the slices of {name} do not lie on a regular lattice: {worst} is {off.max():.2f} mm off its place. "
            "Export the series again without resorting or merging.",
        )
