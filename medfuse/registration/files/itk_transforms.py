"""Read an ITK transform file and write its map as plain arrays: run as a program of its own.

    python itk_transforms.py TRANSFORM ARRAYS.npz

ITK trusts what transform files claim, and HDF5 what its files do: a damaged one ends the process that reads it. So this
one is not the caller's. It imports little but NumPy and SimpleITK.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medfuse.runtime.apart import limit_memory
from medfuse.volume.grid import LPS_FROM_RAS

Arrays = dict[str, Any]
"""Arrays of float64 by name."""

NOT_A_MAP = 3
"""Exit status where the file is read, and holds no map that medfuse takes; standard output says why."""

MOST_POINTS = 2**26
"""Of a lattice of displacements (0.8 GB); a field of 400³ points has fewer."""

USUAL_BYTES, PER_BYTE = 2**33, 20
"""Address space that reading may take, and more of it for each byte of the file."""


def main(transform: str, arrays: str) -> int:
    """Read one file, write the other; returns the exit status."""
    limit_memory(USUAL_BYTES + PER_BYTE * Path(transform).stat().st_size)
    try:
        parts = map_of(sitk.ReadTransform(transform))
    except ValueError as error:
        sys.stdout.write(str(error))
        return NOT_A_MAP
    except RuntimeError:
        sys.stdout.write("ITK does not read it")
        return NOT_A_MAP
    np.savez(arrays, **parts)
    return 0


def map_of(transform: sitk.Transform) -> Arrays:
    """The map of a transform in RAS+ mm.

    Returns
    -------
    dict
        ``matrix``, (4, 4); where a deformation comes before it also ``lattice``, (4, 4) index → world, and
        ``displacement``, (3, X, Y, Z).

    Raises
    ------
    ValueError
        If it is neither linear nor one deformation and linear maps after it; the message says what it is.
    """
    if transform.GetDimension() != 3:
        raise ValueError(f"it has {transform.GetDimension()} dimensions, and not 3")
    if transform.IsLinear():
        return {"matrix": _ras_matrix(transform)}
    parts = _flat(transform)
    if any(not part.IsLinear() for part in parts[:-1]):
        raise ValueError("a deformation must come first, and nothing but linear maps after it")
    matrix = np.eye(4)
    for part in parts[:-1]:
        matrix = matrix @ _ras_matrix(part)
    return {"matrix": matrix, **_deformation(parts[-1])}


def _flat(transform: sitk.Transform) -> list[sitk.Transform]:
    """The parts of nested compositions; the last is applied first."""
    if not isinstance(transform := transform.Downcast(), sitk.CompositeTransform):
        return [transform]
    return [
        part for step in range(transform.GetNumberOfTransforms()) for part in _flat(transform.GetNthTransform(step))
    ]


def _ras_matrix(transform: sitk.Transform) -> npt.NDArray[np.float64]:
    mapped = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)])])
    matrix = np.eye(4)
    matrix[:3, :3] = (mapped[1:] - mapped[0]).T
    matrix[:3, 3] = mapped[0]
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)


def _deformation(transform: sitk.Transform) -> Arrays:
    """A displacement field as it is; B-splines sampled four times between their control points."""
    if isinstance(transform, sitk.DisplacementFieldTransform):
        image = transform.GetDisplacementField()
    elif isinstance(transform, sitk.BSplineTransform):
        size = [4 * mesh + 1 for mesh in transform.GetTransformDomainMeshSize()]
        _require_few(size)
        lengths = transform.GetTransformDomainPhysicalDimensions()
        spacing = [length / (count - 1) for length, count in zip(lengths, size, strict=True)]
        origin, direction = transform.GetTransformDomainOrigin(), transform.GetTransformDomainDirection()
        image = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, origin, spacing, direction)
    else:
        raise ValueError(f"a {transform.GetName()} is no displacement field")
    _require_few(image.GetSize())
    lattice = np.eye(4)
    lattice[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lattice[:3, 3] = image.GetOrigin()
    vectors = sitk.GetArrayFromImage(image).transpose(3, 2, 1, 0)
    turned = (LPS_FROM_RAS[:3, :3] @ vectors.reshape(3, -1)).reshape(vectors.shape)
    return {"lattice": LPS_FROM_RAS @ lattice, "displacement": turned}


def _require_few(size: list[int] | tuple[int, ...]) -> None:
    if np.prod(size, dtype=np.float64) > MOST_POINTS:
        raise ValueError(f"its deformation has {' × '.join(map(str, size))} points, more than the {MOST_POINTS} taken")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
