"""Compile a Triton kernel, as it is about to be launched, for a device that need not be there."""

from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64", torch.int32: "*i32"}


@dataclass
class Compiler:
    """Stands in for a kernel: a launch compiles it to machine code for each architecture and runs nothing."""

    kernel: Any
    architectures: tuple[int, ...] = (80, 90)
    made: list[Any] = field(default_factory=list)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert 1 <= len(grid) <= 3 and max(grid[1:], default=1) < 2**16

        def launch(*args: Any, num_warps: int = 4, **constants: Any) -> None:
            given = dict(zip(self.kernel.arg_names, args, strict=False)) | constants
            assert sorted(given) == sorted(self.kernel.arg_names), "a launch must give every argument"
            signature = {}
            for name in self.kernel.arg_names:
                value = given[name]
                if name in constants:
                    signature[name] = "constexpr"
                elif isinstance(value, torch.Tensor):
                    assert value.is_contiguous()
                    signature[name] = _POINTERS[value.dtype]
                else:
                    assert isinstance(value, int)
                    signature[name] = "i32"
            source = ASTSource(self.kernel, signature, constants)
            for architecture in self.architectures:
                target = GPUTarget("cuda", architecture, 32)
                self.made.append(triton.compile(source, target=target, options={"num_warps": num_warps}))

        return launch
