"""Learn without the channels that are always zero: a thinned network's steps then cost what its results do."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from medfuse.gesenet.live_channels import channels_alive, numbers_of
from medfuse.gesenet.masks import CoupleMaskConvolutions
from medfuse.gesenet.network import Branch, EdgeEnhancement, GeSeNet, RegionMask


class Compaction:
    """Cuts a network's parameters, in place, to the channels that are not zero for every picture.

    The network computes the same as before, up to the rounding of sums, in training and evaluation mode.
    Parts that have no such channels stay as they are.
    """

    def __init__(self, network: GeSeNet) -> None:
        self.network = network
        self.before = {name: value.clone() for name, value in network.state_dict().items()}
        self.kept: dict[str, tuple[Tensor, ...]] = {}
        """For each cut parameter by its name, an index of the values that are left."""
        if all(isinstance(branch.edge, EdgeEnhancement) and not branch.swapped for branch in _branches(network)):
            self._find()
        for name, index in self.kept.items():
            owner, _, part = name.rpartition(".")
            module = network.get_submodule(owner)
            old = cast("Tensor", getattr(module, part))
            left = old.detach()[index].clone(memory_format=torch.contiguous_format)
            setattr(module, part, nn.Parameter(left, old.requires_grad))

    def whole(self) -> dict[str, Tensor]:
        """The state of a network of the usual size that computes the same."""
        state = self.network.state_dict()
        for name, index in self.kept.items():
            left, state[name] = state[name], self.before[name].clone()
            state[name][index] = left.to(state[name].device)
        return state

    def _find(self) -> None:
        network = self.network
        leaving = {}
        for name, branch in zip(("mri", "partner"), _branches(network), strict=True):
            leaving[name] = self._of_branch(name, branch)
        into = torch.cat((leaving["partner"], leaving["mri"] + _width(network.mri)))
        if network.parts.refinement:
            into = self._of_refinement(into, leaving["mri"])
        if network.parts.skip:
            before = cast("nn.Conv2d", network.decoder[0]).in_channels - _width(network.partner)
            into = torch.cat((into, leaving["partner"] + before))
        self._chain("decoder", into, torch.arange(1))

    def _of_branch(self, name: str, branch: Branch) -> Tensor:
        """Find what is left of a branch; return the channels that leave it."""
        edge = cast("EdgeEnhancement", branch.edge)
        region = branch.region if isinstance(branch.region, RegionMask) else None
        added = [edge.down, edge.up, *([region.body.collect] if region else [])]
        leaving = channels_alive(*added)
        stem = torch.arange(branch.stem.out_channels)
        first, second = channels_alive(edge.dense.first), channels_alive(edge.dense.second)
        dense = torch.cat((stem, first + len(stem)))
        self._keep(f"{name}.edge.dense.first", first, stem)
        self._keep(f"{name}.edge.dense.second", second, dense)
        self._keep(f"{name}.edge.down", leaving, torch.cat((dense, second + 2 * len(stem))))
        self._keep(f"{name}.edge.up", leaving, stem)
        if region:
            self._keep(f"{name}.region.spatial.enter", torch.arange(region.spatial.enter.out_channels), leaving)
            self._of_body(f"{name}.region.body", region.body, leaving)
            within = torch.arange(region.attention.squeeze.out_channels)
            self._keep(f"{name}.region.attention.squeeze", within, leaving)
            self._keep(f"{name}.region.attention.excite", leaving, within)
        return leaving

    def _of_body(self, name: str, body: CoupleMaskConvolutions, leaving: Tensor) -> None:
        # The channel mask has as many rows for each layer, so each keeps as many channels.
        most = max(len(channels_alive(layer)) for layer in body.convolutions)
        outs = [channels_alive(layer, count=most) for layer in body.convolutions]
        for layer, (out, into) in enumerate(zip(outs, [leaving, *outs], strict=False)):
            self._keep(f"{name}.convolutions.{layer}", out, into)
        channels = len(body.channel_logits[0])
        self._keep(f"{name}.collect", leaving, torch.cat([out + layer * channels for layer, out in enumerate(outs)]))
        rows = torch.stack(outs, dim=1)
        layers = torch.arange(len(outs)).expand_as(rows)
        self.kept[f"{name}.channel_logits"] = (torch.zeros_like(rows)[None], rows[None], layers[None])

    def _of_refinement(self, features: Tensor, condition: Tensor) -> Tensor:
        part = self.network.refinement
        scaled, merged = channels_alive(part.scale[2]), channels_alive(part.merge, part.shift[2])
        self._chain("refinement.scale", condition, scaled)
        self._chain("refinement.shift", condition, merged)
        beside = part.merge.in_channels - len(numbers_of(part.scale[2]))
        self._keep("refinement.merge", merged, torch.cat((features, scaled + beside)))
        return merged

    def _chain(self, name: str, into: Tensor, out: Tensor) -> None:
        hidden = channels_alive(self.network.get_submodule(f"{name}.0"))
        self._keep(f"{name}.0", hidden, into)
        self._keep(f"{name}.2", out, hidden)

    def _keep(self, name: str, out: Tensor, into: Tensor) -> None:
        self.kept[f"{name}.weight"] = (out[:, None], into[None])
        if self.network.get_submodule(name).bias is not None:
            self.kept[f"{name}.bias"] = (out,)


def _branches(network: GeSeNet) -> tuple[Branch, Branch]:
    return network.mri, network.partner


def _width(branch: Branch) -> int:
    return cast("EdgeEnhancement", branch.edge).down.out_channels
