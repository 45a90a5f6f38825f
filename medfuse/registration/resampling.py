"""Interpolate a volume onto a grid: once between stored and fused voxels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.registration.between_slices import BetweenSlices, between_slices, thick_axis
from medfuse.registration.files.transform_files import affine_transform
from medfuse.registration.transform import Registration, inverse_of
from medfuse.registration.warp import Warp
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import LazyVolume, grid_of, known_of, plain
from medfuse.volume.grid import Grid, Points
from medfuse.volume.slabs import copied_slices

Floats = npt.NDArray[np.float32]


Resampled = LazyVolume
"""The class's name before it moved to `medfuse.volume`, for one release."""


@default_settings()
def resample(moving: MetaTensor, onto: Grid, registration: Registration | None, *, outside: float) -> MetaTensor:
    """Bring a volume onto a grid by one interpolation; parameters as for `resampled`, whose slices these are.

    Returns
    -------
    MetaTensor
        (C, X, Y, Z) float32 on ``onto``, with the modality, unit and source of ``moving``.
    """
    return resampled(moving, onto, registration, outside=outside).volume()


@default_settings()
def resampled(moving: MetaTensor, onto: Grid, registration: Registration | None, *, outside: float) -> LazyVolume:
    """Prepare one interpolation of a volume onto a grid, linear, to be done slice by slice.

    The grids and the registration, its deformation included, are composed to one map first. Where the new grid is
    coarser than 1.5 moving voxels along an axis of the moving grid, a Gaussian that turns the finer voxel's width into
    the coarser one's smooths that axis first, against aliasing. Between thick slices values are taken along the way of
    structures from one to the next; see `medfuse.registration.between_slices`.

    Parameters
    ----------
    moving
        (C, X, Y, Z) volume.
    onto
        Where the values are wanted, in the fixed world.
    registration
        Fixed → moving; None where both worlds are one.
    outside
        The value, in the volume's unit, of every voxel whose centre lies outside the moving field of view, which ends
        at the faces of its outer voxels. The last half voxel within repeats the outermost value.

    Returns
    -------
    LazyVolume
        Slices along the last axis of ``onto``. If no voxel moves by more than a thousandth of a millimetre, the values
        are those of ``moving``, bit for bit; else ``moving`` itself need not be kept.

    References
    ----------
    Width of the Gaussian: Cardoso et al., MICCAI 2015, doi:10.1007/978-3-319-24571-3_81.
    """
    grid = grid_of(moving)
    matrix = np.eye(4) if registration is None else registration.matrix
    values = plain(moving).to(torch.float32)
    warp = None if registration is None else registration.warp
    if warp is None and Grid(grid.shape, inverse_of(matrix) @ grid.affine).matches(onto):
        return LazyVolume(onto, known_of(moving), partial(copied_slices, values))
    to_index = inverse_of(grid.affine) @ matrix
    smooth = [_smooth(sitk.GetImageFromArray(one), to_index @ onto.affine) for one in values.detach().cpu().numpy()]
    axis = thick_axis(grid, torch.from_numpy(_stride(to_index @ onto.affine)))
    between = None if axis is None else between_slices(_stacked(smooth), grid, axis)
    if warp is not None:
        return LazyVolume(
            onto, known_of(moving), partial(_bent, _stacked(smooth), between, to_index, onto, warp, outside)
        )
    return LazyVolume(onto, known_of(moving), partial(_pulled, smooth, between, to_index, onto, outside))


# What gives slices is a partial of these, not a closure, so that a study can be sent to another process. Each slice is
# interpolated by itself: else rounding would depend on which slices are asked for together.


@default_settings()
def _pulled(
    images: Sequence[sitk.Image],
    between: BetweenSlices | None,
    to_index: Points,
    onto: Grid,
    outside: float,
    start: int,
    stop: int,
) -> torch.Tensor:
    columns, rows, _ = onto.shape
    found = torch.empty((len(images), stop - start, rows, columns), dtype=torch.float32)
    for one, image in zip(found, images, strict=True):
        for k in range(start, stop):
            affine = np.array(onto.affine)
            affine[:3, 3] = onto.world((0, 0, k))
            one[k - start] = torch.from_numpy(_pull(image, to_index @ affine, rows, columns, outside))
    if between:
        for k in range(start, stop):
            places = torch.from_numpy(_plane(onto, k) @ to_index[:3, :3].T + to_index[:3, 3])
            between.fill(found[:, k - start].flatten(1), places)
    return found.permute(0, 3, 2, 1)


def _plane(grid: Grid, k: int) -> Points:
    """World positions of one slice, (rows · columns, 3), its columns in the inner loop."""
    columns, rows, _ = grid.shape
    index = np.zeros((rows, columns, 3))
    index[..., 0], index[..., 1], index[..., 2] = np.arange(columns), np.arange(rows)[:, None], k
    return grid.world(index.reshape(-1, 3))


def _stacked(images: Sequence[sitk.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sitk.GetArrayFromImage(one) for one in images]))


# Images in index space: unit spacing at the origin, and axes reversed, because SimpleITK's first axis is the last of a
# C-ordered array. So no array is transposed, and grids that are no ITK image (shear) need no special case.


def _smooth(image: sitk.Image, index: Points) -> sitk.Image:
    """Widen the voxels of an index-space image along the axes that ``index`` strides by more than 1.5."""
    stride = _stride(index)
    variance = np.where(stride > 1.5, (stride**2 - 1) / (8 * np.log(2)), 0.0)[::-1]
    if not variance.any():
        return image
    width = 9 + 8 * int(np.sqrt(variance.max()))
    return sitk.DiscreteGaussian(image, variance.tolist(), width, 0.001, useImageSpacing=False)


def _stride(index: Points) -> Floats:
    """Output voxels per moving voxel, by moving axis.

    Never large along an axis near which the output is fine, so that nothing fine is lost.
    """
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(index[:3, :3]), axis=0))


def _pull(image: sitk.Image, index: Points, rows: int, columns: int, outside: float) -> Floats:
    """(rows, columns) values of an index-space image at ``index @ (column, row, 0, 1)``; linear."""
    transform = affine_transform(index[[2, 1, 0, 3]])
    pulled = sitk.Resample(image, (columns, rows, 1), transform, sitk.sitkLinear, defaultPixelValue=float(outside))
    return np.asarray(sitk.GetArrayFromImage(pulled)[0])


@default_settings()
def _bent(
    moving: torch.Tensor,
    between: BetweenSlices | None,
    to_index: Points,
    onto: Grid,
    warp: Warp,
    outside: float,
    start: int,
    stop: int,
) -> torch.Tensor:
    """Values at ``to_index @ (p + displacement(p))`` for each point p of slices of a grid; linear, slice by slice."""
    size = torch.tensor(moving.shape[1:], dtype=torch.float64)
    found = torch.empty((len(moving), *onto.shape[:2], stop - start), dtype=torch.float32)
    columns, rows = (axis.ravel() for axis in np.meshgrid(*map(np.arange, onto.shape[:2]), indexing="ij"))
    for plane in range(start, stop):
        points = onto.world(np.stack([columns, rows, np.full_like(rows, plane)], axis=-1))
        index = torch.from_numpy(warp.moved(points) @ to_index[:3, :3].T + to_index[:3, 3])
        # A single voxel along an axis lies at 0, wherever between its faces it is asked.
        unit = (index * 2 / (size - 1).clamp_min(1) - 1).float().flip(-1)
        sampled = torch.nn.functional.grid_sample(
            moving[None], unit[None, :, None, None], padding_mode="border", align_corners=True
        )[0, :, :, 0, 0]
        if between:
            between.fill(sampled, index)
        inside = ((index >= -0.5) & (index <= size - 0.5)).all(dim=-1)
        found[..., plane - start] = torch.where(inside, sampled, outside).reshape(len(moving), *onto.shape[:2])
    return found
