"""Compute signed distances to the shapes that the head is made of.

Every function maps points to a field in mm that is negative inside, positive outside and grows by about 1 per mm near
the surface. From such a field the share of a voxel that lies inside follows without any supersampling.
"""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Triple = tuple[float, float, float]


class Points(NamedTuple):
    """N points in the head's own frame, RAS+ mm, as three (N,) float32 tensors."""

    x: Tensor
    y: Tensor
    z: Tensor

    @classmethod
    def of(cls, world: npt.ArrayLike) -> Points:
        """Take (N, 3) positions apart."""
        x, y, z = torch.from_numpy(np.array(np.asarray(world, dtype=np.float32).T, order="C"))
        return cls(x, y, z)

    def mirrored(self) -> Points:
        """Fold the left half onto the right, so that one shape draws both sides."""
        return Points(self.x.abs(), self.y, self.z)

    def shifted(self, x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Points:
        """Move every point by the given mm."""
        return Points(self.x + x, self.y + y, self.z + z)

    def where(self, chosen: Tensor) -> Points:
        """Keep the points at the (M,) integer indices ``chosen``."""
        return Points(self.x[chosen], self.y[chosen], self.z[chosen])


def ellipsoid(points: Points, centre: Triple, radii: Triple, pitch: float = 0.0, yaw: float = 0.0) -> Tensor:
    """Distance to an ellipsoid, first-order exact at its surface.

    Parameters
    ----------
    points
        Where to measure.
    centre, radii
        mm.
    pitch
        Degrees by which the ellipsoid's front is lifted.
    yaw
        Degrees by which the ellipsoid's front is turned to the left.
    """
    x, y, z = points.shifted(-centre[0], -centre[1], -centre[2])
    if pitch:
        cos, sin = math.cos(math.radians(pitch)), math.sin(math.radians(pitch))
        y, z = cos * y + sin * z, cos * z - sin * y
    if yaw:
        cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
        x, y = cos * x + sin * y, cos * y - sin * x
    x, y, z = (x / radii[0]).square(), (y / radii[1]).square(), (z / radii[2]).square()
    scale = (x + y + z).sqrt()
    slope = (x / radii[0] ** 2 + y / radii[1] ** 2 + z / radii[2] ** 2).sqrt()
    return scale * (scale - 1) / slope.clamp_min(1e-6)


def full_ellipsoid(points: Points, centre: Triple, radii: Triple) -> Tensor:
    """Distance to an ellipsoid with fuller shoulders: a superellipsoid of exponent 5/2; mm."""
    offsets = points.shifted(-centre[0], -centre[1], -centre[2])
    shares = [(offset / radius).abs() for offset, radius in zip(offsets, radii, strict=True)]
    roots = [share * share.sqrt() for share in shares]  # share ** (exponent - 1)
    total = reduce(torch.add, [root * share for root, share in zip(roots, shares, strict=True)]).clamp_min(1e-6)
    slope = length(*(root / radius for root, radius in zip(roots, radii, strict=True)))
    scale = total**0.4
    return (scale - 1) * total / scale / slope.clamp_min(1e-6)


def tube(points: Points, *path: tuple[float, float, float, float]) -> Tensor:
    """Distance to a chain of cones through the (x, y, z, radius) stations of ``path``, mm."""
    pieces = (_cone(points, start, end) for start, end in pairwise(path))
    return reduce(torch.minimum, pieces)


def _cone(points: Points, start: tuple[float, ...], end: tuple[float, ...]) -> Tensor:
    axis = [end[dimension] - start[dimension] for dimension in range(3)]
    x, y, z = points.shifted(-start[0], -start[1], -start[2])
    along = ((x * axis[0] + y * axis[1] + z * axis[2]) / sum(length**2 for length in axis)).clamp(0, 1)
    x, y, z = x - along * axis[0], y - along * axis[1], z - along * axis[2]
    return (x * x + y * y + z * z).sqrt() - (start[3] + along * (end[3] - start[3]))


def length(*offsets: Tensor) -> Tensor:
    """Euclidean length of per-point offsets, mm."""
    return reduce(torch.add, [offset.square() for offset in offsets]).sqrt()


def union(first: Tensor, second: Tensor, blend: float) -> Tensor:
    """Join two shapes, the crease between them filled over about ``blend`` mm."""
    overlap = (blend - (first - second).abs()).clamp_min(0) / blend
    return torch.minimum(first, second) - overlap.square() * (blend / 4)


def overlap(first: Tensor, second: Tensor, blend: float) -> Tensor:
    """Keep what lies in both shapes, the edge rounded over about ``blend`` mm."""
    return -union(-first, -second, blend)


def coverage(distance: Tensor, blur: float) -> Tensor:
    """Share in [0, 1] of a voxel ``blur`` mm wide that lies inside a surface ``distance`` mm away."""
    return (0.5 - distance / blur).clamp(0, 1)


class Waves:
    """Smooth random relief: a sum of plane waves of about one wavelength, with its slope.

    Parameters
    ----------
    generator
        Source of directions and phases; the same generator state gives the same relief.
    wavelength
        mm.
    count
        Number of waves.
    spread
        Relative scatter of the wavelengths.
    """

    def __init__(self, generator: np.random.Generator, wavelength: float, count: int, spread: float = 0.15) -> None:
        directions = generator.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        wavelengths = wavelength * (1 + spread * generator.uniform(-1, 1, size=(count, 1)))
        self._vectors = torch.from_numpy(2 * np.pi * directions / wavelengths).float()
        self._phases = torch.from_numpy(generator.uniform(0, 2 * np.pi, size=count)).float()
        self._amplitude = math.sqrt(2 / count)

    def _angles(self, points: Points) -> list[Tensor]:
        # Written out and not as a matrix product: BLAS may round differently from one batch size to another.
        return [
            points.x * float(vector[0]) + points.y * float(vector[1]) + points.z * float(vector[2]) + float(phase)
            for vector, phase in zip(self._vectors, self._phases, strict=True)
        ]

    def __call__(self, points: Points) -> Tensor:
        """Height of the relief, (N,), root mean square 1."""
        return reduce(torch.add, [angle.sin() for angle in self._angles(points)]) * self._amplitude

    def distance_to_zero(self, points: Points) -> Tensor:
        """Distance to the nearest sheet where the relief crosses zero, (N,), ≥ 0, mm, to first order."""
        height = torch.zeros_like(points.x)
        slope = [torch.zeros_like(points.x) for _ in range(3)]
        for angle, vector in zip(self._angles(points), self._vectors, strict=True):
            height += angle.sin()
            cosine = angle.cos()
            for component, factor in zip(slope, vector, strict=True):
                component.add_(cosine, alpha=float(factor))
        typical = float(self._vectors.square().sum().sqrt()) * math.sqrt(0.5)
        # Near a saddle the slope vanishes and the estimate would tear the sheet open.
        return height.abs() / length(*slope).clamp_min(0.5 * typical)
