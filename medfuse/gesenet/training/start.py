"""Build the network that a training starts with: untrained, with given weights, or with the mean of several."""

from __future__ import annotations

import torch

from medfuse.errors import TrainingError
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training.compact import compacted
from medfuse.gesenet.training.config import TrainingConfig


def first_network(config: TrainingConfig) -> tuple[GeSeNet, list[dict[str, str]]]:
    """Return the network and where its weights are from, name and SHA-256 each.

    Raises
    ------
    TrainingError
        If weights have other parts than the settings, or several have different numbers of channels.
    """
    starts = config.averaged or ((config.start,) if config.start else ())
    if not starts:
        return GeSeNet(config.parts), []
    networks = [load_network(start) for start in starts]
    for each in networks:
        if each.parts != config.parts:
            raise TrainingError(
                f"the weights {each.origin['name']} to start from have other parts than the settings; set them "
                f"alike: {each.parts}."
            )
        if each.widths != networks[0].widths:
            raise TrainingError(
                f"weights to average must have the same numbers of channels; {networks[0].origin['name']} has "
                f"{networks[0].widths}, {each.origin['name']} has {each.widths}. Average runs that went on from "
                "the same weights."
            )
    origins = [dict(each.origin) for each in networks]
    first = networks[0].requires_grad_(True)
    if len(networks) > 1:
        states = [each.state_dict() for each in networks]
        first.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return compacted(first), origins
