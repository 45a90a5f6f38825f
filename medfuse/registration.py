"""Where the moving study lies in the fixed one, and the one interpolation that takes it there.

A `Registration` maps points **fixed → moving** in RAS+ mm, as an ITK resampler uses it. SimpleITK's LPS+ stays in here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import ExportError, RegistrationError
from medfuse.export import whole
from medfuse.grid import LPS_FROM_RAS, Grid, Points
from medfuse.volume import grid_of, like, plain, source_of

Method = Literal["identity", "header", "rigid", "file"]
Floats = npt.NDArray[np.float32]

HEAD_MM = 80.0
"""Half the size of a head: the lever at which a rotation is weighed against a shift, and distances are judged."""

PADDING = (-1024.0, -2000.0, -3024.0, -32768.0)
"""What scanners write outside their field of view; no tissue."""

WINDOW_HU = (-200.0, 1000.0)
"""Where a head CT tells tissues apart; clips the air, most of the table, and metal."""

NOT_COMPARABLE = (
    "no position was found in which the two studies overlap enough to compare: expected one head in both; check that "
    "the studies belong together, or pass method='header'."
)

LEAST_SIMILARITY = 1.01
"""Normalised mutual information that two pictures of one head exceed by far, and noise does not reach."""


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
        if volume < 1e-6:
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
        return Registration(_inverse(self.matrix), self.method, self.scores, self.seconds)

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
                sitk.WriteTransform(_affine_transform(LPS_FROM_RAS @ self.matrix @ LPS_FROM_RAS), str(beside))
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
        try:
            if path.suffix == ".tfm":
                matrix = _ras_matrix(sitk.ReadTransform(str(path)))
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


def register(
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Literal["auto", "header", "rigid"] = "auto",
    *,
    seed: int = 20231,
    progress: Callable[[float], None] | None = None,
) -> Registration:
    """Find where the moving study lies in the fixed one.

    ``"rigid"`` maximises Mattes' mutual information over six degrees of freedom. Three starts (the headers' positions,
    the centres of the fields of view, the centres of the bright parts) are searched by Powell's method on an 8 mm
    grid; the outcome of highest normalised mutual information is refined on 4 mm and, by gradient descent, on 2 mm,
    from random samples. One thread and one seed: the same input gives the same matrix.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes; at least 4 voxels along each axis for ``"rigid"``.
    method
        ``"auto"``: identity where both sources name the same frame of reference, else rigid. ``"header"``: identity,
        whatever the frames say. ``"rigid"``: search.
    seed
        Of the random samples, positive.
    progress
        Called with the share of the work done, 0 to 1.

    Raises
    ------
    RegistrationError
        If the fields of view do not overlap, or a volume is constant, too thin, or shares nothing with the other.

    References
    ----------
    Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003, doi:10.1109/TMI.2003.809072;
    Studholme et al., Pattern Recognition 32(1), 1999, doi:10.1016/S0031-3203(98)00091-0.
    """
    if method not in ("auto", "header", "rigid"):
        raise ValueError(f"method must be 'auto', 'header' or 'rigid'; found {method!r}.")
    began = time.perf_counter()
    report = progress or (lambda share: None)
    report(0.0)
    matrix: Points = np.eye(4)
    found: Method = "header"
    scores: dict[str, float] = {}
    if method == "auto" and _same_frame(fixed, moving):
        found = "identity"
    elif method != "header":
        matrix, found, scores = _search(fixed, moving, seed, report)
    scores["overlap"] = _overlap(grid_of(fixed), grid_of(moving), matrix)
    if scores["overlap"] == 0:
        raise RegistrationError(
            "the fields of view do not overlap where the headers place them: expected one patient in one place; "
            "check that the studies belong together, or pass method='rigid'."
        )
    report(1.0)
    return Registration(matrix, found, scores, time.perf_counter() - began)


def resample(moving: MetaTensor, onto: Grid, registration: Registration | None, *, outside: float) -> MetaTensor:
    """Bring a volume onto a grid by one linear interpolation.

    The grids and the registration are composed to one affine first. Where the new grid is coarser than 1.5 moving
    voxels along an axis of the moving grid, a Gaussian that turns the finer voxel's width into the coarser one's
    smooths that axis first, against aliasing.

    Parameters
    ----------
    moving
        (C, X, Y, Z) volume.
    onto
        Where the values are wanted, in the fixed world.
    registration
        Fixed → moving; None where both worlds are one.
    outside
        The value, in the volume's unit, of every voxel whose centre lies outside the moving field of view, which ends
        at the faces of its outer voxels. The last half voxel within repeats the outermost value.

    Returns
    -------
    MetaTensor
        (C, X, Y, Z) float32 on ``onto``, with the modality, unit and source of ``moving``. If no voxel moves by more
        than a thousandth of a millimetre, the values are those of ``moving``, bit for bit, and share its memory.

    References
    ----------
    Width of the Gaussian: Cardoso et al., MICCAI 2015, doi:10.1007/978-3-319-24571-3_81.
    """
    grid = grid_of(moving)
    matrix = np.eye(4) if registration is None else registration.matrix
    values = plain(moving).to(torch.float32)
    if not Grid(grid.shape, _inverse(matrix) @ grid.affine).matches(onto):
        moving_index = _inverse(grid.affine) @ matrix @ onto.affine
        channels = [
            _pull(_smooth(_index_image(channel), moving_index), moving_index, onto.shape, outside)
            for channel in values.detach().cpu().numpy()
        ]
        values = torch.from_numpy(np.stack(channels))
    return like(values, moving, onto)


# Images in index space: unit spacing at the origin, and axes reversed, because SimpleITK's first axis is the last of a
# C-ordered array. So no array is transposed, and grids that are no ITK image (shear) need no special case.


def _index_image(values: Floats) -> sitk.Image:
    return sitk.GetImageFromArray(values)


def _inverse(matrix: Points) -> Points:
    """The inverse of an affine, its last row exactly 0 0 0 1."""
    inverse = np.eye(4)
    inverse[:3, :3] = np.linalg.inv(matrix[:3, :3])
    inverse[:3, 3] = -inverse[:3, :3] @ matrix[:3, 3]
    return inverse


def _affine_transform(matrix: Points) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel())
    transform.SetTranslation(matrix[:3, 3])
    return transform


def _smooth(image: sitk.Image, index: Points) -> sitk.Image:
    """Widen the voxels of an index-space image along the axes that ``index`` strides by more than 1.5."""
    # Output voxels per moving voxel: never large along an axis near which the output is fine, so nothing fine is lost.
    stride = 1 / np.linalg.norm(np.linalg.inv(index[:3, :3]), axis=0)
    variance = np.where(stride > 1.5, (stride**2 - 1) / (8 * np.log(2)), 0.0)[::-1]
    if not variance.any():
        return image
    width = 9 + 8 * int(np.sqrt(variance.max()))
    return sitk.DiscreteGaussian(image, variance.tolist(), width, 0.001, useImageSpacing=False)


def _pull(image: sitk.Image, index: Points, shape: tuple[int, int, int], outside: float) -> Floats:
    """Values of an index-space image at ``index @ (i, j, k, 1)`` for every (i, j, k) of ``shape``; linear."""
    reverse = [2, 1, 0, 3]
    pulled = sitk.Resample(
        image,
        shape[::-1],
        _affine_transform(index[np.ix_(reverse, reverse)]),
        sitk.sitkLinear,
        defaultPixelValue=float(outside),
    )
    return np.asarray(sitk.GetArrayFromImage(pulled))


def _ras_matrix(transform: sitk.Transform) -> Points:
    """(4, 4) RAS+ matrix of a linear ITK transform; `ValueError` for any other."""
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise ValueError("not a linear transform in three dimensions")
    mapped = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)])])
    matrix = np.eye(4)
    matrix[:3, :3] = (mapped[1:] - mapped[0]).T
    matrix[:3, 3] = mapped[0]
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)


def _same_frame(fixed: MetaTensor, moving: MetaTensor) -> bool:
    frames = [source.frame_of_reference if (source := source_of(volume)) else None for volume in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]


def _overlap(fixed: Grid, moving: Grid, matrix: Points) -> float:
    """Share of the fixed field of view that lies in the moving one, counted on 32³ points."""
    shares = (np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1) + 0.5) / 32
    world = fixed.world(shares * fixed.shape - 0.5)
    index = moving.index(world @ matrix[:3, :3].T + matrix[:3, 3])
    return float(((index >= -0.5) & (index < np.array(moving.shape) - 0.5)).all(axis=-1).mean())


def _search(
    fixed: MetaTensor, moving: MetaTensor, seed: int, report: Callable[[float], None]
) -> tuple[Points, Method, dict[str, float]]:
    """Matrix, method and scores of the best rigid map; the header's where the search found no better one."""
    fine = _working_image(fixed, "fixed"), _working_image(moving, "moving")
    # Samples are drawn in ITK's fixed image: from the smaller field they stay the same wherever the search is, and no
    # gradient is taken of it, which a sheared image would give wrong.
    sheared = grid_of(fixed).sheared, grid_of(moving).sheared
    swapped = sheared[1] if sheared[0] != sheared[1] else _field_size(fine[1]) < 0.9 * _field_size(fine[0])
    if swapped:
        fine = fine[::-1]
    middle = _shrink(fine[0], 4), _shrink(fine[1], 4)
    coarse = _shrink(fine[0], 8), _shrink(fine[1], 8)
    report(0.1)
    centre, bright = _bright_centre(coarse[0]), _bright_centre(coarse[1])
    ends = []
    for shift in (np.zeros(3), _field_centre(coarse[1]) - _field_centre(coarse[0]), bright - centre):
        start = sitk.Euler3DTransform(centre.tolist(), 0, 0, 0, shift.tolist())
        with suppress(RegistrationError):  # one start of three may lie off the other study
            ends.append(_climb(*coarse, start, step_mm=5))
        report(0.1 + 0.2 * len(ends))
    if not ends:
        raise RegistrationError(NOT_COMPARABLE)
    best = int(np.argmax([_similarity(*fine, end) for end in ends]))
    refined = _climb(*middle, ends[best], step_mm=1, samples=40_000, seed=seed)
    report(0.8)
    refined = _climb(*fine, refined, step_mm=None, samples=120_000, seed=seed)
    at_header, similarity = _similarity(*fine, sitk.Transform(3, sitk.sitkIdentity)), _similarity(*fine, refined)
    if max(at_header, similarity) < LEAST_SIMILARITY:
        raise RegistrationError(
            f"the two studies share almost nothing: expected a normalised mutual information above {LEAST_SIMILARITY}, "
            f"found {similarity:.3f}; check that both show the same head, or pass method='header'."
        )
    apart = _distances(ends, centre)
    scores = {
        "normalized_mutual_information": max(at_header, similarity),
        "normalized_mutual_information_at_header": at_header,
        "start_disagreement_mm": float(apart.max()),
        "starts_agreeing": float((apart[best] <= 8).sum()),
    }
    if similarity <= at_header:
        return np.eye(4), "header", scores
    matrix = _ras_matrix(refined)
    return _inverse(matrix) if swapped else matrix, "rigid", scores


def _climb(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    *,
    step_mm: float | None,
    samples: int | None = None,
    seed: int = 1,
) -> sitk.Transform:
    """Maximise the mutual information from ``start``: Powell's method by steps of ``step_mm``, or gradient descent."""
    search = sitk.ImageRegistrationMethod()
    search.SetNumberOfWorkUnits(1)  # several would add the same numbers in another order on another machine
    search.SetMetricAsMattesMutualInformation(32)
    search.SetInterpolator(sitk.sitkLinear)
    if samples:
        search.SetMetricSamplingStrategy(search.RANDOM)
        search.SetMetricSamplingPercentage(min(1.0, samples / fixed.GetNumberOfPixels()), seed)
    if step_mm:
        search.SetOptimizerAsPowell(20, 20, step_mm, 0.02, 1e-6)
        search.SetOptimizerScales([HEAD_MM] * 3 + [1.0] * 3)
    else:
        search.SetOptimizerAsRegularStepGradientDescent(2.0, 0.002, 100, 0.7, 1e-8)
        search.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    search.SetInitialTransform(transform, inPlace=True)
    try:
        search.Execute(fixed, moving)
    except RuntimeError as error:
        raise RegistrationError(NOT_COMPARABLE) from error
    return transform


def _similarity(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Normalised mutual information over all fixed voxels in the moving field; 1 where they are too few to judge."""
    pulled = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1.0)
    there = sitk.GetArrayViewFromImage(pulled)
    inside = there >= 0
    if inside.mean() * _field_size(fixed) < 0.2 * min(_field_size(fixed), _field_size(moving)):
        return 1.0
    here = sitk.GetArrayViewFromImage(fixed)
    row, column = (np.minimum(values[inside] * 48, 47).astype(np.intp) for values in (here, there))
    joint = np.bincount(row * 48 + column, minlength=48 * 48).reshape(48, 48) / len(row)
    both, one, other = (-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (joint, joint.sum(axis=0), joint.sum(axis=1)))
    return float((one + other) / both) if both > 0 else 1.0


def _distances(transforms: Sequence[sitk.Transform], centre: Points) -> Points:
    """(n, n) largest distances, mm, between where transforms take the corners of a head around ``centre``."""
    corners = centre + HEAD_MM * np.array(list(product((-1, 1), repeat=3)))
    reached = np.array([[transform.TransformPoint(corner) for corner in corners] for transform in transforms])
    return np.asarray(np.linalg.norm(reached[:, None] - reached[None], axis=-1).max(axis=-1))


def _working_image(volume: MetaTensor, role: str) -> sitk.Image:
    """Image of about 2 mm voxels, LPS+, with values between 0 and 1."""
    if volume.shape[0] != 1 or min(volume.shape[1:]) < 4:
        raise RegistrationError(
            f"the {role} volume must have one channel and at least 4 voxels along each axis; found "
            f"{tuple(volume.shape)}. Pass method='header' to trust its position."
        )
    grid = grid_of(volume)
    values = plain(volume)[0].detach().cpu().numpy().astype(np.float32)  # a copy, changed below
    low, high = WINDOW_HU if volume.meta.get("unit") == "HU" else _window(values)
    np.clip(np.nan_to_num(values, copy=False, nan=low), low, high, out=values)
    if values.min() == values.max():
        raise RegistrationError(
            f"the {role} volume is constant: expected a picture of a head, found {float(values.max()):.4g} wherever it "
            "can be compared; check that the right series was loaded."
        )
    image = _index_image(values)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin((LPS_FROM_RAS @ grid.affine)[:3, 3])
    # ITK takes any regular direction, sheared too; only its gradients suppose perpendicular axes (see _search).
    image.SetDirection((LPS_FROM_RAS[:3, :3] @ grid.directions)[:, ::-1].ravel())
    scaled: sitk.Image = (_shrink(image, 2) - low) / (high - low)
    return scaled


def _window(values: Floats) -> tuple[float, float]:
    """Limits of nearly all known values, padding and NaN aside."""
    stride = tuple(slice(None, None, max(1, length // 64)) for length in values.shape)
    for sample, limits in ((values[stride], (1, 99.5)), (values, (0, 100))):
        known = sample[np.isfinite(sample) & ~np.isin(sample, PADDING)]
        low, high = np.percentile(known, limits) if known.size else (0.0, 0.0)
        if low < high:  # else a few bright voxels in the void, which only the full range shows
            break
    return float(low), float(high)


def _shrink(image: sitk.Image, millimetres: float) -> sitk.Image:
    """Average blocks of voxels up to a size, keeping at least 4 blocks along each axis; noise shrinks with them."""
    sizes = zip(image.GetSpacing(), image.GetSize(), strict=True)
    factors = [max(1, min(int(millimetres / step + 0.01), count // 4)) for step, count in sizes]
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk


def _field_size(image: sitk.Image) -> float:
    """Volume of the field of view, mm³."""
    return float(np.prod(image.GetSize()) * np.prod(image.GetSpacing()))


def _field_centre(image: sitk.Image) -> Points:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(count - 1) / 2 for count in image.GetSize()]))


def _bright_centre(image: sitk.Image) -> Points:
    """(3,) centre of the voxels above the mean, LPS+ mm: the head, whatever its contrast."""
    values = sitk.GetArrayViewFromImage(image)
    index = np.argwhere(values > values.mean()).mean(axis=0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index))
