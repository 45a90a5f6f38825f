"""Compare two structures under a map: Dice coefficient and distances of their surfaces."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medfuse.registration.segmentations.rasterise import Region
from medfuse.registration.transform import Registration, inverse_of
from medfuse.volume.grid import Points

VOXEL_MM = 1.0
"""Voxels of the comparison: those of the fixed structure, cut into equal parts up to this size."""

MOST_VOXELS = 2**24
"""Of the comparison; its voxels grow where two structures lie far apart."""

AROUND = 2
"""Voxels around both, so that every surface has an outside."""

SLAB = 2**20
"""Points that are looked up together; bounds the memory."""


@dataclass(frozen=True)
class Agreement:
    """How well two structures agree.

    Parameters
    ----------
    dice
        ``2 |A ∩ B| / (|A| + |B|)``, 0 to 1.
    hausdorff95_mm
        The larger of two figures: the distance to the other surface that 95 % of one surface keep within, each way.
    mean_surface_distance_mm
        The mean over both surfaces of the distance to the other one.
    fixed_ml, moving_ml
        Volumes, the moving one under the map.
    """

    dice: float
    hausdorff95_mm: float
    mean_surface_distance_mm: float
    fixed_ml: float
    moving_ml: float

    def to_dict(self) -> dict[str, float]:
        """Everything, as JSON can hold it."""
        return asdict(self)


def agreement(fixed: Region, moving: Region, registration: Registration) -> Agreement:
    """Compare two structures on a fine grid around both, in the fixed world.

    Neither is interpolated: a point counts as inside where the voxel is that it lies in. On one grid and under the
    identity the Dice coefficient is that of the voxels.

    Parameters
    ----------
    fixed, moving
        The structures in their own worlds.
    registration
        Fixed → moving.
    """
    affine, shape = _around(fixed, moving, registration)
    both = np.zeros((2, *shape), dtype=np.uint8)
    flat = both.reshape(2, -1)
    for first in range(0, flat.shape[1], SLAB):
        places = np.arange(first, min(first + SLAB, flat.shape[1]))
        points = np.stack(np.unravel_index(places, shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
        flat[0, places] = fixed.holds(points)
        flat[1, places] = moving.holds(registration.moved(points))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sizes = flat.sum(axis=1, dtype=np.int64)
    shared = int((flat[0] & flat[1]).sum())
    millilitres = sizes * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    there, back = _distances(both[0], both[1], spacing), _distances(both[1], both[0], spacing)
    return Agreement(
        dice=2 * shared / int(sizes.sum()),
        hausdorff95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        mean_surface_distance_mm=float(np.concatenate([there, back]).mean()),
        fixed_ml=float(millilitres[0]),
        moving_ml=float(millilitres[1]),
    )


def _around(fixed: Region, moving: Region, registration: Registration) -> tuple[Points, tuple[int, int, int]]:
    """Affine and shape of a grid around both structures, whose axes are perpendicular."""
    grid = fixed.grid.straightened()
    back = inverse_of(registration.matrix)
    there = moving.box() @ back[:3, :3].T + back[:3, 3]
    reach = 0.0 if registration.warp is None else registration.warp.largest_mm
    corners = np.vstack([grid.index(fixed.box()), grid.index(there)])
    widened = np.vstack([corners - reach / np.array(grid.spacing), corners + reach / np.array(grid.spacing)])
    parts = np.ceil(np.array(grid.spacing) / VOXEL_MM - 1e-6)
    # From face to face of voxels, so that equal parts of them are compared.
    low, high = np.floor(widened.min(axis=0) + 0.5 + 1e-6) - 0.5, np.ceil(widened.max(axis=0) + 0.5 - 1e-6) - 0.5
    while np.prod((high - low) * parts + 2 * AROUND) > MOST_VOXELS:
        parts = parts / 1.25
    counts = np.ceil((high - low) * parts - 1e-6).astype(int) + 2 * AROUND
    affine = np.array(grid.affine)
    affine[:3, :3] = grid.affine[:3, :3] / parts
    affine[:3, 3] = grid.world(low + (0.5 - AROUND) / parts)
    return affine, (int(counts[0]), int(counts[1]), int(counts[2]))


def _distances(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], spacing: Points) -> npt.NDArray[np.float32]:
    """(n,) distances from each voxel of one structure's surface to that of the other, mm."""
    images = [sitk.GetImageFromArray(each) for each in (one, other)]
    for image in images:
        image.SetSpacing(spacing[::-1].tolist())
    surface = sitk.GetArrayViewFromImage(sitk.LabelContour(images[0])) > 0
    away = sitk.SignedMaurerDistanceMap(images[1], squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.abs(sitk.GetArrayViewFromImage(away)[surface]))
