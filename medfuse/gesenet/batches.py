"""Fuse volumes slice by slice by an engine or a network."""

from __future__ import annotations

from monai.data.meta_tensor import MetaTensor
from torch import nn

from medfuse.gesenet.engines.registry import Engine, as_engine
from medfuse.methods.batch_size import DEFAULT_BATCH_SIZE
from medfuse.methods.batches import fuse_volumes
from medfuse.runtime.progress import Progress


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
        An engine (`load_engine`), or a network, which is run as it is, in evaluation mode. Called as
        ``network(mri, partner)`` with (N, 1, H, W) float32 in [0, 1], on its device.
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
    return fuse_volumes(as_engine(network), mri, partner, batch_size=batch_size, progress=progress)
