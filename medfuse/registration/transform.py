"""The result of a registration: its matrix, where it came from, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from medfuse.errors import ExportError, RegistrationError
from medfuse.export import whole
from medfuse.grid import LPS_FROM_RAS, Points

Method = Literal["identity", "header", "rigid", "file"]


@dataclass(frozen=True, eq=False)
class Registration:
    """The map from points of the fixed study to points of the moving study.

    Parameters
    ----------
    matrix
        (4, 4) float64, read-only: **fixed → moving**, RAS+ mm. The value to show at the fixed point p is the moving
        study's value at ``matrix @ p``. Rigid or affine.
    method
        How it was found: ``"identity"`` (one frame of reference), ``"header"`` (positions taken from the headers),
        ``"rigid"`` (mutual information) or ``"file"``.
    scores
        What is known of its quality, by name:

        - ``overlap``: share of the fixed field of view that the moving one covers, 0 to 1 (all methods of `register`);
        - ``normalized_mutual_information``: at the result, all voxels of the 2 mm grid; 1 (nothing shared) to 2;
        - ``normalized_mutual_information_at_header``: the same, where the headers place the studies;
        - ``start_disagreement_mm``: largest distance between the outcomes of any two starts, 80 mm around the head;
        - ``starts_agreeing``: how many of the three starts ended within 8 mm (a coarse voxel) of the best one.
    seconds
        Time spent.

    Raises
    ------
    RegistrationError
        If the matrix is not a finite, regular affine, or mirrors the patient.
    """

    matrix: Points
    method: Method
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise RegistrationError(f"a registration needs a 4×4 matrix; found the shape {matrix.shape}.")
        if not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1), rtol=0, atol=1e-9):
            raise RegistrationError("a registration needs finite numbers and the last row 0 0 0 1; check the matrix.")
        volume = float(np.linalg.det(matrix[:3, :3]))
        if not 0.2 < volume < 5:
            raise RegistrationError(
                f"a registration must keep the patient whole and unmirrored: expected a determinant near 1, found "
                f"{volume:.3g}; check the matrix."
            )
        matrix[3] = (0, 0, 0, 1)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "scores", dict(self.scores))

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation, about whichever axis, degrees, 0 to 180."""
        u, _, vt = np.linalg.svd(self.matrix[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))

    @property
    def translation_mm(self) -> tuple[float, float, float]:
        """Where the fixed world's origin comes to lie in the moving world, RAS+ mm."""
        x, y, z = self.matrix[:3, 3]
        return float(x), float(y), float(z)

    def inverse(self) -> Registration:
        """Exchange fixed and moving; method, scores and seconds stay those of the search that was made."""
        return Registration(inverse_of(self.matrix), self.method, self.scores, self.seconds)

    def to_dict(self) -> dict[str, object]:
        """Everything, as JSON can hold it."""
        return {
            "direction": "fixed to moving, RAS+ mm",
            "matrix": self.matrix.tolist(),
            "method": self.method,
            "rotation_deg": self.rotation_deg,
            "translation_mm": list(self.translation_mm),
            "scores": dict(self.scores),
            "seconds": self.seconds,
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the matrix, fixed → moving, to a file that appears whole or not at all.

        Parameters
        ----------
        path
            ``.tfm``: ITK affine transform, LPS+ mm (3D Slicer, ANTs, elastix). ``.txt``: 4×4 numbers, RAS+ mm.
        overwrite
            Replace a file that is there.

        Raises
        ------
        ExportError
            If the suffix is another, the file is there, or it cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".tfm", ".txt"):
            raise ExportError(f"a registration is written as .tfm or .txt; found the suffix {path.suffix!r}.")
        with whole(path, overwrite) as beside:
            if path.suffix == ".txt":
                np.savetxt(beside, self.matrix, fmt="%.17g", header="fixed to moving, RAS+ mm", encoding="utf-8")
                return path
            try:
                sitk.WriteTransform(affine_transform(LPS_FROM_RAS @ self.matrix @ LPS_FROM_RAS), str(beside))
            except RuntimeError as error:
                raise ExportError(f"ITK cannot write {path}; choose a place with room and permission.") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Registration:
        """Read a rigid or affine map, fixed → moving, as `save` and other ITK programs write it.

        Parameters
        ----------
        path
            ``.tfm``: any linear ITK transform, LPS+ mm. ``.txt``: 4×4 numbers, RAS+ mm, lines with ``#`` skipped.

        Raises
        ------
        RegistrationError
            If the file is not one of these, or its matrix is not a finite, regular, unmirrored affine.
        """
        path = Path(path)
        if path.suffix not in (".tfm", ".txt"):
            raise RegistrationError(f"a registration is read from .tfm or .txt; found the suffix {path.suffix!r}.")
        if not path.is_file():
            raise RegistrationError(f"there is no registration file {path}; check the path.")
        try:
            if path.suffix == ".tfm":
                matrix = ras_matrix(sitk.ReadTransform(str(path)))
            else:
                lines = path.read_text(encoding="utf-8").splitlines()
                rows = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
                matrix = np.array(rows, dtype=np.float64)
        except (OSError, RuntimeError, ValueError) as error:
            wanted = "an ITK transform" if path.suffix == ".tfm" else "four rows of four numbers"
            raise RegistrationError(
                f"{path.name} could not be read as {wanted}; check the path and the file."
            ) from error
        return cls(matrix, "file")

    def __repr__(self) -> str:
        shift = ", ".join(f"{length:.2f}" for length in self.translation_mm)
        return f"Registration({self.method}, fixed → moving: {self.rotation_deg:.2f}°, ({shift}) mm RAS+)"


def inverse_of(matrix: Points) -> Points:
    """The inverse of an affine, its last row exactly 0 0 0 1."""
    inverse = np.eye(4)
    inverse[:3, :3] = np.linalg.inv(matrix[:3, :3])
    inverse[:3, 3] = -inverse[:3, :3] @ matrix[:3, 3]
    return inverse


def affine_transform(matrix: Points) -> sitk.AffineTransform:
    """ITK transform of a (4, 4) matrix, in the matrix's own coordinates."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel())
    transform.SetTranslation(matrix[:3, 3])
    return transform


def ras_matrix(transform: sitk.Transform) -> Points:
    """(4, 4) RAS+ matrix of a linear ITK transform; `ValueError` for any other."""
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise ValueError("not a linear transform in three dimensions")
    mapped = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)])])
    matrix = np.eye(4)
    matrix[:3, :3] = (mapped[1:] - mapped[0]).T
    matrix[:3, 3] = mapped[0]
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)
