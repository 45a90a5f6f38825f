"""Attribute the fused luma to its sources: how much of each pixel comes from the MRI, the partner, and neither.

Both sources are raised together from black to what they are, in steps, and each step is shared out by who made the
difference: the change when the MRI alone takes the step, averaged over the partner being before or behind its own. That
is the Shapley value of two players within each step, and their Aumann–Shapley value, which integrated gradients
compute, as steps become small (Sundararajan, Taly and Yan 2017, arXiv:1703.01365; Aumann and Shapley 1974). However
many steps there are, the two parts add up to the fused luma less that of black.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medfuse.gesenet.masks import SpatialMask
from medfuse.runtime.torch_settings import default_settings

STEPS = 3
"""Steps from black to the pictures: with the three runs a step takes, ten runs of the network in all."""


class Attribution(NamedTuple):
    """Parts of the fused luma, each (N, 1, H, W) float32; they add up to it.

    ``mri`` and ``partner`` may be negative, where a source darkens; ``neither`` is what the network makes of black.
    """

    mri: Tensor
    partner: Tensor
    neither: Tensor


@default_settings()
@torch.inference_mode()
def attribute(network: nn.Module, mri: Tensor, partner: Tensor, *, steps: int = STEPS) -> Attribution:
    """Share out the luma that a network fuses of some slices.

    The spatial masks are held as the pictures decided them: which places are computed is not itself attributed.

    Parameters
    ----------
    network
        In evaluation mode; called as ``network(mri, partner)``.
    mri, partner
        (N, 1, H, W) floating point in [0, 1], on its device.
    steps
        From black to the pictures; more cost more, and follow the network's curves more closely.

    Raises
    ------
    ValueError
        If there is not at least one step.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step from black to the pictures; found {steps}.")
    with held_masks(network) as hold:
        network(mri, partner)
        hold()
        before = neither = network(torch.zeros_like(mri), torch.zeros_like(partner))
        parts = torch.zeros_like(neither), torch.zeros_like(neither)
        for step in range(steps):
            low, high = step / steps, (step + 1) / steps
            mri_alone, partner_alone = network(high * mri, low * partner), network(low * mri, high * partner)
            both = network(high * mri, high * partner)
            parts[0].add_((mri_alone - before) + (both - partner_alone), alpha=0.5)
            parts[1].add_((partner_alone - before) + (both - mri_alone), alpha=0.5)
            before = both
    return Attribution(*parts, neither)


@contextmanager
def held_masks(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Within the block, once what it yields is called, each spatial mask stays what it was in the run before."""
    masks: dict[nn.Module, Tensor] = {}
    held = False

    def hold() -> None:
        nonlocal held
        held = True

    def on_forward(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
        if not held:
            masks[module] = output
        return masks[module]

    hooks = [each.register_forward_hook(on_forward) for each in network.modules() if isinstance(each, SpatialMask)]
    try:
        yield hold
    finally:
        for hook in hooks:
            hook.remove()
