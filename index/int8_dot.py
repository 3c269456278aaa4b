"""The inner products of a query with a block of int8 vectors, in the processor's vector instructions.

A query is quantised to two bytes a dimension, so that nearly nothing of it is lost. What is written here is plain
vector arithmetic of LLVM, which finds the best instructions of the processor that it compiles for: VPDPWSSD where there
is AVX-512 VNNI, PMADDWD on other x86, and others elsewhere. The results are the same on all of them. Loops in Python's
syntax would do, too, at three times the cost: the compiler does not keep 16 sums in one register for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from index.compiled import kernel
from index.int8_blocks import BLOCK_SIZE, CODE_MAX, SUM_COUNT, TAIL_SIZE

QUERIES_SIDE_BY_SIDE = 4
"""Queries that `best_of_block` scores a block for."""
_CACHE_LINE_BYTES = 64
_QUERY_CODE_MAX, _SUM_MAX = 2**15 - 1, 2**31 - 1
_QUERY_MIN = np.float32(1e-30)
"""A query below it counts as zero: dividing by it would overflow."""
_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_CODES, _PAIRS = ir.VectorType(_I8, 2 * BLOCK_SIZE), ir.VectorType(_I16, 2 * BLOCK_SIZE)
_PRODUCTS, _WORDS = ir.VectorType(_I32, 2 * BLOCK_SIZE), ir.VectorType(_I32, BLOCK_SIZE)
_FLOATS = ir.VectorType(_F32, BLOCK_SIZE)


def _instructions(function: Callable[..., Any]) -> Any:
    """What kernels call like a function, and the compiler gets as instructions."""
    return numba.extending.intrinsic(function)


@kernel
def quantise(query: Any, codes: Any) -> Any:
    """Writes the codes of a query (D,) float32 to codes (D filled up,) int16; returns its scale."""
    largest = np.float32(0)
    for value in query:
        largest = max(largest, abs(value))
    if largest < _QUERY_MIN:
        largest = np.float32(1)
    code_max = np.float32(min(_QUERY_CODE_MAX, _SUM_MAX // (CODE_MAX * len(codes))))
    codes[:] = 0
    for axis in range(len(query)):
        codes[axis] = np.int16(np.rint(query[axis] * (code_max / largest)))
    return largest / code_max


@_instructions
def score_block(_: Any, data: Any, block: Any, query: Any, scores: Any, at: Any) -> Any:
    """scores[at : at + 16] = scale · Σ codes · query, of each vector of a block; returns the largest.

    `data` as in Blocks, `query` (D filled up,) int16, `scores` float32. Nothing is checked.
    """
    signature = numba.types.float32(data, block, query, scores, at)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        begin, size = _line(context, builder, signature.args[0], arguments[0], arguments[1])
        query_begin = _pointer(context, builder, signature.args[2], arguments[2], _I8)
        [found] = _scores_of(builder, begin, size, [query_begin], SUM_COUNT)
        place = builder.gep(_pointer(context, builder, signature.args[3], arguments[3], _F32), [arguments[4]])
        builder.store(found, builder.bitcast(place, _FLOATS.as_pointer())).align = 4
        return _largest(builder, found)

    return signature, generate


@_instructions
def best_of_block(_: Any, data: Any, block: Any, queries: Any, first: Any, best: Any) -> Any:
    """best[first : first + 4, block] ← the largest score that `score_block` gives each of these queries.

    `queries` (B, D filled up) int16, `best` (B, blocks) float32, both contiguous. Four queries share what is read of
    the block, and are a quarter cheaper than four calls. Nothing is checked.
    """
    signature = numba.types.void(data, block, queries, first, best)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        begin, size = _line(context, builder, signature.args[0], arguments[0], arguments[1])
        places = [builder.add(arguments[3], _I64(query)) for query in range(QUERIES_SIDE_BY_SIDE)]
        lines = [_line(context, builder, signature.args[2], arguments[2], place)[0] for place in places]
        found = _scores_of(builder, begin, size, lines, SUM_COUNT // 2)  # more would not stay in registers
        for place, scores in zip(places, found, strict=True):
            line, _ = _line(context, builder, signature.args[4], arguments[4], place)
            to = builder.gep(builder.bitcast(line, _F32.as_pointer()), [arguments[1]])
            builder.store(_largest(builder, scores), to).align = 4
        return context.get_dummy_value()

    return signature, generate


@_instructions
def dot_row(_: Any, vectors: Any, row: Any, query: Any) -> Any:
    """Σ vectors[row] · query, float32: `vectors` (n, D), `query` (D,). The order of the sum follows from D alone."""
    signature = numba.types.float32(vectors, row, query)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        begin, size = _line(context, builder, signature.args[0], arguments[0], arguments[1])
        width = builder.udiv(size, _I64(4))
        query_begin = _pointer(context, builder, signature.args[2], arguments[2], _I8)
        lanes = cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, None))
        with cgutils.for_range(builder, builder.udiv(width, _I64(BLOCK_SIZE))) as loop:
            offset = builder.mul(loop.index, _I64(4 * BLOCK_SIZE))
            product = builder.fmul(
                _load(builder, begin, offset, _FLOATS),
                _load(builder, query_begin, offset, _FLOATS),
                flags=("contract",),
            )
            builder.store(builder.fadd(builder.load(lanes), product, flags=("contract",)), lanes)
        kind = ir.FunctionType(_F32, [_F32, _FLOATS])
        added = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{BLOCK_SIZE}f32")
        total = cgutils.alloca_once_value(
            builder, builder.call(added, [_F32(0), builder.load(lanes)], fastmath=("reassoc",))
        )
        done = builder.mul(builder.udiv(width, _I64(BLOCK_SIZE)), _I64(4 * BLOCK_SIZE))
        with cgutils.for_range(builder, builder.urem(width, _I64(BLOCK_SIZE))) as loop:
            offset = builder.add(done, builder.mul(loop.index, _I64(4)))
            product = builder.fmul(_load(builder, begin, offset, _F32), _load(builder, query_begin, offset, _F32))
            builder.store(builder.fadd(builder.load(total), product), total)
        return builder.load(total)

    return signature, generate


@_instructions
def prefetch_block(_: Any, data: Any, block: Any) -> Any:
    """Asks the processor to fetch a block, or a line of any other table, from memory while it works on another."""
    signature = numba.types.void(data, block)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        begin, size = _line(context, builder, signature.args[0], arguments[0], arguments[1])
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_reading, keep_in_all_caches, of_data = _I32(0), _I32(3), _I32(1)
        with cgutils.for_range(builder, builder.udiv(size, _I64(_CACHE_LINE_BYTES))) as loop:
            line = builder.gep(begin, [builder.mul(loop.index, _I64(_CACHE_LINE_BYTES))])
            builder.call(prefetch, [line, for_reading, keep_in_all_caches, of_data])
        return context.get_dummy_value()

    return signature, generate


def _scores_of(builder: Any, begin: Any, size: Any, queries: list[Any], sum_count: int) -> list[Any]:
    """For each query the scores (16,) of the block's vectors; sum_count sums of each run side by side."""
    groups = builder.udiv(builder.sub(size, _I64(TAIL_SIZE * BLOCK_SIZE)), _I64(2 * BLOCK_SIZE))
    zeros = ir.Constant(_WORDS, None)
    sums = [[cgutils.alloca_once_value(builder, zeros) for _ in range(sum_count)] for _ in queries]
    with cgutils.for_range(builder, builder.udiv(groups, _I64(SUM_COUNT))) as loop:
        for step in range(SUM_COUNT):
            group = builder.add(builder.mul(loop.index, _I64(SUM_COUNT)), _I64(step))
            codes = builder.sext(_load(builder, begin, builder.mul(group, _I64(2 * BLOCK_SIZE)), _CODES), _PRODUCTS)
            for query, own_sums in zip(queries, sums, strict=True):
                pair = builder.bitcast(
                    _repeat(builder, _load(builder, query, builder.mul(group, _I64(4)), _I32)), _PAIRS
                )
                added = _add_pairs(builder, builder.mul(codes, builder.sext(pair, _PRODUCTS)))
                total = own_sums[step % sum_count]
                builder.store(builder.add(builder.load(total), added), total)
    scales = _load(builder, begin, builder.mul(groups, _I64(2 * BLOCK_SIZE)), _FLOATS)
    found = []
    for own_sums in sums:
        total = builder.load(own_sums[0])
        for other in own_sums[1:]:
            total = builder.add(total, builder.load(other))
        found.append(builder.fmul(builder.sitofp(total, _FLOATS), scales))
    return found


def _largest(builder: Any, scores: Any) -> Any:
    name = f"llvm.vector.reduce.fmax.v{BLOCK_SIZE}f32"
    largest = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_F32, [_FLOATS]), name)
    return builder.call(largest, [scores], fastmath=("nnan",))


def _pointer(context: Any, builder: Any, kind: Any, value: Any, element: Any) -> Any:
    """Where an array's data begin."""
    return builder.bitcast(context.make_array(kind)(context, builder, value).data, element.as_pointer())


def _line(context: Any, builder: Any, kind: Any, value: Any, line: Any) -> tuple[Any, Any]:
    """Where a line of a table begins, such as a block, and its size in bytes."""
    table = context.make_array(kind)(context, builder, value)
    size = builder.mul(cgutils.unpack_tuple(builder, table.shape)[1], table.itemsize)  # strides of one line may be any
    return builder.gep(builder.bitcast(table.data, _I8.as_pointer()), [builder.mul(line, size)]), size


def _load(builder: Any, begin: Any, offset: Any, kind: Any) -> Any:
    """A value that may lie at any address."""
    loaded = builder.load(builder.bitcast(builder.gep(begin, [offset]), kind.as_pointer()))
    loaded.align = 1
    return loaded


def _repeat(builder: Any, word: Any) -> Any:
    """(16,) of the same 32 bits."""
    undefined = ir.Constant(_WORDS, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, word, _I32(0)), undefined, ir.Constant(_WORDS, None)
    )


def _add_pairs(builder: Any, products: Any) -> Any:
    """(32,) → (16,): each with its neighbour."""
    undefined = ir.Constant(_PRODUCTS, ir.Undefined)
    even, odd = (
        builder.shuffle_vector(products, undefined, ir.Constant(_WORDS, [2 * lane + odd for lane in range(BLOCK_SIZE)]))
        for odd in (0, 1)
    )
    return builder.add(even, odd)
