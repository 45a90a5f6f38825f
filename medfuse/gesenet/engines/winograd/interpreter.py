"""Run a network's layers on those tiles of its feature maps that are asked for, row by row of tiles.

3 × 3 kernels go by Winograd's F(4 × 4, 3 × 3), which needs a quarter of the multiplications; 1 × 1 kernels straight
from map to map. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv:1509.09308.

A network is a table of steps. A step follows the ones before it at a distance of some rows, so that what one layer
makes is used by the next while it is in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medfuse.gesenet.engines.winograd import layout, simd_gemm, simd_transforms
from medfuse.gesenet.engines.winograd.compile_cache import compiled, entry_point
from medfuse.gesenet.engines.winograd.convolution import MOST_TILES, convolve_tiles, tiles_together
from medfuse.gesenet.engines.winograd.layout import Floats, Integers, aligned_zeros, channel_offset, clear, tile_offset
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, HAS_AVX512, SIMD_WIDTH
from medfuse.gesenet.engines.winograd.simd_transforms import PATCH_STRIDE, POSITIONS, TILE
from medfuse.gesenet.engines.winograd.small_filters import copy_tile, filter_tiles

MOST_TOTALS = 32
"""Channels whose sums the channel attention asks for."""


def scratch_buffers(layers: Any) -> tuple[Any, Any]:
    """What the largest block of tiles needs before and after a product."""
    layers = layers[layers["positions"] == POSITIONS]
    blocks = max(-(-int(layer["depth"]) // CHANNEL_BLOCK) * int(tiles_together(layer)) for layer in layers)
    groups = max(-(-int(layer["columns"]) // CHANNEL_BLOCK) if layer["aside"] else 1 for layer in layers)
    elements = blocks * PATCH_STRIDE, groups * MOST_TILES * PATCH_STRIDE
    return aligned_zeros(elements[0], np.float32), aligned_zeros(elements[1], np.float32)


@entry_point
def run(tables: Any, tiles: Any, rows: tuple[int, int], buffers: Any, totals: Any, black: Any) -> None:
    """Take rows of tiles through all steps, and of each as many around them as the later ones need.

    Parameters
    ----------
    tables
        Those of `Step`, `Layer` and `Map`.
    tiles
        Columns of the tiles of each set, row by row; and where the rows begin, (sets, rows + 1).
    rows
        The first one, and the one behind the last.
    buffers
        All feature maps; kernels and constants of all layers; and the two `scratch_buffers`.
    totals
        float64, grows by the sums of channels that are asked for.
    black
        Maps and arena of the black picture, and the rows and columns of its tiles that stand for those here.
    """
    (steps, layers, maps), (columns, starts), (first, last) = tables, tiles, rows
    arena, _, constants, _, _ = buffers
    reach, end = 0, starts.shape[1] - 1
    for step in steps:
        reach = max(reach, step.lag)
    sums = np.zeros(MOST_TOTALS, np.float32)
    for position in range(max(first - reach, 0), last + reach):
        for step in steps:
            row, around = position - step.lag, reach - step.lag
            if not max(first - around, 0) <= row < min(last + around, end):
                continue
            here = columns[starts[step.tiles, row] : starts[step.tiles, row + 1]]
            if not len(here):
                continue
            source, target, other = maps[step.source], maps[step.target], maps[step.other]
            if step.kind in (layout.CONVOLVE, layout.MASKED):
                marked, unmarked = here, here[:0]
                if step.kind == layout.MASKED:
                    marked, unmarked = _split(row, here, other, arena)
                for turn in range(2):
                    some = unmarked if turn else marked
                    layer = layers[step.plain if turn else step.layer]
                    how = layout.PUT if turn else step.how
                    if len(some):
                        convolve(row, some, (layer, step, how, (source, target, other), buffers))
            elif step.kind == layout.BLACKEN:
                from_maps, from_arena, rows_there, columns_there = black
                for x in here:
                    there = from_maps[step.target]
                    copy_tile(row, x, target, arena, rows_there[row], columns_there[x], there, from_arena)
            else:
                filter_tiles(row, here, step, source, target, other, arena, constants)
            if step.total >= 0:
                _add_up(row, here, target, step.target_first, arena, sums)
                for c in range(target.blocks * target.pixel):
                    totals[step.total + c] += sums[c]


@compiled
def _add_up(y: int, columns: Integers, of: Any, first: int, arena: Floats, sums: Floats) -> None:
    """Sums of the channels over a row's tiles."""
    sums[:] = 0
    for x in columns:
        at = tile_offset(y, x, of, 0) + channel_offset(first, of)
        for c in range(0, of.blocks * of.pixel, SIMD_WIDTH):
            simd_transforms.total((arena, sums), (at + channel_offset(c, of), of.row, of.pixel, c))


@compiled
def _split(y: int, columns: Integers, mask: Any, arena: Floats) -> tuple[Integers, Integers]:
    """Which tiles hold a marked pixel, and which none."""
    marked, plain = np.empty_like(columns), np.empty_like(columns)
    many = 0
    for index, x in enumerate(columns):
        at = tile_offset(y, x, mask, 0)
        found = 0.0
        for i in range(TILE):
            for j in range(TILE):
                found += arena[at + i * mask.row + j]
        if found > 0:
            marked[many] = x
            many += 1
        else:
            plain[index - many] = x
    return marked[:many], plain[: len(columns) - many]


@compiled
def convolve(y: int, columns: Integers, work: Any) -> None:
    """Convolve tiles of one row.

    Work is a layer and the step that asks for it; how its results are put; forms, the maps of source, target and mask
    or residual; and buffers, as `run` has them.
    """
    layer, step, _, (_, target, _), (arena, _, _, _, _) = work
    if layer.positions == POSITIONS:
        convolve_tiles(y, columns, work)
    else:
        _convolve_pointwise(y, columns, work)
    for x in columns:
        for c in range(layer.columns - layer.aside, layer.filled, SIMD_WIDTH):
            to = tile_offset(y, x, target, 0) + channel_offset(step.target_first + c, target)
            for i in range(TILE):
                for j in range(TILE):
                    at = to + i * target.row + j * target.pixel
                    arena[at : at + SIMD_WIDTH] = 0
        clear(y, x, target, step.target_first, layer.filled, arena)


@compiled
def _convolve_pointwise(y: int, columns: Integers, work: Any) -> None:
    """1 × 1 kernels, straight from map to map."""
    layer, step, how, (source, target, other), (arena, _, constants, _, _) = work
    depth, width, first = layer.depth, layer.columns, step.source_first // SIMD_WIDTH
    for n in range(0, width, CHANNEL_BLOCK):
        bias, kernel = layer.constants + n, layer.kernels + n * depth
        second = min(n + SIMD_WIDTH, width - SIMD_WIDTH)  # a vector that is not there goes nowhere
        to, further = channel_offset(step.target_first + n, target), channel_offset(step.target_first + second, target)
        residual = channel_offset(step.other_first + n, other)
        next_to = channel_offset(step.other_first + second, other)
        for x in columns:
            begin, place = tile_offset(y, x, source, 0), tile_offset(y, x, target, 0)
            beside = tile_offset(y, x, other, 0)
            where = (
                begin, source.row, source.pixel, source.block_size, first, depth // SIMD_WIDTH,
                kernel, bias, bias + width, place + to, place + further, target.row, target.pixel,
            )  # fmt: skip
            added = (*where, beside + residual, beside + next_to, other.row, other.pixel)
            if n + SIMD_WIDTH < width:
                if HAS_AVX512 and further == to + SIMD_WIDTH and next_to == residual + SIMD_WIDTH:
                    if how == layout.ADD:
                        simd_gemm.add_pointwise_block((arena, constants), added)
                    else:
                        simd_gemm.pointwise_block((arena, constants), where)
                elif how == layout.ADD:
                    simd_gemm.add_pointwise((arena, constants), added)
                else:
                    simd_gemm.pointwise((arena, constants), where)
            elif how == layout.ADD:
                simd_gemm.add_pointwise_half((arena, constants), added)
            else:
                simd_gemm.pointwise_half((arena, constants), where)
