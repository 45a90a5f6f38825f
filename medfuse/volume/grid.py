"""Describe where voxels are: the shape of a volume and the affine that places it in the patient.

Everything inside medfuse is RAS+ millimetres: x grows to the patient's right, y to the front, z to the head, and voxel
index (i, j, k) means the centre of that voxel, as in nibabel and MONAI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medfuse.errors import GeometryError

Points = npt.NDArray[np.float64]

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""The one constant between RAS+ (medfuse, NIfTI) and LPS+ (DICOM, ITK); it is its own inverse."""

MOST_VOXELS = 2**32
"""No study is larger (16 GiB as float32); headers that claim more are damaged, or made to exhaust the memory."""


LEAST_SPACING_MM, FARTHEST_MM = 0.005, 10_000.0
"""Bounds of what is believed: no scanner of patients or animals resolves less than the first, and no table is longer
than the second. A header in another unit than it says passes one of them, as damaged numbers do."""

LEAST_VOLUME = 0.5
"""Volume of the cell spanned by unit vectors along the axes: 1 where they are perpendicular, 0.87 at a gantry tilt of
30°, the largest there is; 0.5 where one leans by 60°."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxel centres in the patient.

    Parameters
    ----------
    shape
        Number of voxels along the three axes.
    affine
        (4, 4) float64, voxel index → RAS+ world, mm. Any orientation; shear is allowed.

    Raises
    ------
    GeometryError
        If the affine is singular, sheared beyond a tilted gantry, not finite or not an affine; if voxels lie closer
        together than 0.005 mm, or farther than 10 m from each other or the world's origin; or if the shape is not three
        positive integers.
    """

    shape: tuple[int, int, int]
    affine: Points

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if len(self.shape) != 3 or any(length < 1 for length in self.shape):
            raise GeometryError(f"a grid needs three axes of at least one voxel; found the shape {tuple(self.shape)}.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise GeometryError("a grid needs a finite 4×4 affine whose last row is 0 0 0 1; check the image's header.")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        object.__setattr__(self, "affine", affine)
        self._require_plausible()

    def _require_plausible(self) -> None:
        """Raise `GeometryError` where no scanner can have measured: see `LEAST_SPACING_MM` and `LEAST_VOLUME`."""
        with np.errstate(over="ignore", invalid="ignore"):
            farthest = float(np.abs(self.corners()).max())
            spacing = self.spacing
        found = f"found spacings of {_listed(spacing)} mm"
        if not farthest <= FARTHEST_MM or not np.isfinite(spacing).all():
            raise GeometryError(
                f"expected voxels within {FARTHEST_MM / 1000:g} m of the origin; {found} and a corner {farthest:.3g} "
                "mm away; check the affine in the image's header, and that its unit is mm."
            )
        volume = abs(float(np.linalg.det(self.directions))) if min(spacing) > 0 else 0.0
        if volume < LEAST_VOLUME:
            what = "sheared further than any gantry tilts" if volume > 1e-6 else "singular"
            raise GeometryError(
                f"the affine is {what}: two axes point nearly the same way or a spacing is zero; {found}, and axes "
                f"that span {volume:.2g} of a right-angled cell; check the image's header."
            )
        if min(spacing) < LEAST_SPACING_MM:
            raise GeometryError(
                f"expected voxels at least {LEAST_SPACING_MM:g} mm apart; {found}; check the affine in the image's "
                "header, and that its unit is mm."
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def directions(self) -> Points:
        """(3, 3): column d is the unit vector along axis d, RAS+."""
        return np.asarray(self.affine[:3, :3] / np.array(self.spacing))

    @property
    def axcodes(self) -> str:
        """The direction each axis mostly runs to, such as ``"RAS"`` or ``"LPS"``.

        Axes are assigned one to one, so that an oblique grid never names one direction twice.
        """
        remaining = np.abs(self.directions).copy()
        codes = ["", "", ""]
        for _ in range(3):
            world, axis = np.unravel_index(np.argmax(remaining), (3, 3))
            codes[axis] = ("LR", "PA", "IS")[world][int(self.directions[world, axis] > 0)]
            remaining[world, :] = -1
            remaining[:, axis] = -1
        return "".join(codes)

    @property
    def sheared(self) -> bool:
        """Whether the axes are not perpendicular (a tilted gantry), by more than a thousandth."""
        off_diagonal = self.directions.T @ self.directions - np.eye(3)
        return bool(np.abs(off_diagonal).max() > 1e-3)

    @property
    def upright(self) -> bool:
        """Whether slices lie as viewers suppose: rows and columns perpendicular, and stacked along their normal."""
        cosines = np.abs(self.directions.T @ self.directions - np.eye(3))
        return bool(cosines[0, 1] <= 1e-4 and not self.sheared)

    def straightened(self) -> Grid:
        """The smallest upright grid of the same spacing within slices that covers this one; itself where upright.

        Rows stay rows, and slices stay in their planes, where only these are tilted against their stack; so no value
        need be interpolated between slices.
        """
        if self.upright:
            return self
        first, second, step = self.affine[:3, :3].T
        along = first / np.linalg.norm(first)
        across = second - (second @ along) * along
        across /= np.linalg.norm(across)
        normal = np.cross(along, across)
        normal *= np.sign(normal @ step)
        axes = np.stack((along * self.spacing[0], across * self.spacing[1], normal * float(normal @ step)), axis=1)
        # Corners in voxels of the new axes, counted from the first voxel, which stays one.
        corners = (self.corners() - self.affine[:3, 3]) @ np.linalg.inv(axes).T
        start, stop = np.floor(corners.min(axis=0) + 1e-3), np.ceil(corners.max(axis=0) - 1e-3)
        affine = np.eye(4)
        affine[:3, :3] = axes
        affine[:3, 3] = self.affine[:3, 3] + axes @ start
        x, y, z = (int(length) + 1 for length in stop - start)
        return Grid((x, y, z), affine)

    @property
    def centre(self) -> Points:
        """(3,) world position of the middle of the volume, mm."""
        return self.world(np.array([(length - 1) / 2 for length in self.shape]))

    def world(self, index: npt.ArrayLike) -> Points:
        """Map (..., 3) voxel indices to RAS+ mm."""
        return np.asarray(np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def index(self, world: npt.ArrayLike) -> Points:
        """Map (..., 3) RAS+ mm to fractional voxel indices."""
        offset = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(offset @ np.linalg.inv(self.affine[:3, :3]).T)

    def corners(self) -> Points:
        """(8, 3) world positions of the outermost voxel centres, mm."""
        ends = [(0, length - 1) for length in self.shape]
        return self.world(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T)

    def corner_distance(self, other: Grid) -> float:
        """Largest distance between corresponding corners of two grids, mm."""
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and no voxel is off by more than ``tolerance`` mm."""
        return self.shape == other.shape and self.corner_distance(other) <= tolerance

    def turns_onto(self, other: Grid, tolerance: float = 1e-3) -> tuple[tuple[int, int, int], tuple[int, ...]] | None:
        """How this grid's voxels become the other's where both are one lattice of the same points.

        Returns
        -------
        order, flipped
            ``values.transpose(order)``, then reversed along the axes ``flipped``, lies on the other grid; None where
            a voxel would be off by more than ``tolerance`` mm.
        """
        step = np.linalg.inv(self.affine) @ other.affine
        order = np.abs(step[:3, :3]).argmax(axis=0)
        if sorted(order) != [0, 1, 2] or tuple(self.shape[axis] for axis in order) != other.shape:
            return None
        flipped = tuple(axis for axis in range(3) if step[order[axis], axis] < 0)
        turned = np.array(self.affine)
        turned[:3, :3] = self.affine[:3, order]
        for axis in flipped:
            turned[:3, 3] += turned[:3, axis] * (other.shape[axis] - 1)
            turned[:3, axis] *= -1
        if Grid(other.shape, turned).corner_distance(other) > tolerance:
            return None
        return (int(order[0]), int(order[1]), int(order[2])), flipped

    def __repr__(self) -> str:
        return f"Grid({' × '.join(map(str, self.shape))} voxels, {_listed(self.spacing)} mm, {self.axcodes})"


def _listed(lengths: tuple[float, float, float]) -> str:
    return " × ".join(f"{length:.4g}" for length in lengths)
