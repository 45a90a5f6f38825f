"""Make training pairs of the slices of two simulated volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom.palettes import palette_table
from medfuse.gesenet.training.dataset import Pair
from medfuse.intensity.colour import colourise
from medfuse.pipeline.prepare import on_one_grid
from medfuse.pipeline.steps import show_something
from medfuse.volume import PALETTES, TRAITS, LazyVolume, meta_of

EVERY = 6
"""Slices from one that is learnt from to the next: neighbours show nearly the same."""


def pairs_of(mri: MetaTensor, partner: LazyVolume, name: str, random: np.random.Generator) -> Iterator[Pair]:
    """Yield every sixth slice that is not empty, in a palette drawn by chance where the partner has one.

    Parameters
    ----------
    mri
        (1, X, Y, Z) volume.
    partner
        The partner on its grid.
    name
        Of the head, within its task.
    random
        Draws the palette and the first slice.

    Yields
    ------
    Pair
        (1, H, W) float32 in [0, 1], marked as simulated.
    """
    traits = TRAITS[meta_of(partner)["modality"]]
    palette = None if traits.palette is None else PALETTES[int(random.integers(len(PALETTES)))]
    # Held as a whole: each slice is asked for once, but the range is chosen of many.
    prepared = on_one_grid(mri, partner, window=None, palette=palette)
    task = f"MRI-{traits.label}"
    for k in range(int(random.integers(EVERY)), prepared.partner.grid.shape[2], EVERY):
        pairs = prepared.pairs(k, k + 1)
        if show_something(pairs.mri, pairs.luma):
            shown = None
            if prepared.palette:
                shown = (colourise(pairs.uptake[0], palette_table(prepared.palette)) * 255).round().byte()
            yield Pair(task, f"{task}/{name}", pairs.mri[0], pairs.luma[0], colours=shown, simulated=True)
