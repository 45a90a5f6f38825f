"""What is done to a tile at a time, in vectors of channels: Winograd's transforms, products, masks.

Each function takes a tuple of arrays and a tuple of places in them, which its docstring names. A patch of 6 × 6 pixels
lies around a tile of 4 × 4; places of patches are those of their first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from medfuse.gesenet.lanes import CONTRACT, FLOATS, LANES, SHORTS, WORDS, Code, Vector, inline

ROWS = 6
"""Rows of a product that are summed at once, with two vectors each: their sums fill 12 of AVX2's 16 registers."""

TILE, PATCH = 4, 6
"""Winograd's F(4 × 4, 3 × 3): tiles of 4 × 4 pixels from patches of 6 × 6."""

POSITIONS = PATCH * PATCH

_ROWS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
FROM_PATCH = np.einsum("ia,jb->ijab", _ROWS, _ROWS).reshape(POSITIONS, 1, PATCH, PATCH)
"""What `take_patch` does, as kernels: Bᵀ d B of F(4, 3)."""

PLANE = 2 * LANES
"""Channels side by side: in feature maps, in what goes into a product, and in what comes out of it."""


def _into_patch(d: Sequence[Vector]) -> list[Vector]:
    """Bᵀ d of F(4, 3)."""
    even, odd = d[4] - 4.0 * d[2], d[3] - 4.0 * d[1]
    near, far = d[4] - d[2], 2.0 * (d[3] - d[1])
    return [
        4.0 * d[0] - 5.0 * d[2] + d[4],
        even + odd,
        even - odd,
        near + far,
        near - far,
        4.0 * d[1] - 5.0 * d[3] + d[5],
    ]


def _out_of_patch(m: Sequence[Vector]) -> list[Vector]:
    """Aᵀ m of F(4, 3)."""
    first, second, third, fourth = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + first + third, second + 2.0 * fourth, first + 4.0 * third, second + 8.0 * fourth + m[5]]


def _patch(code: Code) -> list[Vector]:
    """Load a patch of `LANES` channels from places (at, row, pixel, …) of the first array, and transform it."""
    at, row, pixel = code.numbers[:3]
    columns = [
        _into_patch([code.floats(0, code.place(at, (row, i), (pixel, j))) for i in range(PATCH)]) for j in range(PATCH)
    ]
    return [each for i in range(PATCH) for each in _into_patch([columns[j][i] for j in range(PATCH)])]


def tile_of(code: Code) -> list[Vector]:
    """Load the 16 pixels of a tile from places (at, row, pixel, …) of the first array."""
    at, row, pixel = code.numbers[:3]
    return [code.floats(0, code.place(at, (row, i), (pixel, j))) for i in range(TILE) for j in range(TILE)]


def _spread(code: Code, vectors: Sequence[Vector], shorts: bool) -> None:
    """Store vectors in the second array from places (…, to, step, scale, scale step); the third scales shorts."""
    to, step, scale, scale_step = code.numbers[3:]
    for index, vector in enumerate(vectors):
        place = code.place(to, (step, index))
        if shorts:
            by = code.floats(2, code.place(scale, (scale_step, index)))
            code.store(1, place, code.shorts(vector * by))
        else:
            code.store(1, place, vector.value)


@inline
def take_patch(code: Code, shorts: bool) -> None:
    """(source, taken, scales), (at, row, pixel, to, step, scale, scale step): a patch, transformed."""
    _spread(code, _patch(code), shorts)


def _multiply(code: Code, shorts: bool, vectors: int) -> None:
    builder = code.builder
    a_at, a_step, b_at, parts, c_at = code.numbers
    kind, together = (WORDS, 2) if shorts else (FLOATS, 1)
    zero = ir.Constant(kind, [0 if shorts else 0.0] * LANES)
    sums = [[cgutils.alloca_once(builder, kind) for _ in range(vectors)] for _ in range(ROWS)]
    for each in (each for row in sums for each in row):
        builder.store(zero, each)

    def after(place: Any, by: int) -> Any:
        return builder.add(place, ir.Constant(place.type, by))

    count, one = ir.Constant(a_at.type, LANES // together), ir.Constant(a_at.type, 1)
    with cgutils.for_range(builder, parts) as part, cgutils.for_range(builder, count) as loop:
        k = builder.mul(loop.index, ir.Constant(a_at.type, together))
        plane, half = builder.lshr(part.index, one), builder.and_(part.index, one)
        a_place = builder.add(code.place(a_at, (half, LANES), (k, 1)), builder.mul(plane, a_step))
        b_place = code.place(b_at, (part.index, LANES * vectors * LANES), (k, vectors * LANES))
        right = [code.load(1, after(b_place, v * together * LANES), SHORTS if shorts else kind) for v in range(vectors)]
        for r in range(ROWS):
            left = code.load(0, after(a_place, r * PLANE), ir.IntType(32) if shorts else ir.FloatType())
            left = code.everywhere(left)
            for v in range(vectors):
                before = builder.load(sums[r][v])
                if shorts:
                    pairs = builder.bitcast(left, SHORTS)
                    more = builder.add(before, code.call("llvm.x86.avx2.pmadd.wd", WORDS, pairs, right[v]))
                else:
                    product = builder.fmul(left, right[v], flags=CONTRACT)
                    more = builder.fadd(before, product, flags=CONTRACT)
                builder.store(more, sums[r][v])
    for r in range(ROWS):
        for v in range(vectors):
            code.store(2, after(c_at, r * PLANE + v * LANES), builder.load(sums[r][v]))


@inline
def multiply(code: Code, shorts: bool) -> None:
    """(a, b, c), (a at, a step, b at, parts, c at): `ROWS` rows of a times two vectors of columns of b.

    Each row of a is `PLANE` numbers in every plane, ``a step`` apart; a part is half of them, `LANES`.
    """
    _multiply(code, shorts, 2)


@inline
def multiply_narrow(code: Code, shorts: bool) -> None:
    """The same with one vector of columns."""
    _multiply(code, shorts, 1)


def _sums(code: Code, shorts: bool, at: Any, scale: Any) -> list[Vector]:
    """The 16 pixels that sums of products at a place stand for; sums of shorts are scaled by the third array."""
    step, scale_step = code.numbers[1], code.numbers[3]
    found = []
    for index in range(POSITIONS):
        place = code.place(at, (step, index))
        if shorts:
            value = code.builder.sitofp(code.load(0, place, WORDS), FLOATS)
            found.append(Vector(code.builder, value) * code.floats(2, code.place(scale, (scale_step, index))))
        else:
            found.append(code.floats(0, place))
    columns = [_out_of_patch(found[j::PATCH]) for j in range(PATCH)]
    return [each for i in range(TILE) for each in _out_of_patch([columns[j][i] for j in range(PATCH)])]


def _put(code: Code, vectors: Sequence[Vector], more: Sequence[Vector] = ()) -> None:
    """Add the bias, apply the leaky ReLU, add more, store in the fourth array."""
    bias, slope, to, row, pixel = code.numbers[4:9]
    added, leak = code.floats(1, bias), code.floats(1, slope)
    for index, vector in enumerate(vectors):
        value = vector + added
        value = value.larger(value * leak)
        if more:
            value = value + more[index]
        code.store(3, code.place(to, (row, index // TILE), (pixel, index % TILE)), value.value)


def _residual(code: Code) -> list[Vector]:
    at, row, pixel = code.numbers[9:12]
    return [code.floats(4, code.place(at, (row, i), (pixel, j))) for i in range(TILE) for j in range(TILE)]


def _point(code: Code, vectors: int, add: bool) -> None:
    builder = code.builder
    at, row, pixel, plane, first, parts, kernel, bias, slope = code.numbers[:9]
    targets, (to_row, to_pixel) = code.numbers[9:11], code.numbers[11:13]
    together = 8 // vectors  # as many sums as hide how long an addition takes
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)] for _ in range(together)]
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
            column = code.place(kernel, (part.index, LANES * vectors * LANES), (loop.index, vectors * LANES))
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


@inline
def point(code: Code, _: bool) -> None:
    """(maps, constants), (at, row, pixel, plane, part, parts, kernels, bias, slope, to, to, row, pixel): 1 × 1 kernels.

    A tile's pixels times a matrix of two vectors of columns, with bias and leaky ReLU, from `LANES` channels a part,
    of which the first is ``part``; each vector has a place of its own to go to.
    """
    _point(code, 2, False)


@inline
def point_narrow(code: Code, _: bool) -> None:
    """The same with one vector of columns."""
    _point(code, 1, False)


@inline
def add_point(code: Code, _: bool) -> None:
    """(maps, constants), (…, residual, residual, row, pixel): as `point`, and adds what is there."""
    _point(code, 2, True)


@inline
def add_point_narrow(code: Code, _: bool) -> None:
    """The same with one vector of columns."""
    _point(code, 1, True)


@inline
def put_patch(code: Code, shorts: bool) -> None:
    """(sums, constants, scales, target), (at, step, scale, scale step, bias, slope, to, row, pixel)."""
    _put(code, _sums(code, shorts, code.numbers[0], code.numbers[2]))


@inline
def add_patch(code: Code, shorts: bool) -> None:
    """(…, residual), (…, residual at, row, pixel): as `put_patch`, and adds what is there."""
    _put(code, _sums(code, shorts, code.numbers[0], code.numbers[2]), _residual(code))


def _mask(code: Code, shorts: bool, aside: bool) -> None:
    sums = _sums(code, shorts, code.numbers[0], code.numbers[2])
    at, row, always = code.numbers[9:12]
    least = code.floats(1, always)
    masked = []
    for index, vector in enumerate(sums):
        pixel = code.builder.add(code.place(at, (row, index // TILE)), ir.Constant(at.type, index % TILE))
        mask = Vector(code.builder, code.everywhere(code.load(4, pixel, ir.FloatType())))
        masked.append(vector * mask.larger(least))
    if aside:
        apart = _sums(code, shorts, *code.numbers[12:14])
        masked = [one + other for one, other in zip(masked, apart, strict=True)]
    _put(code, masked)


@inline
def mask_patch(code: Code, shorts: bool) -> None:
    """(…, mask), (…, mask at, row, always): as `put_patch`, with sums times the mask where they are not for always."""
    _mask(code, shorts, False)


@inline
def mask_patch_beside(code: Code, shorts: bool) -> None:
    """(…, mask), (…, mask at, row, always, aside, scale): and adds other sums that the mask does not touch."""
    _mask(code, shorts, True)


@inline
def total(code: Code, _: bool) -> None:
    """(source, totals), (at, row, pixel, to): add a tile's 16 pixels to what is there."""
    pixels = tile_of(code)
    while len(pixels) > 1:
        pixels = [one + other for one, other in zip(pixels[::2], pixels[1::2], strict=True)]
    to = code.numbers[3]
    code.store(1, to, (code.floats(1, to) + pixels[0]).value)
