"""Run the steps that are no matrix products: small filters, pooling, the mask's decision, copies of tiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfuse.gesenet.engines.winograd import layout, simd_filters
from medfuse.gesenet.engines.winograd.compile_cache import compiled, entry_point
from medfuse.gesenet.engines.winograd.layout import Floats, Integers, channel_offset, clear, lines_around, tile_offset
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, HAS_AVX512, SIMD_WIDTH
from medfuse.gesenet.engines.winograd.simd_transforms import TILE


@compiled
def filter_tiles(
    y: int, columns: Integers, step: Any, source: Any, target: Any, other: Any, arena: Floats, constants: Floats
) -> None:
    """Steps without products of matrices, for tiles of one row; ``how`` counts the channels."""
    kernel, channels = step.layer, step.how
    # All at once: a block is a power of two.
    aligned = (channels | step.source_first | step.target_first | step.other_first) % CHANNEL_BLOCK == 0
    whole = aligned and step.kind != layout.NARROW
    at_once = CHANNEL_BLOCK if HAS_AVX512 and whole else SIMD_WIDTH
    above, below = lines_around(y, source)
    for x in columns:
        at, to = tile_offset(y, x, source, 1), tile_offset(y, x, target, 0)
        patch = at, source.row, above, below
        for c in range(0, channels, at_once):
            into = at + channel_offset(step.source_first + c, source)
            out = to + channel_offset(step.target_first + c, target)
            if step.kind == layout.WIDEN:
                widened = (at, source.row, kernel + c, channels, out, target.row, target.pixel)
                if HAS_AVX512 and whole:
                    simd_filters.widen_block((arena, constants, arena), widened)
                else:
                    simd_filters.widen((arena, constants, arena), widened)
            elif step.kind == layout.GRADIENT:
                inner = (into, source.row, above, below, source.pixel)
                places = (*inner, kernel + c, channels, out, target.row, target.pixel)
                if HAS_AVX512 and whole:
                    simd_filters.gradient_block((arena, constants, arena), places)
                else:
                    simd_filters.gradient((arena, constants, arena), places)
            elif step.kind == layout.BLEND:
                into += source.row + source.pixel
                beside = tile_offset(y, x, other, 0) + channel_offset(step.other_first + c, other)
                blended = (
                    into, source.row, source.pixel, beside, other.row, other.pixel, out, target.row, target.pixel,
                    kernel + c,
                )  # fmt: skip
                if HAS_AVX512 and whole:
                    simd_filters.blend_block((arena, arena), blended)
                else:
                    simd_filters.blend((arena, arena), blended)
            elif step.kind == layout.NARROW:
                narrowed = (into, source.row, above, below, source.pixel, kernel + c, channels, to, target.row)
                if c == 0:
                    _set(arena, to, target.row, constants[kernel + 9 * channels])
                simd_filters.narrow((arena, constants, arena), narrowed)
        if step.kind == layout.NARROW:
            continue  # what is behind the picture is nobody's
        if step.kind == layout.POOL:
            begin = tile_offset(y, x, source, 0)
            if TILE * (y + 1) <= source.height and TILE * (x + 1) <= source.width:
                simd_filters.pool((arena, arena), (begin, source.row, to, target.row))
            else:
                _pool(y, x, source, target, arena)
        elif step.kind == layout.MIX:
            simd_filters.mix((arena, constants, arena), (*patch, kernel, to, target.row))
        elif step.kind == layout.DECIDE:
            simd_filters.decide((arena, constants, arena), (*patch, kernel, to, target.row))
        clear(y, x, target, step.target_first, channels, arena)


@compiled
def _set(arena: Floats, at: int, row: int, value: float) -> None:
    for i in range(TILE):
        for j in range(TILE):
            arena[at + i * row + j] = value


@compiled
def _pool(y: int, x: int, source: Any, target: Any, arena: Floats) -> None:
    """Mean of each 2 × 2 pixels, of those that are in the picture: of a tile that its edge cuts."""
    at, to = tile_offset(y, x, source, 0), tile_offset(y, x, target, 0)
    for i in range(2):
        down = min(2, source.height - TILE * y - 2 * i)
        for j in range(2):
            across = min(2, source.width - TILE * x - 2 * j)
            share = 1 / max(down * across, 1)
            for c in range(SIMD_WIDTH):
                begin = at + 2 * i * source.row + 2 * j * source.pixel + c
                found = arena[begin] + arena[begin + source.pixel]
                found += arena[begin + source.row] + arena[begin + source.row + source.pixel]
                arena[to + i * target.row + j * target.pixel + c] = np.float32(found * share)


@entry_point
def tiles_near(mri: Floats, partner: Floats, reaches: Integers, rows: int, columns: int) -> Any:
    """Which tiles lie within each reach of what the (H, W) pictures show: (reaches, rows, columns) bool.

    Reaches are in pixels along the longer axis.
    """
    height, width = mri.shape
    shown = np.zeros((height + 1, width + 1), np.int32)  # how many pixels above and left of a place
    for y in range(height):
        many = 0
        for x in range(width):
            many += mri[y, x] != 0 or partner[y, x] != 0
            shown[y + 1, x + 1] = shown[y, x + 1] + many
    found = np.empty((len(reaches), rows, columns), np.bool_)
    for number, reach in enumerate(reaches):
        for y in range(rows):
            top, below = max(TILE * y - reach, 0), min(TILE * (y + 1) + reach, height)
            for x in range(columns):
                left, right = max(TILE * x - reach, 0), min(TILE * (x + 1) + reach, width)
                inside = shown[below, right] - shown[top, right] - shown[below, left] + shown[top, left]
                found[number, y, x] = inside > 0
    return found


@entry_point
def grown(tiles: Any, by: int) -> Any:
    """Those of (rows, columns) tiles that are marked, and so many around each, along both axes."""
    rows, columns = tiles.shape
    across = tiles.copy()
    for y in range(rows):
        for step in range(1, by + 1):
            for x in range(step, columns):
                across[y, x] |= tiles[y, x - step]
            for x in range(columns - step):
                across[y, x] |= tiles[y, x + step]
    found = across.copy()
    for y in range(rows):
        for line in range(max(y - by, 0), min(y + by + 1, rows)):
            for x in range(columns):
                found[y, x] |= across[line, x]
    return found


@entry_point
def listed(sets: Any) -> tuple[Integers, Integers]:
    """Columns of the marked tiles of (n, rows, columns) sets, row by row, and where rows begin: (n, rows + 1)."""
    many, rows, width = sets.shape
    columns, starts = np.empty(sets.sum(), np.int64), np.empty((many, rows + 1), np.int64)
    at = 0
    for number in range(many):
        for y in range(rows):
            starts[number, y] = at
            for x in range(width):
                if sets[number, y, x]:
                    columns[at] = x
                    at += 1
        starts[number, rows] = at
    return columns, starts


@entry_point
def copy_tiles(pairs: Integers, number: int, maps: Any, arena: Floats, from_maps: Any, from_arena: Floats) -> None:
    """Copy tiles of a map, (n, 4) place here and place in the other arena."""
    for y, x, from_y, from_x in pairs:
        copy_tile(y, x, maps[number], arena, from_y, from_x, from_maps[number], from_arena)


@compiled
def copy_tile(
    y: int, x: int, target: Any, arena: Floats, from_y: int, from_x: int, source: Any, from_arena: Floats
) -> None:
    """Copy a tile of all channels from another arena's map."""
    to, at = tile_offset(y, x, target, 0), tile_offset(from_y, from_x, source, 0)
    length = target.tile * target.pixel
    for p in range(target.blocks):
        for i in range(target.tile):
            begin, end = to + p * target.block_size + i * target.row, at + p * source.block_size + i * source.row
            for k in range(length):
                arena[begin + k] = from_arena[end + k]
