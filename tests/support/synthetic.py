"""Grids that are never a cube at the origin, and values that tell their own position."""

from __future__ import annotations

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.volume import grid_of, make_volume
from medfuse.volume.grid import Grid


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    """(3, 3) rotation about the axes in this order."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians((x_deg, y_deg, z_deg))):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


def oblique_grid(shape=(17, 22, 13), spacing=(1.1, 0.9, 2.7), turns=(12.0, -7.0, 25.0), origin=(-31.0, 14.5, 77.25)):
    """A grid with three lengths, three spacings and no axis along the world's."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turns) * np.array(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


def world_linear(grid: Grid, modality="MR", unit="arbitrary", source=None) -> MetaTensor:
    """A volume whose value is x + 2y + 3z of its own place, mm."""
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), axis=-1)
    values = grid.world(index) @ np.array([1.0, 2.0, 3.0])
    return make_volume(
        torch.from_numpy(values.astype(np.float32))[None], grid, modality=modality, unit=unit, source=source
    )


def worst_linear_error(volume: MetaTensor, scale: float = 1.0, offset: float = 0.0) -> float:
    """How far any value is from x + 2y + 3z of its place, after value * scale + offset."""
    expected = world_linear(grid_of(volume)).as_tensor()
    return float((volume.as_tensor() * scale + offset - expected).abs().max())


def acquired(grid: Grid, modality="MR") -> tuple[MetaTensor, float, float]:
    """A world-linear volume in whole numbers that DICOM can store, with the scale and offset back to x + 2y + 3z."""
    linear = world_linear(grid)
    lowest = float(linear.as_tensor().min())
    unit = {"CT": "HU", "PT": "Bq/ml", "NM": "counts"}.get(modality, "arbitrary")
    offset = -1000.0 if modality == "CT" else 10.0
    stored = ((linear.as_tensor() - lowest) * 50).round() + offset
    return make_volume(stored, grid, modality=modality, unit=unit), 1 / 50, lowest - offset / 50
