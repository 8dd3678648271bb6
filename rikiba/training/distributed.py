"""Data-parallel training: every process holds the whole potential and a share of each batch.

Gradients are added up by one explicit all-reduce of a flat vector after the backward pass, rather than by
`DistributedDataParallel`: its hooks fire once per parameter in a single forward–backward of a module, whereas
forces are themselves a backward pass inside the loss, which does not go through the wrapped `forward`, and
parameters that forces do not depend on get no gradient at all. Potentials here are small, so one message a
step costs little. Terms are sums over local labels divided by all-reduced counts of present labels, so the
sum over processes is the loss of the undivided batch, however unevenly labels fall.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor


@final
@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together; one unless `from_environment` found more."""

    rank: int = 0
    world_size: int = 1

    @staticmethod
    def from_environment() -> "Processes":
        """Join the group that `torchrun` describes (RANK, WORLD_SIZE …), gloo on CPU and NCCL on GPU."""
        if dist.is_available() and dist.is_initialized():
            return Processes(dist.get_rank(), dist.get_world_size())
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Processes()
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return Processes(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """True in the one process that writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Σ over processes, the same bits in each."""
        if self.world_size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each parameter's gradient (zero where it has none) by its sum over processes.

        One message per dtype.
        """
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if self.world_size == 1:
            return
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            group = [p for p in parameters if p.dtype == dtype]
            flat = torch.cat([g.flatten() for p in group if (g := p.grad) is not None])
            dist.all_reduce(flat)
            for p, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
                p.grad = part.view_as(p)

    def agree(self, value: float, device: torch.device | str = "cpu") -> float:
        """The value of process 0, in every process."""
        if self.world_size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return float(shared)

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors in place with those of process 0."""
        if self.world_size > 1:
            for t in tensors:
                dist.broadcast(t.data, 0)
