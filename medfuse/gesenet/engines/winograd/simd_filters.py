"""Filter tiles with SIMD instructions, in vectors of channels; arguments are as in `simd_transforms`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from llvmlite import ir

from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, SIMD_WIDTH, Code, Vector, inline
from medfuse.gesenet.engines.winograd.simd_transforms import PATCH, TILE, lines_of, tile_of


def _around(code: Code) -> dict[tuple[int, int], Vector]:
    """The patch around a tile, from places (at, row, above, below, pixel, …)."""
    pixel = code.numbers[4]
    lines = enumerate(lines_of(code))
    return {(i, j): code.floats(0, code.place(line, (pixel, j))) for i, line in lines for j in range(PATCH)}


def _broadcast(code: Code, place: Any) -> Vector:
    """A number of the first array in all elements of a vector."""
    return Vector(code.builder, code.broadcast(code.load(0, place, ir.FloatType())))


def _filtered(around: dict[tuple[int, int], Vector], taps: Sequence[Vector], i: int, j: int) -> Vector:
    """A 3 × 3 filter's sum at a pixel of the tile."""
    return reduce(add, (around[i + place // 3, j + place % 3] * tap for place, tap in enumerate(taps)))


def _gradient(code: Code) -> None:
    kernel, step, to, row, pixel = code.numbers[5:]
    around, taps = _around(code), [code.floats(1, code.place(kernel, (step, tap))) for tap in range(18)]
    for i in range(TILE):
        for j in range(TILE):
            place = code.place(to, (row, i), (pixel, j))
            across, down = (_filtered(around, some, i, j).absolute() for some in (taps[:9], taps[9:]))
            code.store(2, place, (across + down).value)


gradient, gradient_block = inline(_gradient), inline(_gradient, CHANNEL_BLOCK)
"""(source, kernels, target), (at, row, above, below, pixel, kernel, kernel step, to, row, pixel): two |depthwise|."""


def _widen(code: Code) -> None:
    at, from_row, kernel, step, to, row, pixel = code.numbers
    constants = [code.floats(1, code.place(kernel, (step, tap))) for tap in range(11)]
    around = {
        (i, j): _broadcast(code, code.behind(code.place(at, (from_row, i)), j))
        for i in range(PATCH)
        for j in range(PATCH)
    }
    for i in range(TILE):
        for j in range(TILE):
            value = _filtered(around, constants[:9], i, j) + constants[9]
            value = value.maximum(value * constants[10])
            code.store(2, code.place(to, (row, i), (pixel, j)), value.value)


widen, widen_block = inline(_widen), inline(_widen, CHANNEL_BLOCK)
"""(source, kernels, target), (at, row, kernel, kernel step, to, row, pixel): 3 × 3 of one channel, leaky.

Behind the nine taps stand bias and slope.
"""


@inline
def narrow(code: Code) -> None:
    """(source, kernels, target), (at, row, above, below, pixel, kernel, kernel step, to, row): 3 × 3 to one, added."""
    kernel, step, to, row = code.numbers[5:]
    around, taps = _around(code), [code.floats(1, code.place(kernel, (step, tap))) for tap in range(9)]
    for i in range(TILE):
        for j in range(TILE):
            horizontal_sum = code.horizontal_sum(_filtered(around, taps, i, j))
            place = code.behind(code.place(to, (row, i)), j)
            before = code.load(2, place, ir.FloatType())
            code.store(2, place, code.builder.fadd(before, horizontal_sum))


def _blend(code: Code) -> None:
    beside, beside_row, beside_pixel, to, row, pixel, gate = code.numbers[3:]
    gates = code.floats(1, gate)
    for index, vector in enumerate(tile_of(code)):
        i, j = index // TILE, index % TILE
        other = code.floats(1, code.place(beside, (beside_row, i), (beside_pixel, j)))
        code.store(1, code.place(to, (row, i), (pixel, j)), (vector * gates + other).value)


blend, blend_block = inline(_blend), inline(_blend, CHANNEL_BLOCK)
"""(map, map), (at, row, pixel, other at, row, pixel, to, row, pixel, gate): gate · a + b."""


@inline
def mix(code: Code) -> None:
    """(source, kernels, target), (at, row, above, below, kernel, to, row): 2 × 2 pixels of a 3 × 3, ReLU.

    Among `SIMD_WIDTH` channels; kernels (tap, input, output), then the bias.
    """
    kernel, to, row = code.numbers[4:]
    lines = lines_of(code, 4)
    bias = code.floats(1, code.behind(kernel, 9 * SIMD_WIDTH * SIMD_WIDTH))
    sums = [bias] * 4
    for tap in range(9):
        for channel in range(SIMD_WIDTH):
            weights = code.floats(1, code.behind(kernel, (tap * SIMD_WIDTH + channel) * SIMD_WIDTH))
            for pixel in range(4):
                i, j = pixel // 2 + tap // 3, pixel % 2 + tap % 3
                value = _broadcast(code, code.behind(lines[i], j * SIMD_WIDTH + channel))
                sums[pixel] = sums[pixel] + value * weights
    for pixel, found in enumerate(sums):
        place = code.behind(code.place(to, (row, pixel // 2)), pixel % 2 * SIMD_WIDTH)
        code.store(2, place, found.maximum(0.0 * found).value)


@inline
def pool(code: Code) -> None:
    """(source, target), (at, row, to, row): means of each 2 × 2 of a tile's pixels of `SIMD_WIDTH` channels."""
    at, from_row, to, row = code.numbers
    for i in range(2):
        for j in range(2):
            lines = [code.place(at, (from_row, 2 * i + down)) for down in range(2)]
            places = [code.behind(line, (2 * j + k) * SIMD_WIDTH) for line in lines for k in range(2)]
            first, second, third, fourth = (code.floats(0, place) for place in places)
            mean = ((first + second) + (third + fourth)) * 0.25
            code.store(1, code.behind(code.place(to, (row, i)), j * SIMD_WIDTH), mean.value)


@inline
def decide(code: Code) -> None:
    """(source, kernels, target), (at, row, above, below, kernel, to, row): 1 where a logit is positive, else 0.

    It has twice the resolution: a transposed convolution of `SIMD_WIDTH` channels: (9 taps, channels), then the bias.
    """
    kernel, to, row = code.numbers[4:]
    taps = [code.floats(1, code.behind(kernel, tap * SIMD_WIDTH)) for tap in range(9)]
    bias = code.load(1, code.behind(kernel, 9 * SIMD_WIDTH), ir.FloatType())
    inner = enumerate(lines_of(code, 4)[1:])
    around = {(i, j): code.floats(0, code.behind(line, (1 + j) * SIMD_WIDTH)) for i, line in inner for j in range(3)}
    # An even row or column takes the middle of the kernel, an odd one both ends.
    reads = {0: ((0, 1),), 1: ((0, 2), (1, 0))}
    zero, one = (ir.Constant(ir.FloatType(), value) for value in (0.0, 1.0))
    for i in range(TILE):
        for j in range(TILE):
            products = [
                around[i // 2 + down, j // 2 + across] * taps[3 * tap_row + tap_column]
                for down, tap_row in reads[i % 2]
                for across, tap_column in reads[j % 2]
            ]
            logit = code.builder.fadd(code.horizontal_sum(reduce(add, products)), bias)
            marked = code.builder.select(code.builder.fcmp_ordered(">", logit, zero), one, zero)
            code.store(2, code.behind(code.place(to, (row, i)), j), marked)
