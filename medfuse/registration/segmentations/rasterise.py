"""Rasterise planar contours in the patient's world: what lies inside them, by the even-odd rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medfuse.errors import GeometryError
from medfuse.volume.grid import Grid, Points

FINEST_MM, COARSEST_MM = 0.25, 1.0
"""Pixels within the planes of contours: half a study's, within these bounds."""

MOST_PIXELS, MOST_SLICES = 1024, 4096
"""Along an axis; pixels grow where a structure is larger."""

OFF_PLANE_MM = 0.5
"""How far a point may lie beside the plane of its contour: files round coordinates to a few digits."""

ONE_PLANE_MM = 0.05
"""Contours closer together than that lie in one plane."""

MOST_GAP = 3.0
"""Slices of the study between two neighbouring contours up to which what is between them counts as inside."""


@dataclass(frozen=True, eq=False)
class Region:
    """What belongs to a structure: ``values`` (X, Y, Z) bool on ``grid``, RAS+ mm. A voxel reaches half way around."""

    values: npt.NDArray[np.bool_]
    grid: Grid

    def holds(self, points: Points) -> npt.NDArray[np.bool_]:
        """(N,) whether (N, 3) points, RAS+ mm, lie in one of its voxels."""
        index = np.floor(self.grid.index(points) + 0.5).astype(np.int64)
        within = ((index >= 0) & (index < self.grid.shape)).all(axis=-1)
        found = np.zeros(len(points), dtype=bool)
        found[within] = self.values[tuple(index[within].T)]
        return found

    def box(self) -> Points:
        """(8, 3) corners of the smallest box of voxels that holds it, RAS+ mm."""
        index = np.argwhere(self.values)
        low, high = index.min(axis=0) - 0.5, index.max(axis=0) + 0.5
        ends = np.stack(np.meshgrid(*np.stack([low, high], axis=1), indexing="ij"), axis=-1)
        return self.grid.world(ends.reshape(-1, 3))


def rasterise(polygons: Sequence[Points], study: Grid) -> Region:
    """Fill closed planar polygons.

    A point is inside where a ray from it crosses the polygons of its plane an odd number of times: so keyholes, holes
    drawn as contours of their own and several parts in one plane come out as they are meant (PS3.3 C.8.8.6.3). A
    contour that is stored twice counts once. Each plane stands for what is nearer to it than to the next, as slices do.

    Parameters
    ----------
    polygons
        (N, 3) vertices each, RAS+ mm, in parallel planes, in any direction.
    study
        Of the images that they were drawn on, whose spacing sets that of the result.

    Raises
    ------
    GeometryError
        If they enclose nothing, or do not lie in parallel planes.
    """
    axes = _axes(polygons, study)
    placed = _without_copies([polygon @ axes for polygon in polygons])
    heights = np.array([polygon[:, 2].mean() for polygon in placed])
    off = max(float(np.abs(polygon[:, 2] - height).max()) for polygon, height in zip(placed, heights, strict=True))
    if off > OFF_PLANE_MM:
        raise GeometryError(
            f"contours of the structure do not lie in parallel planes: a point is {off:.2g} mm beside its plane, "
            f"expected up to {OFF_PLANE_MM:g} mm. Export them in the planes of the images."
        )
    planes, step, reach = _planes(heights, _spacing_along(study, axes[:, 2]))
    flat = np.vstack(placed)[:, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    finest = float(np.clip(min(study.spacing) / 2, FINEST_MM, COARSEST_MM))
    pixel = max(finest, float((high - low).max()) / (MOST_PIXELS - 3))
    width, height = (int(np.ceil(length / pixel)) + 3 for length in high - low)
    shape = width, height
    origin = low - pixel
    lowest = planes[0] - (reach - step / 2)
    count = int(np.ceil((planes[-1] + reach - step / 2 - lowest) / step - 1e-6)) + 1
    if count > MOST_SLICES:
        raise GeometryError(
            f"contours of the structure reach over {planes[-1] - planes[0]:.4g} mm in steps of {step:.2g} mm, which no "
            "study does; export them again."
        )
    filled = [
        _inside(
            [
                (each[:, :2] - origin) / pixel
                for each, at in zip(placed, heights, strict=True)
                if abs(at - plane) <= ONE_PLANE_MM
            ],
            shape,
        )
        for plane in planes
    ]
    values = np.zeros((*shape, count), dtype=bool)
    for slot in range(count):
        apart = np.abs(planes - (lowest + slot * step))
        if apart.min() <= reach + 1e-3:
            values[..., slot] = filled[int(apart.argmin())]
    if not values.any():
        raise GeometryError("contours of the structure enclose nothing; choose another structure, or export it again.")
    affine = np.eye(4)
    affine[:3, :3] = axes * (pixel, pixel, step)
    affine[:3, 3] = axes @ (*origin, lowest)
    return Region(values, Grid((*shape, count), affine))


def _axes(polygons: Sequence[Points], study: Grid) -> Points:
    """(3, 3): columns are two unit vectors within the planes, the first along the study's axis, and the normal."""
    areas = np.array([np.cross(each - each[0], np.roll(each, -1, axis=0) - each[0]).sum(axis=0) for each in polygons])
    largest = areas[int(np.linalg.norm(areas, axis=1).argmax())]
    length = float(np.linalg.norm(largest))
    if length < 1e-6:
        raise GeometryError("contours of the structure enclose nothing; choose another structure, or export it again.")
    normal = largest / length
    along = study.directions[:, int(np.abs(study.directions.T @ normal).argmin())]
    along = along - (along @ normal) * normal
    along /= np.linalg.norm(along)
    return np.stack([along, np.cross(normal, along), normal], axis=1)


def _without_copies(polygons: Sequence[Points]) -> list[Points]:
    """Each polygon once: by the even-odd rule, two copies would make a hole."""
    known: dict[bytes, Points] = {}
    for polygon in polygons:
        rounded = np.round(polygon, 2) + 0.0
        known.setdefault(rounded[np.lexsort(rounded.T)].tobytes(), polygon)
    return list(known.values())


def _spacing_along(study: Grid, normal: Points) -> float:
    """Distance between the study's planes that lie most nearly across a direction."""
    axis = int(np.abs(study.directions.T @ normal).argmax())
    return study.spacing[axis]


def _planes(heights: Points, usual: float) -> tuple[Points, float, float]:
    """Heights of the planes, the step between slices of the result, and how far a plane reaches, mm."""
    planes = [float(height) for height in np.sort(heights)]
    planes = [height for place, height in enumerate(planes) if not place or height - planes[place - 1] > ONE_PLANE_MM]
    gaps = np.diff(planes)
    near = gaps[gaps <= MOST_GAP * usual * 1.01]
    thickness = float(np.median(near)) if len(near) else usual
    smallest = float(near.min()) if len(near) else usual
    whole = gaps / smallest
    # Where planes are not evenly spaced, thin slices find each one's nearest plane.
    even = len(gaps) == 0 or float(np.abs(whole - whole.round()).max()) < 0.05
    return np.array(planes), smallest if even else smallest / 4, thickness / 2


def _inside(polygons: Sequence[Points], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(X, Y) whether centres of pixels lie in an odd number of polygons, whose vertices are (N, 2) in pixels."""
    crossings = np.zeros(shape[0] * shape[1], dtype=np.int64)
    for polygon in polygons:
        begin, end = polygon, np.roll(polygon, -1, axis=0)
        first, last = (np.ceil(side(begin[:, 1], end[:, 1])).astype(np.int64) for side in (np.minimum, np.maximum))
        edge = np.repeat(np.arange(len(polygon)), last - first)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
        slope = (end[edge, 0] - begin[edge, 0]) / (end[edge, 1] - begin[edge, 1])
        column = np.ceil(begin[edge, 0] + (row - begin[edge, 1]) * slope).astype(np.int64)
        # A row's pixels from the crossing on change sides.
        crossings += np.bincount(column * shape[1] + row, minlength=len(crossings))
    return np.asarray(crossings.reshape(shape).cumsum(axis=0) % 2 == 1)
