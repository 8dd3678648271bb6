"""Which implementation of an operation runs: the plain-torch definition or a faster one for the device."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from importlib import import_module
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

_FASTER: dict[tuple[str, str], str] = {
    ("pair_convolution", "cuda"): "rikiba.kernels.pair_convolution_triton:evaluate",
    ("symmetric_contraction", "cuda"): "rikiba.kernels.symmetric_contraction_triton:evaluate",
    ("radial_table", "cuda"): "rikiba.kernels.radial_table_triton:evaluate",
    ("segment_sum", "cuda"): "rikiba.kernels.grouping_triton:sum_rows",
    ("normals", "cpu"): "rikiba.kernels.random_cpu:normals",
    ("uniforms", "cpu"): "rikiba.kernels.random_cpu:uniforms",
    ("local_motion", "cpu"): "rikiba.kernels.local_motion_cpu:local_motion",
    ("kinetic_energy", "cpu"): "rikiba.kernels.local_motion_cpu:kinetic_energy",
    ("nose_hoover_chain", "cpu"): "rikiba.kernels.nose_hoover_chain_cpu:nose_hoover_chain",
    ("nose_hoover_velocities", "cpu"): "rikiba.kernels.nose_hoover_chain_cpu:nose_hoover_velocities",
    ("velocity_rescaling", "cpu"): "rikiba.kernels.velocity_rescaling_cpu:velocity_rescaling",
    ("distance_positions", "cpu"): "rikiba.kernels.distance_constraints_cpu:positions",
    ("distance_velocities", "cpu"): "rikiba.kernels.distance_constraints_cpu:velocities",
    ("settle_positions", "cpu"): "rikiba.kernels.settle_cpu:positions",
    ("settle_velocities", "cpu"): "rikiba.kernels.settle_cpu:velocities",
    ("pair_convolution", "cpu"): "rikiba.kernels.pair_convolution_cpu:evaluate",
    ("tabulated_convolution", "cpu"): "rikiba.kernels.tabulated_convolution_cpu:evaluate",
    ("symmetric_contraction", "cpu"): "rikiba.kernels.symmetric_contraction_cpu:evaluate",
    ("mesh_gather", "cpu"): "rikiba.kernels.particle_mesh_cpu:gather",
    ("mesh_spread", "cpu"): "rikiba.kernels.particle_mesh_cpu:spread",
    ("pair_convolution_second", "cpu"): "rikiba.kernels.pair_convolution_cpu:second",
    ("inverse_hessian_product", "cpu"): "rikiba.kernels.quasi_newton_cpu:inverse_hessian_product",
}
"""(operation, device type) → "module:function". The module is imported when it is first needed."""


P = ParamSpec("P")
R = TypeVar("R")


class _Forced:
    """How many `only_reference` blocks are open in all threads: a GPU's backward pass runs in its own."""

    blocks = 0


def choose(operation: str, reference: Callable[..., Any], example: Tensor) -> Callable[..., Any]:
    """The implementation of an operation for the device of `example`."""
    if _Forced.blocks:
        return reference
    where = _FASTER.get((operation, example.device.type))
    return reference if where is None else _faster(where) or reference


class Operation(Protocol[P, R]):
    """A function in plain torch, and in its place a faster one for the device of its tensors, if any."""

    definition: Callable[P, R]
    """The function in plain torch."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


def operation(definition: Callable[P, R]) -> Operation[P, R]:
    """Decorator of a definition: faster ones stand in the table under its name, with the same arguments."""
    name = definition.__name__
    chosen: dict[str, Callable[P, R]] = {}  # by device type; asked for in every step of a simulation

    @wraps(definition)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _Forced.blocks:
            return definition(*args, **kwargs)
        for example in args or kwargs.values():
            if isinstance(example, Tensor):
                break
        else:
            raise TypeError(f"{name} needs tensors, and all of its arguments by position or all by name.")
        device = example.device.type
        if device not in chosen:
            chosen[device] = choose(name, definition, example)
        return chosen[device](*args, **kwargs)

    run.definition = definition  # type: ignore[attr-defined]
    return cast(Operation[P, R], run)


@cache
def _faster(where: str) -> Callable[..., Any] | None:
    """The function that the table names; None where it needs Triton and there is none."""
    module, function = where.split(":")
    try:
        chosen: Callable[..., Any] = getattr(import_module(module), function)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] != "triton":
            raise
        _say_without_triton()
        return None
    return chosen


@cache
def _say_without_triton() -> None:
    warnings.warn(
        "Triton is not installed: operations on the GPU run their plain-torch definitions, which are slower "
        "and need more memory. Install it with: pip install 'rikiba[gpu]'.",
        RuntimeWarning,
        stacklevel=3,
    )


@contextmanager
def only_reference() -> Iterator[None]:
    """Within this block every operation of the process runs its plain-torch definition."""
    _Forced.blocks += 1
    try:
        yield
    finally:
        _Forced.blocks -= 1


def forbid_forward_mode(operation: str, *tensors: Tensor) -> None:
    """Raise NotImplementedError if a tensor carries a forward-mode tangent, which a kernel would drop."""
    for t in tensors:
        if unpack_dual(t).tangent is not None:
            raise NotImplementedError(
                f"{operation} has no forward-mode derivative; use reverse mode (torch.autograd.grad, "
                "twice for Hessian-vector products)."
            )


def needed_inputs(ctx: Any, inputs: Sequence[Any]) -> tuple[bool, ...]:
    """Of each input of an autograd.Function, whether this backward pass goes on to ask for its gradient.

    `ctx.needs_input_grad` says whether anyone could ask: with the gradient by positions alone, a function of
    positions and weights would compute that by weights too. `inputs` are those that `forward` was given.
    """
    possible: tuple[bool, ...] = ctx.needs_input_grad
    tensors = [k for k, x in enumerate(inputs) if isinstance(x, Tensor)]
    following = getattr(ctx, "next_functions", ())
    if len(following) != len(tensors):
        return possible
    wanted = list(possible)
    for k, (node, _) in zip(tensors, following, strict=True):
        wanted[k] = possible[k] and node is not None and _will_run(node)
    return tuple(wanted)


def _will_run(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except (AttributeError, RuntimeError):  # a leaf that autograd.grad asks for; a torch without the function
        return True
