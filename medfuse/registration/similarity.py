"""Compute the similarity of two studies under many maps at once: mutual information at points, and its gradient.

Points are drawn between the voxels of one study, as a rule the fixed one: on its lattice, interpolation would favour
maps that lay one lattice onto the other. All maps are scored on the same points, so that scores compare; one seed, one
score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medfuse.registration.pyramid import PyramidLevel
from medfuse.volume.grid import Points

BINS = 32
"""Of each study's values, unless the samples say otherwise."""

FULL_OVERLAP = 0.5
"""Share of the largest possible overlap under which a score shrinks: small overlaps fit by chance."""

MARGIN_MM = 4.0
"""How far from the border of a field points are that stay inside of it while the map changes by no more than that."""

Measure = Callable[[Tensor], Tensor]
"""Of (P, bins, bins) joint histograms, (P,), at least 0."""

LOCKED = 0.5
"""Length of the mean of phases between voxels, 0 to 1, from which two lattices lie on each other."""

HEAD_MM = 80.0
"""Half the size of a head: the radius at which a turn is weighed against a shift, and distances are measured."""


@dataclass(frozen=True)
class Samples:
    """Points of one study, here called the fixed one, and what it shows there.

    Parameters
    ----------
    points
        (N, 3) float32, RAS+ mm, relative to ``centre``.
    bins
        (N,) int64: the bin of the fixed value.
    centre
        (3,) about which maps turn, RAS+ mm.
    bin_count
        Into how many bins the values of either study are sorted.
    """

    points: Tensor
    bins: Tensor
    centre: Points
    bin_count: int = BINS

    @classmethod
    def draw(
        cls, level: PyramidLevel, mask: Tensor, centre: Points, count: int, seed: int, bin_count: int = BINS
    ) -> Samples:
        """Draw ``count`` points within the voxels of ``mask`` (X, Y, Z)."""
        return cls._between(level, _places_within(mask, count, seed), centre, bin_count)

    @classmethod
    def of_field(cls, level: PyramidLevel, centre: Points, count: int, seed: int, bin_count: int = BINS) -> Samples:
        """Draw ``count`` points in all of the field."""
        return cls._between(level, _places(level.shape, count, seed), centre, bin_count)

    @classmethod
    def _between(cls, level: PyramidLevel, index: Points, centre: Points, bin_count: int) -> Samples:
        world = level.world(np.clip(index, 0, level.extent))
        to_unit = level.to_unit()
        values = level.sample(torch.from_numpy(world @ to_unit[:3, :3].T + to_unit[:3, 3]).float()[None])[0]
        return cls(torch.from_numpy(world - centre).float(), _binned(values, bin_count), centre, bin_count)

    @classmethod
    def of_voxels(
        cls,
        level: PyramidLevel,
        coarse: PyramidLevel,
        mask: Tensor,
        centre: Points,
        count: int,
        seed: int,
        bin_count: int = BINS,
    ) -> Samples:
        """Draw voxels of ``level`` within the voxels of ``mask``, which is of another level of the same study.

        No more than there are.
        """
        voxels = float(mask.sum()) * abs(np.linalg.det(coarse.affine[:3, :3]) / np.linalg.det(level.affine[:3, :3]))
        count = max(1, min(count, round(voxels)))
        around = coarse.world(_places_within(mask, count, seed))
        index = np.clip(np.rint(level.index(around)), 0, level.extent)
        x, y, z = torch.from_numpy(index).long().unbind(1)
        values = level.windowed(level.values[0, 0, x, y, z])
        places = torch.from_numpy(level.world(index) - centre).float()
        return cls(places, _binned(values, bin_count), centre, bin_count)

    def locked(self, moving: PyramidLevel, matrix: Points) -> bool:
        """Whether a map (4, 4), fixed → moving, takes them to the same place between voxels, along any axis."""
        index = np.linalg.inv(moving.affine) @ matrix
        places = (self.points.numpy() + self.centre) @ index[:3, :3].T + index[:3, 3]
        return bool(abs(np.exp(2j * np.pi * places).mean(axis=0)).max() > LOCKED)

    def staying(self, moving: PyramidLevel, matrix: Points) -> Samples:
        """Those that a map (4, 4), fixed → moving, takes `MARGIN_MM` inside of the moving field, or near its middle."""
        unit = (torch.from_numpy(moving.to_unit()) @ unmoved(matrix[None], self.centre))[0].float()
        places = self.points @ unit[:3, :3].T + unit[:3, 3]
        margin = 2 * MARGIN_MM / np.maximum(moving.extent * moving.spacing, 4 * MARGIN_MM)
        stay = (places.abs() < 1 - torch.from_numpy(margin[::-1].copy()).float()).all(dim=1)
        return replace(self, points=self.points[stay], bins=self.bins[stay])


def _places_within(mask: Tensor, count: int, seed: int) -> Points:
    """(count, 3) indices between and on the voxels of ``mask``."""
    return _places(mask.shape, count, seed, np.flatnonzero(mask.numpy()))


def _places(shape: tuple[int, ...], count: int, seed: int, inside: npt.NDArray[np.intp] | None = None) -> Points:
    """(count, 3) indices between and on voxels: all of them, or those whose places in memory are given."""
    draw = np.random.default_rng(seed)
    total = int(np.prod(shape)) if inside is None else len(inside)
    # One point in every equal part of the list: as even as a lattice, without being one.
    places = ((np.arange(count) + draw.random(count)) * total / count).astype(np.int64)
    at = np.unravel_index(places if inside is None else inside[places], shape)
    return np.stack(at, axis=-1) + draw.uniform(-0.5, 0.5, (count, 3))


def _binned(values: Tensor, bin_count: int) -> Tensor:
    return (values * bin_count).long().clamp_(0, bin_count - 1)


def maps(base: Points, changes: Tensor, centre: Points) -> Tensor:
    """(P, 4, 4) float64 maps fixed → moving, of points relative to ``centre``: ``base`` after a small change.

    Parameters
    ----------
    base
        (P, 4, 4), fixed → moving, RAS+ mm.
    changes
        (P, 6) or (P, 12) mm: turn about x, y, z and shift; then three stretches and three shears. Turns, stretches and
        shears are given by what they do to a point `HEAD_MM` from the centre.
    """
    turns, shifts, shapes = changes[:, :3], changes[:, 3:6], changes[:, 6:]
    x, y, z = (turns / HEAD_MM).unbind(1)
    still = torch.zeros_like(x)
    inner = torch.stack([still, -z, y, z, still, -x, -y, x, still], dim=1)
    if shapes.shape[1]:
        a, b, c, ab, ac, bc = (shapes / HEAD_MM).unbind(1)
        inner = inner + torch.stack([a, ab, ac, ab, b, bc, ac, bc, c], dim=1)
    moved = torch.cat([torch.linalg.matrix_exp(inner.reshape(-1, 3, 3)), shifts[:, :, None]], dim=2)
    last = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(moved), 1, 4)
    centred = np.array(base, dtype=np.float64)
    centred[:, :3, 3] += centred[:, :3, :3] @ centre
    found: Tensor = torch.from_numpy(centred) @ torch.cat([moved, last], dim=1)
    return found


def unmoved(base: Points, centre: Points) -> Tensor:
    """`maps` without any change."""
    return maps(base, torch.zeros(len(base), 6, dtype=torch.float64), centre)


def uncentred(matrices: Tensor, centre: Points) -> Points:
    """(P, 4, 4) maps of points relative to ``centre`` → of points."""
    found = matrices.detach().numpy().copy()
    found[:, :3, 3] -= found[:, :3, :3] @ centre
    return np.asarray(found)


def project(samples: Samples, moving: PyramidLevel, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Values of ``moving`` where maps take the samples, and how far inside its field they are: (P, N) each, 0 to 1."""
    unit = (torch.from_numpy(moving.to_unit()) @ matrices).float()
    places = samples.points @ unit[:, :3, :3].transpose(1, 2) + unit[:, None, :3, 3]
    half = torch.from_numpy(1 / np.maximum(moving.extent[::-1], 1)).float()
    inside = ((1 + half - places.abs()) / (2 * half)).clamp(0, 1).prod(dim=2)
    return moving.sample(places), inside


def joint(samples: Samples, values: Tensor, inside: Tensor) -> Tensor:
    """(P, bins, bins) joint histograms, rows of the fixed study; a moving value counts in four bins (B-spline)."""
    count, bins = len(values), samples.bin_count
    place = 1.5 + values * (bins - 4)
    lowest = place.detach().floor()
    t = place - lowest
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    first = lowest.long() - 1 + samples.bins * bins + torch.arange(count)[:, None] * bins**2
    histogram = torch.zeros(count * bins**2, dtype=torch.float32)
    for step, weight in enumerate(weights):
        histogram = histogram.index_add(0, (first + step).flatten(), (weight * inside).flatten())
    return histogram.reshape(count, bins, bins)


def normalised_mutual_information(histograms: Tensor) -> Tensor:
    """(P,) Studholme's (H(A) + H(B)) / H(A, B), from 1 (nothing shared) to 2."""
    both, fixed, moving = _entropies(histograms)
    return (fixed + moving) / both.clamp_min(1e-6)


def shared_share(histograms: Tensor) -> Tensor:
    """(P,) `normalised_mutual_information` above 1."""
    return normalised_mutual_information(histograms) - 1


def mutual_information(histograms: Tensor) -> Tensor:
    """(P,) H(A) + H(B) − H(A, B), nats."""
    both, fixed, moving = _entropies(histograms)
    return fixed + moving - both


def correlation_ratio(histograms: Tensor) -> Tensor:
    """(P,) share of each study's variance that the other explains, summed, from 0 (nothing) to 2 (all).

    Roche et al., MICCAI 1998, doi:10.1007/BFb0056301. It asks for means where mutual information asks for whole
    distributions, so that what misleads one need not mislead the other.
    """
    return _explained(histograms) + _explained(histograms.transpose(1, 2))


def _explained(histograms: Tensor) -> Tensor:
    """(P,) share of the columns' variance that is between rows, not within."""
    values = torch.arange(histograms.shape[2], dtype=histograms.dtype)
    count, first, second = histograms.sum(2).clamp_min(1e-6), (histograms * values).sum(2), histograms * values.square()
    within = second.sum((1, 2)) - (first.square() / count).sum(1)
    total = second.sum((1, 2)) - first.sum(1).square() / count.sum(1)
    return 1 - within / total.clamp_min(1e-6)


def _entropies(histograms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) H(A, B), H(A) and H(B), nats."""
    shares = histograms / histograms.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    both, fixed, moving = (
        -torch.special.xlogy(part, part.clamp_min(1e-12)).flatten(1).sum(dim=1)
        for part in (shares, shares.sum(dim=2), shares.sum(dim=1))
    )
    return both, fixed, moving


def score(
    samples: Samples, moving: PyramidLevel, matrices: Tensor, possible: float, measure: Measure = shared_share
) -> Tensor:
    """(P,) normalised mutual information above 1, less where the studies overlap by less than half of what they could.

    Parameters
    ----------
    samples, moving
        The fixed and the moving study.
    matrices
        (P, 4, 4) maps of points relative to the samples' centre.
    possible
        Largest share of the samples that can lie in the moving field.
    measure
        How much the two share.
    """
    values, inside = project(samples, moving, matrices)
    shared = measure(joint(samples, values, inside))
    return shared * (inside.mean(dim=1) / (FULL_OVERLAP * possible)).clamp(max=1)


def shared_information(samples: Samples, moving: PyramidLevel, matrices: Tensor) -> Tensor:
    """(P,) mutual information H(A) + H(B) − H(A, B), nats: of samples that stay inside the field, whatever the map.

    Where points enter and leave, H(A) changes with them, and draws the map towards what happens to be at the border;
    dividing by H(A, B), as `score` does, weakens that and does not end it.
    """
    return mutual_information(joint(samples, *project(samples, moving, matrices)))


def possible_overlap(mask: Tensor, fixed: PyramidLevel, moving: PyramidLevel) -> float:
    """Largest share of the fixed head that the moving field can hold, by volume."""
    field = float(np.prod(moving.extent + 1) * abs(np.linalg.det(moving.affine[:3, :3])))
    head = float(mask.sum()) * abs(float(np.linalg.det(fixed.affine[:3, :3])))
    return min(1.0, field / head)
