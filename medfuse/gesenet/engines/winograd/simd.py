"""Write SIMD instructions on vectors of channels into functions that Numba compiles.

Numba leaves it to LLVM to find vectors in loops, which it does not for the transforms of Winograd's convolution and for
products that keep their sums in registers. Here both are written as LLVM's instructions. Arrays are one-dimensional and
contiguous; places in them are counted in elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

SIMD_WIDTH = 8
"""float32 in a vector of AVX2: so many channels. Channel counts are padded to multiples of it."""

CHANNEL_BLOCK = 2 * SIMD_WIDTH
"""Channels side by side, in feature maps and transformed tiles: a vector of AVX-512, or two of AVX2."""

CONTRACT = ("contract",)


FEATURES = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
"""Instructions of this processor, without what NUMBA_ENABLE_AVX takes away; or those that Numba is told to use."""

HAS_AVX512 = {"+avx512f", "+avx512bw", "+avx512vl"} <= set(FEATURES.split(","))
"""Whether a vector may hold a whole block of channels."""


class Vector:
    """float32 in a register: what the transforms are written with."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, instruction: str, other: Vector | float) -> Vector:
        kind = self.value.type
        value = other.value if isinstance(other, Vector) else ir.Constant(kind, [float(other)] * kind.count)
        return Vector(self.builder, getattr(self.builder, instruction)(self.value, value, flags=CONTRACT))

    def __add__(self, other: Vector) -> Vector:
        return self._with("fadd", other)

    def __sub__(self, other: Vector) -> Vector:
        return self._with("fsub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._with("fmul", other)

    __rmul__ = __mul__

    def maximum(self, other: Vector) -> Vector:
        over = self.builder.fcmp_ordered(">", self.value, other.value)
        return Vector(self.builder, self.builder.select(over, self.value, other.value))

    def absolute(self) -> Vector:
        return self.maximum(-1.0 * self)


class Code:
    """What an intrinsic writes its instructions with: arrays, and places in them, both from tuples.

    ``width`` is how many float32 its vectors hold.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, given: Sequence[Any], width: int) -> None:
        self.builder, self.width = builder, width
        arrays = cgutils.unpack_tuple(builder, given[0], len(signature.args[0]))
        self.arrays = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[0].types, arrays, strict=True)
        ]
        self.numbers = cgutils.unpack_tuple(builder, given[1], len(signature.args[1]))

    @property
    def float_kind(self) -> Any:
        """The type of its vectors."""
        return ir.VectorType(ir.FloatType(), self.width)

    def of_width(self, width: int) -> Code:
        """The same with vectors of other lengths."""
        other = copy(self)
        other.width = width
        return other

    def place(self, start: Any, *steps: tuple[Any, int]) -> Any:
        """A place that lies so many steps of so many elements from another."""
        for step, times in steps:
            start = self.builder.add(start, self.builder.mul(step, ir.Constant(step.type, times)))
        return start

    def behind(self, place: Any, by: int) -> Any:
        """A place so many elements further on."""
        return self.builder.add(place, ir.Constant(place.type, by))

    def pointer(self, array: int, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.arrays[array], [place]), kind.as_pointer())

    def load(self, array: int, place: Any, kind: Any) -> Any:
        return self.builder.load(self.pointer(array, place, kind), align=2)

    def store(self, array: int, place: Any, value: Any) -> None:
        self.builder.store(value, self.pointer(array, place, value.type), align=2)

    def floats(self, array: int, place: Any) -> Vector:
        return Vector(self.builder, self.load(array, place, self.float_kind))

    def broadcast(self, value: Any, width: int | None = None) -> Any:
        """One number in all elements of a vector."""
        kind = ir.VectorType(value.type, width or self.width)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, first, [0] * kind.count)

    def shuffle(self, one: Any, other: Any, elements: Sequence[int]) -> Any:
        """A vector of some elements of two, counted through both."""
        kind = ir.VectorType(ir.IntType(32), len(elements))
        return self.builder.shuffle_vector(one, other, ir.Constant(kind, list(elements)))

    def halves(self, vector: Any) -> list[Any]:
        """The lower and the upper elements."""
        half = vector.type.count // 2
        return [self.shuffle(vector, vector, range(first, first + half)) for first in (0, half)]

    def joined(self, lower: Any, upper: Any) -> Any:
        """A vector of twice as many elements."""
        return self.shuffle(lower, upper, range(2 * lower.type.count))

    def horizontal_sum(self, vector: Vector) -> Any:
        """The sum of all elements, in pairs."""
        value = vector.value
        while value.type.count > 1:
            value = self.builder.fadd(*self.halves(value))
        return self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def inline(write: Callable[..., None], width: int = SIMD_WIDTH, **options: Any) -> Any:
    """Make a function of a tuple of arrays and a tuple of places, which Numba puts in line.

    ``write`` is called with a `Code` of vectors of a width, and the options.
    """

    def typed(context: Any, arrays: Any, places: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            write(Code(context, builder, signature, given, width), **options)
            return context.get_dummy_value()

        return types.void(arrays, places), generate

    return intrinsic(typed)
