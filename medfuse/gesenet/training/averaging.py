"""Average a network's weights over the last steps of a training, so that the result is less a matter of chance."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from medfuse.gesenet.network import GeSeNet


class RunningMean:
    """The mean of a network's weights over the steps so far, each step counting alike.

    Between weights of one run at a low learning rate scores move almost in a straight line, and the mean is free of
    part of what each batch did to them (Izmailov et al., UAI 2018, arXiv:1803.05407).
    """

    def __init__(self) -> None:
        self.count = 0
        """How many steps the mean is of."""
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, network: GeSeNet) -> None:
        """Let the weights as they are now count."""
        self.count += 1
        for name, value in network.state_dict().items():
            if self.count == 1:
                self._means[name] = value.clone()
            else:
                self._means[name].lerp_(value, 1 / self.count)

    def of(self, network: GeSeNet) -> GeSeNet:
        """A copy of a network with the mean weights; without any step so far with those that it has."""
        averaged = copy.deepcopy(network)
        if self.count:
            averaged.load_state_dict(self._means)
        return averaged

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"count": self.count, "means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.count, self._means = int(state["count"]), dict(state["means"])
