"""The one interpolation between stored and fused voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.grid import Grid, Points
from medfuse.registration.files import affine_transform
from medfuse.registration.transform import Registration, inverse_of
from medfuse.registration.warp import Warp
from medfuse.volume import grid_of, like, plain

Floats = npt.NDArray[np.float32]


def resample(moving: MetaTensor, onto: Grid, registration: Registration | None, *, outside: float) -> MetaTensor:
    """Bring a volume onto a grid by one linear interpolation.

    The grids and the registration, its deformation included, are composed to one map first. Where the new grid is
    coarser than 1.5 moving voxels along an axis of the moving grid, a Gaussian that turns the finer voxel's width into
    the coarser one's smooths that axis first, against aliasing.

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
    MetaTensor
        (C, X, Y, Z) float32 on ``onto``, with the modality, unit and source of ``moving``. If no voxel moves by more
        than a thousandth of a millimetre, the values are those of ``moving``, bit for bit, and share its memory.

    References
    ----------
    Width of the Gaussian: Cardoso et al., MICCAI 2015, doi:10.1007/978-3-319-24571-3_81.
    """
    grid = grid_of(moving)
    matrix = np.eye(4) if registration is None else registration.matrix
    values = plain(moving).to(torch.float32)
    if registration is not None and registration.warp is not None:
        values = _bent(values, inverse_of(grid.affine) @ matrix, onto, registration.warp, outside)
    elif not Grid(grid.shape, inverse_of(matrix) @ grid.affine).matches(onto):
        moving_index = inverse_of(grid.affine) @ matrix @ onto.affine
        channels = [
            _pull(_smooth(sitk.GetImageFromArray(channel), moving_index), moving_index, onto.shape, outside)
            for channel in values.detach().cpu().numpy()
        ]
        values = torch.from_numpy(np.stack(channels))
    return like(values, moving, onto)


# Images in index space: unit spacing at the origin, and axes reversed, because SimpleITK's first axis is the last of a
# C-ordered array. So no array is transposed, and grids that are no ITK image (shear) need no special case.


def _smooth(image: sitk.Image, index: Points) -> sitk.Image:
    """Widen the voxels of an index-space image along the axes that ``index`` strides by more than 1.5."""
    # Output voxels per moving voxel: never large along an axis near which the output is fine, so nothing fine is lost.
    stride = 1 / np.linalg.norm(np.linalg.inv(index[:3, :3]), axis=0)
    variance = np.where(stride > 1.5, (stride**2 - 1) / (8 * np.log(2)), 0.0)[::-1]
    if not variance.any():
        return image
    width = 9 + 8 * int(np.sqrt(variance.max()))
    return sitk.DiscreteGaussian(image, variance.tolist(), width, 0.001, useImageSpacing=False)


def _pull(image: sitk.Image, index: Points, shape: tuple[int, int, int], outside: float) -> Floats:
    """Values of an index-space image at ``index @ (i, j, k, 1)`` for every (i, j, k) of ``shape``; linear."""
    reverse = [2, 1, 0, 3]
    pulled = sitk.Resample(
        image,
        shape[::-1],
        affine_transform(index[np.ix_(reverse, reverse)]),
        sitk.sitkLinear,
        defaultPixelValue=float(outside),
    )
    return np.asarray(sitk.GetArrayFromImage(pulled))


def _bent(values: torch.Tensor, to_index: Points, onto: Grid, warp: Warp, outside: float) -> torch.Tensor:
    """(C, X, Y, Z) values at ``to_index @ (p + displacement(p))`` for each point p of a grid; linear, by planes."""
    smooth = np.stack(
        [
            sitk.GetArrayFromImage(_smooth(sitk.GetImageFromArray(one), to_index @ onto.affine))
            for one in values.cpu().numpy()
        ]
    )
    moving = torch.from_numpy(smooth)[None]
    size = torch.tensor(moving.shape[2:], dtype=torch.float64)
    found = torch.empty(len(values), *onto.shape)
    rows, columns = (axis.ravel() for axis in np.meshgrid(*map(np.arange, onto.shape[1:]), indexing="ij"))
    for plane in range(onto.shape[0]):
        points = onto.world(np.stack([np.full_like(rows, plane), rows, columns], axis=-1))
        index = torch.from_numpy(warp.moved(points) @ to_index[:3, :3].T + to_index[:3, 3])
        # A single voxel along an axis lies at 0, wherever between its faces it is asked.
        unit = (index * 2 / (size - 1).clamp_min(1) - 1).float().flip(-1)
        sampled = torch.nn.functional.grid_sample(
            moving, unit[None, :, None, None], padding_mode="border", align_corners=True
        )[0, :, :, 0, 0]
        inside = ((index >= -0.5) & (index <= size - 0.5)).all(dim=-1)
        found[:, plane] = torch.where(inside, sampled, outside).reshape(len(values), *onto.shape[1:])
    return found
