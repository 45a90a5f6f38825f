"""Transform input and output tiles with SIMD instructions: Winograd's transforms, bias, ReLU, residuals and masks.

Each function takes a tuple of arrays and a tuple of places in them, which its docstring names. A patch of 6 × 6 pixels
lies around a tile of 4 × 4; places of patches are those of their first pixel, and the lines above and below the tile
may be as much further as ``above`` and ``below`` say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, SIMD_WIDTH, Code, Vector, inline

TILE, PATCH = 4, 6
"""Winograd's F(4 × 4, 3 × 3): tiles of 4 × 4 pixels from patches of 6 × 6."""

POSITIONS = PATCH * PATCH

PATCH_STRIDE = POSITIONS * CHANNEL_BLOCK
"""Elements of a block of a transformed patch, position by position: every place is at a constant distance."""


def _input_transform(d: Sequence[Vector]) -> list[Vector]:
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


def _output_transform(m: Sequence[Vector]) -> list[Vector]:
    """Aᵀ m of F(4, 3)."""
    first, second, third, fourth = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + first + third, second + 2.0 * fourth, first + 4.0 * third, second + 8.0 * fourth + m[5]]


def lines_of(code: Code, count: int = PATCH) -> list[Any]:
    """Where the lines of a patch begin, by places (at, row, above, below, …)."""
    at, row, above, below = code.numbers[:4]
    lines = [code.place(at, (row, i)) for i in range(count)]
    return [code.builder.add(lines[0], above), *lines[1:-1], code.builder.add(lines[-1], below)]


def _load_transformed(code: Code) -> list[Vector]:
    """Load a patch from places (at, row, above, below, pixel, …) of the first array, and transform it."""
    pixel, lines = code.numbers[4], lines_of(code)
    if code.width == CHANNEL_BLOCK:
        pixel = ir.Constant(pixel.type, CHANNEL_BLOCK)
    columns = [_input_transform([code.floats(0, code.place(line, (pixel, j))) for line in lines]) for j in range(PATCH)]
    return [each for i in range(PATCH) for each in _input_transform([columns[j][i] for j in range(PATCH)])]


def pixels_of(code: Code, starts: Sequence[Any], row: Any, pixel: Any) -> list[list[Any]]:
    """The places of the 16 pixels of tiles that begin at some places: of each pixel, one for each tile."""
    return [[code.place(start, (row, i), (pixel, j)) for start in starts] for i in range(TILE) for j in range(TILE)]


def tile_of(code: Code) -> list[Vector]:
    """Load the 16 pixels of a tile from places (at, row, pixel, …) of the first array."""
    at, row, pixel = code.numbers[:3]
    return [code.floats(0, place) for (place,) in pixels_of(code, [at], row, pixel)]


def _transform_input(code: Code) -> None:
    to = code.numbers[5]
    for index, vector in enumerate(_load_transformed(code)):
        code.store(1, code.behind(to, index * CHANNEL_BLOCK), vector.value)


transform_input, transform_input_block = inline(_transform_input), inline(_transform_input, CHANNEL_BLOCK)
"""(source, inputs), (at, row, above, below, pixel, to): a patch, transformed."""


def _load_columns(code: Code, array: int, place: Any, pair: bool) -> Vector:
    """Numbers of columns from a place; of two tiles side by side, twice the same."""
    if not pair:
        return code.floats(array, place)
    half = code.load(array, place, ir.VectorType(ir.FloatType(), SIMD_WIDTH))
    return Vector(code.builder, code.joined(half, half))


def _load_output(code: Code, at: Any) -> list[Vector]:
    """The 16 pixels that sums of products at a place stand for."""
    found = [code.floats(0, code.behind(at, index * CHANNEL_BLOCK)) for index in range(POSITIONS)]
    columns = [_output_transform(found[j::PATCH]) for j in range(PATCH)]
    return [each for i in range(TILE) for each in _output_transform([columns[j][i] for j in range(PATCH)])]


def _activate_and_store(code: Code, vectors: Sequence[Vector], more: Sequence[Vector] = (), pair: bool = False) -> None:
    """Add the bias, apply the leaky ReLU, add more, store in the third array."""
    bias, slope, to, row, pixel, to_other = code.numbers[1:7]
    added, leak = _load_columns(code, 1, bias, pair), _load_columns(code, 1, slope, pair)
    for index, places in enumerate(pixels_of(code, (to, to_other), row, pixel)):
        value = vectors[index] + added
        value = value.maximum(value * leak)
        if more:
            value = value + more[index]
        for place, part in zip(places, code.halves(value.value) if pair else [value.value], strict=False):
            code.store(2, place, part)


def _store_output(code: Code, pair: bool = False) -> None:
    _activate_and_store(code, _load_output(code, code.numbers[0]), pair=pair)


def _add_output(code: Code, pair: bool = False) -> None:
    at, row, pixel, at_other = code.numbers[7:11]
    more = []
    for places in pixels_of(code, (at, at_other), row, pixel):
        if pair:
            halves = [code.load(3, place, ir.VectorType(ir.FloatType(), SIMD_WIDTH)) for place in places]
            more.append(Vector(code.builder, code.joined(*halves)))
        else:
            more.append(code.floats(3, places[0]))
    _activate_and_store(code, _load_output(code, code.numbers[0]), more, pair)


def _masks(code: Code, pair: bool = False) -> list[Vector]:
    """The mask of each of 16 pixels, in all elements but those of channels that it leaves alone."""
    at, row, always, at_other = code.numbers[7:11]
    least = _load_columns(code, 1, always, pair)
    masks = []
    for places in pixels_of(code, (at, at_other), row, ir.Constant(row.type, 1)):
        if pair:
            halves = [code.broadcast(code.load(3, place, ir.FloatType()), SIMD_WIDTH) for place in places]
            mask = code.joined(*halves)
        else:
            mask = code.broadcast(code.load(3, places[0], ir.FloatType()))
        masks.append(Vector(code.builder, mask).maximum(least))
    return masks


def _mask_output(code: Code, pair: bool = False) -> None:
    sums = _load_output(code, code.numbers[0])
    masked = [one * mask for one, mask in zip(sums, _masks(code, pair), strict=True)]
    _activate_and_store(code, masked, pair=pair)


def _mask_output_beside(code: Code) -> None:
    sums, apart = _load_output(code, code.numbers[0]), _load_output(code, code.numbers[11])
    masked = [one * mask + other for one, mask, other in zip(sums, _masks(code), apart, strict=True)]
    _activate_and_store(code, masked)


def _three_ways(write: Callable[..., None]) -> tuple[Any, Any, Any]:
    """For half a block, for a block, and for half a block of two tiles."""
    return inline(write), inline(write, CHANNEL_BLOCK), inline(write, CHANNEL_BLOCK, pair=True)


store_output, store_output_block, store_output_pair = _three_ways(_store_output)
"""(sums, constants, target), (at, bias, slope, to, row, pixel, other to).

What products at a place stand for, with bias and leaky ReLU: half a block of channels, a block, or half a block of two
tiles, whose sums lie side by side.
"""

add_output, add_output_block, add_output_pair = _three_ways(_add_output)
"""(…, residual), (…, residual at, row, pixel, other at): the same, and adds what is there."""

mask_output, mask_output_block, mask_output_pair = _three_ways(_mask_output)
"""(…, mask), (…, mask at, row, always, other at): sums times the mask, where they are not for always."""

mask_output_beside = inline(_mask_output_beside)
"""(…, mask), (…, mask at, row, always, other at, aside): and adds other sums that the mask does not touch."""


def _mask_output_upper(code: Code) -> None:
    whole = _load_output(code, code.numbers[0])
    half = code.of_width(SIMD_WIDTH)
    masked = []
    for vector, mask in zip(whole, _masks(half), strict=True):
        lower, upper = (Vector(code.builder, part) for part in code.halves(vector.value))
        masked.append(upper * mask + lower)
    _activate_and_store(half, masked)


mask_output_upper = inline(_mask_output_upper, CHANNEL_BLOCK)
"""(…, mask), (…, mask at, row, always, other at): sums in the upper half of a block times the mask, and those in the
lower half; bias and slope are those of its upper half."""


@inline
def total(code: Code) -> None:
    """(source, totals), (at, row, pixel, to): add a tile's 16 pixels to what is there."""
    pixels = tile_of(code)
    while len(pixels) > 1:
        pixels = [one + other for one, other in zip(pixels[::2], pixels[1::2], strict=True)]
    to = code.numbers[3]
    code.store(1, to, (code.floats(1, to) + pixels[0]).value)
