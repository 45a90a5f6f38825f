"""Products with a layer's kernels, whose sums stay in registers; see `tilework` for what the arguments are."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from medfuse.gesenet.engines.winograd.simd import CONTRACT, LANES, PLANE, WIDE, Code, Vector, inline
from medfuse.gesenet.engines.winograd.simd_transforms import ROOM, TILE

ROWS = 6
"""Rows of a product that are summed at once, with two vectors each; with one vector each, twice as many.

Their sums fill 12 of AVX2's 16 registers, and hide how long an addition takes."""


def _multiply(code: Code, columns: int, rows: int) -> None:
    """Where a vector holds twice the columns, each has two sums of every second product, which are added in the end."""
    builder = code.builder
    a_at, a_step, b_at, parts, c_at = code.numbers
    kind = code.float_kind
    paired = columns < code.lanes
    together = 2 if paired else 1
    left_kind: Any = ir.DoubleType() if paired else ir.FloatType()
    vectors = max(columns // code.lanes, 1)
    zero = ir.Constant(kind, [0.0] * code.lanes)
    sums = [[cgutils.alloca_once(builder, kind) for _ in range(vectors)] for _ in range(rows)]
    for each in (each for row in sums for each in row):
        builder.store(zero, each)

    one = ir.Constant(a_at.type, 1)
    with cgutils.for_range(builder, parts) as part:
        plane, half = builder.lshr(part.index, one), builder.and_(part.index, one)
        a_part = builder.add(code.place(a_at, (half, LANES)), builder.mul(plane, a_step))
        b_part = code.place(b_at, (part.index, LANES * columns))
        for k in range(0, LANES, together):
            b_places = (code.behind(b_part, k * columns + v * together * LANES) for v in range(vectors))
            right = [code.load(1, place, kind) for place in b_places]
            for r, some in enumerate(sums):
                number = code.load(0, code.behind(a_part, r * ROOM + k), left_kind)
                left = builder.bitcast(code.everywhere(number, code.lanes // together), kind)
                for v, each in enumerate(some):
                    product = builder.fmul(left, right[v], flags=CONTRACT)
                    builder.store(builder.fadd(builder.load(each), product, flags=CONTRACT), each)
    found = [[builder.load(each) for each in row] for row in sums]
    if paired:
        found = [[_added_pairs(code, *both)] for both in zip(*[(row[0] for row in found)] * 2, strict=True)]
    beside = 1 if paired else PLANE // columns  # rows that share a plane
    for r, row in enumerate(found):
        for v, value in enumerate(row):
            code.store(2, code.behind(c_at, r // beside * ROOM + r % beside * LANES + v * LANES), value)


def _added_pairs(code: Code, one: Any, other: Any) -> Any:
    """Sums of each two neighbours in one vector, and behind them those in the other."""
    even, odd = (code.chosen(one, other, range(first, 2 * code.lanes, 2)) for first in (0, 1))
    return code.builder.fadd(even, odd)


def _multiplying(columns: int, rows: int) -> Any:
    def write(code: Code) -> None:
        _multiply(code, columns, rows)

    return inline(write, PLANE if WIDE else LANES)


multiply, multiply_narrow = _multiplying(PLANE, ROWS), _multiplying(LANES, ROWS)
"""(a, b, c), (a at, a step, b at, parts, c at): `ROWS` rows of a times a plane of columns of b, or half a plane.

Each row of a is `PLANE` numbers in every plane, ``a step`` apart; a part is half of them, `LANES`. Rows lie `ROOM`
apart, in a and c, but halves of planes are two to a row of c.
"""

multiply_more, multiply_more_narrow = _multiplying(PLANE, 2 * ROWS), _multiplying(LANES, 2 * ROWS)
"""The same with twice the rows."""


def _point(code: Code, columns: int, add: bool) -> None:
    builder = code.builder
    at, row, pixel, plane, first, parts, kernel, bias, slope = code.numbers[:9]
    targets, (to_row, to_pixel) = code.numbers[9:11], code.numbers[11:13]
    vectors = columns // code.lanes
    together = 8 // vectors  # as many sums as hide how long an addition takes
    zero = ir.Constant(code.float_kind, [0.0] * code.lanes)
    sums = [[cgutils.alloca_once(builder, code.float_kind) for _ in range(vectors)] for _ in range(together)]
    one = ir.Constant(at.type, 1)
    with cgutils.for_range(builder, ir.Constant(at.type, TILE * TILE // together)) as group:
        for each in (each for some in sums for each in some):
            builder.store(zero, each)
        above = builder.mul(group.index, ir.Constant(at.type, together // TILE))
        lines = [builder.add(above, ir.Constant(at.type, i)) for i in range(together // TILE)]
        with (
            cgutils.for_range(builder, parts) as part,
            cgutils.for_range(builder, ir.Constant(at.type, LANES)) as loop,
        ):
            number = builder.add(first, part.index)
            channel = builder.add(builder.mul(builder.lshr(number, one), plane), loop.index)
            channel = code.place(channel, (builder.and_(number, one), LANES))
            column = code.place(kernel, (part.index, LANES * columns), (loop.index, columns))
            right = [code.floats(1, builder.add(column, ir.Constant(at.type, v * LANES))).value for v in range(vectors)]
            for r, some in enumerate(sums):
                place = code.place(builder.add(at, builder.mul(lines[r // TILE], row)), (pixel, r % TILE))
                left = code.everywhere(code.load(0, builder.add(place, channel), ir.FloatType()))
                for v, each in enumerate(some):
                    product = builder.fmul(left, right[v], flags=CONTRACT)
                    builder.store(builder.fadd(builder.load(each), product, flags=CONTRACT), each)
        for v in range(vectors):
            added, leak = (
                code.floats(1, builder.add(begin, ir.Constant(at.type, v * LANES))) for begin in (bias, slope)
            )
            for r, some in enumerate(sums):
                value = Vector(builder, builder.load(some[v])) + added
                value = value.larger(value * leak)
                line = lines[r // TILE]
                if add:
                    beside = builder.add(code.numbers[13 + v], builder.mul(line, code.numbers[15]))
                    value = value + code.floats(0, code.place(beside, (code.numbers[16], r % TILE)))
                place = code.place(builder.add(targets[v], builder.mul(line, to_row)), (to_pixel, r % TILE))
                code.store(0, place, value.value)


def _pointing(columns: int, add: bool, lanes: int = LANES) -> Any:
    def write(code: Code) -> None:
        _point(code, columns, add)

    return inline(write, lanes)


point, point_narrow = _pointing(PLANE, False), _pointing(LANES, False)
"""(maps, constants), (at, row, pixel, plane, part, parts, kernels, bias, slope, to, to, row, pixel): 1 × 1 kernels.

A tile's pixels times a matrix of a plane of columns, or half a plane, with bias and leaky ReLU, from `LANES` channels a
part, of which the first is ``part``. Each half of the columns has a place of its own to go to.
"""

add_point, add_point_narrow = _pointing(PLANE, True), _pointing(LANES, True)
"""(maps, constants), (…, residual, residual, row, pixel): the same, and adds what is there."""

point_to_plane, add_point_to_plane = _pointing(PLANE, False, PLANE), _pointing(PLANE, True, PLANE)
"""The same, where a plane of columns goes to one."""
