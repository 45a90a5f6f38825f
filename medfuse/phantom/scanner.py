"""Image the head by four simulated scanners: tissue contrast, pose, lattice, sharpness, noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor
from torch.nn import functional

from medfuse.phantom.head import Head
from medfuse.phantom.shapes import Points, Triple, Waves
from medfuse.phantom.tissues import CONTRAST, TISSUES
from medfuse.runtime.parallel import one_thread
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MODALITIES, Modality, Unit, make_volume
from medfuse.volume.grid import Grid

Matrix = npt.NDArray[np.float64]

AXES = "LPS"
"""Axis codes of all lattices before the tilt."""

HEAD_CENTRE = np.array([0.0, -7.0, 2.0])
"""What a technologist centres the field of view on, in the head's frame, mm."""

FINEST_MM = 3.2
"""Voxels longer than this are sampled twice along that axis: a sulcus is narrower than they are."""

SLAB = 400_000
"""Points computed at once; about 100 MB of work space."""


@dataclass(frozen=True)
class Scanner:
    """How one modality acquires, the head's pose in its world and the lattice of its slices.

    Parameters
    ----------
    unit
        Of the values.
    shape, spacing
        Matrix and voxel size in mm.
    turns, offset
        Degrees about x, y, z, then mm: the map from the head's frame to the scanner's world.
    tilt
        Degrees about x, y, z by which the slices are turned in the scanner's world.
    acquire
        Adds to (X, Y, Z) noiseless values on a grid what the modality's physics do, with a generator of noise.
    sharpness
        Full width at half maximum of the point spread, mm.
    lesion
        Value of the lesion, fresh blood or a hot spot; None where healthy tissue is in its place.
    """

    unit: Unit
    shape: tuple[int, int, int]
    spacing: Triple
    turns: Triple
    offset: Triple
    acquire: Callable[[Tensor, Grid, np.random.Generator], Tensor]
    tilt: Triple = (0.0, 0.0, 0.0)
    sharpness: float = 0.0
    lesion: float | None = None


def default_pose(modality: Modality) -> Matrix:
    """Where the patient lies in that scanner: (4, 4), head's frame → scanner's world, RAS+ mm."""
    scanner = SCANNERS[modality]
    return rigid(scanner.turns, scanner.offset)


def default_grid(modality: Modality, coarsen: float = 1.0) -> Grid:
    """The lattice that scanner acquires by default, in its world, every voxel size times ``coarsen``."""
    scanner = SCANNERS[modality]
    shape = tuple(max(2, round(length / coarsen)) for length in scanner.shape)
    steps = np.zeros((3, 3))
    for axis, code in enumerate(AXES):
        world = next(place for place, codes in enumerate(("LR", "PA", "IS")) if code in codes)
        steps[world, axis] = scanner.spacing[axis] * coarsen * (1 if code in "RAS" else -1)
    affine = np.eye(4)
    affine[:3, :3] = rigid(scanner.tilt, (0, 0, 0))[:3, :3] @ steps
    centre = default_pose(modality)[:3] @ np.append(HEAD_CENTRE, 1)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def rigid(turns: Triple, offset: Triple) -> Matrix:
    """Turn about x, then y, then z by degrees, then move by mm: (4, 4)."""
    matrix = np.eye(4)
    for axis, degrees in enumerate(turns):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(4)
        turn[[one, one, other, other], [one, other, one, other]] = cos, -sin, sin, cos
        matrix = turn @ matrix
    matrix[:3, 3] = offset
    return matrix


@default_settings()
def render(
    head: Head, modality: Modality, grid: Grid | None = None, pose: Matrix | None = None, *, seed: int = 0
) -> MetaTensor:
    """Image the head.

    Parameters
    ----------
    head
        Who.
    modality
        ``"MR"`` is T1-weighted with a receive bias and Rician noise, ``"CT"`` in HU, ``"PT"`` FDG in Bq/ml, ``"NM"``
        perfusion SPECT in counts with Poisson noise.
    grid
        Where to sample, in the scanner's world; the scanner's default if None.
    pose
        (4, 4), head's frame → scanner's world, RAS+ mm; the scanner's default if None.
    seed
        Draws the noise and the bias.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 on ``grid``.
    """
    scanner = SCANNERS[modality]
    grid = default_grid(modality) if grid is None else grid
    pose = default_pose(modality) if pose is None else pose
    generator = np.random.default_rng((seed, MODALITIES.index(modality)))
    with one_thread():  # the operations are thousands and small
        values = _noiseless(head, modality, grid, pose)
        if scanner.sharpness:
            values = _blurred(values, scanner.sharpness, grid.spacing)
        values = scanner.acquire(values, grid, generator)
    return make_volume(values[None], grid, modality=modality, unit=scanner.unit)


def _noiseless(head: Head, modality: Modality, grid: Grid, pose: Matrix) -> Tensor:
    """Mean value over each voxel, (X, Y, Z)."""
    column = MODALITIES.index(modality)
    factors = [2 if length > FINEST_MM else 1 for length in grid.spacing]
    blur = math.prod(length / factor for length, factor in zip(grid.spacing, factors, strict=True)) ** (1 / 3)
    to_head = np.linalg.inv(pose) @ grid.affine
    values = torch.empty(grid.shape, dtype=torch.float32)
    thickness = max(1, SLAB // (grid.shape[0] * grid.shape[1] * math.prod(factors)))
    for start in range(0, grid.shape[2], thickness):
        stop = min(start + thickness, grid.shape[2])
        ranges = ((0, grid.shape[0]), (0, grid.shape[1]), (start, stop))
        # Places of the samples in units of voxels: with two a voxel they lie at -1/4 and +1/4.
        axes = [
            np.arange(first * factor, last * factor) / factor - (factor - 1) / (2 * factor)
            for (first, last), factor in zip(ranges, factors, strict=True)
        ]
        index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        points = index @ to_head[:3, :3].T + to_head[:3, 3]
        samples = _tissue_values(head, points, modality, column, blur).reshape([len(axis) for axis in axes])
        values[..., start:stop] = functional.avg_pool3d(samples[None], factors)[0]
    return values


def _tissue_values(head: Head, points: Matrix, modality: Modality, column: int, blur: float) -> Tensor:
    values = torch.zeros(len(points), dtype=torch.float32)
    for tissue, fraction in zip(TISSUES, head.tissue_fractions(points, blur), strict=True):
        values.add_(fraction, alpha=CONTRAST[tissue][column])
    lesion = SCANNERS[modality].lesion
    if lesion is not None:
        share = head.lesion_coverage(points, blur)
        values += share * (lesion - values)
    return values


def _blurred(values: Tensor, width: float, spacing: Sequence[float]) -> Tensor:
    """Convolve (X, Y, Z) with a Gaussian of full width at half maximum ``width`` mm; the border continues outwards."""
    for axis, step in enumerate(spacing):
        sigma = width / (2 * math.sqrt(2 * math.log(2))) / step
        reach = math.ceil(3 * sigma)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma).square())
        weights /= weights.sum()
        index = torch.arange(-reach, values.shape[axis] + reach).clamp(0, values.shape[axis] - 1)
        padded = values.index_select(axis, index)
        values = torch.zeros_like(values)
        for place, weight in enumerate(weights):
            values.add_(padded.narrow(axis, place, values.shape[axis]), alpha=float(weight))
    return values


def _noise(shape: Sequence[int], generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def _acquire_mr(values: Tensor, grid: Grid, generator: np.random.Generator) -> Tensor:
    """Receive bias of about ±15 %, then the magnitude of a complex signal with noise in both parts."""
    bias = Waves(generator, wavelength=320, count=5)
    coarse = [np.linspace(0, length - 1, 12) for length in grid.shape]
    world = grid.world(np.stack(np.meshgrid(*coarse, indexing="ij"), axis=-1).reshape(-1, 3)) - grid.centre
    field = bias(Points.of(world)).reshape(1, 1, 12, 12, 12)
    smooth = functional.interpolate(field, size=grid.shape, mode="trilinear", align_corners=True)[0, 0]
    signal = values * (1 + 0.08 * smooth)
    sigma = 13.0
    real = signal + sigma * _noise(values.shape, generator)
    return real.square().add_((sigma * _noise(values.shape, generator)).square()).sqrt_()


def _acquire_ct(values: Tensor, grid: Grid, generator: np.random.Generator) -> Tensor:
    return (values + 7.0 * _noise(values.shape, generator)).clamp_(min=-1024)


def _acquire_pt(values: Tensor, grid: Grid, generator: np.random.Generator) -> Tensor:
    """Noise of reconstructed counts: grows with the root of the activity, and is as smooth as the image."""
    noise = _blurred(_noise(values.shape, generator), 5.0, grid.spacing)
    return (values + noise / noise.std() * 7.0 * (values + 50).sqrt()).clamp_(min=0)


def _acquire_nm(values: Tensor, grid: Grid, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.poisson(values.clamp_min(0).numpy()).astype(np.float32))


SCANNERS: dict[Modality, Scanner] = {
    "MR": Scanner("arbitrary", (184, 236, 150), (1.0, 1.0, 1.2), (4, -2, 3), (2, 12, -8), _acquire_mr, (7, -1.5, 1)),
    "CT": Scanner("HU", (220, 268, 94), (0.9, 0.9, 2.0), (-4, 3, -5), (6, -14, 38), _acquire_ct, lesion=75.0),
    "PT": Scanner(
        "Bq/ml", (112, 132, 62), (2.0, 2.0, 3.0), (-3, -4, -4), (-9, 18, -60), _acquire_pt, sharpness=6, lesion=42000
    ),
    "NM": Scanner(
        "counts", (60, 66, 46), (4.0, 4.0, 4.0), (9, 3, -3), (-5, -11, 27), _acquire_nm, sharpness=10, lesion=230
    ),
}
