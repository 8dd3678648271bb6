"""Which implementation of an operation runs: the plain-torch definition or a faster one for the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

_FASTER: dict[tuple[str, str], str] = {
    ("normals", "cpu"): "rikiba.kernels.random_cpu:normals",
    ("ornstein_uhlenbeck", "cpu"): "rikiba.kernels.random_cpu:ornstein_uhlenbeck",
}
"""(operation, device type) → "module:function". The module is imported when it is first needed."""

_ONLY_REFERENCE: ContextVar[bool] = ContextVar("rikiba_only_reference_kernels", default=False)


def choose(operation: str, reference: Callable[..., Any], example: Tensor) -> Callable[..., Any]:
    """The implementation of an operation for the device of `example`."""
    where = _FASTER.get((operation, example.device.type))
    if where is None or _ONLY_REFERENCE.get():
        return reference
    module, function = where.split(":")
    chosen: Callable[..., Any] = getattr(import_module(module), function)
    return chosen


@contextmanager
def only_reference() -> Iterator[None]:
    """Within this block every operation runs its plain-torch definition."""
    token = _ONLY_REFERENCE.set(True)
    try:
        yield
    finally:
        _ONLY_REFERENCE.reset(token)


def forbid_forward_mode(operation: str, *tensors: Tensor) -> None:
    """Raise NotImplementedError if a tensor carries a forward-mode tangent, which a kernel would drop."""
    for t in tensors:
        if unpack_dual(t).tangent is not None:
            raise NotImplementedError(
                f"{operation} has no forward-mode derivative; use reverse mode (torch.autograd.grad, "
                "twice for Hessian-vector products)."
            )
