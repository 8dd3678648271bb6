"""Operations: a definition in plain torch, with faster ones that take the same arguments."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

import rikiba.kernels.dispatch as dispatch
from rikiba.kernels.dispatch import only_reference, operation

MODULES = (
    "distance_constraints",
    "local_motion",
    "nose_hoover_chain",
    "quasi_newton",
    "settle",
    "velocity_rescaling",
)


def operations() -> dict[str, Any]:
    modules = [import_module(f"rikiba.kernels.{name}") for name in MODULES]
    return {name: x for m in modules for name, x in vars(m).items() if hasattr(x, "definition")}


def arguments(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", sorted(operations()))
def test_faster_ones_take_the_arguments_of_the_definition(name: str) -> None:
    module, function = dispatch._FASTER[name, "cpu"].split(":")
    faster = getattr(import_module(module), function)
    assert arguments(faster) == arguments(operations()[name].definition)


def test_the_definition_runs_where_nothing_is_faster_or_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @operation
    def doubled(count: int, x: torch.Tensor) -> torch.Tensor:
        """2x."""
        return 2.0 * x

    one = torch.ones(3)
    assert doubled.__doc__ == "2x." and torch.equal(doubled(1, one), 2.0 * one)
    with pytest.raises(TypeError, match="doubled needs tensors"):
        doubled(1, x=one)
    monkeypatch.setitem(dispatch._FASTER, ("doubled", "cpu"), "somewhere:faster")
    monkeypatch.setattr(dispatch, "_faster", lambda where: lambda count, x: 3.0 * x)
    faster = operation(doubled.definition)
    assert torch.equal(faster(1, one), 3.0 * one) and torch.equal(faster(count=1, x=one), 3.0 * one)
    assert torch.equal(faster.definition(1, one), 2.0 * one)
    with only_reference():
        assert torch.equal(faster(1, one), 2.0 * one)
