"""Fuse volumes slice by slice: batches, memory, and transfers that overlap with the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from medfuse.errors import DeviceError
from medfuse.gesenet.engines.registry import Engine, as_engine
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import SlicePairs, like
from medfuse.volume.planes import require_same_grid, slice_batch

DEFAULT_BATCH_SIZE = 4


@default_settings()
def fuse_slices(
    network: nn.Module | Engine,
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Progress | None = None,
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
        Called with the step ``fuse``.

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
    x, y, slices = require_same_grid(mri, partner).shape
    engine = as_engine(network)
    fused = torch.empty((slices, 1, y, x), dtype=torch.float32, pin_memory=engine.device.type == "cuda")

    def pairs(start: int, stop: int) -> SlicePairs:
        shown = slice_batch(partner, start, stop)
        return SlicePairs(slice_batch(mri, start, stop), shown, shown)

    for start, _, batch in fused_batches(engine, pairs, slices, batch_size=batch_size):
        stop = start + len(batch)
        # On CUDA this returns while the device still works: the next slices are prepared meanwhile.
        fused[start:stop].copy_(batch, non_blocking=True)
        if progress:
            progress("fuse", stop / slices)
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return like(fused.permute(1, 3, 2, 0), mri)


def fused_batches(
    engine: Engine, pairs: Callable[[int, int], SlicePairs], slices: int, *, batch_size: int
) -> Iterator[tuple[int, SlicePairs, Tensor]]:
    """Fuse slices batch by batch, as they are asked for.

    Parameters
    ----------
    engine
        See `load_engine`.
    pairs
        Called with the first slice and the one behind the last.
    slices
        How many there are.
    batch_size
        As in `fuse_slices`.

    Yields
    ------
    tuple
        The number of the first slice, the pairs, and (N, 1, H, W) float32 fused slices on the engine's device.

    Raises
    ------
    DeviceError
        If not even one slice fits into memory.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}.")
    start = 0
    while start < slices:
        stop = min(start + batch_size, slices)
        given = pairs(start, stop)
        try:
            fused = engine(*(_upload(side, engine.device) for side in (given.mri, given.luma)))
        except RuntimeError as error:
            # The CPU allocator raises a plain one.
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            if batch_size == 1:
                height, width = given.mri.shape[-2:]
                raise DeviceError(
                    f"one slice of {width} × {height} does not fit into the memory of {engine.device}; use another."
                ) from error
            batch_size //= 2
            if engine.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield start, given, fused
        start = stop


def _upload(slices: Tensor, device: torch.device) -> Tensor:
    slices = slices.float().contiguous()
    return slices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else slices
