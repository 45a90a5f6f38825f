"""Fuse volumes slice by slice: batches, memory, and transfers that overlap with the arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from medfuse.errors import DeviceError
from medfuse.gesenet.engine import Engine, as_engine
from medfuse.slices import require_same_grid, slice_batch
from medfuse.volume import like

DEFAULT_BATCH_SIZE = 4


def fuse_slices(
    network: nn.Module | Engine,
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Callable[[float], None] | None = None,
) -> MetaTensor:
    """Fuse two volumes slice by slice along their last axis.

    Parameters
    ----------
    network
        An engine (`load_engine`), or a network, which is run as it is. Called as ``network(mri, partner)`` with
        (N, 1, H, W) float32 in [0, 1], on its device.
    mri, partner
        (1, X, Y, Z) in [0, 1] on one grid.
    batch_size
        Slices at once, at least 1; halved as often as memory runs out. It changes the result by rounding only.
    progress
        Called with the share done, in (0, 1].

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 in [0, 1] on the MRI's grid, on the CPU.

    Raises
    ------
    GeometryError
        If the volumes lie on different grids.
    DeviceError
        If not even one slice fits into memory.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}.")
    x, y, slices = require_same_grid(mri, partner).shape
    engine = as_engine(network)
    fused = torch.empty((slices, 1, y, x), pin_memory=engine.device.type == "cuda")
    start = 0
    while start < slices:
        stop = min(start + batch_size, slices)
        try:
            sides = (_upload(slice_batch(side, start, stop), engine.device) for side in (mri, partner))
            # On CUDA this returns while the device still works: the next slices are prepared meanwhile.
            fused[start:stop].copy_(engine(*sides), non_blocking=True)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _memory_ran_out(error):
                raise
            if batch_size == 1:
                raise DeviceError(
                    f"one slice of {x} × {y} does not fit into the memory of {engine.device}; use another."
                ) from error
            batch_size //= 2
            if engine.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        start = stop
        if progress:
            progress(stop / slices)
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return like(fused.permute(1, 3, 2, 0), mri)


def _upload(slices: Tensor, device: torch.device) -> Tensor:
    slices = slices.float().contiguous()
    return slices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else slices


def _memory_ran_out(error: Exception) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
