"""Attribute the luma that a network fuses of some slices to its sources; see `medfuse.methods.attribution`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medfuse.gesenet.engines.registry import Engine, as_engine
from medfuse.methods.attribution import STEPS, Parts, share_out
from medfuse.runtime.torch_settings import default_settings


@default_settings()
@torch.inference_mode()
def attribute(network: nn.Module | Engine, mri: Tensor, partner: Tensor, *, steps: int = STEPS) -> Parts:
    """Share out the luma that a network fuses of some slices.

    The spatial masks are held as the pictures decided them: which places are computed is not itself attributed.

    Parameters
    ----------
    network
        An engine (`load_engine`), or a network, which is run as it is, in evaluation mode.
    mri, partner
        (N, 1, H, W) floating point in [0, 1], on its device.
    steps
        From black to the pictures; more cost more, and follow the network's curves more closely.

    Raises
    ------
    ValueError
        If there is not at least one step.
    """
    fused, held = as_engine(network).hold(mri, partner)
    return share_out(fused, held, mri, partner, steps=steps)
