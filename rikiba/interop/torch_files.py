"""Files that torch wrote, read without running anything that stands in them."""

from pathlib import Path
from typing import Any

import torch


def load_restricted(path: str | Path) -> Any:
    """What `torch.save` wrote, by its restricted unpickler: tensors, arrays, numbers, strings, containers.

    Raises pickle.UnpicklingError for a file with other objects in it: nothing of theirs is run.
    """
    import numpy as np

    array = np.zeros(1)
    reconstruct = array.__reduce__()[0]
    kinds = [type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64)]
    allowed: list[Any] = [np.ndarray, np.dtype, *kinds]
    allowed += [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):  # type: ignore[no-untyped-call]
        return torch.load(path, map_location="cpu", weights_only=True)
