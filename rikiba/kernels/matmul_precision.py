"""How many bits of their float32 factors matrix products on an NVIDIA GPU use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

MatmulPrecision = Literal["full", "tf32"]
"""full: IEEE float32. tf32: factors rounded to 11 significant bits, sums in float32."""


@contextmanager
def matmul_precision(
    precision: MatmulPrecision, device: torch.device | None, dtype: torch.dtype
) -> Iterator[None]:
    """Matrix products within this block have that precision; torch's setting is put back after it.

    The setting belongs to the process: other threads see it too. It is left alone where there is no GPU.
    Raises ValueError for tf32 on another device than CUDA or in another type than float32.
    """
    if device is None or device.type != "cuda":
        if precision != "full":
            raise ValueError(f"precision 'tf32' needs a potential on a CUDA device; this one is on {device}.")
        yield
        return
    if precision == "tf32" and dtype != torch.float32:
        raise ValueError(f"precision 'tf32' is for float32; this potential is in {dtype}.")
    matmul = torch.backends.cuda.matmul
    tf32 = precision == "tf32"
    recent = hasattr(matmul, "fp32_precision")  # torch 2.9 and later
    name = "fp32_precision" if recent else "allow_tf32"
    value: str | bool = ("tf32" if tf32 else "ieee") if recent else tf32
    before = getattr(matmul, name)
    setattr(matmul, name, value)
    try:
        yield
    finally:
        setattr(matmul, name, before)
