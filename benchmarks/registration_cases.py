"""Pairs whose alignment is known: phantom heads in hard poses, and a real T1 and PET under known maps.

Seeds are fixed: the same number is the same pair on every machine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.phantom import Head, default_grid, default_pose, render
from medfuse.volume import Modality, grid_of, like, make_volume, plain
from medfuse.volume.grid import Grid

Matrix = npt.NDArray[np.float64]

HEAD_MM = (0.0, -7.0, 2.0)
"""Middle of the phantom's head in its own frame."""

RADII_MM = (70.0, 88.0, 80.0)
"""Half the head's width, length and height, over which errors are told."""

HEADS = (7, 11, 23)

REAL_TURNED, REAL_HALF = 6, 9
"""Up to which case the real pair is only turned, and up to which it has a half-turn."""

OWN_LATTICE = (1.0, 1.0, 2.0), (0.13, 0.37, 0.71)
"""Voxels of the partner's own lattice, and how far from its field's corner they begin, mm."""

A_MODALITY = 20
"""Cases of each partner."""


@dataclass(frozen=True)
class Case:
    """Two volumes and the truth.

    ``truth`` is (4, 4), fixed → moving, RAS+ mm; ``centre`` (3,) the middle of the head in the fixed world.
    """

    name: str
    kind: str
    fixed: MetaTensor
    moving: MetaTensor
    truth: Matrix
    centre: Matrix

    def error_mm(self, matrix: Matrix) -> float:
        """Largest distance between where ``matrix`` and the truth take a point of the head."""
        return float(self._errors(matrix).max())

    def median_error_mm(self, matrix: Matrix) -> float:
        """The median of the same."""
        return float(np.median(self._errors(matrix)))

    def _errors(self, matrix: Matrix) -> Matrix:
        steps = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        points = self.centre + steps[np.linalg.norm(steps, axis=1) <= 1] * RADII_MM
        return np.asarray(
            np.linalg.norm(points @ (matrix - self.truth)[:3, :3].T + (matrix - self.truth)[:3, 3], axis=1)
        )


def turn(axis: npt.ArrayLike, degrees: float) -> Matrix:
    """(4, 4) rotation about an axis through the origin."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    angle = np.radians(degrees)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def shift(offset: npt.ArrayLike) -> Matrix:
    """(4, 4) shift."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def plan(modality: Modality, number: int) -> tuple[str, int, Matrix, tuple[float, float]]:
    """Kind, head, turned pose (head's frame → scanner's world) and the part of the height that is seen, of one case."""
    draw = np.random.default_rng((2026, ("CT", "PT", "NM").index(modality), number))
    axis = draw.normal(size=3)
    angle, reach, seen = draw.uniform(5, 45), 80.0, (0.0, 1.0)
    around = np.eye(4)
    kind = "turned"
    if 8 <= number < 14:
        kind, angle, reach = "cut", draw.uniform(3, 20), 40.0
        share = draw.uniform(0.55, 0.75)
        seen = (1 - share, 1.0) if number % 2 else (0.0, share)
    elif 14 <= number < 18:
        kind, angle, reach = "half-turn", draw.uniform(2, 15), 40.0
        around = turn(np.eye(3)[number % 3], 180)
    elif number >= 18:
        kind, angle, reach = "quarter-turn", draw.uniform(2, 15), 40.0
        around = turn(np.eye(3)[number % 3], 90)
    offset = draw.normal(size=3)
    offset *= draw.uniform(0.2, 1) * reach / np.linalg.norm(offset)
    return kind, HEADS[number % 3], shift(offset) @ turn(axis, angle) @ around @ shift(np.negative(HEAD_MM)), seen


def partner_grid(modality: Modality, pose: Matrix, seen: tuple[float, float]) -> Grid:
    """A field around the turned head, along the scanner's axes; of its height, only the part ``seen`` is kept."""
    usual = default_grid(modality, 1.2 if modality == "CT" else 1.0)
    spacing = np.array(usual.spacing)
    extent = np.abs(pose[:3, :3]) @ np.add(RADII_MM, (18, 22, 30))
    low, high = pose[:3] @ (*HEAD_MM, 1) - extent, pose[:3] @ (*HEAD_MM, 1) + extent
    height = high[2] - low[2]
    low[2], high[2] = low[2] + seen[0] * height, low[2] + seen[1] * height
    shape = np.round((high - low) / spacing).astype(int)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1])
    affine[:3, 3] = (low + high) / 2 - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def phantom_case(modality: Modality, number: int, cache: Path | None = None) -> Case:
    """Render one case, or take it from the cache."""
    kind, seed, pose, seen = plan(modality, number)
    mri_pose = default_pose("MR")
    fixed = _mri(seed, cache)
    moving = kept(
        cache,
        f"{modality}-{number}",
        lambda: render(Head(seed), modality, partner_grid(modality, pose, seen), pose, seed=100 * seed + number),
    )
    return Case(
        f"{modality}-{number}", kind, fixed, moving, pose @ np.linalg.inv(mri_pose), mri_pose[:3] @ (*HEAD_MM, 1)
    )


def _mri(seed: int, cache: Path | None) -> MetaTensor:
    return kept(cache, f"MR-{seed}", lambda: render(Head(seed), "MR", default_grid("MR"), seed=seed))


def wrong_pairs(
    modality: Modality, number: int, cache: Path | None = None
) -> Iterator[tuple[str, MetaTensor, MetaTensor]]:
    """Kind, MRI and partner of pairs that do not belong together, made of the case of that number."""
    case = phantom_case(modality, number, cache)
    for seed in HEADS:
        if seed != HEADS[number % len(HEADS)]:
            yield "another head", _mri(seed, cache), case.moving
    values = plain(case.moving)
    yield "mirrored", case.fixed, like(values.flip(1).contiguous(), case.moving)
    draw = torch.Generator().manual_seed(number)
    noise = values.mean() + values.std() * torch.randn(values.shape, generator=draw)
    yield "noise", case.fixed, like(noise, case.moving)
    yield "another part", _part(case.fixed, 0.65, 1.0), _part(phantom_case(modality, 0, cache).moving, 0.0, 0.3)


def _part(volume: MetaTensor, first: float, last: float) -> MetaTensor:
    """The slices between two shares of the height."""
    grid = grid_of(volume)
    begin, end = (round(share * grid.shape[2]) for share in (first, last))
    return like(
        plain(volume)[..., begin:end].contiguous(),
        volume,
        Grid((*grid.shape[:2], end - begin), grid.affine @ shift((0, 0, begin))),
        source=None,
    )


def moved_world(volume: MetaTensor, matrix: Matrix) -> MetaTensor:
    """The same voxels, as if the patient had lain displaced by ``matrix`` (old world → new world) in the scanner."""
    grid = grid_of(volume)
    return like(plain(volume), volume, Grid(grid.shape, matrix @ grid.affine), source=None)


def on_own_lattice(volume: MetaTensor) -> MetaTensor:
    """The same field, by cubic splines, on a new lattice along the scanner's axes."""
    grid = grid_of(volume)
    spacing, begin = OWN_LATTICE
    corners = grid.world(np.array(list(product(*((0, side - 1) for side in grid.shape)))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil((high - low) / spacing).astype(int) + 1
    affine = np.diag([*spacing, 1])
    affine[:3, 3] = low + begin
    own = Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    stored = plain(volume)[0].double().numpy()
    smooth = ndimage.spline_filter(stored)
    values = np.empty(own.shape, np.float32)
    for x in range(own.shape[0]):  # plane by plane, for the peak of memory is measured
        index = grid.index(own.world(np.stack(np.meshgrid(x, *map(np.arange, own.shape[1:]), indexing="ij"), axis=-1)))
        values[x] = ndimage.map_coordinates(
            smooth, np.moveaxis(index[0], -1, 0), prefilter=False, cval=float(stored.min())
        )
    return like(torch.from_numpy(values)[None], volume, own, source=None)


def real_cases(mri: MetaTensor, partner: MetaTensor, count: int = 12) -> Iterator[Case]:
    """A real pair whose worlds coincide, every second slice, under rigid maps of up to 40° and 60 mm.

    From the case `REAL_TURNED` on, the patient also lies the other way round, upside down or face down. Of all these
    the voxels still lie on each other, and only the header is another; from `REAL_HALF` on the partner, only turned,
    is on a lattice of its own.
    """
    thin = []
    for volume in (mri, partner):
        grid = grid_of(volume)
        axis = int(np.argmax(np.abs(np.linalg.inv(grid.affine)[:3, 2])))
        steps = [1, 1, 1]
        steps[axis] = 2
        affine = grid.affine @ np.diag([*steps, 1])
        values = plain(volume)[(slice(None), *[slice(None, None, step) for step in steps])].contiguous()
        thin.append(like(values, volume, Grid(tuple(values.shape[1:]), affine), source=None))
    values = plain(thin[0])[0].numpy()
    head = np.argwhere(values > values.mean())
    centre = grid_of(thin[0]).world((head.min(axis=0) + head.max(axis=0)) / 2)
    for number in range(count):
        draw = np.random.default_rng((40, number % REAL_HALF))
        x, y, z = draw.uniform(-40, 40, 3)
        turned = turn((0, 0, 1), z) @ turn((0, 1, 0), y) @ turn((1, 0, 0), x)
        kind = "turned"
        if REAL_TURNED <= number < REAL_HALF:
            kind, turned = "half-turn", turned @ turn(np.eye(3)[number % 3], 180)
        truth = shift(draw.uniform(-60, 60, 3)) @ shift(centre) @ turned @ shift(-centre)
        moving = moved_world(thin[1], truth)
        if number >= REAL_HALF:
            kind, moving = "own lattice", on_own_lattice(moving)
        yield Case(f"real-{number}", kind, thin[0], moving, truth, centre)


def kept(cache: Path | None, name: str, make: Callable[[], MetaTensor]) -> MetaTensor:
    """What ``make`` makes, or the cache holds under that name."""
    if cache is None:
        return make()
    path = cache / f"{name}.pickle"
    if not path.exists():
        volume = make()
        cache.mkdir(parents=True, exist_ok=True)
        stored = plain(volume).numpy(), grid_of(volume), volume.meta["modality"], volume.meta["unit"]
        path.write_bytes(pickle.dumps(stored))
    values, grid, modality, unit = pickle.loads(path.read_bytes())
    return make_volume(torch.from_numpy(values), grid, modality=modality, unit=unit, source=None)
