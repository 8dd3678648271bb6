"""Import SchNetPack under a torch that no longer has a name of which it only makes a type hint."""

from types import ModuleType
from typing import Any, TypeVar

import torch.utils.data.dataloader as dataloader


def schnetpack() -> ModuleType:
    """The package."""
    loader: Any = dataloader
    if not hasattr(loader, "T_co"):
        loader.T_co = TypeVar("T_co", covariant=True)
    import schnetpack as found

    return found
