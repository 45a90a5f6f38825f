"""Make training pairs of the phantom: patients' pictures are few, and always of one window and palette.

Each head has anatomy of its own. Its partner is blurred and given noise as by scanners of different sharpness and
counts. Training sees them beside patients' pictures; validation does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.gesenet.training.dataset import Pair
from medfuse.intensity import outside_value
from medfuse.phantom import phantom_study
from medfuse.pipeline.simulated.slices import pairs_of
from medfuse.registration import Registration, resampled
from medfuse.volume import PARTNERS, TRAITS, LazyVolume, Modality, grid_of, like, meta_of, plain

COARSEN = 1.25
"""Voxels of 1.25 mm: a head fills 147 × 189 pixels, and patches of 128 still fit."""

MOST_BLUR_MM = 2.5
"""Standard deviation of what blurs a partner beyond its scanner, at most."""

MOST_NOISE = 0.06
"""Standard deviation of the noise added to a partner, of what it shows brightest, at most."""

FIRST_SEED = 1000
"""Heads of the tests and the demo have lower ones."""


def simulated_pairs(heads: int, seed: int) -> Iterator[Pair]:
    """Yield slices of digital heads, one study of each partner for each head.

    Parameters
    ----------
    heads
        How many heads; each takes some ten seconds.
    seed
        Draws blur, noise and palette. The same seed gives the same pairs.

    Yields
    ------
    Pair
        (1, H, W) float32 in [0, 1], marked as simulated.
    """
    random = np.random.default_rng(seed)
    for number in range(heads):
        for modality in PARTNERS:
            yield from _of_head(number, modality, random)


def _of_head(number: int, modality: Modality, random: np.random.Generator) -> Iterator[Pair]:
    study = phantom_study(modality, seed=FIRST_SEED + number, coarsen=COARSEN)
    partner = _varied(study.partner, random)
    truth = Registration(study.truth, "file", {})
    moved = resampled(partner, grid_of(study.mri), truth, outside=outside_value(partner))
    yield from pairs_of(study.mri, LazyVolume.of(moved.volume()), f"simulated-{number}", random)


def _varied(partner: MetaTensor, random: np.random.Generator) -> MetaTensor:
    """Blur a partner, and add noise as smooth as its voxels allow."""
    values = plain(partner)[0].numpy()
    blur = random.uniform(0, MOST_BLUR_MM)
    blurred = ndimage.gaussian_filter(values, blur / np.asarray(grid_of(partner).spacing))
    brightest = 100.0 if meta_of(partner)["unit"] == "HU" else float(np.quantile(values, 0.998))
    noise = random.normal(0, random.uniform(0, MOST_NOISE) * brightest, values.shape)
    changed = blurred + noise.astype(np.float32)
    if TRAITS[meta_of(partner)["modality"]].starts_at_zero:
        changed = changed.clip(min=0)
    return like(torch.from_numpy(changed.astype(np.float32))[None], partner)
