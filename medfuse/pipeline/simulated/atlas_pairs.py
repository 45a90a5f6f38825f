"""Make training pairs of heads deformed from a brain atlas, with uptake, lesions and scanner drawn by chance.

The atlas is MNI ICBM152 2009a at 1 mm, which nilearn brings: a T1 of the brain, and how much of each voxel is grey and
white matter. It has no skull, and so there is no CT of it. Sources: V. S. Fonov et al., Neuroimage 47, S102, 2009. The
ratio of uptake in grey and white matter is about 4 for FDG and for perfusion tracers (E. J. Hoffman et al., IEEE Trans.
Nucl. Sci. 37, 616, 1990), and less in patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.errors import TrainingError
from medfuse.gesenet.training.dataset import Pair
from medfuse.pipeline.simulated.slices import pairs_of
from medfuse.volume import MRI, LazyVolume, Modality, Unit, make_volume
from medfuse.volume.grid import Grid

Values = npt.NDArray[np.float32]
Random = np.random.Generator

CONTROL_MM = 40
"""Between the points that a head is deformed at."""

MOVED_MM = 3.0
"""Standard deviation of what each of these points is moved by, along each axis."""

LESIONS, LESION_MM = 4, (4.0, 12.0)
"""Lesions of a head at most, and the radius of each."""

COLD, HOT = (0.2, 0.6), (1.6, 3.0)
"""Uptake of a lesion, as a multiple of what is there."""

CSF = 0.05
"""Uptake of cerebrospinal fluid, of that of grey matter."""

FWHM_PER_SD = math.sqrt(8 * math.log(2))


class Scanner(NamedTuple):
    """What a partner is acquired by: unit, resolution (FWHM, mm) and counts of a voxel of grey matter, from and to."""

    unit: Unit
    resolution_mm: tuple[float, float]
    counts: tuple[float, float]


SCANNERS: dict[Modality, Scanner] = {
    "PT": Scanner("Bq/ml", (4.0, 8.0), (10.0, 300.0)),
    "NM": Scanner("counts", (8.0, 14.0), (2.0, 40.0)),
}

BITS = (12, 16)
"""Of a stored value, drawn by chance."""


class Brain(NamedTuple):
    """(X, Y, Z) T1-weighted values, and shares of grey and of white matter, in [0, 1]."""

    t1: Values
    grey: Values
    white: Values


def atlas_pairs(heads: int, seed: int) -> Iterator[Pair]:
    """Yield slices of heads deformed from the atlas, a PET and a SPECT of each.

    Parameters
    ----------
    heads
        How many heads; each takes half a minute or more.
    seed
        Draws all that differs from head to head. The same seed gives the same pairs.

    Yields
    ------
    Pair
        (1, H, W) float32 in [0, 1], marked as simulated.

    Raises
    ------
    TrainingError
        If nilearn is not installed.
    """
    atlas, grid = _atlas()
    random = np.random.default_rng(seed)
    for number in range(heads):
        brain = _deformed(atlas, random)
        mri = _volume(_weighted(brain, random), grid, MRI, "arbitrary")
        for modality, scanner in SCANNERS.items():
            partner = _volume(_acquired(_uptake(brain, random), scanner, random), grid, modality, scanner.unit)
            yield from pairs_of(mri, LazyVolume.of(partner), f"simulated-atlas-{number}", random)


def _atlas() -> tuple[Brain, Grid]:
    try:
        from nilearn import datasets
    except ImportError:
        raise TrainingError(
            "atlas_heads needs the brain atlas of nilearn; run: pip install 'medfuse[atlas]', or set atlas_heads to 0."
        ) from None
    images = [
        load(resolution=1)
        for load in (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    ]
    t1, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    return Brain(*(values / values.max() for values in (t1, grey, white))), Grid(t1.shape, images[0].affine)


def _volume(values: Values, grid: Grid, modality: Modality, unit: Unit) -> MetaTensor:
    return make_volume(torch.from_numpy(values)[None], grid, modality=modality, unit=unit)


def _smooth(shape: tuple[int, ...], spread: float, random: Random) -> Values:
    """A field that varies smoothly over voxels of 1 mm, of zero mean."""
    points = [max(4, size // CONTROL_MM) for size in shape]
    factors = [size / count for size, count in zip(shape, points, strict=True)]
    return np.asarray(ndimage.zoom(random.normal(0, spread, points), factors, order=3, grid_mode=True, mode="nearest"))


def _deformed(atlas: Brain, random: Random) -> Brain:
    shape = atlas.t1.shape
    places = np.indices(shape, dtype=np.float32)
    for axis in range(3):
        places[axis] += _smooth(shape, MOVED_MM, random)
    return Brain(*(ndimage.map_coordinates(values, places, order=1) for values in atlas))


def _weighted(brain: Brain, random: Random) -> Values:
    """T1- or T2-weighted, with the receiver coil's bias and the noise of a magnitude."""
    values = brain.t1
    if random.random() < 0.5:
        fluid = (values > 0.1) * (1 - brain.grey - brain.white).clip(0, 1)
        values = fluid + random.uniform(0.5, 0.7) * brain.grey + random.uniform(0.3, 0.45) * brain.white
    values = values * np.exp(_smooth(values.shape, 0.08, random))
    noise = random.normal(0, random.uniform(0.005, 0.03), (2, *values.shape))
    return _stored(np.hypot(values + noise[0], noise[1]), random)


def _uptake(brain: Brain, random: Random) -> Values:
    """Grey matter is 1, regions and lesions aside."""
    fluid = (brain.t1 > 0.1) * (1 - brain.grey - brain.white).clip(0, 1)
    uptake = brain.grey + random.uniform(0.25, 0.45) * brain.white + CSF * fluid
    uptake = uptake * np.exp(_smooth(uptake.shape, 0.12, random))
    inside = np.argwhere(brain.grey + brain.white > 0.9)
    x, y, z = np.ogrid[tuple(slice(size) for size in uptake.shape)]
    for _ in range(int(random.integers(LESIONS + 1))):
        centre = inside[random.integers(len(inside))]
        away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        factor = random.uniform(*(HOT if random.random() < 0.5 else COLD))
        uptake = np.where(away < random.uniform(*LESION_MM), factor * uptake, uptake)
    return np.asarray(uptake, np.float32)


def _acquired(uptake: Values, scanner: Scanner, random: Random) -> Values:
    """Blurred by the scanner, counted, and smoothed as noisy images are."""
    wanted = random.uniform(*scanner.resolution_mm)
    smoothed = 0.6 * wanted
    own = math.sqrt(wanted**2 - smoothed**2)
    counts = math.exp(random.uniform(*np.log(scanner.counts)))
    expected = ndimage.gaussian_filter(uptake, own / FWHM_PER_SD) * counts
    return _stored(ndimage.gaussian_filter(random.poisson(expected) / counts, smoothed / FWHM_PER_SD), random)


def _stored(values: npt.NDArray[np.floating], random: Random) -> Values:
    """What is left after storing in 12 or 16 bits."""
    step = values.max() / (2 ** int(random.choice(BITS)) - 1)
    return np.asarray(np.round(values / step), np.float32)
