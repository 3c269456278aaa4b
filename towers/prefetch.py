"""Asking the processor for memory before it is needed, from inside kernels.

Rows of a catalogue lie anywhere in tables of hundreds of megabytes. A loop that reads one row after the other waits for
each; one that names the rows some steps ahead finds them in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
from llvmlite import ir
from numba.core import cgutils

AHEAD = 16
"""How many rows ahead of its use a row is named: far enough for memory, near enough for the first cache."""
_CACHE_LINE_BYTES = 64


def _instructions(function: Callable[..., Any]) -> Any:
    """What kernels call like a function, and the compiler gets as instructions."""
    return numba.extending.intrinsic(function)


@_instructions
def prefetch(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - typed by what the caller hands in
    """Has the processor fetch array[index], of one dimension or the whole row of two, while it does other things.

    Nothing is checked: an index out of range costs time and does no harm.
    """
    signature = numba.types.void(array, numba.types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0])
        strides, shape = cgutils.unpack_tuple(builder, data.strides), cgutils.unpack_tuple(builder, data.shape)
        begin = builder.bitcast(data.data, ir.IntType(8).as_pointer())
        place = builder.gep(begin, [builder.mul(arguments[1], strides[0])])
        size = builder.mul(shape[1], strides[1]) if kind.ndim == 2 else ir.Constant(strides[0].type, 1)
        flag = ir.IntType(32)
        signature_of = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, signature_of, "llvm.prefetch.p0")
        line = ir.Constant(size.type, _CACHE_LINE_BYTES)
        last = builder.sub(size, ir.Constant(size.type, 1))
        for_reading, keep_in_all_caches, of_data = flag(0), flag(3), flag(1)
        with cgutils.for_range(builder, builder.add(builder.udiv(last, line), ir.Constant(size.type, 1))) as loop:
            at = builder.gep(place, [builder.mul(loop.index, line)])
            builder.call(function, [at, for_reading, keep_in_all_caches, of_data])
        return context.get_dummy_value()

    return signature, generate
