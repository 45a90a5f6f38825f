"""Convolve tiles by Winograd's F(4 × 4, 3 × 3): transform the input, multiply by the kernels, transform the output.

Where a vector holds a block of channels (AVX-512), half blocks go two tiles at once.
"""

from __future__ import annotations

from typing import Any

from medfuse.gesenet.engines.winograd import simd_gemm, simd_transforms
from medfuse.gesenet.engines.winograd.compile_cache import compiled, compiled_inline, entry_point
from medfuse.gesenet.engines.winograd.layout import ADD, MASK, PUT, Integers, channel_offset, lines_around, tile_offset
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, HAS_AVX512, SIMD_WIDTH
from medfuse.gesenet.engines.winograd.simd_gemm import ROWS
from medfuse.gesenet.engines.winograd.simd_transforms import PATCH_STRIDE, POSITIONS

BLOCK_BYTES, FLOAT_BYTES, MOST_TILES = 230_000, 4, 8 * ROWS
"""As many tiles are transformed together as stay, transformed, in the second cache; and no more than fill a row."""

HALF, WHOLE, UPPER, PAIR = range(4)
"""What is made at once: half a block of a tile, a whole one, its upper half of both; half a block of two tiles."""


@entry_point
def tiles_together(layer: Any) -> Any:
    """How many tiles are transformed together."""
    fitting = BLOCK_BYTES // (POSITIONS * layer.depth * FLOAT_BYTES) // ROWS * ROWS
    return min(max(fitting, ROWS), MOST_TILES)


@compiled
def convolve_tiles(y: int, columns: Integers, work: Any) -> None:
    """Convolve tiles of one row, so many at once as fit the cache.

    Work is what `interpreter.convolve` says of it: layer, step, how, forms and buffers.
    """
    layer = work[0]
    block = tiles_together(layer)
    stride = block * PATCH_STRIDE
    for start in range(0, len(columns), block):
        here = columns[start : start + block]
        transform_input(y, here, work, stride)
        for n in range(0, layer.columns, CHANNEL_BLOCK):
            group = n // CHANNEL_BLOCK * stride if layer.aside else 0
            gemm(len(here), n, work, stride, group)
            transform_output(y, here, n, work, stride, group)


@compiled
def transform_input(y: int, here: Integers, work: Any, stride: int) -> None:
    """Transform the patches around tiles, block by block of channels, which lie a stride apart."""
    layer, step, _, (source, _, _), (arena, _, _, inputs, _) = work
    above, below = lines_around(y, source)
    for c in range(0, layer.depth, CHANNEL_BLOCK):
        first, last = step.source_first + c, min(c + CHANNEL_BLOCK, layer.depth)
        whole = last - c == CHANNEL_BLOCK and first % CHANNEL_BLOCK == 0
        for t, x in enumerate(here):
            at, to = tile_offset(y, x, source, 1), c // CHANNEL_BLOCK * stride + t * PATCH_STRIDE
            for channel in range(c, last, CHANNEL_BLOCK if HAS_AVX512 and whole else SIMD_WIDTH):
                patch = at + channel_offset(step.source_first + channel, source)
                places = (patch, source.row, above, below, source.pixel, to + channel - c)
                if HAS_AVX512 and whole:
                    simd_transforms.transform_input_block((arena, inputs), places)
                else:
                    simd_transforms.transform_input((arena, inputs), places)


@compiled
def gemm(tiles: int, n: int, work: Any, stride: int, group: int) -> None:
    """Multiply transformed tiles by the kernels of a block of columns, n and behind, position by position."""
    layer, _, _, _, (_, kernels, _, inputs, sums) = work
    narrow = n + SIMD_WIDTH >= layer.columns
    for p in range(layer.positions):
        kernel = layer.kernels + p * layer.step + n * layer.depth
        t = 0
        while t < tiles:
            # Of half a block, two tiles' sums lie side by side.
            at = t * PATCH_STRIDE + p * CHANNEL_BLOCK
            to = group + (t // 2 if narrow else t) * PATCH_STRIDE + p * CHANNEL_BLOCK
            product = (at, stride, kernel, layer.depth // SIMD_WIDTH, to)
            more = tiles - t > ROWS
            if narrow:
                if more:
                    simd_gemm.gemm_half_tall((inputs, kernels, sums), product)
                else:
                    simd_gemm.gemm_half((inputs, kernels, sums), product)
            elif HAS_AVX512:
                if more:
                    simd_gemm.gemm_block_tall((inputs, kernels, sums), product)
                else:
                    simd_gemm.gemm_block((inputs, kernels, sums), product)
            else:
                more = False
                simd_gemm.gemm_block((inputs, kernels, sums), product)
            t += 2 * ROWS if more else ROWS


@compiled
def transform_output(y: int, here: Integers, n: int, work: Any, stride: int, group: int) -> None:
    """Make tiles' pixels of the sums of a block of columns, n and behind."""
    layer, step, how, _, _ = work
    first, last = max(n, layer.aside), min(n + CHANNEL_BLOCK, layer.columns)
    narrow = last - n == SIMD_WIDTH
    c = first - layer.aside
    # Not where other sums come to these, but from the same block.
    alone = first == n and (layer.aside == 0 or c >= layer.aside)
    straight = (step.target_first + c) % CHANNEL_BLOCK == 0
    straight = straight and (how != ADD or (step.other_first + c) % CHANNEL_BLOCK == 0)
    at_once = HALF
    if HAS_AVX512:
        if alone and narrow:
            at_once = PAIR
        elif alone and straight:
            at_once = WHOLE
        elif n == 0 and layer.aside == SIMD_WIDTH and layer.columns == CHANNEL_BLOCK:
            at_once = UPPER
    tiles = 2 if at_once == PAIR else 1
    for column in range(first, last, CHANNEL_BLOCK if at_once == WHOLE else SIMD_WIDTH):
        for t in range(0, len(here), tiles):
            other = min(t + 1, len(here) - 1)
            alike = HALF if at_once == PAIR and other == t else at_once
            at = group + (t // 2 * PATCH_STRIDE + t % 2 * SIMD_WIDTH if narrow else t * PATCH_STRIDE)
            if at_once != UPPER:
                at += column - n
            c = column - layer.aside
            beside = t * PATCH_STRIDE + c // CHANNEL_BLOCK * stride + c % CHANNEL_BLOCK
            write_tile((y, here[t], here[other]), (column, alike, at, beside), work)


@compiled_inline
def write_tile(tiles: Any, products: Any, work: Any) -> None:
    """Make the pixels of one tile, or of two, of the sums of a vector of columns.

    Tiles are given by their row and both columns; products by their first column, what is made at once, where they
    begin, and where those of the same tile do that another group of columns left.
    """
    y, x, x_other = tiles
    n, at_once, at, aside = products
    layer, step, how, (_, target, other), (arena, _, constants, _, sums) = work
    width, c = layer.columns, n - layer.aside
    to = channel_offset(step.target_first + c, target)
    beside = channel_offset(step.other_first + c, other) if how == ADD else 0
    bias = layer.constants + n
    where = (
        at, bias, bias + width,
        tile_offset(y, x, target, 0) + to, target.row, target.pixel, tile_offset(y, x_other, target, 0) + to,
    )  # fmt: skip
    first, second = tile_offset(y, x, other, 0) + beside, tile_offset(y, x_other, other, 0) + beside
    added = (*where, first, other.row, other.pixel, second)
    masked = (*where, first, other.row, bias + 2 * width, second)
    into, more = (sums, constants, arena), (sums, constants, arena, arena)
    if HAS_AVX512 and at_once != HALF:
        if at_once == UPPER:
            simd_transforms.mask_output_upper(more, masked)
        elif how == PUT:
            if at_once == PAIR:
                simd_transforms.store_output_pair(into, where)
            else:
                simd_transforms.store_output_block(into, where)
        elif how == ADD:
            if at_once == PAIR:
                simd_transforms.add_output_pair(more, added)
            else:
                simd_transforms.add_output_block(more, added)
        elif at_once == PAIR:
            simd_transforms.mask_output_pair(more, masked)
        else:
            simd_transforms.mask_output_block(more, masked)
    elif how == PUT:
        simd_transforms.store_output(into, where)
    elif how == ADD:
        simd_transforms.add_output(more, added)
    elif how == MASK and c < layer.aside:
        # The same tile's sums of an earlier column: one of the groups of columns before.
        simd_transforms.mask_output_beside(more, (*masked, aside))
    else:
        simd_transforms.mask_output(more, masked)
