"""Turn volumes to the slices of a plane, and take slices out of them."""

from __future__ import annotations

import numpy as np
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.volume import grid_of, like, plain
from medfuse.volume.grid import Grid
from medfuse.volume.plane_names import Plane

DISPLAY_AXES: dict[Plane, str] = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIR"}
"""Where columns, rows and slices run in each plane, so that a viewer shows the usual view: the patient's left on the
right of the picture, or the face on its left, and slices in right-handed order."""


def replane(volume: MetaTensor, plane: Plane) -> MetaTensor:
    """Permute and flip the axes so that the last one runs through the slices of a plane.

    Parameters
    ----------
    volume
        (C, X, Y, Z).
    plane
        ``native`` leaves the volume as it was acquired; the others take the nearest axes of an oblique volume. Nothing
        is interpolated.

    Returns
    -------
    MetaTensor
        The same voxels at the same places; shares memory where no axis is flipped.
    """
    if plane == "native":
        return volume
    return _turned(volume, DISPLAY_AXES[plane])


def upright(volume: MetaTensor) -> MetaTensor:
    """Permute and flip rows and columns so that acquired slices are seen in the usual view; their order stays.

    Parameters
    ----------
    volume
        (C, X, Y, Z); slices run along its last axis.

    Returns
    -------
    MetaTensor
        The same voxels at the same places: slice *k* is slice *k* of ``volume``, turned as `replane` turns the plane
        that is nearest to it.
    """
    through = grid_of(volume).axcodes[2]
    nearest = next(plane for plane, axes in DISPLAY_AXES.items() if through in (axes[2], _opposite(axes[2])))
    return _turned(volume, DISPLAY_AXES[nearest][:2] + through)


def _turned(volume: MetaTensor, axes: str) -> MetaTensor:
    order, flipped, grid = _turn_to(grid_of(volume), axes)
    values = plain(volume).permute(0, *(1 + axis for axis in order))
    if flipped:
        values = values.flip([1 + axis for axis in flipped])
    return like(values, volume, grid)


def turn_of(grid: Grid, plane: Plane) -> tuple[tuple[int, ...], tuple[int, ...], Grid]:
    """How `replane` turns what lies on a grid: the order of axes, which are reversed then, and the resulting grid."""
    if plane == "native":
        return (0, 1, 2), (), grid
    return _turn_to(grid, DISPLAY_AXES[plane])


def _opposite(code: str) -> str:
    return next(pair.replace(code, "") for pair in ("LR", "AP", "IS") if code in pair)


def _turn_to(grid: Grid, axes: str) -> tuple[tuple[int, ...], tuple[int, ...], Grid]:
    axcodes = grid.axcodes
    order, flipped = [], []
    for new_axis, wanted in enumerate(axes):
        opposite = _opposite(wanted)
        old_axis = next(axis for axis, code in enumerate(axcodes) if code in (wanted, opposite))
        order.append(old_axis)
        if axcodes[old_axis] == opposite:
            flipped.append(new_axis)
    # index of the old grid = placement @ index of the new grid
    placement = np.zeros((4, 4))
    placement[3, 3] = 1
    for new_axis, old_axis in enumerate(order):
        placement[old_axis, new_axis] = -1 if new_axis in flipped else 1
        placement[old_axis, 3] = grid.shape[old_axis] - 1 if new_axis in flipped else 0
    x, y, z = (grid.shape[axis] for axis in order)
    return tuple(order), tuple(flipped), Grid((x, y, z), grid.affine @ placement)


def slice_batch(volume: MetaTensor, start: int, stop: int) -> Tensor:
    """Slices [start, stop) of a (1, X, Y, Z) volume as (N, 1, H, W), rows down and columns across; shares memory."""
    return as_slices(plain(volume)[..., start:stop])


def as_slices(values: Tensor) -> Tensor:
    """Turn (1, X, Y, N) into (N, 1, H, W), rows down and columns across; shares memory."""
    return values.permute(3, 0, 2, 1)


def require_same_grid(mri: MetaTensor, partner: MetaTensor) -> Grid:
    """Return the common grid; `GeometryError` where the volumes lie on different ones."""
    grid, other = grid_of(mri), grid_of(partner)
    if not grid.matches(other):
        raise GeometryError(
            f"slice pairs need one grid: the MRI lies on {grid!r}, the partner on {other!r}; resample the partner "
            "first."
        )
    return grid
