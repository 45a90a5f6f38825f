"""What is done to a tile at a time, in vectors of channels: Winograd's transforms, masks.

Each function takes a tuple of arrays and a tuple of places in them, which its docstring names. A patch of 6 × 6 pixels
lies around a tile of 4 × 4; places of patches are those of their first pixel, and the lines above and below the tile
may be as much further as ``above`` and ``below`` say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from medfuse.gesenet.engines.winograd.simd import LANES, PLANE, Code, Vector, inline

TILE, PATCH = 4, 6
"""Winograd's F(4 × 4, 3 × 3): tiles of 4 × 4 pixels from patches of 6 × 6."""

POSITIONS = PATCH * PATCH

ROOM = POSITIONS * PLANE
"""What a plane of a transformed patch takes, position by position: so near that every place is known beforehand."""


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


def lines_of(code: Code, count: int = PATCH) -> list[Any]:
    """Where the lines of a patch begin, by places (at, row, above, below, …)."""
    at, row, above, below = code.numbers[:4]
    lines = [code.place(at, (row, i)) for i in range(count)]
    return [code.builder.add(lines[0], above), *lines[1:-1], code.builder.add(lines[-1], below)]


def _patch(code: Code) -> list[Vector]:
    """Load a patch from places (at, row, above, below, pixel, …) of the first array, and transform it."""
    pixel, lines = code.numbers[4], lines_of(code)
    if code.lanes == PLANE:
        pixel = ir.Constant(pixel.type, PLANE)
    columns = [_into_patch([code.floats(0, code.place(line, (pixel, j))) for line in lines]) for j in range(PATCH)]
    return [each for i in range(PATCH) for each in _into_patch([columns[j][i] for j in range(PATCH)])]


def tile_of(code: Code) -> list[Vector]:
    """Load the 16 pixels of a tile from places (at, row, pixel, …) of the first array."""
    at, row, pixel = code.numbers[:3]
    return [code.floats(0, code.place(at, (row, i), (pixel, j))) for i in range(TILE) for j in range(TILE)]


def _take(code: Code) -> None:
    to = code.numbers[5]
    for index, vector in enumerate(_patch(code)):
        code.store(1, code.behind(to, index * PLANE), vector.value)


take_patch, take_patch_of_plane = inline(_take), inline(_take, PLANE)
"""(source, taken), (at, row, above, below, pixel, to): a patch, transformed."""


def _numbers(code: Code, array: int, place: Any, pair: bool) -> Vector:
    """Numbers of columns from a place; of two tiles side by side, twice the same."""
    if not pair:
        return code.floats(array, place)
    half = code.load(array, place, ir.VectorType(ir.FloatType(), LANES))
    return Vector(code.builder, code.joined(half, half))


def _sums(code: Code, at: Any) -> list[Vector]:
    """The 16 pixels that sums of products at a place stand for."""
    found = [code.floats(0, code.behind(at, index * PLANE)) for index in range(POSITIONS)]
    columns = [_out_of_patch(found[j::PATCH]) for j in range(PATCH)]
    return [each for i in range(TILE) for each in _out_of_patch([columns[j][i] for j in range(PATCH)])]


def _finish(code: Code, vectors: Sequence[Vector], more: Sequence[Vector] = (), pair: bool = False) -> None:
    """Add the bias, apply the leaky ReLU, add more, store in the third array."""
    bias, slope, to, row, pixel, to_other = code.numbers[1:7]
    added, leak = _numbers(code, 1, bias, pair), _numbers(code, 1, slope, pair)
    for index, vector in enumerate(vectors):
        value = vector + added
        value = value.larger(value * leak)
        if more:
            value = value + more[index]
        places = [code.place(start, (row, index // TILE), (pixel, index % TILE)) for start in (to, to_other)]
        for place, part in zip(places, code.halves(value.value) if pair else [value.value], strict=False):
            code.store(2, place, part)


def _put(code: Code, pair: bool = False) -> None:
    _finish(code, _sums(code, code.numbers[0]), pair=pair)


def _add(code: Code, pair: bool = False) -> None:
    at, row, pixel, at_other = code.numbers[7:11]
    more = []
    for index in range(TILE * TILE):
        places = [code.place(start, (row, index // TILE), (pixel, index % TILE)) for start in (at, at_other)]
        if pair:
            halves = [code.load(3, place, ir.VectorType(ir.FloatType(), LANES)) for place in places]
            more.append(Vector(code.builder, code.joined(*halves)))
        else:
            more.append(code.floats(3, places[0]))
    _finish(code, _sums(code, code.numbers[0]), more, pair)


def _masks(code: Code, pair: bool = False) -> list[Vector]:
    """The mask of each of 16 pixels, in all lanes but those that it leaves alone."""
    at, row, always, at_other = code.numbers[7:11]
    least = _numbers(code, 1, always, pair)
    masks = []
    for index in range(TILE * TILE):
        places = [code.behind(code.place(start, (row, index // TILE)), index % TILE) for start in (at, at_other)]
        if pair:
            halves = [code.everywhere(code.load(3, place, ir.FloatType()), LANES) for place in places]
            mask = code.joined(*halves)
        else:
            mask = code.everywhere(code.load(3, places[0], ir.FloatType()))
        masks.append(Vector(code.builder, mask).larger(least))
    return masks


def _mask(code: Code, pair: bool = False) -> None:
    sums = _sums(code, code.numbers[0])
    masked = [one * mask for one, mask in zip(sums, _masks(code, pair), strict=True)]
    _finish(code, masked, pair=pair)


def _mask_beside(code: Code) -> None:
    sums, apart = _sums(code, code.numbers[0]), _sums(code, code.numbers[11])
    masked = [one * mask + other for one, mask, other in zip(sums, _masks(code), apart, strict=True)]
    _finish(code, masked)


def _of_pair(write: Callable[..., None]) -> Any:
    def of_pair(code: Code) -> None:
        write(code, pair=True)

    return inline(of_pair, PLANE)


put_patch, put_patch_of_plane, put_patches = inline(_put), inline(_put, PLANE), _of_pair(_put)
"""(sums, constants, target), (at, bias, slope, to, row, pixel, other to).

What products at a place stand for: with bias and leaky ReLU, half a plane of channels, a plane, or
half a plane of two tiles, whose sums lie side by side.
"""

add_patch, add_patch_of_plane, add_patches = inline(_add), inline(_add, PLANE), _of_pair(_add)
"""(…, residual), (…, residual at, row, pixel, other at): the same, and adds what is there."""

mask_patch, mask_patch_of_plane, mask_patches = inline(_mask), inline(_mask, PLANE), _of_pair(_mask)
"""(…, mask), (…, mask at, row, always, other at): sums times the mask, where they are not for always."""

mask_patch_beside = inline(_mask_beside)
"""(…, mask), (…, mask at, row, always, other at, aside): and adds other sums that the mask does not touch."""


def _mask_upper(code: Code) -> None:
    whole = _sums(code, code.numbers[0])
    half = code.holding(LANES)
    masked = []
    for vector, mask in zip(whole, _masks(half), strict=True):
        lower, upper = (Vector(code.builder, part) for part in code.halves(vector.value))
        masked.append(upper * mask + lower)
    _finish(half, masked)


mask_upper_half = inline(_mask_upper, PLANE)
"""(…, mask), (…, mask at, row, always, other at): sums in the upper half of a plane times the mask, and those in the
lower half; bias and slope are those of its upper half."""


@inline
def total(code: Code) -> None:
    """(source, totals), (at, row, pixel, to): add a tile's 16 pixels to what is there."""
    pixels = tile_of(code)
    while len(pixels) > 1:
        pixels = [one + other for one, other in zip(pixels[::2], pixels[1::2], strict=True)]
    to = code.numbers[3]
    code.store(1, to, (code.floats(1, to) + pixels[0]).value)
