"""Multiply tiles by kernels with SIMD instructions, sums in registers; arguments are as in `simd_transforms`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, CONTRACT, HAS_AVX512, SIMD_WIDTH, Code, Vector, inline
from medfuse.gesenet.engines.winograd.simd_transforms import PATCH_STRIDE, TILE

ROWS = 6
"""Rows of a product that are summed at once, with two vectors each; with one vector each, twice as many.

Their sums fill 12 of AVX2's 16 registers, and hide how long an addition takes."""


def _gemm(code: Code, columns: int, rows: int) -> None:
    """Where a vector holds twice the columns, each has two sums of every second product, which are added in the end."""
    builder = code.builder
    a_at, a_step, b_at, parts, c_at = code.numbers
    kind = code.float_kind
    paired = columns < code.width
    together = 2 if paired else 1
    left_kind: Any = ir.DoubleType() if paired else ir.FloatType()
    vectors = max(columns // code.width, 1)
    zero = ir.Constant(kind, [0.0] * code.width)
    sums = [[cgutils.alloca_once(builder, kind) for _ in range(vectors)] for _ in range(rows)]
    for each in (each for row in sums for each in row):
        builder.store(zero, each)

    one = ir.Constant(a_at.type, 1)
    with cgutils.for_range(builder, parts) as part:
        block, half = builder.lshr(part.index, one), builder.and_(part.index, one)
        a_part = builder.add(code.place(a_at, (half, SIMD_WIDTH)), builder.mul(block, a_step))
        b_part = code.place(b_at, (part.index, SIMD_WIDTH * columns))
        for k in range(0, SIMD_WIDTH, together):
            b_places = (code.behind(b_part, k * columns + v * together * SIMD_WIDTH) for v in range(vectors))
            right = [code.load(1, place, kind) for place in b_places]
            for r, some in enumerate(sums):
                number = code.load(0, code.behind(a_part, r * PATCH_STRIDE + k), left_kind)
                left = builder.bitcast(code.broadcast(number, code.width // together), kind)
                for v, each in enumerate(some):
                    product = builder.fmul(left, right[v], flags=CONTRACT)
                    builder.store(builder.fadd(builder.load(each), product, flags=CONTRACT), each)
    found = [[builder.load(each) for each in row] for row in sums]
    if paired:
        found = [[_added_pairs(code, *both)] for both in zip(*[(row[0] for row in found)] * 2, strict=True)]
    beside = 1 if paired else CHANNEL_BLOCK // columns  # rows that share a block
    for r, row in enumerate(found):
        for v, value in enumerate(row):
            element = r // beside * PATCH_STRIDE + (r % beside + v) * SIMD_WIDTH
            code.store(2, code.behind(c_at, element), value)


def _added_pairs(code: Code, one: Any, other: Any) -> Any:
    """Sums of each two neighbours in one vector, and behind them those in the other."""
    even, odd = (code.shuffle(one, other, range(first, 2 * code.width, 2)) for first in (0, 1))
    return code.builder.fadd(even, odd)


VECTOR = CHANNEL_BLOCK if HAS_AVX512 else SIMD_WIDTH

gemm_block = inline(_gemm, VECTOR, columns=CHANNEL_BLOCK, rows=ROWS)
gemm_half = inline(_gemm, VECTOR, columns=SIMD_WIDTH, rows=ROWS)
"""(a, b, c), (a at, a step, b at, parts, c at): `ROWS` rows of a times a block of columns of b, or half a block.

Each row of a is `CHANNEL_BLOCK` numbers in every block, ``a step`` apart; a part is half of them, `SIMD_WIDTH`. Rows
lie `PATCH_STRIDE` apart, in a and c, but halves of blocks are two to a row of c.
"""

gemm_block_tall = inline(_gemm, VECTOR, columns=CHANNEL_BLOCK, rows=2 * ROWS)
gemm_half_tall = inline(_gemm, VECTOR, columns=SIMD_WIDTH, rows=2 * ROWS)
"""The same with twice the rows."""


def _pointwise(code: Code, columns: int, add: bool) -> None:
    builder = code.builder
    at, row, pixel, block, first, parts, kernel, bias, slope = code.numbers[:9]
    targets, (to_row, to_pixel) = code.numbers[9:11], code.numbers[11:13]
    vectors = columns // code.width
    together = 8 // vectors  # as many sums as hide how long an addition takes
    zero = ir.Constant(code.float_kind, [0.0] * code.width)
    sums = [[cgutils.alloca_once(builder, code.float_kind) for _ in range(vectors)] for _ in range(together)]
    one = ir.Constant(at.type, 1)
    with cgutils.for_range(builder, ir.Constant(at.type, TILE * TILE // together)) as group:
        for each in (each for some in sums for each in some):
            builder.store(zero, each)
        above = builder.mul(group.index, ir.Constant(at.type, together // TILE))
        lines = [builder.add(above, ir.Constant(at.type, i)) for i in range(together // TILE)]
        with (
            cgutils.for_range(builder, parts) as part,
            cgutils.for_range(builder, ir.Constant(at.type, SIMD_WIDTH)) as loop,
        ):
            number = builder.add(first, part.index)
            channel = builder.add(builder.mul(builder.lshr(number, one), block), loop.index)
            channel = code.place(channel, (builder.and_(number, one), SIMD_WIDTH))
            column = code.place(kernel, (part.index, SIMD_WIDTH * columns), (loop.index, columns))
            right = [code.floats(1, code.behind(column, v * SIMD_WIDTH)).value for v in range(vectors)]
            for r, some in enumerate(sums):
                place = code.place(builder.add(at, builder.mul(lines[r // TILE], row)), (pixel, r % TILE))
                left = code.broadcast(code.load(0, builder.add(place, channel), ir.FloatType()))
                for v, each in enumerate(some):
                    product = builder.fmul(left, right[v], flags=CONTRACT)
                    builder.store(builder.fadd(builder.load(each), product, flags=CONTRACT), each)
        for v in range(vectors):
            added, leak = (code.floats(1, code.behind(begin, v * SIMD_WIDTH)) for begin in (bias, slope))
            for r, some in enumerate(sums):
                value = Vector(builder, builder.load(some[v])) + added
                value = value.maximum(value * leak)
                line = lines[r // TILE]
                if add:
                    beside = builder.add(code.numbers[13 + v], builder.mul(line, code.numbers[15]))
                    value = value + code.floats(0, code.place(beside, (code.numbers[16], r % TILE)))
                place = code.place(builder.add(targets[v], builder.mul(line, to_row)), (to_pixel, r % TILE))
                code.store(0, place, value.value)


pointwise = inline(_pointwise, columns=CHANNEL_BLOCK, add=False)
pointwise_half = inline(_pointwise, columns=SIMD_WIDTH, add=False)
"""(maps, constants), (at, row, pixel, block, part, parts, kernels, bias, slope, to, to, row, pixel): 1 × 1 kernels.

A tile's pixels times a matrix of a block of columns, or half a block, with bias and leaky ReLU, from `SIMD_WIDTH`
channels a part, of which the first is ``part``. Each half of the columns has a place of its own to go to.
"""

add_pointwise = inline(_pointwise, columns=CHANNEL_BLOCK, add=True)
add_pointwise_half = inline(_pointwise, columns=SIMD_WIDTH, add=True)
"""(maps, constants), (…, residual, residual, row, pixel): the same, and adds what is there."""

pointwise_block = inline(_pointwise, CHANNEL_BLOCK, columns=CHANNEL_BLOCK, add=False)
add_pointwise_block = inline(_pointwise, CHANNEL_BLOCK, columns=CHANNEL_BLOCK, add=True)
"""The same, where a block of columns goes to one."""
