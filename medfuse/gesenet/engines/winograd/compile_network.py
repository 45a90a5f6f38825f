"""Compile GeSeNet to a table of steps on tiles: which layer reads and writes which map, and how far each reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.engines.folded import FoldedBranch, FoldedEdge, FoldedGeSeNet, FoldedLayer
from medfuse.gesenet.engines.winograd import layout
from medfuse.gesenet.engines.winograd.layout import Map, Step, table
from medfuse.gesenet.engines.winograd.pack_weights import Array, Spec, masked_layer, winograd_layer
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, SIMD_WIDTH
from medfuse.gesenet.engines.winograd.simd_transforms import TILE
from medfuse.gesenet.network import GlobalRefinement

REACHES = (3, 5, 9, 10, 11, 12, 13, 14, 15)
"""How far behind the sources' last pixel each set of tiles goes: what is further away has settled."""

GATED_TILES, FUSED_TILES = 5, 8
"""The sets of what the channel attention looks at, and of the fused picture."""


class Place(NamedTuple):
    """A feature map and the first of its channels."""

    map: int
    channel: int = 0


class Fill(NamedTuple):
    """A set of tiles to blacken: those outside one set, as far as another one and so many tiles around it need them."""

    made: int
    needed: int
    around: int


class Settled(NamedTuple):
    """A lasting map whose tiles outside the set that steps write are black's, whatever the picture."""

    map: int
    made: int


@dataclass
class CompiledNetwork:
    """Steps of a folded network in two parts, cut where the channel attention asks for the means.

    Parameters
    ----------
    network
        With all its `Parts`.
    """

    network: FoldedGeSeNet
    specs: list[Spec] = field(default_factory=list)
    small: list[Array] = field(default_factory=list)
    channels: list[tuple[int, int]] = field(default_factory=list)
    """Channels and side of a tile, of each map."""
    before: list[Any] = field(default_factory=list)
    """Tables of steps, of the MRI's branch and of the partner's."""
    before_held: list[Any] = field(default_factory=list)
    """The same without the steps that make the spatial masks."""
    masks: list[int] = field(default_factory=list)
    """The map of each branch's spatial mask."""
    after: Any = None
    after_parts: list[Any] = field(default_factory=list)
    """The same in two: as far as what is added to a map that threads share, where a row counts once; and the rest."""
    settled: list[Settled] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    """Behind the sets of `REACHES` and the two larger ones of the mask's pooled maps."""
    lasting: set[int] = field(default_factory=set)
    """Maps that another part reads, or somebody outside, and settled ones. Of the others a few rows are kept."""

    def __post_init__(self) -> None:
        self.sources = self._map(1), self._map(1)
        self.width = self.network.channels
        """Channels of what leaves E and M."""
        self.gates = 2 * self.width
        """Elements before the feature maps that hold the gates of both branches' channel attention."""
        refinement = self.network.refinement
        assert refinement is not None
        self.joined = self._map(refinement.merge.in_channels)
        self.late = self._map(self.width + refinement.merge.out_channels)
        self.edges = Place(self._map(self.width)), Place(self.late)
        self.collected: list[int] = []
        branches = self.network.mri, self.network.partner
        for branch, source, edges in zip(branches, self.sources, self.edges, strict=True):
            steps: list[Step] = []
            making = self._branch(branch, steps, source, edges)
            self.before.append(table(Step, steps))
            self.before_held.append(table(Step, [step for step in steps if step.target not in making]))
        self.after = table(Step, self._trunk())
        adding = (self.after["kind"] == layout.CONVOLVE) & (self.after["how"] == layout.ADD)
        added = self.after["lag"] <= self.after["lag"][adding].max()
        self.after_parts = [self.after[added], self.after[~added]]
        self.lasting |= {*self.sources, *(place.map for place in self.edges), *self.collected, self.fused}
        self.attention = [_attention(branch) for branch in branches]
        """Of each branch: kernels and biases of the two layers between means and gates."""

    def _map(self, channels: int, tile: int = TILE) -> int:
        self.channels.append((channels, tile))
        return len(self.channels) - 1

    def _blacken(self, number: int, lag: int, fill: Fill) -> Step:
        """Before the first step that writes a row of a map: what the next ones read around what is made."""
        self.fills.append(fill)
        tiles = len(REACHES) + 1 + len(self.fills)
        return self._filter(layout.BLACKEN, tiles, lag, Place(number), Place(number), 0)

    def _layer(self, spec: Spec) -> int:
        self.specs.append(spec)
        return len(self.specs) - 1

    def _small(self, *arrays: Tensor) -> int:
        """Where a small filter's constants begin."""
        at = sum(map(len, self.small))
        self.small.append(np.concatenate([array.detach().double().numpy().ravel() for array in arrays]))
        return at

    def _convolve(
        self, spec: Spec, tiles: int, lag: int, source: Place, target: Place, add: Place | None = None
    ) -> Step:
        how, other = (layout.PUT, target) if add is None else (layout.ADD, add)
        return Step(layout.CONVOLVE, tiles, lag, *source, *target, self._layer(spec), 0, how, *other, -1)

    def _filter(
        self, kind: int, tiles: int, lag: int, source: Place, target: Place, channels: int, *constants: Tensor
    ) -> Step:
        """A step that is no product of matrices."""
        taps = self._small(*constants) if constants else 0
        return Step(kind, tiles, lag, *source, *target, taps, 0, channels, *target, -1)

    def _branch(self, branch: FoldedBranch, steps: list[Step], source: int, edges: Place) -> range:
        """Add a branch's steps; returns the maps that only its spatial mask is made of, and the mask."""
        edge = cast("FoldedEdge", branch.edge)
        stem, layers = branch.stem, (edge.first, edge.second)
        begins = np.cumsum([stem.out_channels, *(layer.out_channels for layer in layers)])
        dense = self._map(edge.down.in_channels)
        constants = (
            stem.weight[:, 0].permute(1, 2, 0),
            cast("Tensor", stem.bias),
            torch.full((stem.out_channels,), 0.2, dtype=torch.float32),
        )
        steps.append(self._blacken(dense, 0, Fill(0, 0, 1)))
        steps.append(self._filter(layout.WIDEN, 0, 0, Place(source), Place(dense), stem.out_channels, *constants))
        for lag, (convolution, to) in enumerate(zip(layers, begins[:-1], strict=True), start=1):
            spec = winograd_layer(convolution.weight, convolution.bias, 0.2)
            steps.append(self._convolve(spec, 0, lag, Place(dense), Place(dense, int(to))))
        filters = [each.weight[:, 0].permute(1, 2, 0) for each in (edge.x, edge.y)]
        gradient = Place(dense, int(begins[-1]))
        steps.append(self._filter(layout.GRADIENT, 0, 2, Place(dense), gradient, stem.out_channels, *filters))
        steps.append(self._convolve(winograd_layer(edge.down.weight, edge.down.bias, 0.1), 0, 2, Place(dense), edges))
        self.settled.append(Settled(edges.map, 0))
        first = len(self.channels)
        mask = self._mask(branch, steps, edges)
        self._body(branch, steps, edges, mask)
        return range(first, mask + 1)

    def _mask(self, branch: FoldedBranch, steps: list[Step], edges: Place) -> int:
        assert branch.spatial is not None
        spatial = branch.spatial
        enter, pooled, mixed, mask = self._map(8), self._map(8, 2), self._map(8, 2), self._map(1)
        steps.append(self._blacken(enter, 3, Fill(1, len(REACHES) + 1, 0)))
        steps.append(
            self._convolve(winograd_layer(spatial.enter.weight, spatial.enter.bias, 0.0), 1, 3, edges, Place(enter))
        )
        steps.append(self._filter(layout.POOL, len(REACHES) + 1, 3, Place(enter), Place(pooled), 8))
        constants = spatial.middle.weight.permute(2, 3, 1, 0), cast("Tensor", spatial.middle.bias)
        steps.append(self._filter(layout.MIX, len(REACHES), 4, Place(pooled), Place(mixed), 8, *constants))
        leave, bias = spatial.leave.weight, cast("Tensor", spatial.leave.bias)
        constants = (leave[:, 1] - leave[:, 0]).permute(1, 2, 0), (bias[1] - bias[0])[None]
        steps.append(self._filter(layout.DECIDE, 2, 5, Place(mixed), Place(mask), 1, *constants))
        self.settled.append(Settled(mask, 2))
        self.lasting.add(mask)
        self.masks.append(mask)
        return mask

    def _body(self, branch: FoldedBranch, steps: list[Step], edges: Place, mask: int) -> None:
        body = branch.body
        assert body is not None
        layers = [cast("FoldedLayer", layer) for layer in body.layers]
        widths = [len(cast("Tensor", layer.always)) for layer in layers]
        padded_widths = [-(-width // SIMD_WIDTH) * SIMD_WIDTH for width in widths]
        total = sum(padded_widths)
        into, at = edges, 0
        made = self._map(total)
        steps.append(self._blacken(made, 5, Fill(2, 5, 1)))
        for number, (layer, padded_width) in enumerate(zip(layers, padded_widths, strict=True)):
            marked, plain = (self._layer(spec) for spec in masked_layer(layer))
            to = Place(made, at)
            steps.append(
                Step(layout.MASKED, 2 + number, 5 + number, *into, *to, marked, plain, layout.MASK, mask, 0, -1)
            )
            into, at = to, at + padded_width
        collected = self._map(self.width)
        collect = np.zeros((1, total, self.width))
        weights = body.collect.weight.detach().double().numpy()[:, :, 0, 0].T
        begins = np.cumsum([0, *padded_widths[:-1]])
        places = [start + np.arange(width) for start, width in zip(begins, widths, strict=True)]
        collect[0, np.concatenate(places)] = weights
        constants = np.zeros((3, self.width))
        constants[0], constants[1] = cast("Tensor", body.collect.bias).detach().double().numpy(), 1.0
        spec = Spec(collect, constants, 0, self.width)
        collecting = self._convolve(spec, 5, 4 + len(layers), Place(made), Place(collected))
        steps.append(collecting._replace(total=self.width * len(self.collected)))
        self.collected.append(collected)

    def _trunk(self) -> list[Step]:
        steps: list[Step] = []
        refinement = cast("GlobalRefinement", self.network.refinement)
        scale, shift, (first, _, last) = refinement.scale, refinement.shift, self.network.decoder
        scaling, shifting, decoded = (
            self._map(-(-cast("nn.Conv2d", layer).out_channels // SIMD_WIDTH) * SIMD_WIDTH)
            for layer in (scale[0], shift[0], first)
        )
        self.fused = fused = self._map(1)

        def convolve(
            layer: nn.Module, slope: float, tiles: int, lag: int, source: Place, target: Place, add: Place | None = None
        ) -> None:
            spec = winograd_layer(cast("Tensor", layer.weight), cast("Tensor", layer.bias), slope)
            steps.append(self._convolve(spec, tiles, lag, source, target, add))

        steps.append(self._blacken(self.joined, 0, Fill(1, 6, 1)))
        steps.append(self._blacken(scaling, 0, Fill(1, 1, 1)))
        for branch, channel in ((1, 0), (0, self.width)):
            gates, edges, collected = self.width * branch, self.edges[branch], Place(self.collected[branch])
            joined = Place(self.joined, channel)
            steps.append(Step(layout.BLEND, 5, 0, *collected, *joined, gates, 0, self.width, *edges, -1))
        # Behind the partner's edges, whose channels fill whole blocks; the network has them before.
        merged = Place(self.late, self.width)
        convolve(scale[0], 0.1, 1, 0, self.edges[0], Place(scaling))
        convolve(scale[2], 1.0, 1, 1, Place(scaling), Place(self.joined, 2 * self.width))
        steps.append(self._blacken(self.late, 2, Fill(6, 7, 1)))
        convolve(shift[0], 0.1, 6, 2, self.edges[0], Place(shifting))
        convolve(shift[2], 1.0, 6, 2, Place(shifting), merged)
        convolve(refinement.merge, 0.01, 6, 2, Place(self.joined), merged, merged)
        kernels = cast("Tensor", first.weight).roll(self.width, 1)
        spec = winograd_layer(kernels, cast("Tensor", first.bias), 0.2)
        steps.append(self._blacken(decoded, 3, Fill(7, 8, 1)))
        steps.append(self._convolve(spec, 7, 3, Place(self.late), Place(decoded)))
        narrow, bias = cast("Tensor", last.weight)[0].permute(1, 2, 0), cast("Tensor", last.bias)
        narrow = functional.pad(narrow, (0, -narrow.shape[2] % SIMD_WIDTH))
        steps.append(self._filter(layout.NARROW, 8, 4, Place(decoded), Place(fused), narrow.shape[2], narrow, bias))
        return steps

    def _rows_read(self, number: int) -> int:
        """How many rows of tiles of a map steps need at the same time."""
        steps = np.concatenate([*self.before, self.after])
        reads = (steps["source"] == number) | (steps["other"] == number)
        writes = steps["target"] == number
        return int(steps["lag"][reads].max() - steps["lag"][writes].min()) + 2

    def maps(self, height: int, width: int, *, whole: bool = False, bands: int = 1) -> tuple[list[Any], int]:
        """The table of maps for pictures of a size, and how many elements they take.

        Of those that are not lasting a few rows are kept, unless all are asked for as ``whole``. Each of several bands
        of rows has a table, with arena of its own for those of the trunk.
        """
        found, at = [], self.gates
        for number, (channels, tile) in enumerate(self.channels):
            rows = -(-height // TILE)
            kept = rows if whole or number in self.lasting else min(rows, self._rows_read(number))
            across = -(-width // TILE) * tile + 2
            valid = [side if tile == TILE else -(-side // 2) for side in (height, width)]
            pixel, blocks = min(channels, CHANNEL_BLOCK), -(-channels // CHANNEL_BLOCK)
            block_size = -(-(kept * tile + 2) * across * pixel // CHANNEL_BLOCK) * CHANNEL_BLOCK
            found.append(Map(at, blocks, block_size, across * pixel, pixel, valid[0], valid[1], tile, kept))
            at += blocks * block_size
        tables = [table(Map, found)]
        own = {int(number) for number in self.after["target"]} - self.lasting
        for _ in range(1, bands):
            tables.append(tables[0].copy())
            for number in own:
                tables[-1][number]["at"] = at
                at += found[number].blocks * found[number].block_size
        return tables, at


def _attention(branch: FoldedBranch) -> list[NDArray[np.float64]]:
    assert branch.attention is not None
    layers = branch.attention.squeeze, branch.attention.excite
    return [
        values.detach().double().numpy()
        for layer in layers
        for values in (layer.weight[:, :, 0, 0], cast("Tensor", layer.bias))
    ]
