"""Arithmetic on vectors of channels, as LLVM's instructions inside functions that Numba compiles.

Numba leaves it to LLVM to find vectors in loops, which it does not for the transforms of Winograd's convolution and for
products that keep their sums in registers. Here both are said outright. Arrays are one-dimensional and contiguous;
places in them are counted in elements.
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

LANES = 8
"""Channels in a vector: the width of AVX2. Channel counts are padded to multiples of it."""

PLANE = 2 * LANES
"""Channels side by side: in feature maps, in what goes into a product, and in what comes out of it."""

CONTRACT = ("contract",)


def _instructions() -> set[str]:
    """Sets of instructions that this processor has, or that Numba is told to use."""
    # Numba's list is without what NUMBA_ENABLE_AVX takes away.
    told = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {name[1:] for name in told.split(",") if name.startswith("+")}


WIDE = {"avx512f", "avx512bw", "avx512vl"} <= _instructions()
"""Whether a vector may hold a whole plane: the width of AVX-512."""


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

    def larger(self, other: Vector) -> Vector:
        over = self.builder.fcmp_ordered(">", self.value, other.value)
        return Vector(self.builder, self.builder.select(over, self.value, other.value))

    def magnitude(self) -> Vector:
        return self.larger(-1.0 * self)


class Code:
    """What an intrinsic writes its instructions with: arrays, and places in them, both from tuples.

    ``lanes`` is how many numbers its vectors hold.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, given: Sequence[Any], lanes: int) -> None:
        self.builder = builder
        self._hold(lanes)
        arrays = cgutils.unpack_tuple(builder, given[0], len(signature.args[0]))
        self.arrays = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[0].types, arrays, strict=True)
        ]
        self.numbers = cgutils.unpack_tuple(builder, given[1], len(signature.args[1]))

    def _hold(self, lanes: int) -> None:
        self.lanes = lanes
        self.float_kind = ir.VectorType(ir.FloatType(), lanes)

    def holding(self, lanes: int) -> Code:
        """The same with vectors of other lengths."""
        other = copy(self)
        other._hold(lanes)
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

    def everywhere(self, value: Any, lanes: int | None = None) -> Any:
        """One number in all lanes."""
        kind = ir.VectorType(value.type, lanes or self.lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return self.chosen(first, first, [0] * kind.count)

    def chosen(self, one: Any, other: Any, lanes: Sequence[int]) -> Any:
        """A vector of some lanes of two, counted through both."""
        kind = ir.VectorType(ir.IntType(32), len(lanes))
        return self.builder.shuffle_vector(one, other, ir.Constant(kind, list(lanes)))

    def halves(self, vector: Any) -> list[Any]:
        """The lower and the upper lanes."""
        half = vector.type.count // 2
        return [self.chosen(vector, vector, range(first, first + half)) for first in (0, half)]

    def joined(self, lower: Any, upper: Any) -> Any:
        """A vector of twice as many lanes."""
        return self.chosen(lower, upper, range(2 * lower.type.count))

    def sum_of_lanes(self, vector: Vector) -> Any:
        """The sum of all lanes, in pairs."""
        value = vector.value
        while value.type.count > 1:
            value = self.builder.fadd(*self.halves(value))
        return self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def inline(write: Callable[[Code], None], lanes: int = LANES) -> Any:
    """Make a function of a tuple of arrays and a tuple of places, which Numba puts in line."""

    def typed(context: Any, arrays: Any, places: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            write(Code(context, builder, signature, given, lanes))
            return context.get_dummy_value()

        return types.void(arrays, places), generate

    return intrinsic(typed)
