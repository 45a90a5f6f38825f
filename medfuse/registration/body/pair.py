"""Prepare two studies away from the head, and say how well a map fits: values and outlines together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage
from torch import Tensor

from medfuse.errors import RegistrationError
from medfuse.registration.body.bones import Bones, Map, seen_from_ct
from medfuse.registration.body.outline import Mask, body_mask, skin, windowed
from medfuse.registration.optimise import climb_by
from medfuse.registration.pyramid import LEAST_VOXELS, PyramidLevel
from medfuse.registration.similarity import Measure, Samples, joint, mutual_information, project, unmoved
from medfuse.registration.warp import Warp
from medfuse.volume import TRAITS, grid_of, plain
from medfuse.volume.grid import Points

SMOOTH_MM = (6.0, 3.0, 2.0)
"""Width at half height of the Gaussian that smooths each level."""

VOXELS_MM = (4.0, 2.0, 2.0)
"""Voxels of each level; none is finer than what was stored."""

COUNTS = (2000, 10_000, 30_000)
"""Samples on each level."""

AROUND_MM = 12.0
"""How far beyond the outline samples are drawn: air beside skin says where the skin is."""

OUTLINE_WEIGHT = 1.0
"""Of the outlines' mean squared difference, 0 to 1, against mutual information, nats. Without it fat under the skin,
dark in PET, is taken for air, 10 mm off; four times as much bends towards what breathing and blur make of an outline.
Chosen on eight patients."""

COARSE, MIDDLE, FINE = range(3)


@dataclass(frozen=True)
class BodyStudy:
    """A study made ready: three levels, 0 to 1, and the patient's outline.

    Parameters
    ----------
    levels
        By `SMOOTH_MM`.
    outline
        Which share of a voxel of the first level is body, smoothed.
    mask
        (X, Y, Z) bool on the first level.
    centre
        (3,) of the body, RAS+ mm.
    sharp
        As stored, in voxels of the last level.
    hounsfield, emission
        Whether that is HU, or uptake.
    """

    levels: tuple[PyramidLevel, ...]
    outline: PyramidLevel
    mask: Mask
    centre: Points
    sharp: PyramidLevel
    hounsfield: bool
    emission: bool

    @classmethod
    def of(cls, volume: MetaTensor) -> BodyStudy:
        """Smooth, window and outline a (1, X, Y, Z) volume.

        Raises
        ------
        RegistrationError
            If it has fewer than 4 voxels along an axis, or is constant.
        """
        name = str(volume.meta.get("modality", "given"))
        if min(volume.shape[1:]) < LEAST_VOXELS:
            raise RegistrationError(
                f"the {name} volume must have at least {LEAST_VOXELS} voxels along each axis; found "
                f"{tuple(volume.shape[1:])}. Align by 'header' to trust its position."
            )
        values = torch.nan_to_num(plain(volume).detach().cpu().float(), posinf=0.0, neginf=0.0)[None]
        if volume.meta.get("unit") == "HU":
            values = values.clamp(min=-1024.0)  # padding is no less than air
        if values.min() == values.max():
            raise RegistrationError(
                f"the {name} volume is constant: expected a picture of a patient, found {float(values.max()):.4g} "
                "everywhere; check that the right series was loaded."
            )
        fine = PyramidLevel(values, grid_of(volume).affine).shrunk(VOXELS_MM[FINE])
        coarse = fine.shrunk(VOXELS_MM[COARSE])
        hounsfield = volume.meta.get("unit") == "HU"
        stored = coarse.values[0, 0].numpy()
        mask = body_mask(stored, coarse.spacing, hounsfield=hounsfield)
        traits = TRAITS.get(volume.meta.get("modality", "MR"))
        emission = traits is not None and traits.emission
        shown = windowed(stored, mask, hounsfield=hounsfield, emission=emission)
        levels = tuple(
            _smoothed(level, shown(level.values[0, 0].numpy()), millimetres)
            for level, millimetres in zip((coarse, fine, fine), SMOOTH_MM, strict=True)
        )
        outline = _smoothed(coarse, mask.astype(np.float32), SMOOTH_MM[COARSE])
        centre = coarse.world(np.argwhere(mask).mean(axis=0))
        return cls(levels, outline, mask, centre, fine, hounsfield, emission)

    @property
    def field_centre(self) -> Points:
        """(3,) middle of the field, RAS+ mm."""
        return self.outline.world(self.outline.extent / 2)


def _smoothed(level: PyramidLevel, values: npt.NDArray[np.float32], millimetres: float) -> PyramidLevel:
    smooth = ndimage.gaussian_filter(values.astype(np.float32), millimetres / 2.355 / level.spacing, mode="nearest")
    return PyramidLevel(torch.from_numpy(smooth)[None, None], level.affine)


@dataclass(frozen=True)
class BodyLevel:
    """Samples of the fixed study on one level, and what they are compared with.

    ``body`` (N,) is which share of each is body; the centre of maps is that of the samples.
    """

    samples: Samples
    body: Tensor
    moving: PyramidLevel
    outline: PyramidLevel

    def parts(self, matrices: Tensor, measure: Measure = mutual_information) -> tuple[Tensor, Tensor, Tensor]:
        """Of (P, 4, 4) maps of centred points: shared information, the outlines' difference, the overlap; (P,) each."""
        values, inside = project(self.samples, self.moving, matrices)
        body, covered = project(self.samples, self.outline, matrices)
        difference = ((body - self.body).square() * covered).sum(dim=1) / covered.sum(dim=1).clamp_min(1.0)
        return measure(joint(self.samples, values, inside)), difference, inside.mean(dim=1)

    def fits(self, matrices: Tensor, measure: Measure = mutual_information) -> Tensor:
        """(P,) how well maps fit: what values share, less what outlines differ, times the share of points compared.

        The last factor is what keeps one field from sliding out of the other: few points share much by chance.
        """
        shared, difference, overlap = self.parts(matrices, measure)
        return (shared - OUTLINE_WEIGHT * difference) * overlap

    def of(self, chosen: Tensor) -> BodyLevel:
        """Some of the samples: (N,) bool."""
        samples = replace(self.samples, points=self.samples.points[chosen], bins=self.samples.bins[chosen])
        return replace(self, samples=samples, body=self.body[chosen])


@dataclass(frozen=True)
class BodyPair:
    """Two studies made ready, and samples of the fixed one on each level.

    ``body`` is (n, 3) points of the fixed body, over which distances are told, RAS+ mm; ``warp`` the deformation
    through which the samples are seen; ``bones`` a CT's bone beside an MRI, or None.
    """

    fixed: BodyStudy
    moving: BodyStudy
    levels: tuple[BodyLevel, ...]
    body: Points
    seed: int
    bones: Bones | None
    warp: Warp | None = None

    @classmethod
    def of(cls, fixed: BodyStudy, moving: BodyStudy, seed: int) -> BodyPair:
        """Draw the samples, one seed the same ones."""
        outline = fixed.outline
        reach = ndimage.distance_transform_edt(~fixed.mask, sampling=outline.spacing) <= AROUND_MM
        near = torch.from_numpy(reach)
        levels = []
        for level, (own, other, count) in enumerate(zip(fixed.levels, moving.levels, COUNTS, strict=True)):
            mask = near if own.shape == near.shape else _on(near, own)
            samples = Samples.draw(own, mask, fixed.centre, count, seed + level)
            levels.append(BodyLevel(samples, _read(outline, samples), other, moving.outline))
        inside = np.argwhere(fixed.mask)
        body = outline.world(inside[:: max(1, len(inside) // 2000)].astype(np.float64))
        return cls(fixed, moving, tuple(levels), body, seed, _bones(fixed, moving))

    def redrawn(self) -> BodyPair:
        """The same studies, and samples that nothing was fitted to."""
        return BodyPair.of(self.fixed, self.moving, self.seed + len(COUNTS))

    def warped(self, warp: Warp) -> BodyPair:
        """The pair as seen through a deformation: every sample looks from where the deformation takes it."""

        def moved(level: BodyLevel) -> BodyLevel:
            index = torch.from_numpy(warp.grid.index(level.samples.points.double().numpy() + self.centre))
            points = level.samples.points + warp.displaced(index)
            return replace(level, samples=replace(level.samples, points=points))

        return replace(self, levels=tuple(moved(level) for level in self.levels), warp=warp)

    def from_ct(self, matrix: Points, *, bent: bool = True) -> Map:
        """How a map takes the CT's bone to the other study."""
        return partial(seen_from_ct, fixed_is_ct=self.fixed.hounsfield, matrix=matrix, warp=self.warp if bent else None)

    @property
    def centre(self) -> Points:
        """(3,) about which maps turn, RAS+ mm."""
        return self.fixed.centre

    def fits(self, matrices: Points, level: int, measure: Measure = mutual_information, at_once: int = 48) -> Points:
        """(P,) how well (P, 4, 4) maps fixed → moving fit on a level."""
        found = []
        with torch.inference_mode():
            for first in range(0, len(matrices), at_once):
                some = unmoved(matrices[first : first + at_once], self.centre)
                found.append(self.levels[level].fits(some, measure))
        return torch.cat(found).double().numpy()

    def apart(self, matrix: Points, other: Points) -> float:
        """Median distance over the body between where two maps take a point, mm."""
        change = matrix - other
        return float(np.median(np.linalg.norm(self.body @ change[:3, :3].T + change[:3, 3], axis=1)))

    def skin(self) -> Points:
        """(n, 3) points of the fixed outline, RAS+ mm."""
        return self.fixed.outline.world(skin(self.fixed.mask).astype(np.float64))


def _bones(fixed: BodyStudy, moving: BodyStudy) -> Bones | None:
    """The bone of a CT beside an MRI; None for other pairs."""
    if fixed.hounsfield == moving.hounsfield or fixed.emission or moving.emission:
        return None
    ct, other = (fixed, moving) if fixed.hounsfield else (moving, fixed)
    return Bones(ct.sharp, other.sharp)


def _on(mask: Tensor, level: PyramidLevel) -> Tensor:
    """A mask of the first level on another."""
    return torch.nn.functional.interpolate(mask[None, None].float(), size=level.shape)[0, 0] > 0.5


def _read(level: PyramidLevel, samples: Samples) -> Tensor:
    """(N,) what a level of the fixed study shows at samples."""
    unit = torch.from_numpy(level.to_unit()) @ unmoved(np.eye(4)[None], samples.centre)
    places = samples.points.double() @ unit[0, :3, :3].T + unit[0, :3, 3]
    return level.sample(places.float()[None])[0]


def climb(
    level: BodyLevel, start: Points, freedom: int = 6, *, steps: int = 40, measure: Measure = mutual_information
) -> Points:
    """Best map near ``start``: a shift with 3 degrees of freedom, rigid with 6, affine with 12; by L-BFGS."""
    return climb_by(level.samples.centre, start, lambda some: level.fits(some, measure), steps, freedom)
