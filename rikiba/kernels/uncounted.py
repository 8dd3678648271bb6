"""Arrays inside compiled functions that nobody counts references to.

A compiled function counts them for every array that it slices, unpacks from a tuple or hands on, each time by
an atomic addition to one shared number: in a chain of small kernels that took longer than their arithmetic.
"""

from typing import Any

from numba import extending
from numba.core import cgutils

intrinsic: Any = extending.intrinsic  # untyped there


@intrinsic
def uncounted(typing: Any, array: Any) -> Any:
    """The same array, and all slices of it, without references; the caller must hold the given one."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out = cgutils.create_struct_proxy(array)(context, builder, args[0])
        out.meminfo = cgutils.get_null_value(out.meminfo.type)
        out.parent = cgutils.get_null_value(out.parent.type)
        return out._getvalue()

    return array(array), emit
