"""Prepare a study for registration: one window, values 0 to 1, three resolutions; and mask the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor
from torch.nn import functional

from medfuse.errors import RegistrationError
from medfuse.volume import grid_of, plain
from medfuse.volume.grid import Points

FINE_MM, MIDDLE_MM, COARSE_MM = 2.0, 4.0, 8.0
"""Voxels of the three levels; none is finer than what was stored."""

LEAST_VOXELS = 4
"""Along each axis; thinner volumes are not compared."""

SLAB = 16
"""Slices of the fine level that are made at once."""

PADDING = (-1024.0, -2000.0, -3024.0, -32768.0)
"""What scanners write outside their field of view; no tissue."""

WINDOW_HU = (-200.0, 1000.0)
"""Where the tissues of a head CT differ; clips the air, most of the table, and metal."""


@dataclass(frozen=True)
class PyramidLevel:
    """A study at one resolution.

    Parameters
    ----------
    values
        (1, 1, X, Y, Z) float32: 0 to 1, or as stored.
    affine
        (4, 4), voxel index → RAS+ mm.
    window
        Which stored values count as 0 and as 1; what lies beyond counts as they do.
    """

    values: Tensor
    affine: Points
    window: tuple[float, float] | None = None

    @property
    def spacing(self) -> Points:
        """(3,) mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.values.shape[2:]
        return x, y, z

    @property
    def extent(self) -> Points:
        """(3,) largest index along each axis."""
        return np.array(self.shape) - 1.0

    def shrunk(self, millimetres: float) -> PyramidLevel:
        """Average blocks of voxels up to a size, keeping at least 4 blocks along each axis; noise shrinks with them."""
        factors = _blocks(self.spacing, self.shape, millimetres)
        return PyramidLevel(
            functional.avg_pool3d(self.values, factors), self.affine @ _to_middles(factors), self.window
        )

    def world(self, index: Points) -> Points:
        """(..., 3) indices → RAS+ mm."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def index(self, world: Points) -> Points:
        """(..., 3) RAS+ mm → indices."""
        return np.asarray((world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def to_unit(self) -> Points:
        """(4, 4) RAS+ mm → what `torch.nn.functional.grid_sample` reads: -1 to 1, last axis first."""
        index_to_unit = np.diag([*(2 / np.maximum(self.extent, 1)), 1.0])
        index_to_unit[:3, 3] = -1
        return np.asarray((index_to_unit @ np.linalg.inv(self.affine))[[2, 1, 0, 3]])

    def sample(self, unit: Tensor) -> Tensor:
        """Values, linearly interpolated as they are stored, at (P, N, 3) unit coordinates: (P, N), 0 to 1."""
        found = functional.grid_sample(self.values, unit[None, :, :, None], padding_mode="border", align_corners=True)
        return self.windowed(found[0, 0, :, :, 0])

    def windowed(self, values: Tensor) -> Tensor:
        """Values as shares of the window, 0 to 1."""
        if self.window is None:
            return values
        low, high = self.window
        return ((values - low) / (high - low)).clamp(0, 1)

    def bright_centre(self) -> Points:
        """(3,) centre of the voxels above the mean, RAS+ mm: the head, whatever its contrast."""
        values = self.values[0, 0].numpy()
        return self.world(np.argwhere(values > values.mean()).mean(axis=0))


@dataclass(frozen=True)
class Pyramid:
    """A study at three resolutions, and as it is stored.

    Parameters
    ----------
    fine, middle, coarse
        Voxels of `FINE_MM`, `MIDDLE_MM` and `COARSE_MM`, or larger ones where they are stored so.
    stored
        All voxels; shares the memory of a volume that is float32 on the CPU and finite.
    hounsfield
        Whether it is a CT, in HU.
    """

    fine: PyramidLevel
    middle: PyramidLevel
    coarse: PyramidLevel
    stored: PyramidLevel
    hounsfield: bool = False

    @classmethod
    def of(cls, volume: MetaTensor) -> Pyramid:
        """Window a (1, X, Y, Z) volume and shrink it.

        Raises
        ------
        RegistrationError
            If it has several channels, fewer than 4 voxels along an axis, or is constant.
        """
        name = str(volume.meta.get("modality", "given"))
        if volume.shape[0] != 1 or min(volume.shape[1:]) < LEAST_VOXELS:
            raise RegistrationError(
                f"the {name} volume must have one channel and at least {LEAST_VOXELS} voxels along each axis; found "
                f"{tuple(volume.shape)}. Align by 'header' to trust its position."
            )
        hounsfield = volume.meta.get("unit") == "HU"
        values = plain(volume)[0].detach().cpu().numpy()
        low, high = WINDOW_HU if hounsfield else _window(values)
        values = values.astype(np.float32, copy=False)
        if not np.isfinite([values.min(), values.max()]).all():
            values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        stored = PyramidLevel(torch.from_numpy(values)[None, None], grid_of(volume).affine, (low, high))
        fine = _shrunk(stored, name)
        middle = fine.shrunk(MIDDLE_MM)
        return cls(fine, middle, middle.shrunk(COARSE_MM), stored, hounsfield)


def _blocks(spacing: Points, shape: tuple[int, ...], millimetres: float) -> list[int]:
    """How many voxels along each axis make a block of up to a size; at least 4 blocks along each."""
    return [max(1, min(int(millimetres / step + 0.01), count // 4)) for step, count in zip(spacing, shape, strict=True)]


def _to_middles(factors: list[int]) -> Points:
    """(4, 4) index of a block → index, among its voxels, of its middle."""
    matrix = np.diag([*factors, 1.0])
    matrix[:3, 3] = (np.array(factors) - 1) / 2
    return matrix


def _shrunk(level: PyramidLevel, name: str) -> PyramidLevel:
    """Window a study and shrink it to `FINE_MM`, a slab after the other: it is never held twice in full."""
    assert level.window is not None
    stored, (low, high) = level.values[0, 0].numpy(), level.window
    factors = _blocks(level.spacing, level.shape, FINE_MM)
    shape = [count // factor for count, factor in zip(stored.shape, factors, strict=True)]
    shrunk = torch.empty((1, 1, *shape), dtype=torch.float32)
    darkest, brightest = np.inf, -np.inf
    for first in range(0, shape[2], SLAB):
        slab = np.array(stored[:, :, first * factors[2] : (first + SLAB) * factors[2]], dtype=np.float32)
        np.clip(slab, low, high, out=slab)
        darkest, brightest = min(darkest, slab.min()), max(brightest, slab.max())
        slab -= low
        slab /= high - low or 1.0
        blocks = functional.avg_pool3d(torch.from_numpy(slab)[None, None], factors)
        shrunk[..., first : first + SLAB] = blocks[..., : shape[2] - first]
    if darkest == brightest:
        raise RegistrationError(
            f"the {name} volume is constant: expected a picture of a patient, found {float(brightest):.4g} wherever it "
            "can be compared; check that the right series was loaded."
        )
    return PyramidLevel(shrunk, level.affine @ _to_middles(factors))


def _window(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Limits of nearly all known values, without padding and NaN."""
    stride = tuple(slice(None, None, max(1, length // 64)) for length in values.shape)
    for sample, limits in ((values[stride], (1, 99.5)), (values, (0, 100))):
        known = sample[np.isfinite(sample) & ~np.isin(sample, PADDING)]
        low, high = np.percentile(known, limits) if known.size else (0.0, 0.0)
        if low < high:  # else a few bright voxels in the void, which only the full range shows
            break
    return float(low), float(high)


def head_mask(coarse: PyramidLevel) -> Tensor:
    """(X, Y, Z) bool: what is brighter than the mean, and a coarse voxel of the air around it."""
    bright = coarse.values > coarse.values.mean()
    return functional.max_pool3d(bright.float(), 3, 1, 1)[0, 0] > 0


def enlarged(mask: Tensor, level: PyramidLevel) -> Tensor:
    """A coarse level's mask on a finer level of the same study."""
    return functional.interpolate(mask[None, None].float(), size=level.shape)[0, 0] > 0.5
