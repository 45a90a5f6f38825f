"""Prune a network while it learns: take whole channels out, those first that matter least.

What is left of a network then costs less everywhere, not only where a mask says so: `compacted` leaves out what is
always zero. The paper has no such step.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from medfuse.gesenet.architecture import STEM_CHANNELS, Widths
from medfuse.gesenet.network import Branch, EdgeEnhancement, GeSeNet, RegionMask

FIRST, LAST = 0.05, 0.5
"""Between which shares of the steps channels go: then the network has time left to make up for them."""

MEMORY = 0.98
"""How much of what a channel has mattered so far counts beside the present step."""

Layers = tuple[nn.Conv2d, ...]


class Group(NamedTuple):
    """Layers whose output channels go together; how many there are in the paper, and how few may be left."""

    layers: Layers
    most: int
    least: int = 1


class Pruning:
    """Which channels are left of E, of the masked convolutions and what leaves M, of R and of the decoder.

    A channel matters as much as the loss would change without it: to first order, the product of its weights and their
    gradient, squared and averaged over the steps (Molchanov et al., CVPR 2019, doi:10.1109/CVPR.2019.01152).

    Parameters
    ----------
    network
        Learns, and loses channels: their weights are set to zero.
    kept_share
        Of the channels that each layer has in the paper, in (0, 1]; 1 leaves the network as it is. At least as many
        leave E as enter it, and half as many each of its dense block's convolutions.
    """

    def __init__(self, network: GeSeNet, kept_share: float) -> None:
        self.kept_share = kept_share
        self.groups = _groups(network) if kept_share < 1 else []
        self.done = kept_share == 1
        """Whether all channels have gone that are to go."""
        self.worth = [torch.zeros(len(layers[0].weight), device=layers[0].weight.device) for layers, *_ in self.groups]

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
    def prune(self, progress: float) -> None:
        """Leave each layer as many channels as it may have at a share of the steps; many go at first, few at last."""
        left = 1 - min(1.0, max(0.0, (progress - FIRST) / (LAST - FIRST)))
        self.done = left == 0 or self.kept_share == 1
        share = self.kept_share + (1 - self.kept_share) * left**3
        for (layers, most, least), worth in zip(self.groups, self.worth, strict=True):
            gone = worth.argsort(descending=True, stable=True)[max(least, round(share * most)) :]
            # What is gone has a gradient still, and matters no more.
            worth[gone] = 0
            for layer in layers:
                for part in layer.parameters():
                    part[gone] = 0


def _groups(network: GeSeNet) -> list[Group]:
    """Layers whose output channels may go, together where they are added."""
    found: list[Group] = []
    for branch in (network.mri, network.partner):
        found += _of_branch(branch)
    if network.parts.refinement:
        part = network.refinement
        found += [_group(Widths.scale, part.scale[0]), _group(Widths.scaled, part.scale[2])]
        found += [_group(Widths.shift, part.shift[0]), _group(Widths.merged, part.merge, part.shift[2])]
    return [*found, _group(Widths.decoder, network.decoder[0])]


def _of_branch(branch: Branch) -> list[Group]:
    region = branch.region if isinstance(branch.region, RegionMask) else None
    most = STEM_CHANNELS if branch.swapped else Widths.body
    found = [_group(most, layer) for layer in region.body.convolutions] if region else []
    if isinstance(branch.edge, EdgeEnhancement):
        # M adds what it makes to what enters it, which is what leaves E.
        after = [region.body.collect] if region and not branch.swapped else []
        edge = branch.edge
        found.append(_group(Widths.edge, edge.down, edge.up, *after, least=STEM_CHANNELS))
        for most, layer in ((Widths.first, edge.dense.first), (Widths.second, edge.dense.second)):
            found.append(_group(most, layer, least=STEM_CHANNELS // 2))
    return found


def _group(most: int, *layers: nn.Module, least: int = 1) -> Group:
    return Group(cast("Layers", layers), most, least)
