"""A file of another program, and what can be said of it without running anything in it."""

import pickle
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch

from .torch_files import load_restricted


@final
class ForeignFile:
    """A file, and what can be said of it without running anything in it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {self.path}.")

    @cached_property
    def _torch(self) -> tuple[Any, str]:
        head = self.path.open("rb").read(2)
        if not zipfile.is_zipfile(self.path) and head[:1] != b"\x80":
            return None, ""
        try:
            return load_restricted(self.path), ""
        except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
            return None, str(error)

    @property
    def saved(self) -> Any:
        """What torch wrote; None where it did not, and where it holds other objects than data."""
        return self._torch[0]

    @property
    def refused(self) -> str:
        """Why torch's restricted unpickler would not read it; empty where it did, and for other files."""
        return self._torch[1]

    @cached_property
    def state(self) -> Mapping[str, torch.Tensor]:
        """A state dict saved alone; empty for anything else."""
        found = self.saved
        whole = isinstance(found, Mapping) and all(isinstance(v, torch.Tensor) for v in found.values())
        return found if whole else {}

    def named(self, *endings: str) -> bool:
        """Whether the file's name ends in one of these."""
        return self.path.name.lower().endswith(endings)
