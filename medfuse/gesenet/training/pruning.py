"""Prune a network while it learns: take whole channels out, those first that matter least.

What is left of a network then costs less everywhere, not only where a mask says so: `compacted` leaves out what is
always zero. The paper has no such step.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from medfuse.gesenet.architecture import STEM_CHANNELS, Widths
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training.compact import Remaining, makers, width_of
from medfuse.gesenet.training.config import PRUNED_BY

FIRST, LAST = 0.05, PRUNED_BY
"""Between which shares of the steps channels go."""

MEMORY = 0.98
"""How much of what a channel has mattered so far counts beside the present step."""

LEAST = {"edge": STEM_CHANNELS, "first": STEM_CHANNELS // 2, "second": STEM_CHANNELS // 2}
"""Channels of a width that are left in any case: as many of E as enter it; of the others one."""


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
        self.groups = {
            group: [network.get_submodule(name) for name in names]
            for group, names in makers(network).items()
            if kept_share < 1 and (network.parts.edge or width_of(group) != "edge")
        }
        """Layers whose output channels go together, by their group; what widens the stem in E's place stays."""
        self.swapped = network.parts.swapped
        self.done = kept_share == 1
        """Whether all channels have gone that are to go."""
        first = [cast("Tensor", layers[0].weight) for layers in self.groups.values()]
        self.worth = [torch.zeros(len(kernels), device=kernels.device) for kernels in first]

    def narrowed(self, narrow: GeSeNet, left: Remaining) -> Pruning:
        """The same for a network of the channels that are left, with what was learnt of them."""
        pruning = Pruning(narrow, self.kept_share)
        pruning.done = self.done
        pruning.worth = [
            worth[left.places[group].to(worth.device)] for group, worth in zip(self.groups, self.worth, strict=True)
        ]
        return pruning

    @torch.no_grad()
    def weigh(self) -> None:
        """Learn from the gradients of a step how much each channel matters."""
        for layers, worth in zip(self.groups.values(), self.worth, strict=True):
            change = sum(
                (part * part.grad).reshape(len(part), -1).sum(1)
                for layer in layers
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
        for (group, layers), worth in zip(self.groups.items(), self.worth, strict=True):
            width = width_of(group)
            most = STEM_CHANNELS if self.swapped and width == "body" else getattr(Widths, width)
            gone = worth.argsort(descending=True, stable=True)[max(LEAST.get(width, 1), round(share * most)) :]
            # What is gone has a gradient still, and matters no more.
            worth[gone] = 0
            for layer in layers:
                for part in layer.parameters():
                    part[gone] = 0
