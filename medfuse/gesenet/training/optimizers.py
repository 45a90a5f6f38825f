"""Build the optimizers of a training, and carry what one has learnt over to a network with fewer channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training.compact import Remaining, selected
from medfuse.gesenet.training.config import TrainingConfig


def channel_logits(network: GeSeNet) -> list[nn.Parameter]:
    """The logits of the channel masks."""
    return [value for name, value in network.named_parameters() if name.endswith("channel_logits")]


def network_optimizer(network: GeSeNet, config: TrainingConfig) -> torch.optim.Adam:
    """Adam, with the channel masks' logits in a group of their own; a group's ``speed`` multiplies its learning rate.

    At the pace of the weights the logits never leave their random start, and under weight decay they end in a tie.
    """
    logits = channel_logits(network)
    others = [value for name, value in network.named_parameters() if not name.endswith("channel_logits")]
    groups = (
        {"params": others, "weight_decay": config.weight_decay, "speed": 1.0},
        {
            "params": logits,
            "weight_decay": config.weight_decay if config.decay_masks else 0.0,
            "speed": config.mask_speed,
        },
    )
    return torch.optim.Adam(groups, config.learning_rate)


def semantic_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.SGD:
    """SGD as the paper sets it; its learning rate is ours."""
    return torch.optim.SGD(module.parameters(), config.semantic_learning_rate, momentum=0.9, weight_decay=5e-4)


@torch.no_grad()
def narrowed(
    before: torch.optim.Adam, wide: GeSeNet, narrow: GeSeNet, left: Remaining, config: TrainingConfig
) -> torch.optim.Adam:
    """Build Adam for the narrow network, with the moments that another has of the same channels of the wide one."""
    now = network_optimizer(narrow, config)
    learnt: dict[str, dict[str, Any]] = {
        name: before.state[value] for name, value in wide.named_parameters() if before.state.get(value)
    }
    moments = {
        kind: selected(wide, {name: state[kind].cpu() for name, state in learnt.items()}, left)
        for kind in ("exp_avg", "exp_avg_sq")
    }
    for name, value in narrow.named_parameters():
        if name in learnt:
            kept: dict[str, Tensor] = {
                kind: torch.empty_like(value).copy_(arrays[name]) for kind, arrays in moments.items()
            }
            now.state[value] = {"step": learnt[name]["step"].clone(), **kept}
    return now
