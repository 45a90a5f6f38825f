"""Arithmetic on vectors of channels, as LLVM's instructions inside functions that Numba compiles.

Numba leaves it to LLVM to find vectors in loops, which it does not for the transforms of Winograd's convolution and for
products that keep their sums in registers. Here both are said outright. Arrays are one-dimensional and contiguous;
places in them are counted in elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Channels in a vector: the width of AVX2. Channel counts are padded to multiples of it."""

FLOATS = ir.VectorType(ir.FloatType(), LANES)
WORDS = ir.VectorType(ir.IntType(32), LANES)
SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)
CONTRACT = ("contract",)


def has_avx2() -> bool:
    """Whether this processor has the instructions that 16-bit products are written with."""
    return bool(binding.get_host_cpu_features().get("avx2"))


class Vector:
    """`LANES` float32 in a register: what the transforms are written with."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, instruction: str, other: Vector | float) -> Vector:
        value = other.value if isinstance(other, Vector) else ir.Constant(FLOATS, [float(other)] * LANES)
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
    """What an intrinsic writes its instructions with: arrays, and places in them, both from tuples."""

    def __init__(self, context: Any, builder: Any, signature: Any, given: Sequence[Any]) -> None:
        self.builder = builder
        arrays = cgutils.unpack_tuple(builder, given[0], len(signature.args[0]))
        self.arrays = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[0].types, arrays, strict=True)
        ]
        self.numbers = cgutils.unpack_tuple(builder, given[1], len(signature.args[1]))

    def place(self, start: Any, *steps: tuple[Any, int]) -> Any:
        """A place that lies so many steps of so many elements from another."""
        for step, times in steps:
            start = self.builder.add(start, self.builder.mul(step, ir.Constant(step.type, times)))
        return start

    def pointer(self, array: int, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.arrays[array], [place]), kind.as_pointer())

    def load(self, array: int, place: Any, kind: Any) -> Any:
        return self.builder.load(self.pointer(array, place, kind), align=2)

    def store(self, array: int, place: Any, value: Any) -> None:
        self.builder.store(value, self.pointer(array, place, value.type), align=2)

    def floats(self, array: int, place: Any) -> Vector:
        return Vector(self.builder, self.load(array, place, FLOATS))

    def everywhere(self, value: Any) -> Any:
        """One number in all lanes."""
        kind = ir.VectorType(value.type, LANES)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    def call(self, name: str, result: Any, *given: Any) -> Any:
        kind = ir.FunctionType(result, [one.type for one in given])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), given)

    def sum_of_lanes(self, vector: Vector) -> Any:
        """The sum of all lanes, in pairs."""
        value, width = vector.value, LANES
        while width > 1:
            width //= 2
            half = ir.VectorType(ir.IntType(32), width)
            low, high = (
                self.builder.shuffle_vector(value, value, ir.Constant(half, list(range(first, first + width))))
                for first in (0, width)
            )
            value = self.builder.fadd(low, high)
        return self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    def shorts(self, vector: Vector) -> Any:
        """Round to the nearest and saturate to 16 bits."""
        words = self.call("llvm.x86.avx.cvt.ps2dq.256", WORDS, vector.value)
        half = ir.VectorType(ir.IntType(32), LANES // 2)
        halves = [
            self.builder.shuffle_vector(words, words, ir.Constant(half, list(range(first, first + LANES // 2))))
            for first in (0, LANES // 2)
        ]
        return self.call("llvm.x86.sse2.packssdw.128", ir.VectorType(ir.IntType(16), LANES), *halves)


def inline(write: Callable[[Code, bool], None]) -> Any:
    """Make a function of a tuple of arrays and a tuple of places, which Numba puts in line.

    It writes other instructions where an array holds integers.
    """

    def typed(context: Any, arrays: Any, places: Any) -> Any:
        shorts = any(kind.dtype in (types.int16, types.int32) for kind in arrays.types)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            write(Code(context, builder, signature, given), shorts)
            return context.get_dummy_value()

        return types.void(arrays, places), generate

    return intrinsic(typed)
