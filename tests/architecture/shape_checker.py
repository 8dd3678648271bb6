"""What holds calls against their annotated shapes when the tests run with `--jaxtyping-packages`."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def has_shape(hint: Any) -> bool:
    """True for Float[Tensor, "atoms 3"] and the like, alone or within a union or tuple."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(has_shape(part) for part in get_args(hint))


def shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its shapes checked; its other types are mypy's to check."""
    given = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in given.items() if has_shape(hint)}
    try:
        return beartype(function)
    finally:
        function.__annotations__ = given
