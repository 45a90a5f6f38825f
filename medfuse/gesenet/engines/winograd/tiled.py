"""Fuse pictures tile by tile: of each layer, only what the couple masks ask for, and nothing of settled air.

Where both sources are exactly 0 for further than the network reaches, every feature map has settled on the values that
black makes. They are taken from a small black picture, which goes through the network beside the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.engines.winograd.compile_cache import telling
from medfuse.gesenet.engines.winograd.compile_network import FUSED_TILES, GATED_TILES, REACHES, CompiledNetwork
from medfuse.gesenet.engines.winograd.interpreter import run, scratch_buffers
from medfuse.gesenet.engines.winograd.layout import aligned_zeros
from medfuse.gesenet.engines.winograd.pack_weights import pack
from medfuse.gesenet.engines.winograd.simd_transforms import TILE
from medfuse.gesenet.engines.winograd.small_filters import copy_tiles, grown, listed, tiles_near
from medfuse.runtime.progress import Progress

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

Pair = tuple[Floats, Floats, Floats]
"""An MRI and its partner, (H, W) each, and where their fused picture goes."""

SERIAL = 2**14
"""Numbers that torch works on by one thread."""

NO_TOTALS = np.zeros(1)
"""For steps of which nothing is added up."""

MOST_SIZES = 2
"""Sizes of pictures whose feature maps are kept; one that threads share counts as another."""


class Decided(NamedTuple):
    """What a pair of pictures decided: which tiles are near their content, and the maps of both spatial masks."""

    near: Bools
    masks: list[Floats]


class Workspace:
    """The feature maps of pictures of one size in one arena, and the run through them: one picture at a time.

    Parameters
    ----------
    network
        Its steps.
    packed
        Layers, kernels and constants; see `pack`.
    height, width
        Of the pictures.
    black
        Whether a small black picture goes beside; it has none of its own.
    whole
        Whether all rows of all maps are kept.
    bands
        How many threads share one picture's rows.
    """

    def __init__(
        self,
        network: CompiledNetwork,
        packed: tuple[Any, Any, Any],
        height: int,
        width: int,
        *,
        black: bool = True,
        whole: bool = False,
        bands: int = 1,
    ) -> None:
        self.network, self.size = network, (height, width)
        self.layers, self.kernels, self.constants = packed
        self.tables, elements = network.maps(height, width, whole=whole, bands=bands)
        self.maps = self.tables[0]
        self.arena = aligned_zeros(elements, np.float32)
        self.grid = -(-height // TILE), -(-width // TILE)
        self.scratch: list[tuple[Any, Any]] = []
        """`scratch_buffers`, of each thread that has run: fresh memory costs more than what is done in it."""
        self.select_tiles(np.ones((len(REACHES), *self.grid), np.bool_))
        self.black: Workspace | None = None
        self.places = [np.arange(side) for side in self.grid]
        if black:
            self.black = Workspace(network, packed, _small(height), _small(width), black=False, whole=True)
            self.black.run_steps(network.before, np.zeros((2, network.gates)))
            self.black_sums = self.black.sums_of_tiles()
            self.settled = {each.map: np.zeros(self.grid, bool) for each in network.settled}
            """Which tiles of a map hold what black makes of them since an earlier picture."""
            self.places = [_stand_ins(*sides) for sides in zip(self.grid, self.black.grid, strict=True)]
            self.stood_for = [
                np.eye(each, dtype=int)[at] for each, at in zip(self.black.grid, self.places, strict=True)
            ]
            """(rows or columns, those of the black picture): 1 where one stands for the other; as integers, whose
            products wake no threads."""

    def fuse(
        self, mri: Floats, partner: Floats, workers: ThreadPoolExecutor | None = None, decided: Decided | None = None
    ) -> Floats:
        """Fuse two (H, W) pictures; what comes back has still to go through the last tanh, and is overwritten next.

        What other pictures ``decided`` is held: what these show must lie where those showed something.
        """
        assert self.black is not None
        for number, side in zip(self.network.sources, (mri, partner), strict=True):
            self.view(number)[:] = side
        self.near = tiles_near(mri, partner, np.array(REACHES), *self.grid) if decided is None else decided.near
        self.select_tiles(self.near)
        self._settle()
        totals = np.zeros((2, self.network.gates))
        if decided is None:
            self.run_steps(self.network.before, totals, workers)
        else:
            for number, values in zip(self.network.masks, decided.masks, strict=True):
                self._values(number)[:] = values
            self.run_steps(self.network.before_held, totals, workers)
        rows, columns = self.stood_for
        unseen = rows.T @ ~self.sets[GATED_TILES] @ columns  # how many tiles each of the black picture's stands for
        sums = totals.sum(0) + np.tensordot(unseen, self.black_sums, 2)
        self.arena[: self.network.gates] = self.black.arena[: self.network.gates] = self._gates(sums)
        self.black.finish()
        self.finish(workers)
        self._copy(~self.sets[FUSED_TILES], self.network.fused)
        return self.view(self.network.fused)

    def decided(self) -> Decided:
        """What the pictures fused last decided."""
        return Decided(self.near, [self._values(number).copy() for number in self.network.masks])

    def run_steps(
        self, parts: Iterable[Any], totals: NDArray[np.float64], workers: ThreadPoolExecutor | None = None
    ) -> None:
        """Run parts of the network, each with its own totals, one after the other or at the same time."""
        call: Callable[..., Iterable[None]] = workers.map if workers else map
        for _ in call(partial(self._run, self.maps, 0, self.grid[0]), parts, totals):
            pass

    def finish(self, workers: ThreadPoolExecutor | None = None) -> None:
        """Run what comes behind the channel attention, with as many workers as there are bands of rows."""
        if workers is None:
            self._run(self.maps, 0, self.grid[0], self.network.after, NO_TOTALS)
            return
        above, bands = self.starts[GATED_TILES], len(self.tables)  # tiles above each row, and those of the sets before
        shares = np.linspace(above[0], above[-1], bands + 1)[1:-1]
        ends = [0, *np.searchsorted(above, shares), self.grid[0]]
        for steps in self.network.after_parts:
            work = partial(self._run, steps=steps, totals=NO_TOTALS)
            for _ in workers.map(work, self.tables, ends[:-1], ends[1:]):
                pass

    def _run(self, maps: Any, first: int, last: int, steps: Any, totals: NDArray[np.float64]) -> None:
        if first == last:
            return
        try:
            scratch = self.scratch.pop()
        except IndexError:
            scratch = scratch_buffers(self.layers)
        there = self.black or self
        tables, tiles = (steps, self.layers, maps), (self.columns, self.starts)
        buffers = self.arena, self.kernels, self.constants, *scratch
        run(tables, tiles, (first, last), buffers, totals, (there.maps, there.arena, *self.places))
        self.scratch.append(scratch)

    def _values(self, number: int) -> Floats:
        """All of a map that is kept whole; shares memory."""
        form = self.maps[number]
        values: Floats = self.arena[form["at"] :][: form["blocks"] * form["block_size"]]
        return values

    def view(self, number: int) -> Floats:
        """A map of one channel, (H, W); shares memory."""
        rows, columns = (TILE * side + 2 for side in self.grid)
        values: Floats = self.arena[self.maps[number]["at"] :][: rows * columns].reshape(rows, columns)
        return values[1 : self.size[0] + 1, 1 : self.size[1] + 1]

    def select_tiles(self, near: Bools) -> None:
        """Set which tiles each step is for, by which tiles are within each of `REACHES` of the sources' content."""
        sets = list(near)
        sets += [grown(sets[2], more) for more in (1, 2)]
        sets += [grown(sets[each.needed], each.around) & ~sets[each.made] for each in self.network.fills]
        self.sets: list[Bools] = sets
        self.columns, self.starts = listed(np.stack(sets))

    def _settle(self) -> None:
        """Put what black becomes where the last picture was, and this one is not."""
        for each in self.network.settled:
            outside = ~self.sets[each.made]
            self._copy(outside & ~self.settled[each.map], each.map)
            self.settled[each.map] = outside

    def _copy(self, wanted: Bools, number: int) -> None:
        assert self.black is not None
        y, x = wanted.nonzero()
        if len(y):
            pairs = np.stack((y, x, self.places[0][y], self.places[1][x]), axis=1)
            copy_tiles(pairs, number, self.maps, self.arena, self.black.maps, self.black.arena)

    def sums_of_tiles(self) -> NDArray[np.float64]:
        """Sums of the channels that the attention looks at, tile by tile: (rows, columns, channels)."""
        found = []
        rows, columns = self.grid
        for number in self.network.collected:
            form = self.maps[number]
            for block in range(form["blocks"]):
                values = self.arena[form["at"] + block * form["block_size"] :][: (rows * TILE + 2) * form["row"]]
                values = values.reshape(rows * TILE + 2, columns * TILE + 2, -1)[1:-1, 1:-1]
                found.append(values.reshape(rows, TILE, columns, TILE, -1).sum((1, 3), dtype=np.float64))
        return np.concatenate(found, axis=2)

    def _gates(self, sums: NDArray[np.float64]) -> Floats:
        """What the attention makes of the sums: the gates of both branches, one behind the other."""
        gates = []
        for means, branch in zip(np.split(sums / np.prod(self.size), 2), self.network.attention, strict=True):
            squeeze, squeeze_bias, excite, excite_bias = branch
            hidden = np.maximum(squeeze @ means + squeeze_bias, 0)
            gates.append(expit(excite @ hidden + excite_bias))
        return np.concatenate(gates).astype(np.float32)


class Tiled:
    """Pictures fused tile by tile, on as many threads as torch uses.

    Parameters
    ----------
    network
        With all its `Parts`, on the CPU.
    """

    def __init__(self, network: FoldedGeSeNet) -> None:
        self.network = CompiledNetwork(network)
        self.packed = pack(self.network.specs, self.network.small)
        self._idle: dict[tuple[int, int, int], SimpleQueue[Workspace]] = {}

    def compile(self, progress: Progress | None = None) -> None:
        """Have all compiled that any picture needs, on any number of threads, and tell of it; see `telling`."""
        black = np.zeros((32, 32), np.float32)
        with telling(progress):
            Workspace(self.network, self.packed, *black.shape).fuse(black, black)

    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        """Fuse (N, 1, H, W) pictures on the CPU."""
        return self._fused(mri, partner, self._fuse)

    def hold(self, mri: Tensor, partner: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Fuse pictures, and return besides what fuses others under the masks of these, and in their tiles.

        Others are of their size, and 0 wherever these are 0.
        """
        decided: list[Decided | None] = [None] * len(mri)

        def deciding(k: int, pair: Pair, workers: ThreadPoolExecutor | None = None) -> None:
            decided[k] = self._fuse(k, pair, workers, keep=True)

        def holding(k: int, pair: Pair, workers: ThreadPoolExecutor | None = None) -> None:
            self._fuse(k, pair, workers, decided[k])

        return self._fused(mri, partner, deciding), lambda mri, partner: self._fused(mri, partner, holding)

    @torch.no_grad()
    def _fused(self, mri: Tensor, partner: Tensor, fuse: Callable[..., object]) -> Tensor:
        """Call ``fuse`` with the number of each pair, the pair, and threads that share it where pairs are few."""
        threads = torch.get_num_threads()
        fused = torch.empty(mri.shape, dtype=torch.float32)
        # Arrays of another layout would be compiled for anew.
        mri, partner = mri.contiguous(), partner.contiguous()
        pairs = [(mri[k, 0].numpy(), partner[k, 0].numpy(), fused[k, 0].numpy()) for k in range(len(mri))]
        if threads == 1:
            for k, pair in enumerate(pairs):
                fuse(k, pair)
        else:
            with ThreadPoolExecutor(threads) as workers:
                if len(pairs) >= threads:
                    list(workers.map(fuse, range(len(pairs)), pairs))
                else:
                    for k, pair in enumerate(pairs):
                        fuse(k, pair, workers)
        return fused

    def _fuse(
        self,
        _: int,
        pair: Pair,
        workers: ThreadPoolExecutor | None = None,
        decided: Decided | None = None,
        *,
        keep: bool = False,
    ) -> Decided | None:
        """Fuse one pair in place, under what others ``decided``; returns what it decided itself, if that is kept."""
        mri, partner, fused = pair
        kind = (*mri.shape, torch.get_num_threads() if workers else 1)
        workspace = self._workspace(*kind)
        fused[:] = workspace.fuse(mri, partner, workers, decided)
        kept = workspace.decided() if keep else None
        # The last tanh, halved. In parts so small that torch wakes no threads of its own, which would wait in the way
        # of the next picture's; and not by MKL's tanh, which wakes them for any size.
        for part in torch.split(torch.from_numpy(fused).view(-1), SERIAL):
            part.mul_(2).sigmoid_()
        # Another call may have let go of this size meanwhile.
        self._idle.setdefault(kind, SimpleQueue()).put(workspace)
        return kept

    def _workspace(self, height: int, width: int, bands: int) -> Workspace:
        """Feature maps that are not in use; those of sizes met long ago are let go."""
        size = height, width, bands
        for old in list(self._idle)[: -MOST_SIZES if size in self._idle else 1 - MOST_SIZES]:
            self._idle.pop(old, None)
        idle = self._idle.setdefault(size, SimpleQueue())
        try:
            return idle.get_nowait()
        except Empty:
            return Workspace(self.network, self.packed, height, width, bands=bands)


def _small(side: int) -> int:
    """The side of a black picture that stands for a larger one: its edges, as far as the network reaches; a tile."""
    return side if side < 10 * TILE else 9 * TILE + side % TILE


def _stand_ins(whole: int, small: int) -> NDArray[np.int64]:
    """For each tile along an axis, that of the small black picture which stands for it."""
    places = np.arange(whole)
    from_end = whole - 1 - places
    middle = REACHES[-1] // TILE + 1
    behind = small - middle - 1
    return places if whole == small else np.where(from_end < behind, small - 1 - from_end, np.minimum(places, middle))
