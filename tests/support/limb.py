"""A made-up thigh: skin, fat, muscles with fat between them, a bone with marrow and a tumour; in MR, CT and PET."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.volume import make_volume
from medfuse.volume.grid import Grid, Points

AIR, FAT, MUSCLE, CORTEX, TUMOUR = range(5)
VALUES = {
    "MR": (0.02, 0.95, 0.45, 0.06, 0.6),
    "CT": (-1000.0, -100.0, 55.0, 900.0, 40.0),
    "PT": (0.02, 0.3, 0.8, 0.45, 4.0),
}
SPACING = {"MR": (1.6, 1.6, 3.2), "CT": (1.5, 1.5, 3.0), "PT": (4.7, 4.7, 3.3)}
NOISE = {"MR": 0.02, "CT": 12.0, "PT": 0.06}
BLUR_MM = {"MR": 0.5, "CT": 0.5, "PT": 2.6}
CENTRE = np.array([14.0, -22.0, 31.0])
SIZE = np.array([164.0, 156.0, 132.0])

Displacement = Callable[[Points], Points]


def tissue(points: Points) -> np.ndarray:
    """(N,) the tissue at (N, 3) places, RAS+ mm."""
    x, y, z = (points - CENTRE).T
    wide = 1 + 0.0016 * z
    edge = np.hypot(x / 68, y / 62) / wide + 0.05 * np.cos(3 * np.arctan2(y, x) + z / 40)
    found = np.where(edge < 1, FAT, AIR)
    inner = np.hypot(x / 56, y / 49) / wide + 0.06 * np.cos(2 * np.arctan2(y, x) - z / 50)
    found[inner < 1] = MUSCLE
    angle = np.arctan2(y - 6, x + 5) + z / 120
    septa = np.abs(np.sin(2.5 * angle)) * np.hypot(x + 5, y - 6) < 2.2
    found[(inner < 1) & septa] = FAT
    bone = np.hypot(x + 5 + 0.06 * z, y - 6 - 0.04 * z)
    found[bone < 15] = CORTEX
    found[bone < 8] = FAT
    found[np.linalg.norm((points - CENTRE - (26, -18, 4)) / (17, 14, 24), axis=1) < 1] = TUMOUR
    return found


def limb(modality: str, displacement: Displacement | None = None, *, seed: int = 1, shift: float = 0.0) -> MetaTensor:
    """The thigh as a scanner sees it; ``displacement`` takes a place to where what is seen there really lies."""
    spacing = np.array(SPACING[modality])
    fine = np.maximum(spacing / 2, 1.5) if modality == "PT" else spacing
    shape = np.round(SIZE / fine).astype(int)
    affine = np.diag([*fine, 1.0])
    affine[:3, 3] = CENTRE - fine * (shape - 1) / 2 + shift
    grid = Grid(tuple(map(int, shape)), affine)
    places = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3))
    if displacement is not None:
        places = places + displacement(places)
    values = np.array(VALUES[modality])[tissue(places)].reshape(grid.shape)
    values = ndimage.gaussian_filter(values, BLUR_MM[modality] / fine)
    if modality == "PT":
        step = [2, 2, 2]
        values = values[tuple(slice(None, None, each) for each in step)]
        grid = Grid(values.shape, grid.affine @ np.diag([*step, 1]))
    values = values + np.random.default_rng(seed).normal(0, NOISE[modality], values.shape)
    unit = "HU" if modality == "CT" else "arbitrary"
    return make_volume(torch.from_numpy(values.astype(np.float32))[None], grid, modality=modality, unit=unit)


def inside_body() -> Points:
    """(N, 3) places in the thigh, away from the ends of the field."""
    axes = [CENTRE[axis] + np.arange(-60, 61, 8.0) for axis in range(3)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return places[(tissue(places) != AIR) & (np.abs(places[:, 2] - CENTRE[2]) < 52)]


def smooth(most_mm: float, seed: int) -> Displacement:
    """A smooth displacement of up to so many mm in the thigh: four Gaussian hills of 40 mm."""
    draw = np.random.default_rng(seed)
    middles, heights = CENTRE + draw.uniform(-50, 50, (4, 3)), draw.normal(size=(4, 3))

    def displacement(points: Points) -> Points:
        away = ((points[:, None] - middles) ** 2).sum(axis=-1)
        return np.asarray(np.exp(-0.5 * away / 40**2) @ heights)

    heights *= most_mm / np.linalg.norm(displacement(inside_body()), axis=1).max()
    return displacement


def swollen(most_mm: float) -> Displacement:
    """The skin moved out by so many mm while the bone stays."""

    def displacement(points: Points) -> Points:
        away = points - CENTRE
        away[:, 2] = 0
        radius = np.linalg.norm(away, axis=1, keepdims=True)
        return np.asarray(-most_mm * away / np.maximum(radius, 1) * np.clip((radius - 25) / 25, 0, 1))

    return displacement


def inverse(displacement: Displacement, points: Points) -> Points:
    """Where what really lies at points is seen."""
    found = points
    for _ in range(40):
        found = points - displacement(found)
    return found
