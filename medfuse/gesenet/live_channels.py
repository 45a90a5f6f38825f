"""Convolutions among some of their channels only: those that are not zero for every picture."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn


def folded_chain(chain: nn.Sequential, into: Tensor, out: Tensor | None = None) -> nn.Sequential:
    """Convolution, leaky ReLU, convolution: of some inputs and outputs, without what is always zero between."""
    first, slope, last = chain
    hidden = channels_alive(first)
    return nn.Sequential(
        cut(first, hidden, into),
        deepcopy(slope),
        cut(last, torch.arange(len(numbers_of(last))) if out is None else out, hidden),
    )


def numbers_of(*layers: nn.Module) -> Tensor:
    """Kernels and biases that make each output channel of layers which are added: (channels, numbers)."""
    parts = [part.detach() for each in layers for part in each.parameters()]
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def channels_alive(*layers: nn.Module, count: int | None = None, whole: int = 1) -> Tensor:
    """Which channels of the sum of layers are kept: those that are not zero for every picture.

    Others fill them up to a count, or to a multiple of ``whole``; one at least, for there must be something.
    """
    alive = (numbers_of(*layers) != 0).any(dim=1)
    least = max(1, int(alive.sum())) if count is None else count
    # Those that are not zero come first, each kind in order.
    return alive.logical_not().int().argsort(stable=True)[: -(-least // whole) * whole].sort().values


def cut(layer: nn.Module, out: Tensor, into: Tensor) -> nn.Conv2d:
    """A convolution among some of its channels only."""
    weight, bias = cast("Tensor", layer.weight), cast("Tensor", layer.bias)
    return same_size(weight[out][:, into], bias[out])


def same_size(kernels: Tensor, bias: Tensor | None = None, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its input, with copies of the kernels given."""
    out, into, size = kernels.shape[:3]
    made = nn.Conv2d(into * groups, out, size, padding=size // 2, groups=groups, bias=bias is not None)
    made.weight = nn.Parameter(kernels.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made
