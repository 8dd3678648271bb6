"""Sums over pairs of neighbours by compiled kernels, differentiable as often as the definition is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class TripletTables(NamedTuple):
    """What the kernels of `rikiba.kernels.triplet_functions_cpu` know of some functions."""

    envelope: Float[np.ndarray, "4"]
    """Form, order, start, factor."""
    gaussians: Float[np.ndarray, "kinds 3"]
    angular: Float[np.ndarray, "kinds 2"]
    functions: Int[np.ndarray, "functions 2"]
    narrow: bool

    @staticmethod
    def of(
        functions: Sequence[Sequence[float]], envelope: str, start: float, *, narrow: bool
    ) -> "TripletTables":
        """From (η, r_s, ζ, λ, cutoff) of each function and the name of the envelope."""
        kinds = sorted(dict.fromkeys((f[0], f[1], f[4]) for f in functions), key=lambda k: -k[2])
        rings = list(dict.fromkeys((f[2], f[3]) for f in functions))
        which = [(kinds.index((e, s, c)), rings.index((z, g))) for e, s, z, g, c in functions]
        return TripletTables(
            np.array(_envelope(envelope, start)),
            np.array(kinds, dtype=np.float64).reshape(-1, 3),
            np.array(rings, dtype=np.float64).reshape(-1, 2),
            np.array(which, dtype=np.int64).reshape(-1, 2),
            narrow,
        )


def _envelope(name: str, start: float) -> tuple[float, float, float, float]:
    """Form, order, start and factor of an envelope of `rikiba.descriptors.acsf`."""
    from rikiba.kernels import triplet_functions_cpu as kernel

    if name.startswith("smoothstep"):
        return kernel.SMOOTHSTEP, int(name[-1]), start, 1.0
    if name.startswith("tanh"):
        return kernel.TANH, 0, 0.0, np.tanh(1.0) ** -3 if name == "tanh_unit" else 1.0
    form = {
        "polynomial": kernel.POLYNOMIAL,
        "cosine": kernel.COSINE,
        "mollifier": kernel.MOLLIFIER,
        "none": kernel.NONE,
    }
    return form[name], 0, start, 1.0


class Neighbours(NamedTuple):
    """Pairs ordered by their centre."""

    row_start: Int[Tensor, "atoms_plus_1"]
    kind: Int[Tensor, "pairs"]
    """The neighbour's element."""
    pair_index: Int[Tensor, "elements elements"]
    """Row of a pair of elements."""
    n_rows: int


Definition = Callable[[Tensor], Tensor]


def triplet_sums(
    vectors: Float[Tensor, "pairs 3"], neighbours: Neighbours, tables: TripletTables, definition: Definition
) -> Float[Tensor, "atoms rows functions"]:
    """Σ over unordered pairs of neighbours; float64 on a CPU.

    First derivatives are compiled too. Where they are to be differentiated again, they are those of
    `definition`, which gives the same sums from the vectors by torch.
    """
    found: Tensor = _TripletSums.apply(vectors, neighbours, tables, definition)  # type: ignore[no-untyped-call]
    return found


class _TripletSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, neighbours: Neighbours, tables: TripletTables, definition: Definition
    ) -> Tensor:
        from rikiba.kernels import triplet_functions_cpu as kernel

        arrays = _arrays(vectors, neighbours)
        r, n_pairs = arrays[2], len(vectors)
        values, slopes = (np.empty((n_pairs, len(tables.gaussians))) for _ in range(2))
        form, order, start, factor = tables.envelope.tolist()
        kernel.pair_weights(int(form), int(order), start, factor, tables.gaussians, r, values, slopes)
        n = len(arrays[0]) - 1
        out = np.zeros((n, neighbours.n_rows, len(tables.functions)))
        kernel.triplet_sums(*arrays, *tables, values, out)
        ctx.save_for_backward(vectors)
        ctx.given = neighbours, tables, definition, values, slopes
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None, None]:
        from rikiba.kernels import triplet_functions_cpu as kernel

        (vectors,), (of_sums,) = ctx.saved_tensors, given
        neighbours, tables, definition, values, slopes = ctx.given
        if torch.is_grad_enabled():  # derivatives of this derivative are wanted
            (slope,) = torch.autograd.grad(definition(vectors), vectors, of_sums, create_graph=True)
            return slope, None, None, None
        out = np.zeros((len(vectors), 3))
        from_sums = of_sums.contiguous().numpy()
        kernel.triplet_sums_reverse(*_arrays(vectors, neighbours), *tables, values, slopes, from_sums, out)
        return torch.from_numpy(out), None, None, None


def _arrays(vectors: Tensor, neighbours: Neighbours) -> tuple[np.ndarray, ...]:
    flat = np.ascontiguousarray(vectors.detach().numpy())
    r = np.sqrt((flat * flat).sum(1))
    return (
        neighbours.row_start.numpy(), flat, r, neighbours.kind.numpy(), neighbours.pair_index.numpy(),
    )  # fmt: skip
