"""Kernels made ready for tiles: transformed for Winograd's convolution, put in panels, in float32 or in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medfuse.gesenet.engines.folded import FoldedLayer
from medfuse.gesenet.engines.winograd.layout import Layer, in_lines, table
from medfuse.gesenet.engines.winograd.simd import LANES, PLANE, WIDE
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


def wide(kernels: Tensor, bias: Tensor | None, slope: float) -> Spec:
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
    return padded(Spec(spread, constants, 0, 0))


def padded(spec: Spec) -> Spec:
    """Fill depth and columns up to whole vectors."""
    depth, columns = -spec.kernels.shape[1] % LANES, -spec.kernels.shape[2] % LANES
    kernels = np.pad(spec.kernels, ((0, 0), (0, depth), (0, columns)))
    constants = np.pad(spec.constants, ((0, 0), (0, columns)))
    return Spec(kernels, constants, spec.aside, max(spec.filled, kernels.shape[2] - spec.aside))


def masked_layer(layer: FoldedLayer) -> tuple[Spec, Spec]:
    """What a masked convolution computes of tiles with a marked pixel, and of those without."""
    assert layer.marked is not None
    kernels, out = layer.marked.weight, layer.out_principal
    marked = wide(kernels, None, 0.0)
    filled = marked.kernels.shape[2]
    marked.constants[2, :out] = 0.0 if layer.mixed else 1.0
    if out == 0:
        nothing = Spec(np.zeros((POSITIONS, LANES, 0)), np.zeros((3, 0)), 0, filled)
        return marked, nothing
    among = kernels[:out] if layer.everywhere is None else layer.everywhere.weight[:out]
    if layer.mixed and layer.everywhere is None:  # no principal channel enters
        return marked, Spec(np.zeros((POSITIONS, LANES, 0)), np.zeros((3, 0)), 0, filled)
    plain = wide(among, None, 0.0)._replace(filled=filled)
    if not layer.mixed:
        return marked, plain
    aside = plain.kernels.shape[2]
    beside = np.zeros((POSITIONS, marked.kernels.shape[1], aside))
    beside[:, : plain.kernels.shape[1]] = plain.kernels
    joined = np.concatenate((beside, marked.kernels), axis=2)
    return Spec(joined, np.concatenate((plain.constants, marked.constants), axis=1), aside, filled), plain


def pack(specs: Sequence[Spec], small: Sequence[Array], peaks: Sequence[Array] | None) -> tuple[Any, Any, Any]:
    """Layers, kernels and constants as `convolving.run` takes them: in float32, or in 16 bits if peaks are given.

    Peaks (positions, depth) are the largest numbers that shall fit into 16 bits, of each layer's transformed input.
    """
    kernels: list[NDArray[Any]] = []
    constants = [np.concatenate([*small, np.zeros(LANES)]).astype(np.float32)]
    layers = []
    place, constant = 0, len(constants[0])
    for number, spec in enumerate(specs):
        _, depth, columns = spec.kernels.shape
        positions = len(spec.kernels)
        weights, inward, outward = spec.kernels, np.ones((positions, depth)), np.ones((positions, columns))
        if positions == 1:
            # Of one float32 product each, they lie with the constants, whatever the others are.
            parts, at = [_in_panels(weights, 1, 1), spec.constants.ravel()], constant
        else:
            if peaks is not None and columns:
                weights, inward, outward = to_shorts(weights, peaks[number])
            together = 1 if peaks is None else 2
            # A vector of twice the columns takes twice the channels.
            flat = _in_panels(weights, together, 2 * together if WIDE else together)
            kernels.append(flat.astype(np.float32 if peaks is None else np.int16))
            parts, at = [_in_planes(inward), _in_planes(outward), spec.constants.ravel()], place
            place += len(flat)
        begins = constant + np.cumsum([0, *map(len, parts)])
        layers.append(
            Layer(
                at,
                begins[0],
                begins[1],
                begins[-2],
                depth,
                columns,
                positions,
                depth * columns,
                spec.aside,
                spec.filled,
            )
        )
        constants.append(np.concatenate(parts).astype(np.float32))
        constant += len(constants[-1])
    return table(Layer, layers), in_lines(np.concatenate(kernels)), in_lines(np.concatenate(constants))


def _in_panels(weights: Array, together: int, together_in_half: int) -> Array:
    """Kernels (positions, depth, columns) in the order of products: planes of columns, then depth, some together."""
    positions, depth, columns = weights.shape
    panels = [weights[:, :, n : n + PLANE] for n in range(0, columns, PLANE)]
    ordered = []
    for panel in panels:
        many = together if panel.shape[2] == PLANE else together_in_half
        ordered.append(panel.reshape(positions, depth // many, many, -1).swapaxes(2, 3).reshape(positions, -1))
    return np.concatenate([*ordered, np.zeros((positions, 0))], axis=1).ravel()


def _in_planes(scales: Array) -> Array:
    """Numbers (positions, channels) in the order of transformed patches: planes, then positions."""
    whole = np.pad(scales, ((0, 0), (0, -scales.shape[1] % PLANE)))
    return whole.reshape(len(scales), -1, PLANE).swapaxes(0, 1).ravel()


LARGEST = 32767
MOST = 65000
"""Sum of the magnitudes of a column's kernels in 16 bits, so that no sum of products leaves 32 bits."""


def to_shorts(kernels: Array, peaks: Array) -> tuple[Array, Array, Array]:
    """Kernels (positions, depth, columns) rounded to 16 bits, and the scales into and out of them."""
    least = max(1e-3 * peaks.max(), 1e-6)
    inward = LARGEST / np.maximum(peaks, least)
    scaled = kernels / inward[:, :, None]
    size = np.maximum(np.abs(scaled).sum(1) / MOST, np.abs(scaled).max(1) / LARGEST)
    outward = np.where(size > 0, size, 1.0)
    return np.rint(scaled / outward[:, None]), inward, outward
