"""Random picture pairs, and a network with every kind of channel."""

import torch
from torch.nn import functional

from medfuse.gesenet import GeSeNet
from medfuse.gesenet.network import Parts

CPU = torch.device("cpu")
ROUNDING = 2e-6


def pair(height, width, count=1, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand((count, 1, height, width), generator=generator) for _ in range(2))


def framed(height, width, top, left, inner, count=1):
    """Noise in black: ``inner`` is the size of what shows."""
    room = (left, width - left - inner[1], top, height - top - inner[0])
    return tuple(functional.pad(side, room) for side in pair(*inner, count))


def shuffled(parts=None, seed=4):
    """A network with every kind of channel: principal, redundant, and always zero."""
    torch.manual_seed(seed)
    network = GeSeNet(parts).eval().requires_grad_(False)
    for branch in (network.mri, network.partner):
        if network.parts.region:
            body = branch.region.body
            body.channel_logits.normal_()
            body.convolutions[0].weight[3:9] = 0
            body.convolutions[1].weight[5:12] = -body.convolutions[1].weight[5:12].abs()
            body.convolutions[3].weight[:] *= 3
            # Undecided masks: about half of the pixels marked.
            branch.region.spatial.leave.bias[:] = 0
    if network.parts == Parts():
        for branch, many in ((network.mri, 21), (network.partner, 16)):
            silence([branch.edge.down, branch.edge.up, branch.region.body.collect], range(1, 1 + many))
            silence([branch.edge.dense.first], range(9))
            silence([branch.edge.dense.second], range(3, 11))
    if network.parts.refinement:
        scale, shift = network.refinement.scale, network.refinement.shift
        silence([scale[0]], [3, 9])
        silence([scale[2]], range(7, 40))
        silence([shift[0]], range(21))
        silence([network.refinement.merge, shift[2]], [0, 5, 63])
    silence([network.decoder[0]], range(4, 17))
    return network


def silence(layers, channels):
    """Let layers that are added make nothing of some channels."""
    for layer in layers:
        layer.weight[list(channels)] = 0
        layer.bias[list(channels)] = 0


PLACES = [
    ((150, 161), (60, 70), (11, 20)),  # in the middle
    ((149, 171), (0, 100), (15, 20)),  # at an edge
    ((131, 133), (130, 0), (1, 1)),  # one pixel in a corner, odd sizes
    ((40, 170), (3, 140), (20, 30)),  # too narrow to cut across
]
