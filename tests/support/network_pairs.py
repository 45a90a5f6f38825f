"""Make random picture pairs, and networks with every kind of channel."""

import torch
from torch.nn import functional

from medfuse.gesenet import GeSeNet
from medfuse.gesenet.architecture import Widths

CPU = torch.device("cpu")
SLOW_TO_MAKE = ("compiled", "tiled-int16")
UNDECIDED = {"tiled-int16": 2e-3}
"""Share of pixels around which the logits of a spatial mask may tie within rounding, and be decided differently."""
ROUNDING = 2e-6


def pair(height, width, count=1, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand((count, 1, height, width), generator=generator) for _ in range(2))


def framed(height, width, top, left, inner, count=1):
    """Noise in black: ``inner`` is the size of what shows."""
    room = (left, width - left - inner[1], top, height - top - inner[0])
    return tuple(functional.pad(side, room) for side in pair(*inner, count))


ODD = Widths(first=8, second=8, edge=16, body=27, scale=30, scaled=31, shift=11, merged=61, decoder=19)


def shuffled(parts=None, seed=4, widths=ODD):
    """An untrained network with principal and redundant channels, in numbers that fill no vectors."""
    torch.manual_seed(seed)
    network = GeSeNet(parts, widths).eval().requires_grad_(False)
    for branch in (network.mri, network.partner):
        if network.parts.region:
            body = branch.region.body
            body.channel_logits.normal_()
            body.convolutions[3].weight[:] *= 3
            # Undecided masks: about half of the pixels marked.
            branch.region.spatial.leave.bias[:] = 0
    return network


def silence(layers, channels):
    """Let layers that are added make nothing of some channels."""
    for layer in layers:
        for part in layer.parameters():
            part.data[list(channels)] = 0


PLACES = [
    ((150, 161), (60, 70), (11, 20)),  # in the middle
    ((149, 171), (0, 100), (15, 20)),  # at an edge
    ((131, 133), (130, 0), (1, 1)),  # one pixel in a corner, odd sizes
    ((40, 170), (3, 140), (20, 30)),  # too narrow to cut across
]
