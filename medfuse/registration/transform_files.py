"""Read and write maps as files: ITK transforms (LPS+ mm) or 4×4 text (RAS+ mm), always fixed → moving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medfuse.errors import ExportError, RegistrationError
from medfuse.registration.suffixes import ITK_SUFFIXES, READ_SUFFIXES, WRITTEN_SUFFIXES
from medfuse.registration.warp import Warp
from medfuse.runtime.atomic_output import atomic_file
from medfuse.runtime.exchange import settle
from medfuse.volume.grid import LPS_FROM_RAS, Grid, Points


def write_map(path: Path, matrix: Points, warp: Warp | None, overwrite: bool, remark: str = "") -> None:
    """Write a map to a file that appears whole or not at all; `ExportError` as `Registration.save` says."""
    if path.suffix not in WRITTEN_SUFFIXES:
        raise ExportError(
            f"a registration is written as {', '.join(WRITTEN_SUFFIXES)}; found the suffix {path.suffix!r}."
        )
    if path.suffix == ".txt" and warp is not None:
        raise ExportError("4×4 numbers cannot hold a deformation; save it as .h5 or .tfm.")
    with atomic_file(path, overwrite) as temporary:
        if path.suffix == ".txt":
            np.savetxt(temporary, matrix, fmt="%.17g", header=f"fixed to moving, RAS+ mm{remark}", encoding="utf-8")
            return
        transform: sitk.Transform = affine_transform(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)
        if warp is not None:
            # ITK applies the last one first.
            transform = sitk.CompositeTransform([transform, _field_of(warp)])
        try:
            sitk.WriteTransform(transform, str(temporary))
        except RuntimeError as error:
            raise ExportError(f"ITK cannot write {path}; choose a writable folder with free space.") from error


def read_map(path: Path) -> tuple[Points, Warp | None]:
    """Read matrix and deformation; `RegistrationError` as `Registration.load` says."""
    if path.suffix not in READ_SUFFIXES:
        raise RegistrationError(
            f"a registration is read from {', '.join(READ_SUFFIXES)} or DICOM; found the suffix {path.suffix!r}."
        )
    settle(path)
    if not path.is_file():
        raise RegistrationError(f"there is no registration file {path}; check the path.")
    try:
        if path.suffix in ITK_SUFFIXES:
            return _parts(sitk.ReadTransform(str(path)))
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        return np.array(rows, dtype=np.float64), None
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, RegistrationError):
            raise
        wanted = "four rows of four numbers" if path.suffix == ".txt" else "an ITK transform"
        raise RegistrationError(f"{path.name} could not be read as {wanted}; check the path and the file.") from error


def affine_transform(matrix: Points) -> sitk.AffineTransform:
    """ITK transform of a (4, 4) matrix, in the matrix's own coordinates."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel())
    transform.SetTranslation(matrix[:3, 3])
    return transform


def _parts(transform: sitk.Transform) -> tuple[Points, Warp | None]:
    """RAS+ matrix, and the deformation before it; `ValueError` for what is neither."""
    if transform.GetDimension() != 3:
        raise ValueError("not a transform in three dimensions")
    if transform.IsLinear():
        return _ras_matrix(transform), None
    parts = _flat(transform)
    if any(not part.IsLinear() for part in parts[:-1]):
        raise ValueError("a deformation must come first, and nothing but linear maps after it")
    matrix = np.eye(4)
    for part in parts[:-1]:
        matrix = matrix @ _ras_matrix(part)
    return matrix, _warp_of(parts[-1])


def _flat(transform: sitk.Transform) -> list[sitk.Transform]:
    """The parts of nested compositions; the last is applied first."""
    if not isinstance(transform := transform.Downcast(), sitk.CompositeTransform):
        return [transform]
    return [
        part for step in range(transform.GetNumberOfTransforms()) for part in _flat(transform.GetNthTransform(step))
    ]


def _ras_matrix(transform: sitk.Transform) -> Points:
    mapped = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)])])
    matrix = np.eye(4)
    matrix[:3, :3] = (mapped[1:] - mapped[0]).T
    matrix[:3, 3] = mapped[0]
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)


def _field_of(warp: Warp) -> sitk.DisplacementFieldTransform:
    lps = LPS_FROM_RAS @ warp.grid.affine
    vectors = LPS_FROM_RAS[:3, :3] @ warp.displacement.reshape(3, -1).astype(np.float64)
    image = sitk.GetImageFromArray(vectors.reshape(3, *warp.grid.shape).transpose(3, 2, 1, 0), isVector=True)
    image.SetOrigin(lps[:3, 3])
    image.SetSpacing(warp.grid.spacing)
    image.SetDirection((LPS_FROM_RAS[:3, :3] @ warp.grid.directions).ravel())
    return sitk.DisplacementFieldTransform(image)


def _warp_of(transform: sitk.Transform) -> Warp:
    """A displacement field as it is; B-splines sampled four times between their control points."""
    if isinstance(transform, sitk.DisplacementFieldTransform):
        image = transform.GetDisplacementField()
    elif isinstance(transform, sitk.BSplineTransform):
        size = [4 * mesh + 1 for mesh in transform.GetTransformDomainMeshSize()]
        lengths = transform.GetTransformDomainPhysicalDimensions()
        spacing = [length / (count - 1) for length, count in zip(lengths, size, strict=True)]
        origin, direction = transform.GetTransformDomainOrigin(), transform.GetTransformDomainDirection()
        image = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, origin, spacing, direction)
    else:
        raise ValueError(f"a {transform.GetName()} is no displacement field")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    vectors = sitk.GetArrayFromImage(image).transpose(3, 2, 1, 0)
    turned = (LPS_FROM_RAS[:3, :3] @ vectors.reshape(3, -1)).reshape(vectors.shape)
    shape = vectors.shape[1:]
    return Warp(Grid((shape[0], shape[1], shape[2]), LPS_FROM_RAS @ affine), turned.astype(np.float32))
