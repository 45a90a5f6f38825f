"""Take whole channels out of a network while it learns, those first that matter least.

What is left of a network then costs less everywhere, not only where a mask says so: `FoldedGeSeNet` leaves out what is
always zero. The paper has no such step.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from medfuse.gesenet.network import GeSeNet, RegionMask

FIRST, LAST = 0.05, 0.5
"""Between which shares of the steps channels go: then the network has time left to make up for them."""

MEMORY = 0.98
"""How much of what a channel has mattered so far counts beside the present step."""

Layers = tuple[nn.Conv2d, ...]


class Thinning:
    """Which channels are left of the masked convolutions, of R and of the decoder.

    A channel matters as much as the loss would change without it: to first order, the product of its weights and their
    gradient, squared and averaged over the steps (Molchanov et al., CVPR 2019, doi:10.1109/CVPR.2019.01152).

    Channels that are gone when it begins stay so, whatever is asked for.

    Parameters
    ----------
    network
        Learns, and loses channels.
    kept_share
        Of each layer's channels, in (0, 1]; 1 leaves the network as it is.
    """

    def __init__(self, network: GeSeNet, kept_share: float) -> None:
        self.kept_share = kept_share
        self.groups = _groups(network)
        self.gone = [_all_zero(layers) for layers in self.groups]
        if kept_share == 1 and not any(bool(gone.any()) for gone in self.gone):
            self.groups, self.gone = [], []
        self.done = kept_share == 1
        """Whether all channels have gone that are to go."""
        self.worth = [torch.zeros(layers[0].out_channels, device=layers[0].weight.device) for layers in self.groups]

    @torch.no_grad()
    def weigh(self) -> None:
        """Learn from the gradients of a step how much each channel matters."""
        for layers, worth in zip(self.groups, self.worth, strict=True):
            change = sum(
                (part * part.grad).reshape(len(part), -1).sum(1)
                for layer in layers
                for part in layer.parameters()
                if part.grad is not None
            )
            worth.mul_(MEMORY).add_((1 - MEMORY) * cast("Tensor", change).square())

    @torch.no_grad()
    def thin(self, progress: float) -> None:
        """Leave each layer as many channels as it may have at a share of the steps; many go at first, few at last."""
        left = 1 - min(1.0, max(0.0, (progress - FIRST) / (LAST - FIRST)))
        self.done = left == 0 or self.kept_share == 1
        share = self.kept_share + (1 - self.kept_share) * left**3
        for layers, worth, before in zip(self.groups, self.worth, self.gone, strict=True):
            gone = before.clone()
            gone[worth.argsort(descending=True, stable=True)[max(1, round(share * len(worth))) :]] = True
            # What is gone has a gradient still, and matters no more.
            worth[gone] = 0
            for layer in layers:
                for part in layer.parameters():
                    part[gone] = 0


def _all_zero(layers: Layers) -> Tensor:
    """Which output channels (channels,) nothing makes."""
    parts = [part.detach().reshape(len(part), -1) for layer in layers for part in layer.parameters()]
    return (torch.cat(parts, dim=1) == 0).all(dim=1)


def _groups(network: GeSeNet) -> list[Layers]:
    """Layers whose output channels may go, together where they are added."""
    found: list[tuple[nn.Module, ...]] = []
    for branch in (network.mri, network.partner):
        if isinstance(branch.region, RegionMask):
            found += [(layer,) for layer in branch.region.body.convolutions]
    if network.parts.refinement:
        part = network.refinement
        found += [(part.scale[0],), (part.scale[2],), (part.shift[0],), (part.merge, part.shift[2])]
    found.append((network.decoder[0],))
    return cast("list[Layers]", found)
