"""Fuse slices batch by batch: as many at once as fit into memory, with transfers that overlap with the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.errors import DeviceError
from medfuse.methods.method import is_out_of_memory
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import SlicePairs, like
from medfuse.volume.planes import require_same_grid, slice_batch


class Fuser(Protocol):
    """What fuses a slab: a `FusionMethod`, or an engine of `medfuse.gesenet`."""

    @property
    def device(self) -> torch.device:
        """Where it wants the slices."""

    def __call__(self, mri: Tensor, luma: Tensor, /) -> Tensor:
        """Fuse two (N, 1, H, W) slabs."""


@default_settings()
def fuse_volumes(
    fuser: Fuser, mri: MetaTensor, partner: MetaTensor, *, batch_size: int, progress: Progress | None = None
) -> MetaTensor:
    """Fuse two volumes slice by slice along their last axis; otherwise as `medfuse.gesenet.fuse_slices`."""
    x, y, slices = require_same_grid(mri, partner).shape
    fused = torch.empty((slices, 1, y, x), dtype=torch.float32, pin_memory=fuser.device.type == "cuda")

    def pairs(start: int, stop: int) -> SlicePairs:
        shown = slice_batch(partner, start, stop)
        return SlicePairs(slice_batch(mri, start, stop), shown, shown)

    for start, _, batch in fused_batches(fuser, pairs, slices, batch_size=batch_size):
        stop = start + len(batch)
        # On CUDA this returns while the device still works: the next slices are prepared meanwhile.
        fused[start:stop].copy_(batch, non_blocking=True)
        if progress:
            progress("fuse", stop / slices)
    if fuser.device.type == "cuda":
        torch.cuda.synchronize(fuser.device)
    return like(fused.permute(1, 3, 2, 0), mri)


def fused_batches(
    fuser: Fuser, pairs: Callable[[int, int], SlicePairs], slices: int, *, batch_size: int
) -> Iterator[tuple[int, SlicePairs, Tensor]]:
    """Fuse slices batch by batch, as they are asked for.

    Parameters
    ----------
    fuser
        What fuses.
    pairs
        Called with the first slice and the one behind the last.
    slices
        How many there are.
    batch_size
        Slices at once, at least 1; halved as often as memory runs out.

    Yields
    ------
    tuple
        The number of the first slice, the pairs, and what was fused, on the fuser's device.

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
            fused = fuser(*(_upload(side, fuser.device) for side in (given.mri, given.luma)))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                height, width = given.mri.shape[-2:]
                raise DeviceError(
                    f"one slice of {width} × {height} does not fit into the memory of {fuser.device}; use another."
                ) from error
            batch_size //= 2
            if fuser.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield start, given, fused
        start = stop


def _upload(slices: Tensor, device: torch.device) -> Tensor:
    slices = slices.float().contiguous()
    return slices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else slices
