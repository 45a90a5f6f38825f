"""Find the patient's outline: which voxels are body, whatever the scanner; a table and clothes are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medfuse.volume.grid import Points

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

BODY_HU = -300.0
"""Between air or lung and fat; half of what skin is when a voxel holds half of it."""

LEAST_CONTRAST = 5.0
"""How many times brighter than its dark part a study's bright part must be for the dark one to count as air. Air is
darker than tissue by 30 to 150 times in PET and MRI; fat and muscle differ by 2 to 3."""

DARK_SHARE = 0.02
"""Of the 90th percentile: what is darker counts as this dark. A logarithm knows no 0, and takes the faint noise of air
for two classes that differ more than air and tissue."""

THIN_MM, LEAST_SHARE = 4.0, 0.15
"""What is thinner than twice this is no body but a table or a tube; nor is a piece smaller than that share of the
largest one. Two limbs are two pieces."""


def body_mask(values: Values, spacing: Points, *, hounsfield: bool) -> Mask:
    """Which voxels of an (X, Y, Z) study are the patient; all of them where it shows no air.

    Parameters
    ----------
    values
        As stored, finite, in voxels of some millimetres.
    spacing
        (3,) mm.
    hounsfield
        Whether they are HU; otherwise air is found by Otsu's method (IEEE Trans. SMC 9(1), 1979) on logarithms.
    """
    smooth = ndimage.gaussian_filter(values, THIN_MM / 2.355 / spacing, mode="nearest")
    mask = smooth > (BODY_HU if hounsfield else _tissue_from(smooth))
    if not mask.any():
        return np.ones(values.shape, bool)
    return _filled(_pieces(mask, spacing))


def _tissue_from(values: Values) -> float:
    """The value from which a study without units shows tissue; below all of them where it shows no air."""
    top = float(np.percentile(values, 90))
    if top <= 0:
        return -np.inf
    logs = np.log(np.clip(values, DARK_SHARE * top, None))
    limit = otsu(logs)
    dark, bright = logs[logs <= limit], logs[logs > limit]
    if not dark.size or not bright.size or bright.mean() - dark.mean() < np.log(LEAST_CONTRAST):
        return -np.inf
    # Blurred, a border lies where a voxel is half as bright as the tissue beside it, which under the skin is fat.
    return float(max(np.exp(limit), 0.4 * np.exp(np.percentile(bright, 25))))


def otsu(values: Values) -> float:
    """Where values part into two classes whose means differ most."""
    counts, edges = np.histogram(values, 96)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts).astype(float), np.cumsum(counts * middles)
    above = below[-1] - below
    apart = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1.0)
    return float(edges[1:][np.argmax(apart)])


def _pieces(mask: Mask, spacing: Points) -> Mask:
    """The large pieces of a mask, without what is thin."""
    reach = [max(0, round(THIN_MM / step)) for step in spacing]
    around = [(step + 1, step + 1) for step in reach]
    inner = tuple(slice(step + 1, -step - 1) for step in reach)
    opened = ndimage.binary_opening(np.pad(mask, around, mode="edge"), np.ones([2 * step + 1 for step in reach]))[inner]
    labels, count = ndimage.label(opened)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(np.isin(labels, 1 + np.flatnonzero(sizes > LEAST_SHARE * sizes.max())))


def _filled(mask: Mask) -> Mask:
    """With what is enclosed in any plane: a limb or trunk leaves the field, and what it holds is open there."""
    found = mask.copy()
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)
        found |= np.moveaxis(np.stack([ndimage.binary_fill_holes(plane) for plane in planes]), 0, axis)
    return found


def skin(mask: Mask) -> npt.NDArray[np.intp]:
    """(n, 3) indices of the body's outermost voxels, without those where the field ends."""
    inner = ndimage.binary_erosion(mask, border_value=1)
    edge = np.argwhere(mask & ~inner)
    return edge[((edge > 0) & (edge < np.array(mask.shape) - 1)).all(axis=1)]


Windowed = Callable[[Values], Values]


def windowed(values: Values, mask: Mask, *, hounsfield: bool, emission: bool) -> Windowed:
    """How values become 0 to 1 so that tissues differ most: parts of a study are windowed by all of it.

    CT from -300 to 200 HU; MRI up to its 99.5th percentile; PET and SPECT up to four times the median of the body,
    bent, because a tumour outshines muscle and fat by more than they differ, and says less of where they are.
    """
    if hounsfield:
        return lambda some: np.clip((some - BODY_HU) / 500, 0, 1)
    if emission:
        known = np.clip(values, 0, None)
        inside = known[mask & (known > 0.1 * np.percentile(known, 95))]
        high = 4 * float(np.median(inside)) if inside.size else float(known.max())
        return lambda some: np.clip(some / (high or 1.0), 0, 1) ** np.float32(0.7)
    low, high = (float(np.percentile(values, share)) for share in (0.5, 99.5))
    low = min(low, 0.0) if low > 0 else low
    return lambda some: np.clip((some - low) / ((high - low) or 1.0), 0, 1)
