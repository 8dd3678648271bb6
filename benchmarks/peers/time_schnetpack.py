"""Time SchNet and PaiNN against SchNetPack: the same weights, structures, precision and thread.

    python benchmarks/peers/time_schnetpack.py --channels 128

SchNetPack runs in a process of its own environment (``install_peers.py schnetpack``); both sides take turns.
Energies, forces and stress of both are compared in float64 first. What is timed, in float32:

    dynamics    from ASE's atoms to energy and forces (and stress of crystals) at every step, positions moving
                by 0.01 Å between steps; pair lists with a skin of 0.5 Å on both sides
    search      the same with a new pair list at every step
    training    one step of Adam on a loss of energies and forces, pair lists at hand

Times are of the processor (one thread), which other work on the machine disturbs less, and of the wall; of
each the least of all repeats and the median. `ratio` is that of the least processor times. Prints JSON.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

HERE = Path(__file__).resolve().parent
CUTOFF, LAYERS, RADIAL = 5.0, 3, 20
MODELS = ("SchNet", "PaiNN")


SKIN, STEPS = 0.5, 8


def aspirin() -> Atoms:
    """Acetylsalicylic acid from bond lengths and angles, planar but for the methyl group."""
    ring = 1.39 * np.array([[np.cos(k * np.pi / 3), np.sin(k * np.pi / 3), 0.0] for k in range(6)])
    out = ring / 1.39
    heavy = [
        *(("C", r) for r in ring),
        ("C", ring[0] + 1.49 * out[0]),
        ("O", ring[0] + 1.49 * out[0] + 1.21 * out[5]),
        ("O", ring[0] + 1.49 * out[0] + 1.36 * out[1]),
        ("O", ring[1] + 1.40 * out[1]),
        ("C", ring[1] + 1.40 * out[1] + 1.37 * out[2]),
        ("O", ring[1] + 1.40 * out[1] + 1.37 * out[2] + 1.21 * out[3]),
        ("C", ring[1] + 1.40 * out[1] + 1.37 * out[2] + 1.50 * out[1]),
    ]
    hydrogens = [("H", ring[k] + 1.09 * out[k]) for k in range(2, 6)]
    hydrogens.append(("H", heavy[8][1] + 0.97 * out[0]))
    methyl = heavy[12][1]
    for turn in range(3):
        angle = 2.0 * np.pi * turn / 3.0
        across = np.cross([0.0, 0.0, 1.0], out[1])
        side = np.cos(angle) * across + np.sin(angle) * np.array([0.0, 0.0, 1.0])
        hydrogens.append(("H", methyl + 1.09 * (out[1] / 3.0 + np.sqrt(8.0) / 3.0 * side)))
    symbols, positions = zip(*heavy, *hydrogens, strict=True)
    return Atoms(symbols, np.array(positions))


def water(n: int = 4) -> Atoms:
    """n³ molecules at random orientations on a cubic lattice, 1 g/cm³."""
    box, rng = Atoms(), np.random.default_rng(3)
    for cell in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(rng.uniform(0.0, 360.0), rng.normal(size=3))
        one.translate(3.104 * np.array(cell) - one.get_center_of_mass())
        box += one
    box.set_cell([3.104 * n] * 3)
    box.set_pbc(True)
    return box


def crystal(name: str, lattice: str, a: float, repeat: int) -> Atoms:
    """A cubic crystal."""
    return bulk(name, lattice, a=a, cubic=True).repeat(repeat)


SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "ethanol": lambda: molecule("CH3CH2OH"),
    "aspirin": aspirin,
    "Si 64": lambda: crystal("Si", "diamond", 5.431, 2),
    "Si 216": lambda: crystal("Si", "diamond", 5.431, 3),
    "Si 1000": lambda: crystal("Si", "diamond", 5.431, 5),
    "Cu 256": lambda: crystal("Cu", "fcc", 3.615, 4),
    "water 192": water,
}
"""What dynamics are timed of."""
BATCHES = ("ethanol x10", "Si 64")
"""What training is timed of."""


def structures(name: str) -> list[Atoms]:
    """Steps of a trajectory, or a batch."""
    if name == "ethanol x10":
        frames = [molecule("CH3CH2OH") for _ in range(10)]
        for k, atoms in enumerate(frames):
            atoms.rattle(0.05, seed=k)
        return frames
    start = SYSTEMS[name]()
    start.rattle(0.05, seed=1)
    frames = [start.copy() for _ in range(STEPS)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.01 if k else 0.0, seed=k)
    return frames


def seconds(task: Callable[[], Any], calls: int) -> list[tuple[float, float]]:
    """Wall and processor time of each call."""
    found = []
    for _ in range(calls):
        start, used = time.perf_counter(), time.process_time()
        task()
        found.append((time.perf_counter() - start, time.process_time() - used))
    return found


def training_step(
    parameters: list[torch.nn.Parameter], predict: Callable[[], tuple[torch.Tensor, torch.Tensor]]
) -> Callable[[], None]:
    """One step of Adam on the mean squares of energies and forces."""
    optimiser = torch.optim.Adam(parameters, lr=1e-6)

    def step() -> None:
        optimiser.zero_grad()
        energy, forces = predict()
        ((energy**2).mean() + (forces**2).mean()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


class PeerSide:
    """SchNetPack's model for one case."""

    def __init__(self, model: str, channels: int, frames: list[Atoms], is_batch: bool) -> None:
        sys.path.append(str(HERE.parents[1] / "tests" / "peers" / "schnetpack"))
        from peer import schnetpack

        self.spk = spk = schnetpack()
        self.frames = frames
        torch.manual_seed(0)
        strain = [spk.atomistic.Strain()] if frames[0].pbc.all() and not is_batch else []
        basis = {"SchNet": spk.nn.GaussianRBF, "PaiNN": spk.nn.BesselRBF}[model]
        representation = getattr(spk.representation, model)(
            n_atom_basis=channels,
            n_interactions=LAYERS,
            radial_basis=basis(n_rbf=RADIAL, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        )
        self.model = spk.model.NeuralNetworkPotential(
            representation=representation,
            input_modules=[*strain, spk.atomistic.PairwiseDistances()],
            output_modules=[
                spk.atomistic.Atomwise(n_in=channels, output_key="energy"),
                spk.atomistic.Forces(calc_stress=bool(strain)),
            ],
        )
        convert = spk.interfaces.AtomsConverter(neighbor_list=self.finder(0.0), dtype=torch.float64)
        self.batch = convert(frames if is_batch else frames[:1])

    def finder(self, skin: float) -> Any:
        """A new pair finder."""
        found = self.spk.transform.MatScipyNeighborList(cutoff=CUTOFF)
        return self.spk.transform.SkinNeighborList(found, cutoff_skin=skin) if skin else found

    def inputs(self) -> dict[str, torch.Tensor]:
        """The batch anew: the model adds to the dictionary that it is given."""
        return {k: v.detach() for k, v in self.batch.items()}

    def predict(self) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(self.inputs())
        return found["energy"], found["forces"]

    def steps(self, skin: float) -> Callable[[], Any]:
        """From atoms to energy, forces and stress, step after step."""
        convert = self.spk.interfaces.AtomsConverter(neighbor_list=self.finder(skin), dtype=torch.float32)
        count = itertools.count()

        def step() -> dict[str, torch.Tensor]:
            found: dict[str, torch.Tensor] = self.model(convert(self.frames[next(count) % len(self.frames)]))
            return found

        return step

    def answers(self, folder: Path) -> dict[str, Any]:
        """Weights and float64 answers into a file; then everything turns to float32."""
        self.model = self.model.double().eval()
        found = {k: v.detach() for k, v in self.model(self.inputs()).items()}
        arrays = {f"state/{k}": v.numpy() for k, v in self.model.state_dict().items()}
        arrays |= {k: found[k].numpy() for k in ("energy", "forces", "stress") if k in found}
        np.savez(folder / "peer.npz", **arrays)
        self.model = self.model.float()
        self.batch = {k: v.float() if v.is_floating_point() else v for k, v in self.batch.items()}
        return {"pairs": self.batch["_idx_i"].shape[0]}

    def task(self, kind: str) -> Callable[[], Any]:
        if kind != "training":
            self.model = self.model.eval()
            return self.steps(SKIN if kind == "dynamics" else 0.0)
        self.model = self.model.train()
        return training_step(list(self.model.parameters()), self.predict)


def serve() -> None:
    """Answer requests, one JSON object a line, until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    side: PeerSide | None = None
    task: Callable[[], Any] | None = None
    reply: Any
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "build":
            frames = structures(request["structure"])
            side = PeerSide(request["model"], request["channels"], frames, request["batch"])
            reply = side.answers(Path(request["folder"]))
        elif request["do"] == "prepare":
            assert side is not None
            task = side.task(request["kind"])
            reply = seconds(task, 2)
        else:
            assert task is not None
            reply = seconds(task, request["calls"])
        print(json.dumps(reply), file=answers, flush=True)


class Peer:
    """SchNetPack's process."""

    def __init__(self, interpreter: Path) -> None:
        self.process = subprocess.Popen(
            [interpreter, __file__, "--peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("SchNetPack's process ended; what it said is above.")
        return json.loads(line)


class OurSide:
    """The same model here."""

    def __init__(self, folder: Path, frames: list[Atoms], is_batch: bool) -> None:
        from rikiba.core.pairs import find_pairs
        from rikiba.core.system import System
        from rikiba.interop.schnetpack import read_schnetpack
        from rikiba.potentials.painn import PaiNN
        from rikiba.potentials.schnet import SchNet

        with np.load(folder / "peer.npz") as f:
            arrays = dict(f)
        state = {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}
        symbols = sorted({s for a in frames for s in a.symbols})
        weights = read_schnetpack(state, elements=symbols)
        cls = {"SchNet": SchNet, "PaiNN": PaiNN}[weights.class_name]
        self.model = cls(**weights.arguments).double()
        self.model.load_state_dict(weights.tensors)
        self.frames = frames
        self.system = System.from_ase(frames if is_batch else frames[:1])
        self.pairs = find_pairs(self.system, CUTOFF)
        self.expected = arrays

    def differences(self) -> dict[str, float]:
        """Largest differences from SchNetPack's float64: energy (eV/atom), forces (eV/Å), stress (eV/Å³)."""
        from rikiba.calculators.autograd import PotentialCalculator

        found = PotentialCalculator(self.model)(self.system, stress="stress" in self.expected)
        per_atom = self.system.n_atoms / self.system.n_systems
        out = {}
        for name in ("energy", "forces", "stress"):
            if name in self.expected:
                given = self.expected[name].reshape(found.need(name).shape)
                out[name] = float(np.abs(found.need(name).numpy() - given).max())
        return out | {"energy": out["energy"] / per_atom}

    def compare(self) -> dict[str, dict[str, float]]:
        """Differences in float64, which must be small, and in float32."""
        double = self.differences()
        if not (double["energy"] < 1e-6 and double["forces"] < 1e-5 and double.get("stress", 0.0) < 1e-6):
            raise ValueError(f"The two sides differ by {double}.")
        self.model = self.model.float()
        return {"differs_float64": double, "differs_float32": self.differences()}

    def task(self, kind: str) -> Callable[[], Any]:
        from rikiba.calculators.autograd import PotentialCalculator, evaluate
        from rikiba.core.system import System

        if kind != "training":
            calculator = PotentialCalculator(self.model, skin=SKIN if kind == "dynamics" else 0.0)
            stress, count = bool(self.system.has_volume.all()), itertools.count()

            def step() -> Any:
                atoms = self.frames[next(count) % len(self.frames)]
                return calculator(System.from_ase(atoms), stress=stress)

            return step

        def predict() -> tuple[torch.Tensor, torch.Tensor]:
            found = evaluate(self.model, self.system, self.pairs, create_graph=True)
            return found.need("energy"), found.need("forces")

        return training_step(list(self.model.parameters()), predict)


def measure(
    peer: Peer, model: str, channels: int, structure: str, kinds: Sequence[str], budget: float
) -> list[dict[str, Any]]:
    """Rows of one model and structure, the two sides in turns for `budget` seconds each."""
    given = {"model": model, "channels": channels, "structure": structure}
    is_batch = kinds == ("training",)
    with tempfile.TemporaryDirectory() as folder:
        built = peer.ask(do="build", folder=folder, batch=is_batch, **given)
        ours = OurSide(Path(folder), structures(structure), is_batch)
    difference = ours.compare()
    if built["pairs"] != len(ours.pairs):
        raise ValueError(f"{structure}: {built['pairs']} pairs there, {len(ours.pairs)} here.")
    rows = []
    for kind in kinds:
        once = max(min(wall for wall, _ in peer.ask(do="prepare", kind=kind)), 1e-4)
        task = ours.task(kind)
        seconds(task, STEPS)
        rounds = max(3, min(20, int(budget / once)))
        calls = max(1, min(STEPS, int(budget / once / rounds)))
        theirs, here = [], []
        for _ in range(rounds):
            theirs += peer.ask(do="time", calls=calls)
            here += seconds(task, calls)
        times = {"schnetpack": theirs, "rikiba": here}
        row: dict[str, Any] = {
            **given,
            "kind": kind,
            "atoms": ours.system.n_atoms,
            "pairs": len(ours.pairs),
            **difference,
        }
        row["calls"] = len(here)
        for side, found in times.items():
            for clock, values in zip(("wall", "cpu"), zip(*found, strict=True), strict=True):
                row[f"{side}_{clock}_ms"] = 1e3 * min(values)
                row[f"{side}_{clock}_median_ms"] = 1e3 * statistics.median(values)
        row["ratio"] = row["schnetpack_cpu_ms"] / row["rikiba_cpu_ms"]
        row["median_ratio"] = row["schnetpack_cpu_median_ms"] / row["rikiba_cpu_median_ms"]
        row["wall_ratio"] = row["schnetpack_wall_ms"] / row["rikiba_wall_ms"]
        rows.append(row)
        short = (
            "{model} {channels} {structure} {kind}: {schnetpack_cpu_ms:.2f} ms there, {rikiba_cpu_ms:.3f} "
            "here, {ratio:.1f}x; medians {median_ratio:.1f}x; wall {wall_ratio:.1f}x"
        )
        print(short.format(**row), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--channels", nargs="+", type=int, default=(128,))
    parser.add_argument("--structures", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of each side for each row")
    parser.add_argument("--interpreter", type=Path, help="Python of SchNetPack's environment")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peer:
        return serve()
    if options.interpreter is None:
        from install_peers import interpreter

        options.interpreter = interpreter("schnetpack")
    peer = Peer(options.interpreter)
    cases: list[tuple[str, tuple[str, ...]]] = [(name, ("dynamics", "search")) for name in options.structures]
    if not options.no_training:
        cases += [(name, ("training",)) for name in BATCHES]
    rows = [
        row
        for model in options.models
        for channels in options.channels
        for name, kinds in cases
        for row in measure(peer, model, channels, name, kinds, options.budget)
    ]
    about = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(json.dumps({"about": about, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
