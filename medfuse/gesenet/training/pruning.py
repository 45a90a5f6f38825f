"""Take whole channels out of a network while it learns, those first that matter least.

What is left of a network then costs less everywhere, not only where a mask says so: `FoldedGeSeNet` leaves out what is
always zero. The paper has no such step.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from medfuse.gesenet.network import STEM_CHANNELS, Branch, EdgeEnhancement, GeSeNet, RegionMask

FIRST, LAST = 0.05, 0.5
"""Between which shares of the steps channels go: then the network has time left to make up for them."""

MEMORY = 0.98
"""How much of what a channel has mattered so far counts beside the present step."""

Layers = tuple[nn.Conv2d, ...]


class Group(NamedTuple):
    """Layers whose output channels go together, and how few may be left."""

    layers: Layers
    least: int = 1


class Thinning:
    """Which channels are left of E, of the masked convolutions and what leaves M, of R and of the decoder.

    A channel matters as much as the loss would change without it: to first order, the product of its weights and their
    gradient, squared and averaged over the steps (Molchanov et al., CVPR 2019, doi:10.1109/CVPR.2019.01152).

    Channels that are gone when it begins stay so, whatever is asked for.

    Parameters
    ----------
    network
        Learns, and loses channels.
    kept_share
        Of each layer's channels, in (0, 1]; 1 leaves the network as it is. At least as many leave E as enter
        it, and half as many each of its dense block's convolutions.
    """

    def __init__(self, network: GeSeNet, kept_share: float) -> None:
        self.kept_share = kept_share
        self.groups = _groups(network)
        self.gone = [_all_zero(group.layers) for group in self.groups]
        if kept_share == 1 and not any(bool(gone.any()) for gone in self.gone):
            self.groups, self.gone = [], []
        self.done = kept_share == 1
        """Whether all channels have gone that are to go."""
        self.worth = [torch.zeros_like(gone, dtype=torch.float32) for gone in self.gone]

    @torch.no_grad()
    def weigh(self) -> None:
        """Learn from the gradients of a step how much each channel matters."""
        for group, worth in zip(self.groups, self.worth, strict=True):
            change = sum(
                (part * part.grad).reshape(len(part), -1).sum(1)
                for layer in group.layers
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
        for (layers, least), worth, before in zip(self.groups, self.worth, self.gone, strict=True):
            gone = before.clone()
            gone[worth.argsort(descending=True, stable=True)[max(least, round(share * len(worth))) :]] = True
            # What is gone has a gradient still, and matters no more.
            worth[gone] = 0
            for layer in layers:
                for part in layer.parameters():
                    part[gone] = 0


def _all_zero(layers: Layers) -> Tensor:
    """Which output channels (channels,) nothing makes."""
    parts = [part.detach().reshape(len(part), -1) for layer in layers for part in layer.parameters()]
    return (torch.cat(parts, dim=1) == 0).all(dim=1)


def _groups(network: GeSeNet) -> list[Group]:
    """Layers whose output channels may go, together where they are added."""
    found: list[Group] = []
    for branch in (network.mri, network.partner):
        found += _of_branch(branch)
    if network.parts.refinement:
        part = network.refinement
        found += [_group(part.scale[0]), _group(part.scale[2]), _group(part.shift[0])]
        found.append(_group(part.merge, part.shift[2]))
    return [*found, _group(network.decoder[0])]


def _of_branch(branch: Branch) -> list[Group]:
    region = branch.region if isinstance(branch.region, RegionMask) else None
    found = [_group(layer) for layer in region.body.convolutions] if region else []
    if isinstance(branch.edge, EdgeEnhancement):
        # M adds what it makes to what enters it, which is what leaves E.
        after = [region.body.collect] if region and not branch.swapped else []
        edge = branch.edge
        found.append(_group(edge.down, edge.up, *after, least=STEM_CHANNELS))
        found += [_group(layer, least=STEM_CHANNELS // 2) for layer in (edge.dense.first, edge.dense.second)]
    return found


def _group(*layers: nn.Module, least: int = 1) -> Group:
    return Group(cast("Layers", layers), least)
