"""Memory operations that compiled code cannot express by itself: block copies and prefetching."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _block_operation(operation: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        operation(builder, builder.gep(data, [args[1]]), builder.gep(data, [args[2]]), args[3], size)
        return context.get_dummy_value()

    return generate


@intrinsic
def copy(typing: Any, array: Any, to: Any, source: Any, count: Any) -> Any:
    """Copy ``array.flat[source : source + count]`` to ``array.flat[to : to + count]``, which lies apart."""
    return types.void(array, types.intp, types.intp, types.intp), _block_operation(cgutils.raw_memcpy)


@intrinsic
def move(typing: Any, array: Any, to: Any, source: Any, count: Any) -> Any:
    """As ``copy``, for blocks that may overlap."""
    return types.void(array, types.intp, types.intp, types.intp), _block_operation(cgutils.raw_memmove)


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array.flat[index]`` ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer)
        builder.call(function, [address, word(0), word(3), word(1)])  # for reading, keep, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
