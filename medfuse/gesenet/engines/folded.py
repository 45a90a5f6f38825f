"""Fold a trained network into the form that is run: decided masks, and no arithmetic done twice.

Training draws every mask softly, and needs each masked convolution twice. Once the channel masks are decided, what they
say is a matter of which kernels meet which channels, and is folded into the weights; the result is that of
`GeSeNet.forward` in evaluation mode up to the rounding of sums.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.engines.masked_tiles import add_in_tiles
from medfuse.gesenet.masks import CoupleMaskConvolutions
from medfuse.gesenet.network import Branch, EdgeEnhancement, GeSeNet, RegionMask

RADIUS = 15
"""How far a pixel of the input reaches in the output, in pixels, channel attention aside: 3 in E, 9 in M, 3 behind."""

Features = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""For the MRI's branch and the partner's: what enters M, and what its masked convolutions make of it."""


class FoldedGeSeNet(nn.Module):
    """The inference form of a network, whose weights are copied and whose masks are those that it has now.

    Parameters
    ----------
    network
        Any GeSeNet, with or without some of its `Parts`.
    skip
        Compute redundant channels only in tiles where the spatial mask is set; else everywhere, times the mask, by
        steps that do not depend on values.
    """

    def __init__(self, network: GeSeNet, *, skip: bool = False) -> None:
        super().__init__()
        device = next(network.parameters()).device
        network = deepcopy(network).cpu()
        self.mri, self.partner = FoldedBranch(network.mri, skip), FoldedBranch(network.partner, skip)
        self.refinement = network.refinement if network.parts.refinement else None
        self.skip = network.parts.skip
        self.decoder = network.decoder
        self.eval().requires_grad_(False).to(device)
        cast("Any", self).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast("Tensor", self.decoder[0].weight).device

    @property
    def channels(self) -> int:
        """Channels whose means the attention of a branch looks at."""
        return self.mri.channels

    def forward(self, mri: Tensor, partner: Tensor, seen: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse pictures, or a part of each outside which both sources are black.

        Parameters
        ----------
        mri, partner
            (N, 1, H, W) in [0, 1].
        seen
            (1,), the share of the whole picture's pixels that are given: 1 where it is given whole.
        unseen
            (2, channels), what the rest of the picture adds to the means of both branches: 0 where there is none.

        Returns
        -------
        tuple
            (N, 1, H, W) fused in [0, 1], and (2, N, channels) the gates of both branches' channel attention.
        """
        features = self.before(mri, partner)
        gates = torch.stack(
            (self.mri.gate(features[0][1], seen, unseen[0]), self.partner.gate(features[1][1], seen, unseen[1]))
        )
        return self.after(features, gates), gates

    def before(self, mri: Tensor, partner: Tensor) -> Features:
        """Both branches' features as far as they depend on nothing but what is near; see `FoldedBranch.before`."""
        return self.mri.before(mri), self.partner.before(partner)

    def after(self, features: Features, gates: Tensor) -> Tensor:
        """Go on from `before` with the gates that were computed from it, to the fused picture."""
        mri_edges, mri_regions = self.mri.after(*features[0], gates[0])
        partner_edges, partner_regions = self.partner.after(*features[1], gates[1])
        merged = torch.cat((partner_regions, mri_regions), dim=1)
        if self.refinement is not None:
            merged = self.refinement(merged, mri_edges)
        if self.skip:
            merged = torch.cat((merged, partner_edges), dim=1)
        decoded: Tensor = self.decoder(merged)
        return decoded.tanh() / 2 + 0.5


class FoldedBranch(nn.Module):
    """One source's way through stem, E and M, cut where the channel attention asks for the means."""

    def __init__(self, branch: Branch, skip: bool) -> None:
        super().__init__()
        self.swapped = branch.swapped
        self.stem = branch.stem
        edge = branch.edge
        self.edge = FoldedEdge(edge) if isinstance(edge, EdgeEnhancement) else edge
        region = branch.region if isinstance(branch.region, RegionMask) else None
        self.spatial = self.body = self.attention = None
        self.channels = 1
        if region:
            self.channels = region.body.collect.out_channels
            self.spatial = region.spatial
            self.body = FoldedBody(region.body, skip)
            self.attention = region.attention

    def before(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) → what enters M, and what its masked convolutions make of it; without M the first, twice."""
        features = functional.leaky_relu(self.stem(image), 0.2)
        if not self.swapped:
            features = self.edge(features)
        if self.body is None or self.spatial is None:
            return features, features
        collected = self.body(features, self.spatial(features) if self.body.masked else None)
        return features, collected

    def gate(self, collected: Tensor, seen: Tensor, unseen: Tensor) -> Tensor:
        """Weigh the channels, (N, channels) in [0, 1], by their means over the picture; see `FoldedGeSeNet.forward`."""
        if self.attention is None:
            return collected.new_ones((len(collected), self.channels))
        means = collected.mean((2, 3)) * seen + unseen
        weights: Tensor = self.attention.gate(means[..., None, None])
        return weights[..., 0, 0]

    def after(self, features: Tensor, collected: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of E, and that of the last module, each (N, C, H, W)."""
        regions = features if self.body is None else collected * gate[..., None, None] + features
        if self.swapped:
            edges = self.edge(regions)
            return edges, edges
        return features, regions


class FoldedEdge(nn.Module):
    """E with its two 1×1 convolutions as one."""

    def __init__(self, edge: EdgeEnhancement) -> None:
        super().__init__()
        channels = len(edge.gradient.x)
        self.first, self.second = edge.dense.first, edge.dense.second
        self.x = same_size(edge.gradient.x, groups=channels)
        self.y = same_size(edge.gradient.y, groups=channels)
        bias = cast("Tensor", edge.down.bias) + cast("Tensor", edge.up.bias)
        self.down = same_size(torch.cat((edge.down.weight, edge.up.weight), dim=1), bias)

    def forward(self, features: Tensor) -> Tensor:
        first = functional.leaky_relu(self.first(features), 0.2)
        second = functional.leaky_relu(self.second(torch.cat((features, first), dim=1)), 0.2)
        parts = (features, first, second, self.x(features).abs() + self.y(features).abs())
        return functional.leaky_relu(self.down(torch.cat(parts, dim=1)), 0.1)


class FoldedBody(nn.Module):
    """The masked convolutions of M and the 1×1 that collects them; of each the principal channels come first."""

    def __init__(self, body: CoupleMaskConvolutions, skip: bool) -> None:
        super().__init__()
        principal = body.channel_mask().bool()
        count = len(principal)
        layers, columns = [], []
        into = torch.arange(body.collect.out_channels)
        into_principal = len(into)
        for index, layer in enumerate(body.convolutions):
            out = principal[:, index].logical_not().int().argsort(stable=True)
            out_principal = int(principal[:, index].sum())
            kernels = cast("Tensor", layer.weight).detach()[out][:, into]
            layers.append(FoldedLayer(kernels, into_principal, out_principal, skip))
            columns.append(out + index * count)
            into, into_principal = out, out_principal
        self.layers = nn.ModuleList(layers)
        self.masked = any(layer.masked for layer in layers)
        self.collect = same_size(body.collect.weight[:, torch.cat(columns)], body.collect.bias)

    def forward(self, features: Tensor, spatial: Tensor | None) -> Tensor:
        """(N, C, H, W) features and (N, 1, H, W) spatial mask, None if no layer asks for it → (N, C, H, W)."""
        outputs = []
        for layer in self.layers:
            features = layer(features, spatial)
            outputs.append(features)
        collected: Tensor = self.collect(torch.cat(outputs, dim=1))
        return collected


class FoldedLayer(nn.Module):
    """One masked convolution: some sums everywhere, some only where the spatial mask is set, then ReLU.

    Parameters
    ----------
    kernels
        (out, into, 3, 3), in both axes the principal channels first.
    into_principal, out_principal
        How many those are.
    """

    def __init__(self, kernels: Tensor, into_principal: int, out_principal: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        out, into = kernels.shape[:2]
        self.into_principal, self.out_principal = into_principal, out_principal
        # Where no redundant channel enters, a principal one is the same everywhere, and one convolution does for all.
        self.mixed = out_principal > 0 and into_principal < into
        self.masked = self.mixed or out_principal < out
        among_marked = kernels.clone()
        if self.mixed:
            among_marked[:out_principal, :into_principal] = 0
            among_principal = kernels[:, :into_principal].clone()
            if skip:
                among_principal = among_principal[:out_principal]
            else:
                among_principal[out_principal:] = 0  # costs less than to cut and join the features
            self.everywhere = same_size(among_principal) if into_principal else None
        elif skip:
            self.everywhere = same_size(kernels[:out_principal]) if out_principal else None
            among_marked = kernels[out_principal:]
        else:
            self.everywhere = None
        self.marked = same_size(among_marked) if len(among_marked) else None
        self.register_buffer("always", (torch.arange(out) < out_principal).to(kernels)[:, None, None])

    def forward(self, features: Tensor, spatial: Tensor | None) -> Tensor:
        if self.skip:
            return self._skipping(features, spatial)
        assert self.marked is not None  # only a layer that skips has none
        marked: Tensor = self.marked(features)
        if spatial is None:
            return marked.relu()
        if not self.mixed:
            return marked.relu() * torch.maximum(spatial, cast("Tensor", self.always))
        marked = spatial * marked
        if self.everywhere is not None:
            marked = marked + self.everywhere(features[:, : self.into_principal])
        return marked.relu()

    def _skipping(self, features: Tensor, spatial: Tensor | None) -> Tensor:
        out, (height, width) = len(cast("Tensor", self.always)), features.shape[-2:]
        sums = features.new_zeros((len(features), height, width, out)).permute(0, 3, 1, 2)
        if self.everywhere is not None:
            sums[:, : self.out_principal] = self.everywhere(features[:, : self.everywhere.in_channels])
        if self.marked is not None and spatial is not None:
            first = 0 if self.mixed else self.out_principal
            add_in_tiles(sums[:, first:], features, self.marked.weight, spatial)
        return sums.relu_()


def same_size(kernels: Tensor, bias: Tensor | None = None, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its input, with copies of the kernels given."""
    out, into, size = kernels.shape[:3]
    # Made without memory: its first values would be drawn, and change the program's random numbers.
    made = nn.Conv2d(into * groups, out, size, padding=size // 2, groups=groups, bias=bias is not None, device="meta")
    made.weight = nn.Parameter(kernels.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made
