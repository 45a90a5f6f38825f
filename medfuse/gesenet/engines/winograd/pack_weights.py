"""Pack kernels for tiles: transform them for Winograd's convolution, and put them in panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medfuse.gesenet.engines.folded import FoldedLayer
from medfuse.gesenet.engines.winograd.layout import Layer, aligned_copy, table
from medfuse.gesenet.engines.winograd.simd import CHANNEL_BLOCK, HAS_AVX512, SIMD_WIDTH
from medfuse.gesenet.engines.winograd.simd_transforms import POSITIONS

Array = NDArray[np.float64]

KERNEL_TO_PATCH = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of F(4, 3)."""


class Spec(NamedTuple):
    """A layer before it is packed: kernels (36 or 1, depth, columns) and constants (3, columns) in float64."""

    kernels: Array
    constants: Array
    aside: int
    filled: int


def winograd_layer(kernels: Tensor, bias: Tensor | None, slope: float) -> Spec:
    """A convolution with (out, into, 3, 3) or (out, into, 1, 1) kernels and a leaky ReLU."""
    weights = kernels.detach().double().numpy()
    if weights.shape[-1] == 3:
        spread = np.einsum("ia,ocab,jb->ijco", KERNEL_TO_PATCH, weights, KERNEL_TO_PATCH)
        spread = spread.reshape(POSITIONS, *spread.shape[2:])
    else:
        spread = weights[:, :, 0, 0].T[None]
    constants = np.zeros((3, len(weights)))
    if bias is not None:
        constants[0] = bias.detach().double().numpy()
    constants[1] = slope
    # Fill depth and columns up to whole vectors.
    depth, columns = (-length % SIMD_WIDTH for length in spread.shape[1:])
    kernels_padded = np.pad(spread, ((0, 0), (0, depth), (0, columns)))
    return Spec(kernels_padded, np.pad(constants, ((0, 0), (0, columns))), 0, kernels_padded.shape[2])


def masked_layer(layer: FoldedLayer) -> tuple[Spec, Spec]:
    """What a masked convolution computes of tiles with a marked pixel, and of those without."""
    assert layer.marked is not None
    kernels, out = layer.marked.weight, layer.out_principal
    marked = winograd_layer(kernels, None, 0.0)
    filled = marked.kernels.shape[2]
    marked.constants[2, :out] = 0.0 if layer.mixed else 1.0
    if out == 0 or (layer.mixed and layer.everywhere is None):  # no principal channel leaves, or none enters
        return marked, Spec(np.zeros((POSITIONS, SIMD_WIDTH, 0)), np.zeros((3, 0)), 0, filled)
    among = kernels if layer.everywhere is None else layer.everywhere.weight
    plain = winograd_layer(among[:out], None, 0.0)._replace(filled=filled)
    if not layer.mixed:
        return marked, plain
    aside = plain.kernels.shape[2]
    beside = np.zeros((POSITIONS, marked.kernels.shape[1], aside))
    beside[:, : plain.kernels.shape[1]] = plain.kernels
    joined = np.concatenate((beside, marked.kernels), axis=2)
    return Spec(joined, np.concatenate((plain.constants, marked.constants), axis=1), aside, filled), plain


def pack(specs: Sequence[Spec], small: Sequence[Array]) -> tuple[Any, Any, Any]:
    """Layers, kernels and constants as `interpreter.run` takes them, in float32."""
    kernels: list[NDArray[Any]] = []
    constants = [np.concatenate([*small, np.zeros(SIMD_WIDTH)]).astype(np.float32)]
    layers = []
    place, constant = 0, len(constants[0])
    for spec in specs:
        positions, depth, columns = spec.kernels.shape
        if positions == 1:
            # Of one product each, they lie with the constants.
            parts, at = [_in_panels(spec.kernels, 1), spec.constants.ravel()], constant
        else:
            # A vector of twice the columns takes twice the channels.
            kernels.append(_in_panels(spec.kernels, 2 if HAS_AVX512 else 1).astype(np.float32))
            parts, at = [spec.constants.ravel()], place
            place += len(kernels[-1])
        behind = constant + sum(map(len, parts[:-1]))
        layers.append(Layer(at, behind, depth, columns, positions, depth * columns, spec.aside, spec.filled))
        constants.append(np.concatenate(parts).astype(np.float32))
        constant += len(constants[-1])
    return table(Layer, layers), aligned_copy(np.concatenate(kernels)), aligned_copy(np.concatenate(constants))


def _in_panels(weights: Array, together: int) -> Array:
    """Kernels (positions, depth, columns) by blocks of columns, then depth, some together in half a block."""
    positions, depth, columns = weights.shape
    panels = [weights[:, :, n : n + CHANNEL_BLOCK] for n in range(0, columns, CHANNEL_BLOCK)]
    ordered = []
    for panel in panels:
        many = 1 if panel.shape[2] == CHANNEL_BLOCK else together
        ordered.append(panel.reshape(positions, depth // many, many, -1).swapaxes(2, 3).reshape(positions, -1))
    return np.concatenate([*ordered, np.zeros((positions, 0))], axis=1).ravel()
