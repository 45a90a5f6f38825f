"""Run the network over a study: device, precision and batch size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from medfuse.errors import DeviceError
from medfuse.slices import require_same_grid, slice_batch
from medfuse.volume import like

DEFAULT_BATCH_SIZE = 4


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"expected a device auto, cpu or cuda; found {device!r}.") from None
    if resolved.type not in ("cpu", "cuda"):
        raise DeviceError(f"expected a device auto, cpu or cuda; found {device!r}.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {device} was asked for, but this machine offers {torch.cuda.device_count()} CUDA devices; use "
            "cpu or auto."
        )
    return resolved


def fuse_slices(
    network: nn.Module,
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
        Called as ``network(mri, partner)`` with (N, 1, H, W) float32 in [0, 1], on the device where its parameters are.
    mri, partner
        (1, X, Y, Z) in [0, 1] on one grid.
    batch_size
        Slices at once, at least 1; halved as often as memory runs out. It changes the result by float32 rounding only.
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
    device = next(network.parameters()).device
    network.eval()
    fused = torch.empty((slices, 1, y, x))
    start = 0
    while start < slices:
        stop = min(start + batch_size, slices)
        try:
            fused[start:stop] = _fuse_batch(
                network, slice_batch(mri, start, stop), slice_batch(partner, start, stop), device
            )
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _memory_ran_out(error):
                raise
            if batch_size == 1:
                raise DeviceError(
                    f"one slice of {x} × {y} does not fit into the memory of {device}; use another."
                ) from error
            batch_size //= 2
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        start = stop
        if progress:
            progress(stop / slices)
    return like(fused.permute(1, 3, 2, 0), mri)


@torch.inference_mode()
def _fuse_batch(network: nn.Module, mri: Tensor, partner: Tensor, device: torch.device) -> Tensor:
    with torch.autocast(device.type, enabled=device.type == "cuda"):
        fused: Tensor = network(mri.float().to(device), partner.float().to(device))
    return fused.float().cpu()


def _memory_ran_out(error: Exception) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
