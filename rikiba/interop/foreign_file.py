"""A file of another program, and what can be said of it without running anything in it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch

from .inert_pickle import InertError, Record, load_inert
from .torch_files import load_restricted, written_by_torch


@final
class ForeignFile:
    """A file, and what can be said of it without running anything in it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {self.path}.")

    @cached_property
    def _torch(self) -> tuple[Any, str]:
        if not written_by_torch(self.path):
            return None, ""
        try:
            return load_restricted(self.path), ""
        except Exception as error:  # of many kinds where a file is damaged
            return None, str(error) or type(error).__name__

    @property
    def saved(self) -> Any:
        """What torch wrote; None where it did not, and where it holds other objects than data."""
        return self._torch[0]

    @property
    def refused(self) -> str:
        """Why torch's restricted unpickler would not read it; empty where it did, and for other files."""
        return self._torch[1]

    @cached_property
    def module(self) -> Record | None:
        """The whole module of a file that torch's restricted unpickler refuses, as an inert record."""
        if not self.refused:
            return None
        try:
            found = load_inert(self.path)
        except InertError:
            return None
        return found if isinstance(found, Record) else None

    @cached_property
    def state(self) -> Mapping[str, torch.Tensor]:
        """A state dict saved alone; empty for anything else."""
        found = self.saved
        whole = isinstance(found, Mapping) and all(isinstance(v, torch.Tensor) for v in found.values())
        return found if whole else {}

    def named(self, *endings: str) -> bool:
        """Whether the file's name ends in one of these."""
        return self.path.name.lower().endswith(endings)
