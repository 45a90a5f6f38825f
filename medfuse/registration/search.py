"""The search for the best rigid map by mutual information: starts, climbs, and how their ends are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.grid import LPS_FROM_RAS, Points
from medfuse.registration.transform import Method, inverse_of, ras_matrix
from medfuse.volume import grid_of, plain

Floats = npt.NDArray[np.float32]

HEAD_MM = 80.0
"""Half the size of a head: the lever at which a rotation is weighed against a shift, and distances are judged."""

PADDING = (-1024.0, -2000.0, -3024.0, -32768.0)
"""What scanners write outside their field of view; no tissue."""

WINDOW_HU = (-200.0, 1000.0)
"""Where a head CT tells tissues apart; clips the air, most of the table, and metal."""

NOT_COMPARABLE = (
    "no position was found in which the two studies overlap enough to compare: expected one head in both; check that "
    "the studies belong together, or align them by 'header'."
)

LEAST_SIMILARITY = 1.01
"""Normalised mutual information that two pictures of one head exceed by far, and noise does not reach."""


def search(
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
            f"found {similarity:.3f}; check that both show the same head, or align them by 'header'."
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
    matrix = ras_matrix(refined)
    return inverse_of(matrix) if swapped else matrix, "rigid", scores


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
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)  # several would add the same numbers in another order on another machine
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    if samples:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(min(1.0, samples / fixed.GetNumberOfPixels()), seed)
    if step_mm:
        method.SetOptimizerAsPowell(20, 20, step_mm, 0.02, 1e-6)
        method.SetOptimizerScales([HEAD_MM] * 3 + [1.0] * 3)
    else:
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.002, 100, 0.7, 1e-8)
        method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
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
            f"{tuple(volume.shape)}. Align by 'header' to trust its position."
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
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin((LPS_FROM_RAS @ grid.affine)[:3, 3])
    # ITK takes any regular direction, sheared too; only its gradients suppose perpendicular axes (see search).
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
