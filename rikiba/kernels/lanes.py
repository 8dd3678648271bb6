"""Sixteen numbers at once inside compiled functions: what a vectoriser cannot be relied on to find.

    a = load(array, at)             16 consecutive elements of a flat contiguous array, from index `at`
    store(array, at, a)
    multiply_add(a, b, c)           a·b + c, rounded once where the processor can
    multiply(a, b), add(a, b), divide(a, b), square_root(a)
    smaller(a, b, x, y)             x where a < b, otherwise y
    times_power_of_two(p, n)        p·2^m of normal numbers, the whole number m being the last bits of n
    splat(x)                        x in every lane, of x's type
    splat_as(a, x)                  x in every lane, rounded to a's type
    wide(a)                         whether the lanes are float64
    spread(array, at)               one element in every lane
    aligned(n, like)                a new array of like's type
    total(a)                        sum of the lanes, always in the same order
    turned(a, n)                    lanes n, n + 1 … 15, 0 … n − 1; n written as a number
    fetch(array, at, write)         ask for the cache line of an element before it is read or, `write` written
                                    as 1 rather than 0, overwritten

float32 or float64. No index is checked. The results do not depend on the width of the processor's registers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models, register_model

from .compiled import compiled

LANES = 16

intrinsic: Any = extending.intrinsic  # untyped there


@compiled
def aligned(n, like):  # type: ignore[no-untyped-def]
    """A new flat array of n elements that starts at a cache line, so that no load straddles two."""
    size = like.itemsize
    buffer = np.empty(n + 64 // size, like.dtype)
    shift = (-buffer.ctypes.data % 64) // size
    return buffer[shift : shift + n]


class _Lanes(types.Type):
    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Lanes) -> None:
        element = ir.FloatType() if fe_type.element.bitwidth == 32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


_TYPES = {types.float32: _Lanes(types.float32), types.float64: _Lanes(types.float64)}


def _pointer(context: Any, builder: Any, array_type: Any, args: Any, lanes: Any) -> Any:
    array, at = args[:2]
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), ir.PointerType(lanes))


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Any:
    lanes = _TYPES[array.dtype]

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args, context.get_value_type(lanes))
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), emit


@intrinsic
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args, context.get_value_type(value))
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), emit


@intrinsic
def splat(typing: Any, x: Any) -> Any:
    lanes = _TYPES[x]

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _broadcast(context, builder, lanes, args[0])

    return lanes(x), emit


def _broadcast(context: Any, builder: Any, lanes: Any, value: Any) -> Any:
    vector = context.get_value_type(lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, mask)


@intrinsic
def splat_as(typing: Any, a: Any, x: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[1] if a.element.bitwidth == 64 else builder.fptrunc(args[1], ir.FloatType())
        return _broadcast(context, builder, a, value)

    return a(a, types.float64), emit


@intrinsic
def wide(typing: Any, a: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), int(a.element.bitwidth == 64))

    return types.boolean(a), emit


@intrinsic
def spread(typing: Any, array: Any, at: Any) -> Any:
    lanes = _TYPES[array.dtype]

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
        return _broadcast(context, builder, lanes, builder.load(builder.gep(data, [args[1]])))

    return lanes(array, types.intp), emit


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        name = f"llvm.fma.v{LANES}f{a.element.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a, a, a), emit


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args)

    return a(a, a), emit


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return a(a, a), emit


@intrinsic
def divide(typing: Any, a: Any, b: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return a(a, a), emit


@intrinsic
def smaller(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), emit


def _function(name: str, a: Any) -> Any:
    """A function of one argument that the processor knows."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        kind = ir.FunctionType(vector, [vector])
        full = f"llvm.{name}.v{LANES}f{a.element.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, full), args)

    return a(a), emit


@intrinsic
def square_root(typing: Any, a: Any) -> Any:
    return _function("sqrt", a)


@intrinsic
def times_power_of_two(typing: Any, p: Any, n: Any) -> Any:
    bits, mantissa = (32, 23) if p.element.bitwidth == 32 else (64, 52)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, whole = args[0].type, ir.VectorType(ir.IntType(bits), LANES)
        shifted = builder.shl(builder.bitcast(args[1], whole), ir.Constant(whole, [mantissa] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(args[0], whole), shifted), vector)

    return p(p, p), emit


@intrinsic
def total(typing: Any, a: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            halves = [
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
                for start in (0, width)
            ]
            undefined = ir.Constant(value.type, ir.Undefined)
            low, high = (builder.shuffle_vector(value, undefined, half) for half in halves)
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.IntType(32)(0))

    return a.element(a), emit


@intrinsic(prefer_literal=True)
def turned(typing: Any, a: Any, n: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        order = [(lane + n.literal_value) % LANES for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
        return builder.shuffle_vector(args[0], ir.Constant(args[0].type, ir.Undefined), mask)

    return a(a, n), emit


@intrinsic(prefer_literal=True)
def fetch(typing: Any, array: Any, at: Any, write: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.PointerType(ir.IntType(8)), ir.IntType(32)
        data = cgutils.create_struct_proxy(array)(context, builder, args[0]).data
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # into the second-level cache or, to be overwritten, the first; of data
        settings = (write.literal_value, 3 if write.literal_value else 2, 1)
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(function, [place, *(number(x) for x in settings)])
        return context.get_dummy_value()

    return types.void(array, types.intp, write), emit
