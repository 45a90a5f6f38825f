"""Map a volume to [0, 1]: by one range for the whole volume, never per slice.

MRI has no unit: robust percentiles of the head. CT is in HU: a window. PET and SPECT start at zero: up to a robust
maximum or a given uptake.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.errors import IntensityError
from medfuse.intensity.presets import CT_WINDOWS_HU, HEAD_WINDOW, Window, parse_window
from medfuse.volume import MRI, TRAITS, LazyVolume, Modality, like, meta_of, plain

SAMPLED_VOXELS = 8_000_000
"""A partner's range is chosen by whole slices that hold about as many voxels."""

MAXIMUM_SAMPLES = 2_000_000
"""Percentiles are taken of an evenly spaced subset no larger than this; their error is far below one grey level."""


HOT, FEW = 6.0, 0.03
"""How far above tissue uptake may lie to count for the range, and what share of voxels hot spots are at most."""


def outside_value(volume: MetaTensor) -> float:
    """The value that stands for "nothing here" in a volume: air."""
    meta = meta_of(volume)
    traits = TRAITS[meta["modality"]]
    # A CT in some unit other than HU starts at its own minimum.
    return float(plain(volume).min()) if "HU" in traits.units and meta["unit"] != "HU" else traits.outside


def choose_window(volume: MetaTensor | LazyVolume, window: str | Window | None = None) -> Window:
    """Decide the range that becomes [0, 1].

    The one rule of each modality: an MRI's range comes from all of its slices, a partner's from evenly spaced whole
    slices of about `SAMPLED_VOXELS`, so that no partner has to be interpolated as a whole for it.

    Parameters
    ----------
    volume
        (1, X, Y, Z), in its own unit.
    window
        A preset's name, ``"LEVEL,WIDTH"``, ``"MAXIMUM"`` (from 0) or a window in the volume's unit; None for the
        modality's rule.

    Raises
    ------
    IntensityError
        If a preset in HU is asked of a volume in another unit, or the volume is constant.
    """
    return known_window(volume, window) or _robust_window(_looked_at(volume), meta_of(volume)["modality"])


def _looked_at(volume: MetaTensor | LazyVolume) -> MetaTensor:
    """The slices that a range is chosen by."""
    if isinstance(volume, MetaTensor):
        return volume if meta_of(volume)["modality"] == MRI else LazyVolume.of(volume).sample(SAMPLED_VOXELS)
    return volume.sample(SAMPLED_VOXELS)


def known_window(volume: MetaTensor | LazyVolume, window: str | Window | None) -> Window | None:
    """`choose_window` where that needs no look at the values, else None; raises as it does."""
    meta = meta_of(volume)
    if isinstance(window, Window):
        return window
    if window is not None:
        if isinstance(window, str) and window in CT_WINDOWS_HU and meta["unit"] != "HU":
            raise IntensityError(
                f"the window {window!r} is in HU, but the {meta['modality']} volume is in {meta['unit']} units; give "
                "LEVEL,WIDTH in the volume's own unit, or leave the window out."
            )
        return parse_window(window)
    return CT_WINDOWS_HU[HEAD_WINDOW] if meta["unit"] == "HU" else None


def _robust_window(volume: MetaTensor, modality: Modality) -> Window:
    values = plain(volume).flatten()
    step = -(-len(values) // MAXIMUM_SAMPLES)
    while math.gcd(step, volume.shape[-1]) > 1:  # else some slices would never be looked at
        step += 1
    sample = values[::step].float()
    lowest, highest = float(sample.min()), float(sample.max())
    if lowest == highest:
        raise IntensityError(f"the {modality} volume is constant ({lowest:g}); check that it is the image you mean.")
    if TRAITS[modality].starts_at_zero and highest <= 0:
        raise IntensityError(
            f"expected an amount in the {modality} volume, values above 0; found none above {highest:g}. Check that it "
            "is the image you mean, and its scaling, or give a window (window=..., --window)."
        )
    # Air fills most of a volume: percentiles of everything would follow the field of view, not the head.
    air = lowest + 0.05 * (float(torch.quantile(sample, 0.999)) - lowest) if modality == MRI else max(lowest, 0.0)
    tissue = sample[sample > air]
    if TRAITS[modality].starts_at_zero and len(tissue):
        tissue = tissue[tissue <= HOT * _tissue_level(tissue)]
    top = float(torch.quantile(tissue, TRAITS[modality].top_share)) if len(tissue) else highest
    if TRAITS[modality].starts_at_zero:
        return Window(0.0, top if top > 0 else highest)
    return Window(lowest if "HU" in TRAITS[modality].units else float(torch.quantile(sample, 0.01)), top)


def _tissue_level(uptake: Tensor) -> float:
    """The upper quartile of what takes up a tracer as tissue does: not noise in air, not a bladder or a hot lesion.

    Air and tissue are told apart by the means of the logarithms of both, which the threshold between them lies between
    (Ridler and Calvard 1978, doi:10.1109/TSMC.1978.4310039). If hardly anything lies above it, that is hot spots.
    """
    logarithms = uptake.log()
    threshold = float(logarithms.mean())
    for _ in range(20):
        above = logarithms > threshold
        if not 0 < int(above.sum()) < len(above):
            break
        threshold = float(logarithms[above].mean() + logarithms[~above].mean()) / 2
    tissue = uptake[logarithms > threshold]
    return float(torch.quantile(tissue if len(tissue) > FEW * len(uptake) else uptake, 0.75))


def scale(volume: MetaTensor, window: Window) -> MetaTensor:
    """Map ``window`` onto [0, 1] and clip.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 in [0, 1] on the same grid, the window kept in ``meta["window"]``.
    """
    return like(to_unit(plain(volume), window), volume, window=window)


def to_unit(values: Tensor, window: Window) -> Tensor:
    """Map ``window`` onto [0, 1] and clip: values of any shape, into memory of their own."""
    if not window.bends:
        return (values - window.lower).div_(window.width).clamp_(0, 1)
    # A sum of clipped ramps, one for each part of the curve.
    shown = torch.zeros_like(values, dtype=torch.float32)
    for (low, dark), (high, bright) in pairwise(window.points):
        shown.add_((values - low).div_(high - low).clamp_(0, 1), alpha=bright - dark)
    return shown.clamp_(max=1)
