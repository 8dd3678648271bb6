"""A device that is not there: tensors whose numbers lie on the CPU but which say they are elsewhere.

Any operation that mixes them with tensors of the CPU raises, as it would with a GPU; what moves between
the devices and what makes the host wait is counted. Gradients work. The device is called "meta", the one
without hardware for which torch's autograd engine needs no thread of its own.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_WAITS = ("_local_scalar_dense", "nonzero", "equal", "unique", "_unique2", "bincount", "repeat_interleave")


class There(Tensor):
    """A tensor on the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        out: There = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE
        )
        out.inner = inner
        return out

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("A tensor on a device has no array; copy it to the CPU first.")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counter())


class Pretend(TorchDispatchMode):
    """Within this block the device exists. `counts`: to_device, to_host, waits."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._factories = _FromNumbers()

    def __enter__(self) -> "Pretend":
        self._factories.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._factories.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts)


class _FromNumbers(TorchFunctionMode):
    """Python numbers become a tensor on the CPU, which is then copied."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and device == DEVICE:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any], counts: Counter[str]) -> Any:
    name = func.__name__.split(".")[0]
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, There)]
    here = [t for t in tensors if not isinstance(t, There) and t.dim() > 0]
    device = kwargs.get("device")
    plain_kwargs = dict(kwargs)
    goes_there = bool(there)
    if device is not None:
        goes_there = torch.device(device).type == DEVICE.type
        plain_kwargs["device"] = torch.device("cpu")
        if name == "_to_copy" and goes_there != bool(there):
            counts["to_device" if goes_there else "to_host"] += 1
    elif name == "copy_" and there and here:
        counts["to_device"] += 1
    elif there and here:
        raise RuntimeError(
            f"{func} was given tensors of two devices: shapes {[tuple(t.shape) for t in there]} there, "
            f"{[tuple(t.shape) for t in here]} on the CPU."
        )
    if there and name in _WAITS:
        counts["waits"] += 1
    inner = tree_map(lambda t: t.inner if isinstance(t, There) else t, (args, plain_kwargs))
    out = func(*inner[0], **inner[1])
    if name.endswith("_") and not name.endswith("__") and there:
        return args[0]
    if not goes_there:
        return out
    known = {id(t.inner): t for t in there}
    return tree_map(lambda t: known.get(id(t), There(t)) if isinstance(t, Tensor) else t, out)
