"""Files that torch wrote, read without running anything that stands in them."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def written_by_torch(path: str | Path) -> bool:
    """True for zip archives and for binary pickles, which torch wrote before."""
    with open(path, "rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(file)


def load_restricted(path: str | Path) -> Any:
    """What `torch.save` wrote, by its restricted unpickler: tensors, arrays, numbers, strings, containers.

    Raises ValueError for a file of another kind, pickle.UnpicklingError for one with other objects in it:
    nothing of theirs is run.
    """
    if Path(path).is_file() and not written_by_torch(path):
        raise ValueError(f"'{path}' is not a file that torch wrote.")
    import numpy as np

    array = np.zeros(1)
    reconstruct = array.__reduce__()[0]
    kinds = [type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64)]
    allowed: list[Any] = [np.ndarray, np.dtype, *kinds]
    allowed += [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):  # type: ignore[no-untyped-call]
        return torch.load(path, map_location="cpu", weights_only=True)
