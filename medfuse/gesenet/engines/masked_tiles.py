"""Convolve only the tiles of a picture in which a mask is set: gather them, convolve, put the sums back."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

TILE = 16
"""Side of a tile in pixels: its rim of one pixel costs a quarter more, and finer masks are followed worse by larger."""


def add_in_tiles(sums: Tensor, features: Tensor, kernels: Tensor, mask: Tensor) -> None:
    """Add ``mask * convolution(features)`` to ``sums`` in place; tiles without a marked pixel cost nothing.

    Parameters
    ----------
    sums
        (N, O, H, W), any strides.
    features
        (N, C, H, W).
    kernels
        (O, C, 3, 3).
    mask
        (N, 1, H, W), 0 or 1.
    """
    count, _, height, width = features.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    below, beside = rows * TILE - height, columns * TILE - width
    whole_mask = functional.pad(mask, (0, beside, 0, below))
    picture, row, column = functional.max_pool2d(whole_mask, TILE)[:, 0].nonzero(as_tuple=True)
    if not len(picture):
        return
    rimmed = functional.pad(features, (1, beside + 1, 1, below + 1)).permute(0, 2, 3, 1).contiguous()
    strides = rimmed.stride()
    windows = rimmed.as_strided(
        (count, rows, columns, TILE + 2, TILE + 2, rimmed.shape[-1]),
        (strides[0], TILE * strides[1], TILE * strides[2], strides[1], strides[2], strides[3]),
    )
    gathered = windows[picture, row, column].permute(0, 3, 1, 2)
    found = functional.conv2d(gathered, kernels).permute(0, 2, 3, 1)
    marked = whole_mask[:, 0].view(count, rows, TILE, columns, TILE).transpose(2, 3)[picture, row, column]
    whole = sums.new_zeros((count, rows, columns, TILE, TILE, found.shape[-1]))
    whole[picture, row, column] = found * marked[..., None]
    put_back = whole.transpose(2, 3).reshape(count, rows * TILE, columns * TILE, -1)[:, :height, :width]
    sums += put_back.permute(0, 3, 1, 2)
