"""Pairs whose alignment is known, in the fields that clinics have: tables, whole bodies, and millimetres throughout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from registration_cases import HEAD_MM, Case, kept, phantom_case, turn
from scipy import ndimage

from medfuse.phantom import Head, default_pose, render
from medfuse.volume import grid_of, like, plain
from medfuse.volume.grid import Grid

A_FIELD = 3
"""Cases of each field but the whole head."""

PADDING = -3024.0
"""What one maker's CT stores outside its circle."""

BODY_MM = 750.0
"""How far the field goes on below the head."""


def on_a_table(number: int, cache: Path | None = None) -> Case:
    """A CT case with a table, a head holder, and padding outside the circle of reconstruction."""
    case = phantom_case("CT", number, cache)
    volume = _enlarged(case.moving, (60, 60, 0), (60, 60, 0), -1000.0)
    x, y, _ = _places(volume)
    middle = grid_of(case.moving).centre
    values = plain(volume)[0].numpy().copy()
    radius = np.hypot(x - middle[0], y - middle[1])
    inner = 0.5 * (np.array(case.moving.shape[1:3]) * grid_of(case.moving).spacing[:2]).max()
    air = values < -900
    values[air & (abs(radius - inner - 8) < 3) & (y < middle[1])] = 250  # the holder's shell, behind the head
    depth = y - (middle[1] - inner - 24)
    values[air & (abs(depth) < 4)] = 400  # the table's upper and lower side
    values[air & (depth < -4) & (depth > -14)] = -700  # and its foam
    values[np.broadcast_to(radius > inner + 45, values.shape)] = PADDING
    return _with(case, f"table-{number}", "with a table", like(torch.from_numpy(values)[None], volume))


def in_a_body(number: int, cache: Path | None = None) -> Case:
    """A PET case whose field goes on to the thighs: neck, trunk, a hot heart and a hotter bladder."""
    case = phantom_case("PT", number, cache)
    brain = float(np.quantile(plain(case.moving).numpy(), 0.95))
    volume = _enlarged(case.moving, (120, 60, BODY_MM), (120, 60, 0), 0.0)
    x, y, z = _places(volume)
    top = grid_of(case.moving).world(np.zeros(3))[2]
    x, y, z = x - grid_of(case.moving).centre[0], y - grid_of(case.moving).centre[1], z - top

    def ellipsoid(centre: float, *radii: float) -> npt.NDArray[np.bool_]:
        return (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + ((z - centre) / radii[2]) ** 2 < 1

    body = np.zeros(volume.shape[1:], np.float32)
    for shape, uptake in (
        (ellipsoid(-10, 60, 55, 90), 0.15),
        (ellipsoid(-400, 190, 110, 360), 0.2),
        (ellipsoid(-180, 60, 45, 45), 1.2),
        (ellipsoid(-330, 120, 80, 70), 0.5),
        (ellipsoid(-640, 45, 40, 40), 4.0),
    ):
        body[shape] = uptake * brain
    body[np.broadcast_to(z > 0, body.shape)] = 0
    body = ndimage.gaussian_filter(body, 1.5) * np.random.default_rng(number).gamma(20, 1 / 20, body.shape)
    values = plain(volume)[0] + torch.from_numpy(body.astype(np.float32))
    return _with(case, f"body-{number}", "in a whole body", like(values[None], volume))


def whole_head(number: int, cache: Path | None = None) -> Case:
    """MRI and PET of 256 × 256 × 220 voxels of 1 mm each."""
    pose = np.eye(4)
    pose[:3, 3] = (12.0, -9.0, 15.0)
    pose = pose @ turn((1, 2, 3), 12 + number) @ default_pose("MR")
    volumes = []
    for modality, its_pose in (("MR", default_pose("MR")), ("PT", pose)):
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[:3, 3] = its_pose[:3] @ (*HEAD_MM, 1) - affine[:3, :3] @ (127.5, 127.5, 109.5)
        grid = Grid((256, 256, 220), affine)
        volumes.append(
            kept(
                cache,
                f"whole-{modality}-{number}",
                lambda m=modality, g=grid, p=its_pose: render(Head(7), m, g, p, seed=9),
            )
        )
    centre = default_pose("MR")[:3] @ (*HEAD_MM, 1)
    truth = pose @ np.linalg.inv(default_pose("MR"))
    return Case(f"whole-{number}", "1 mm throughout", *volumes, truth, centre)


def _with(case: Case, name: str, kind: str, moving: MetaTensor) -> Case:
    return Case(name, kind, case.fixed, moving, case.truth, case.centre)


def _enlarged(volume: MetaTensor, before: tuple[float, ...], after: tuple[float, ...], value: float) -> MetaTensor:
    """The field made larger by so many mm at both ends of each axis and filled; voxels stay where they are."""
    grid = grid_of(volume)
    low, high = (np.ceil(np.array(side) / grid.spacing).astype(int) for side in (before, after))
    values = np.pad(plain(volume)[0].numpy(), list(zip(low, high, strict=True)), constant_values=value)
    affine = grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ low
    return like(torch.from_numpy(values)[None], volume, Grid(values.shape, affine), source=None)


def _places(volume: MetaTensor) -> tuple[npt.NDArray[np.float64], ...]:
    """World x, y and z of the voxels of a volume whose axes are the world's, to be broadcast."""
    grid = grid_of(volume)
    return tuple(
        (grid.affine[axis, axis] * np.arange(size) + grid.affine[axis, 3]).reshape(
            [-1 if other == axis else 1 for other in range(3)]
        )
        for axis, size in enumerate(grid.shape)
    )
