"""How near the parts of MACE's compiled program come to what one core can do, as JSON.

    python benchmarks/mace_inference/roofline.py

The core's limits are measured in the same process: multiply-adds on registers, matrix products of cache size,
reading from the second-level cache and from memory. Of each part this counts the floating-point operations
that its algorithm asks for (a multiply-add is two) and the bytes that it must load from beyond the
first-level cache at least once (the rows of the radial table and the neighbour's features for each pair;
weights for each chunk of atoms). The larger of the two fractions says what bounds it; where both are small,
it is loads and stores of the first-level cache and latency.
Times are CPU seconds of the least of several rounds.
"""

import argparse
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch
from ase.build import bulk

import rikiba.potentials.mace_sweep as sweep
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.kernels.compiled import compiled
from rikiba.kernels.lanes import LANES, add, load, multiply_add, store
from rikiba.potentials.mace import MACE
from rikiba.potentials.mace_program import CompiledMACE
from rikiba.potentials.mace_weights import Layer

PARTS = ("message_forward", "message_reverse", "contraction_forward", "contraction_reverse")
Counts = dict[str, dict[str, float]]


@compiled
def _multiply_adds(x, n):  # type: ignore[no-untyped-def]
    """12 independent chains of n multiply-adds, 16 wide."""
    a, b = load(x, 0), load(x, LANES)
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ca, cb = a, a, a, a, a, a, a, a, a, a, a, a
    for _ in range(n):
        c0, c1, c2 = multiply_add(c0, b, a), multiply_add(c1, b, a), multiply_add(c2, b, a)
        c3, c4, c5 = multiply_add(c3, b, a), multiply_add(c4, b, a), multiply_add(c5, b, a)
        c6, c7, c8 = multiply_add(c6, b, a), multiply_add(c7, b, a), multiply_add(c8, b, a)
        c9, ca, cb = multiply_add(c9, b, a), multiply_add(ca, b, a), multiply_add(cb, b, a)
    store(x, 0, add(add(add(c0, c1), add(c2, c3)), add(add(c4, c5), add(c6, c7))))
    store(x, LANES, add(add(c8, c9), add(ca, cb)))


@compiled
def _read(x, out):  # type: ignore[no-untyped-def]
    """Sum of everything, 64 numbers at a time."""
    a, b, c, d = load(x, 0), load(x, LANES), load(x, 2 * LANES), load(x, 3 * LANES)
    for at in range(0, len(x), 4 * LANES):
        a, b = add(a, load(x, at)), add(b, load(x, at + LANES))
        c, d = add(c, load(x, at + 2 * LANES)), add(d, load(x, at + 3 * LANES))
    store(out, 0, add(add(a, b), add(c, d)))


def least(task: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of the quickest of several calls, after one."""
    found = []
    for _ in range(rounds + 1):
        start = time.thread_time()
        task()
        found.append(time.thread_time() - start)
    return min(found[1:])


def limits() -> dict[str, float]:
    """What one core does, float32: GFLOP/s and GB/s."""
    x, n = np.full(2 * LANES, 0.5, np.float32), 500_000
    left, right, out = (torch.rand(256, 256) for _ in range(3))
    small, large = (np.ones(size // 4, np.float32) for size in (2**18, 2**28))

    def products() -> None:
        for _ in range(50):
            torch.mm(left, right, out=out)

    def cache() -> None:
        for _ in range(200):
            _read(small, x)

    return {
        "multiply_add_GFLOPs": 2e-9 * 12 * LANES * n / least(lambda: _multiply_adds(x, n), 10),
        "matrix_product_GFLOPs": 50 * 2e-9 * 256**3 / least(products, 10),
        "cache_GBs": 200e-9 * small.nbytes / least(cache, 10),
        "memory_GBs": 1e-9 * large.nbytes / least(lambda: _read(large, x), 5),
    }


def message_counts(layer: Layer, channels: int, n_pairs: int, reads_features: bool) -> Counts:
    """Of one layer's messages; see `rikiba.kernels.message_cpu`."""
    paths = list(zip(layer.paths.d2.tolist(), layer.paths.d3.tolist(), strict=True))
    forward = sum(11 + d2 * (1 + 2 * d3) for d2, d3 in paths)
    wanted = 2 if reads_features else 0
    reverse = sum(22 + d2 * (1 + 3 + wanted + d3 * (2 + 3 + 1)) for d2, d3 in paths)
    rows = len(paths) * 6 + (
        sum({f: d for f, (d, _) in zip(layer.paths.feature, paths, strict=True)}.values())
    )
    gradient = rows + (sum({f: d for f, (d, _) in zip(layer.paths.feature, paths, strict=True)}.values()))
    size = n_pairs * channels
    return {
        "message_forward": {"flop": size * forward, "bytes": 4.0 * size * rows},
        "message_reverse": {
            "flop": size * reverse,
            "bytes": 4.0 * size * (gradient if reads_features else rows),
        },
    }


def contraction_counts(layer: Layer, channels: int, n_atoms: int, n_chunks: int) -> Counts:
    """Of one layer's products; see `rikiba.kernels.contraction_cpu`."""
    tree, size = layer.tree, n_atoms * channels
    weights, runs, inner = len(tree.feature), len(tree.output), len(tree.parent)
    features, outputs = len(layer.product_rows.start), len(layer.output_rows.start)
    moved = 4.0 * (weights * channels * n_chunks + size * (features + outputs))
    return {
        "contraction_forward": {"flop": size * (2.0 * weights + 2 * runs + inner), "bytes": moved},
        "contraction_reverse": {
            "flop": size * (4.0 * weights + 3 * runs + 5 * inner),
            "bytes": moved + 4.0 * size * features,
        },
    }


def counts_of(program: CompiledMACE, n_atoms: int, n_pairs: int) -> Counts:
    """Operations and bytes of every part in one evaluation."""
    assert program._spaces is not None
    total: Counts = {name: {"flop": 0.0, "bytes": 0.0} for name in (*PARTS, "matrix_products")}
    for t, (layer, space) in enumerate(zip(program.layers, program._spaces[1], strict=True)):
        found = message_counts(layer, program.channels, n_pairs, t > 0)
        found |= contraction_counts(layer, program.channels, n_atoms, len(space.chunks))
        for name, values in found.items():
            for key, value in values.items():
                total[name][key] += value
        products = total["matrix_products"]
        for chunk in space.chunks:
            connected = [x for x in (*chunk.connect, *chunk.unconnect) if x[1] is not None]
            done = [*chunk.mix, *chunk.unmix, *chunk.product_to, *chunk.product_from, *connected]
            for left, right, out in done:
                assert right is not None
                products["flop"] += 2.0 * left.shape[0] * left.shape[1] * right.shape[1]
                products["bytes"] += 4.0 * (left.numel() + right.numel() + out.numel())
        if space.before is not None:
            for l, w in enumerate(layer.up):
                rows = space.features.rows(l, 0, n_atoms).shape[0]
                products["flop"] += 2 * 2.0 * rows * w.numel()
                products["bytes"] += 2 * 4.0 * (2 * rows * w.shape[0] + w.numel())
    return total


class _Clock:
    """CPU seconds of the parts, taken around their calls."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        for name in PARTS:
            setattr(sweep, name, self.around(name, getattr(sweep, name)))
        torch.mm = self.around("matrix_products", torch.mm)
        torch.Tensor.addmm_ = self.around("matrix_products", torch.Tensor.addmm_)  # type: ignore[method-assign]

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            out = function(*args, **kwargs)
            self.seconds[name] += time.thread_time() - start
            return out

        return timed


def measure(clock: _Clock, max_L: int, options: argparse.Namespace, best: dict[str, float]) -> dict[str, Any]:
    """One model on silicon: each part's share, speed and fraction of the limits."""
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(options.repeat)
    atoms.rattle(0.05, seed=1)
    system = System.from_ase(atoms)
    model = MACE(
        elements=("Si",), channels=options.channels, max_L=max_L, l_max=3, correlation=3, cutoff=5.0,
        avg_num_neighbors=28.0,
    ).float()  # fmt: skip
    calculator = PotentialCalculator(model)
    rounds: list[tuple[float, Counter[str]]] = []
    for _ in range(options.rounds):
        clock.seconds.clear()
        start = time.thread_time()
        calculator(system)
        rounds.append((time.thread_time() - start, Counter(clock.seconds)))
    whole = min(t for t, _ in rounds)
    program = calculator._program
    assert isinstance(program, CompiledMACE)
    parts = []
    for name, counted in counts_of(program, len(atoms), len(calculator.pairs(system))).items():
        seconds = min(found[name] for _, found in rounds)
        speed, flow = 1e-9 * counted["flop"] / seconds, 1e-9 * counted["bytes"] / seconds
        parts.append(
            {
                "part": name,
                "us_per_atom": 1e6 * seconds / len(atoms),
                "share": seconds / whole,
                "kflop_per_atom": 1e-3 * counted["flop"] / len(atoms),
                "GFLOPs": speed,
                "of_arithmetic": speed / best["multiply_add_GFLOPs"],
                "GBs": flow,
                "of_cache_bandwidth": flow / best["cache_GBs"],
            }
        )
    rest = 1.0 - sum(float(p["share"]) for p in parts)  # type: ignore[arg-type]
    total = sum(float(p["kflop_per_atom"]) for p in parts)  # type: ignore[arg-type]
    return {
        "model": "MACE " + "+".join(f"{options.channels}x{l}{'eo'[l % 2]}" for l in range(max_L + 1)),
        "atoms": len(atoms),
        "us_per_atom": 1e6 * whole / len(atoms),
        "GFLOPs": 1e-6 * total * len(atoms) / whole,
        "of_arithmetic": 1e-6 * total * len(atoms) / whole / best["multiply_add_GFLOPs"],
        "share_of_the_rest": rest,
        "parts": parts,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3, help="cubic cells along each edge")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    best = limits()
    clock = _Clock()
    results = [measure(clock, max_L, options, best) for max_L in (0, 1)]
    about = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(
        json.dumps({"about": about, "limits": best, "options": vars(options), "results": results}, indent=1)
    )


if __name__ == "__main__":
    main()
