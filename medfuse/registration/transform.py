"""Represent the result of a registration: its map, its origin, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom import read_alignment
from medfuse.errors import RegistrationError
from medfuse.provenance import marked
from medfuse.registration.files.suffixes import FIELD_SUFFIXES, READ_SUFFIXES
from medfuse.registration.files.transform_files import read_map, write_map
from medfuse.registration.shown.drawing import draw_places
from medfuse.registration.verdict import Verdict
from medfuse.registration.warp import MOST_MOVED_MM, Warp
from medfuse.runtime.notebook.html_table import facts_table
from medfuse.volume import source_of
from medfuse.volume.grid import Points

MOST_STRETCHED = 2.0
"""How much longer or shorter a map may make anything; a map of another unit or of indices goes further."""

Method = Literal["identity", "header", "rigid", "affine", "deformable", "file"]


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
        ``"rigid"``, ``"affine"``, ``"deformable"`` (mutual information) or ``"file"``.
    scores
        Figures of the search, by name:

        - ``overlap``: share of the fixed field of view that the moving one covers, 0 to 1 (all methods of `register`);
        - ``normalized_mutual_information``: at the result, over the fixed head or body; 1 (nothing shared) to 2;
        - ``normalized_mutual_information_at_header``: the same, where the headers place the studies;
        - ``starts_agreeing``: how many of 32 starts, away from the head of seven at most, ended at this result.
    seconds
        Time spent.
    verdict
        What the pictures say of it; None where it was not assessed.
    warp
        A deformation, applied before the matrix: ``matrix @ (p + displacement(p))``.
    headers
        Which common world the headers name and why it was trusted or not, in half a sentence; empty where they name
        none, or were not asked.

    Raises
    ------
    RegistrationError
        If the matrix is not a finite, regular affine, mirrors the patient, or moves the origin by more than 5 m.
    """

    matrix: Points
    method: Method
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    verdict: Verdict | None = None
    warp: Warp | None = None
    headers: str = ""

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise RegistrationError(f"a registration needs a 4×4 matrix; found the shape {matrix.shape}.")
        if not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1), rtol=0, atol=1e-9):
            raise RegistrationError("a registration needs finite numbers and the last row 0 0 0 1; check the matrix.")
        if np.linalg.det(matrix[:3, :3]) <= 0:
            raise RegistrationError("a registration must not mirror or flatten the patient; check the matrix.")
        stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
        if stretches[0] > MOST_STRETCHED or stretches[-1] < 1 / MOST_STRETCHED:
            raise RegistrationError(
                f"a registration must keep the patient's shape: expected lengths to change by no more than "
                f"{MOST_STRETCHED:g}, found {stretches[0]:.3g} in one direction and {stretches[-1]:.3g} in another; "
                "check the matrix, and that it is in mm."
            )
        if np.abs(matrix[:3, 3]).max() > MOST_MOVED_MM:
            raise RegistrationError(
                f"a registration must not move the origin by more than {MOST_MOVED_MM:g} mm along an axis; found "
                f"{np.abs(matrix[:3, 3]).max():.3g} mm; check the matrix, and that it is in mm."
            )
        matrix[3] = (0, 0, 0, 1)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "scores", dict(self.scores))

    def _repr_html_(self) -> str:
        """What notebooks show: where the alignment was assessed and how far off it seems, and a table."""
        verdict = self.verdict
        x, y, z = self.translation_mm
        facts = [
            ("registration", self.method + (f" ({self.headers})" if self.headers else "")),
            ("verdict", "not assessed" if verdict is None else str(verdict)),
            ("estimated error", f"{self.error_mm:.1f} mm" if np.isfinite(self.error_mm) else "unknown"),
            ("rotation", f"{self.rotation_deg:.1f}°"),
            ("origin moves to", f"{x:.1f}, {y:.1f}, {z:.1f} mm (RAS+)"),
        ]
        if self.warp is not None:
            facts.append(("deformation", f"up to {self.warp.largest_mm:.1f} mm"))
        drawn = "" if verdict is None or not len(verdict.places) else draw_places(verdict.places, verdict.errors_mm)
        return f"<div>{drawn}{facts_table(facts)}</div>"

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation, about whichever axis, degrees, 0 to 180."""
        u, _, vt = np.linalg.svd(self.matrix[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))

    @property
    def translation_mm(self) -> tuple[float, float, float]:
        """Where the fixed world's origin comes to lie in the moving world by the matrix, RAS+ mm."""
        x, y, z = self.matrix[:3, 3]
        return float(x), float(y), float(z)

    @property
    def error_mm(self) -> float:
        """By how much the pictures say it may be off, mm; infinite where they say nothing. See `Verdict`."""
        return float("inf") if self.verdict is None else self.verdict.error_mm

    def moved(self, points: Points) -> Points:
        """(N, 3) points of the fixed study → of the moving study, RAS+ mm."""
        points = np.asarray(points, dtype=np.float64)
        if self.warp is not None:
            points = self.warp.moved(points)
        return np.asarray(points @ self.matrix[:3, :3].T + self.matrix[:3, 3])

    def inverse(self) -> Registration:
        """Exchange fixed and moving; method, scores, seconds and verdict stay those of the search that was made.

        Raises
        ------
        RegistrationError
            If there is a deformation: its inverse is known only where it was invertible and by approximation.
        """
        if self.warp is not None:
            raise RegistrationError(
                "a deformable registration has no exact inverse; register again with fixed and moving exchanged."
            )
        return replace(self, matrix=inverse_of(self.matrix))

    def then(self, other: Registration) -> Registration:
        """Compose: this map, fixed → middle, followed by another, middle → moving.

        Returns
        -------
        Registration
            fixed → moving, of the method ``"file"``, not assessed.

        Raises
        ------
        RegistrationError
            If the other deforms: a deformation can only come first.
        """
        if other.warp is not None:
            raise RegistrationError("a deformation can only come first; the second of two maps must be linear.")
        return Registration(other.matrix @ self.matrix, "file", warp=self.warp)

    def to_dict(self) -> dict[str, object]:
        """Everything, as JSON can hold it; ``error_mm`` is None where nothing is known."""
        verdict = self.verdict or Verdict("unconfirmed", reasons=("nobody has compared the pictures",))
        return {
            "direction": "fixed to moving, RAS+ mm",
            "matrix": self.matrix.tolist(),
            "method": self.method,
            "rotation_deg": self.rotation_deg,
            "translation_mm": list(self.translation_mm),
            "deformation": None if self.warp is None else self.warp.to_dict(),
            "scores": dict(self.scores),
            "seconds": self.seconds,
            "headers": self.headers,
        } | verdict.to_dict()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the map, fixed → moving, to a file that appears whole or not at all.

        Parameters
        ----------
        path
            ``.tfm`` or ``.h5``: ITK transform, LPS+ mm (3D Slicer, ANTs, elastix). ``.txt``: 4×4 numbers, RAS+ mm,
            under a comment, which says so where the pictures call it not aligned; the others hold numbers only.
        overwrite
            Replace a file that is there.

        Raises
        ------
        ExportError
            If the suffix is another, the file is there, it cannot be written, or it cannot hold a deformation.
        """
        path = Path(path)
        write_map(path, self.matrix, self.warp, overwrite, marked("", self.to_dict()))
        return path

    @classmethod
    def load(cls, path: str | Path, fixed: MetaTensor | None = None, moving: MetaTensor | None = None) -> Registration:
        """Read a map, fixed → moving, as `save` and other programs write it.

        Parameters
        ----------
        path
            ``.tfm``, ``.h5``, ``.mat``: ITK transforms, LPS+ mm; linear, or one deformation followed by linear ones.
            ``.txt``: 4×4 numbers, RAS+ mm, lines with ``#`` skipped. Else a DICOM Spatial Registration, or a folder
            with one.
        fixed, moving
            The volumes, by whose frames of reference DICOM says which way the map goes; other files do without.

        Raises
        ------
        RegistrationError
            If the file is not one of these, or its matrix is not a finite, regular, unmirrored affine.
        """
        path = Path(path)
        if path.suffix in READ_SUFFIXES or not path.exists():
            matrix, warp = read_map(path)
            return cls(matrix, "file", warp=warp)
        if path.name.lower().endswith(FIELD_SUFFIXES):
            raise RegistrationError(
                f"{path.name} is an image: displacements are read from ITK transforms. Where it holds displacements in "
                "LPS+ mm, save it as one with SimpleITK: "
                "sitk.WriteTransform(sitk.DisplacementFieldTransform(sitk.ReadImage(name, sitk.sitkVectorFloat64)), "
                '"field.h5").'
            )
        return cls(read_alignment(path, _frame(fixed), _frame(moving)), "file")

    def __repr__(self) -> str:
        shift = ", ".join(f"{length:.2f}" for length in self.translation_mm)
        verdict = "" if self.verdict is None else f", {self.verdict.opinion}, {self.error_mm:.1f} mm"
        return f"Registration({self.method}, fixed → moving: {self.rotation_deg:.2f}°, ({shift}) mm RAS+{verdict})"


def _frame(volume: MetaTensor | None) -> str | None:
    source = None if volume is None else source_of(volume)
    return None if source is None else source.frame_of_reference


def inverse_of(matrix: Points) -> Points:
    """The inverse of an affine, its last row exactly 0 0 0 1."""
    inverse = np.eye(4)
    inverse[:3, :3] = np.linalg.inv(matrix[:3, :3])
    inverse[:3, 3] = -inverse[:3, :3] @ matrix[:3, 3]
    return inverse
