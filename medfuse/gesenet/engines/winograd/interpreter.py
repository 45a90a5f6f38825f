"""Run a network's layers on those tiles of its feature maps that are asked for, row by row of tiles.

3 × 3 kernels go by Winograd's F(4 × 4, 3 × 3), which needs a quarter of the multiplications; 1 × 1 kernels straight
from map to map. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv:1509.09308.

A network is a table of steps. A step follows the ones before it at a distance of some rows, so that what one layer
makes is used by the next while it is in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medfuse.gesenet.engines.winograd import simd_gemm, simd_transforms
from medfuse.gesenet.engines.winograd.compile_cache import compiled, entry_point
from medfuse.gesenet.engines.winograd.convolution import MOST_TILES, convolve_tiles, tiles_together
from medfuse.gesenet.engines.winograd.layout import (
    ADD,
    BLACKEN,
    CONVOLVE,
    MASKED,
    PUT,
    Floats,
    Integers,
    channel_of,
    clear,
    place_of,
    zeros,
)
from medfuse.gesenet.engines.winograd.simd import LANES, PLANE, WIDE
from medfuse.gesenet.engines.winograd.simd_transforms import POSITIONS, ROOM, TILE
from medfuse.gesenet.engines.winograd.small_filters import copy_tile, filter_tiles

MOST_TOTALS = 32
"""Channels whose sums the channel attention asks for."""


def working_room(layers: Any) -> tuple[Any, Any]:
    """What the largest block of tiles needs before and after a product."""
    layers = layers[layers["positions"] == POSITIONS]
    planes = max(-(-int(layer["depth"]) // PLANE) * int(tiles_together(layer)) for layer in layers)
    groups = max(-(-int(layer["columns"]) // PLANE) if layer["aside"] else 1 for layer in layers)
    return zeros(planes * ROOM, np.float32), zeros(groups * MOST_TILES * ROOM, np.float32)


@entry_point
def run(program: Any, tiles: Any, rows: tuple[int, int], stores: Any, totals: Any, black: Any) -> None:
    """Take rows of tiles through all steps, and of each as many around them as the later ones need.

    Parameters
    ----------
    program
        Tables of `Step`, `Layer` and `Map`.
    tiles
        Columns of the tiles of each set, row by row; and where the rows begin, (sets, rows + 1).
    rows
        The first one, and the one behind the last.
    stores
        All feature maps; kernels and constants of all layers; and room to work in, see `working_room`.
    totals
        float64, grows by the sums of channels that are asked for.
    black
        Maps and room of the black picture, and the rows and columns of its tiles that stand for those here.
    """
    (steps, layers, maps), (columns, starts), (first, last) = program, tiles, rows
    room, _, constants, _, _ = stores
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
            if step.kind in (CONVOLVE, MASKED):
                marked, unmarked = here, here[:0]
                if step.kind == MASKED:
                    marked, unmarked = _split(row, here, other, room)
                for turn in range(2):
                    some = unmarked if turn else marked
                    layer = layers[step.plain if turn else step.layer]
                    how = PUT if turn else step.how
                    if len(some):
                        convolve(row, some, (layer, step, how, (source, target, other), stores))
            elif step.kind == BLACKEN:
                from_maps, from_room, rows_there, columns_there = black
                for x in here:
                    there = from_maps[step.target]
                    copy_tile(row, x, target, room, rows_there[row], columns_there[x], there, from_room)
            else:
                filter_tiles(row, here, step, source, target, other, room, constants)
            if step.total >= 0:
                _add_up(row, here, target, step.target_first, room, sums)
                for c in range(target.planes * target.pixel):
                    totals[step.total + c] += sums[c]


@compiled
def _add_up(y: int, columns: Integers, of: Any, first: int, room: Floats, sums: Floats) -> None:
    """Sums of the channels over a row's tiles."""
    sums[:] = 0
    for x in columns:
        at = place_of(y, x, of, 0) + channel_of(first, of)
        for c in range(0, of.planes * of.pixel, LANES):
            simd_transforms.total((room, sums), (at + channel_of(c, of), of.row, of.pixel, c))


@compiled
def _split(y: int, columns: Integers, mask: Any, room: Floats) -> tuple[Integers, Integers]:
    """Which tiles hold a marked pixel, and which none."""
    marked, plain = np.empty_like(columns), np.empty_like(columns)
    many = 0
    for index, x in enumerate(columns):
        at = place_of(y, x, mask, 0)
        found = 0.0
        for i in range(TILE):
            for j in range(TILE):
                found += room[at + i * mask.row + j]
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
    or residual; and stores, as `run` has them.
    """
    layer, step, _, (_, target, _), (room, _, _, _, _) = work
    if layer.positions == POSITIONS:
        convolve_tiles(y, columns, work)
    else:
        _points(y, columns, work)
    for x in columns:
        for c in range(layer.columns - layer.aside, layer.filled, LANES):
            to = place_of(y, x, target, 0) + channel_of(step.target_first + c, target)
            for i in range(TILE):
                for j in range(TILE):
                    at = to + i * target.row + j * target.pixel
                    room[at : at + LANES] = 0
        clear(y, x, target, step.target_first, layer.filled, room)


@compiled
def _points(y: int, columns: Integers, work: Any) -> None:
    """1 × 1 kernels, straight from map to map."""
    layer, step, how, (source, target, other), (room, _, constants, _, _) = work
    depth, width, first = layer.depth, layer.columns, step.source_first // LANES
    for n in range(0, width, PLANE):
        bias, kernel = layer.constants + n, layer.kernels + n * depth
        second = min(n + LANES, width - LANES)  # a vector that is not there goes nowhere
        to, further = channel_of(step.target_first + n, target), channel_of(step.target_first + second, target)
        residual, next_to = channel_of(step.other_first + n, other), channel_of(step.other_first + second, other)
        for x in columns:
            begin, place, beside = place_of(y, x, source, 0), place_of(y, x, target, 0), place_of(y, x, other, 0)
            where = (
                begin, source.row, source.pixel, source.plane, first, depth // LANES, kernel, bias, bias + width,
                place + to, place + further, target.row, target.pixel,
            )  # fmt: skip
            added = (*where, beside + residual, beside + next_to, other.row, other.pixel)
            if n + LANES < width:
                if WIDE and further == to + LANES and next_to == residual + LANES:
                    if how == ADD:
                        simd_gemm.add_point_to_plane((room, constants), added)
                    else:
                        simd_gemm.point_to_plane((room, constants), where)
                elif how == ADD:
                    simd_gemm.add_point((room, constants), added)
                else:
                    simd_gemm.point((room, constants), where)
            elif how == ADD:
                simd_gemm.add_point_narrow((room, constants), added)
            else:
                simd_gemm.point_narrow((room, constants), where)
