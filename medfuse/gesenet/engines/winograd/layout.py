"""Lay out feature maps, layers and steps as tables of numbers, which compiled code reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medfuse.gesenet.engines.winograd.compile_cache import compiled
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PUT, ADD, MASK = 0, 1, 2
"""What becomes of a convolution's sums: stored, added to another map, masked by one."""

WIDEN, GRADIENT, CONVOLVE, POOL, MIX, DECIDE, MASKED, BLEND, NARROW, BLACKEN = range(10)
"""Kinds of steps."""

CACHE_LINE = 64
"""Bytes of a line of the cache."""


class Map(NamedTuple):
    """A feature map in the arena: blocks of rows of pixels of up to 16 channels, which fill a line of the cache.

    Framed by one pixel of zeros, and with whole tiles behind the last row and column. ``at``, ``block_size``, ``row``
    and ``pixel`` count elements; ``height`` and ``width`` are what is of the picture; ``tile`` is the side of a tile,
    half of it in maps of half the resolution. ``kept`` rows of tiles lie in the arena, later ones where earlier ones
    were.
    """

    at: int
    blocks: int
    block_size: int
    row: int
    pixel: int
    height: int
    width: int
    tile: int
    kept: int


class Layer(NamedTuple):
    """A convolution, ready for tiles; places are in the arrays of kernels and of constants.

    ``kernels``: (positions, columns / 16, depth, 16), pairs of input channels together where the last half of a block
    goes into vectors of a whole one; 1 × 1 kernels, of one position, lie among the constants. ``constants``: bias,
    slope, and 1 for what the mask leaves alone, (3, columns). ``step`` is that from position to position in the
    kernels. ``aside`` columns come before the others, and are added to them outside the mask. ``filled`` channels are
    written, with zeros behind the columns.
    """

    kernels: int
    constants: int
    depth: int
    columns: int
    positions: int
    step: int
    aside: int
    filled: int


class Step(NamedTuple):
    """What to do, on which set of tiles, so many rows behind the first; from and to which channel of which map.

    ``layer`` is that of the marked tiles where there is a mask, ``plain`` that of the others; a place among the
    constants for small filters. ``total`` is where to add up the channels, −1 for nowhere.
    """

    kind: int
    tiles: int
    lag: int
    source: int
    source_first: int
    target: int
    target_first: int
    layer: int
    plain: int
    how: int
    other: int
    other_first: int
    total: int


def table(kind: type[NamedTuple], rows: Sequence[NamedTuple]) -> NDArray[np.void]:
    """Rows of a table as Numba reads them."""
    return np.array([tuple(row) for row in rows], dtype=[(name, np.int64) for name in kind._fields])


def aligned_zeros(elements: int, kind: type[np.generic]) -> NDArray[Any]:
    """Zeros that begin with a line of the cache: what crosses two lines takes twice as long to read and write."""
    size = np.dtype(kind).itemsize
    values = np.zeros(elements + CACHE_LINE // size, kind)
    start = -values.ctypes.data % CACHE_LINE // size
    return values[start : start + elements]


def aligned_copy(values: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins with a line of the cache."""
    copy = aligned_zeros(len(values), values.dtype.type)
    copy[:] = values
    return copy


@compiled
def tile_offset(y: int, x: int, of: Any, around: int) -> Any:
    """Where a tile begins in the arena, or the patch around it."""
    return of.at + (of.tile * (y % of.kept) + 1 - around) * of.row + (of.tile * x + 1 - around) * of.pixel


@compiled
def lines_around(y: int, of: Any) -> tuple[Any, Any]:
    """How far the lines above and below a tile are from where they would be if all rows were kept."""
    row, ring = y % of.kept, of.kept * of.tile * of.row
    above = ring if row == 0 and y > 0 else 0
    if of.tile * (y + 1) >= of.height:
        return above, (of.kept - 1 - row) * of.tile * of.row  # the frame
    return above, -ring if row == of.kept - 1 else 0


@compiled
def channel_offset(channel: int, of: Any) -> Any:
    """How far a channel's values are behind those of the first."""
    return channel // CHANNEL_BLOCK * of.block_size + channel % CHANNEL_BLOCK


@compiled
def clear(y: int, x: int, target: Any, first: int, channels: int, arena: Floats) -> None:
    """Set to zero what of a tile lies behind the picture's last row and column."""
    side = target.tile
    if side * (y + 1) <= target.height and side * (x + 1) <= target.width:
        return
    for i in range(side):
        for j in range(side):
            if side * y + i >= target.height or side * x + j >= target.width:
                at = tile_offset(y, x, target, 0) + i * target.row + j * target.pixel
                for c in range(channels):
                    arena[at + channel_offset(first + c, target)] = 0
