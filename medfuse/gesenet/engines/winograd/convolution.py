"""3 × 3 kernels by Winograd's F(4 × 4, 3 × 3): patches transformed, multiplied, and made into tiles.

Where vectors hold a plane of channels (AVX-512), half planes go two tiles at once.
"""

from __future__ import annotations

from typing import Any

from medfuse.gesenet.engines.winograd import simd_gemm, simd_transforms
from medfuse.gesenet.engines.winograd.compile_cache import compiled, compiled_inline, entry_point
from medfuse.gesenet.engines.winograd.layout import (
    ADD,
    MASK,
    PUT,
    Integers,
    channel_of,
    lines_around,
    place_of,
)
from medfuse.gesenet.engines.winograd.simd import LANES, PLANE, WIDE
from medfuse.gesenet.engines.winograd.simd_gemm import ROWS
from medfuse.gesenet.engines.winograd.simd_transforms import POSITIONS, ROOM

BLOCK_BYTES, FLOAT_BYTES, MOST_TILES = 230_000, 4, 8 * ROWS
"""As many tiles are transformed together as stay, transformed, in the second cache; and no more than fill a row."""

HALF, WHOLE, UPPER, PAIR = range(4)
"""What is made at once: half a plane of a tile, a whole one, its upper half of both; half a plane of two tiles."""


@entry_point
def tiles_together(layer: Any) -> Any:
    """How many tiles are transformed together."""
    fitting = BLOCK_BYTES // (POSITIONS * layer.depth * FLOAT_BYTES) // ROWS * ROWS
    return min(max(fitting, ROWS), MOST_TILES)


@compiled
def convolve_tiles(y: int, columns: Integers, work: Any) -> None:
    """Convolve tiles of one row, so many at once as fit the cache.

    Work is what `convolving.convolve` says of it: layer, step, how, forms and stores.
    """
    layer = work[0]
    block = tiles_together(layer)
    plane = block * ROOM
    for start in range(0, len(columns), block):
        here = columns[start : start + block]
        _take(y, here, work, plane)
        for n in range(0, layer.columns, PLANE):
            group = n // PLANE * plane if layer.aside else 0
            _multiply(len(here), n, work, plane, group)
            _make(y, here, n, work, plane, group)


@compiled
def _take(y: int, here: Integers, work: Any, plane: int) -> None:
    layer, step, _, (source, _, _), (room, _, _, taken, _) = work
    above, below = lines_around(y, source)
    for c in range(0, layer.depth, PLANE):
        first, last = step.source_first + c, min(c + PLANE, layer.depth)
        whole = last - c == PLANE and first % PLANE == 0
        for t, x in enumerate(here):
            at, to = place_of(y, x, source, 1), c // PLANE * plane + t * ROOM
            for channel in range(c, last, PLANE if WIDE and whole else LANES):
                places = (
                    at + channel_of(step.source_first + channel, source),
                    source.row,
                    above,
                    below,
                    source.pixel,
                    to + channel - c,
                )
                if WIDE and whole:
                    simd_transforms.take_patch_of_plane((room, taken), places)
                else:
                    simd_transforms.take_patch((room, taken), places)


@compiled
def _multiply(tiles: int, n: int, work: Any, plane: int, group: int) -> None:
    layer, _, _, _, (_, kernels, _, taken, made) = work
    narrow = n + LANES >= layer.columns
    for p in range(layer.positions):
        kernel = layer.kernels + p * layer.step + n * layer.depth
        t = 0
        while t < tiles:
            # Of half a plane, two tiles' sums lie side by side.
            at, to = t * ROOM + p * PLANE, group + (t // 2 if narrow else t) * ROOM + p * PLANE
            product = (at, plane, kernel, layer.depth // LANES, to)
            more = tiles - t > ROWS
            if narrow:
                if more:
                    simd_gemm.multiply_more_narrow((taken, kernels, made), product)
                else:
                    simd_gemm.multiply_narrow((taken, kernels, made), product)
            elif WIDE:
                if more:
                    simd_gemm.multiply_more((taken, kernels, made), product)
                else:
                    simd_gemm.multiply((taken, kernels, made), product)
            else:
                more = False
                simd_gemm.multiply((taken, kernels, made), product)
            t += 2 * ROWS if more else ROWS


@compiled
def _make(y: int, here: Integers, n: int, work: Any, plane: int, group: int) -> None:
    """Make tiles' pixels of the sums of a plane of columns, n and behind."""
    layer, step, how, _, _ = work
    first, last = max(n, layer.aside), min(n + PLANE, layer.columns)
    narrow = last - n == LANES
    c = first - layer.aside
    # Not where other sums come to these, but from the same plane.
    alone = first == n and (layer.aside == 0 or c >= layer.aside)
    straight = (step.target_first + c) % PLANE == 0 and (how != ADD or (step.other_first + c) % PLANE == 0)
    at_once = HALF
    if WIDE:
        if alone and narrow:
            at_once = PAIR
        elif alone and straight:
            at_once = WHOLE
        elif n == 0 and layer.aside == LANES and layer.columns == PLANE:
            at_once = UPPER
    tiles = 2 if at_once == PAIR else 1
    for column in range(first, last, PLANE if at_once == WHOLE else LANES):
        for t in range(0, len(here), tiles):
            other = min(t + 1, len(here) - 1)
            alike = HALF if at_once == PAIR and other == t else at_once
            at = group + (t // 2 * ROOM + t % 2 * LANES if narrow else t * ROOM)
            if at_once != UPPER:
                at += column - n
            c = column - layer.aside
            beside = t * ROOM + c // PLANE * plane + c % PLANE
            _put((y, here[t], here[other]), (column, alike, at, beside), work)


@compiled_inline
def _put(tiles: Any, sums: Any, work: Any) -> None:
    """Make the pixels of one tile, or of two, of the sums of a vector of columns.

    Tiles are given by their row and both columns; sums by their first column, what is made at once, where they begin,
    and where those of the same tile do that another group of columns left.
    """
    y, x, x_other = tiles
    n, at_once, at, aside = sums
    layer, step, how, (_, target, other), (room, _, constants, _, made) = work
    width, c = layer.columns, n - layer.aside
    to = channel_of(step.target_first + c, target)
    beside = channel_of(step.other_first + c, other) if how == ADD else 0
    bias = layer.constants + n
    where = (
        at, bias, bias + width,
        place_of(y, x, target, 0) + to, target.row, target.pixel, place_of(y, x_other, target, 0) + to,
    )  # fmt: skip
    first, second = place_of(y, x, other, 0) + beside, place_of(y, x_other, other, 0) + beside
    added = (*where, first, other.row, other.pixel, second)
    masked = (*where, first, other.row, bias + 2 * width, second)
    into, more = (made, constants, room), (made, constants, room, room)
    if WIDE and at_once != HALF:
        if at_once == UPPER:
            simd_transforms.mask_upper_half(more, masked)
        elif how == PUT:
            if at_once == PAIR:
                simd_transforms.put_patches(into, where)
            else:
                simd_transforms.put_patch_of_plane(into, where)
        elif how == ADD:
            if at_once == PAIR:
                simd_transforms.add_patches(more, added)
            else:
                simd_transforms.add_patch_of_plane(more, added)
        elif at_once == PAIR:
            simd_transforms.mask_patches(more, masked)
        else:
            simd_transforms.mask_patch_of_plane(more, masked)
    elif how == PUT:
        simd_transforms.put_patch(into, where)
    elif how == ADD:
        simd_transforms.add_patch(more, added)
    elif how == MASK and c < layer.aside:
        # The same tile's sums of an earlier column: one of the groups of columns before.
        simd_transforms.mask_patch_beside(more, (*masked, aside))
    else:
        simd_transforms.mask_patch(more, masked)
