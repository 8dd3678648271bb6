"""Time SchNet and PaiNN against SchNetPack: the same weights, structures, pairs, precision and thread.

    python benchmarks/peers/time_schnetpack.py --channels 64 128

SchNetPack runs in a process of its own environment (``install_peers.py schnetpack``); both sides take turns.
Energies and forces of both are compared in float64 first. Times are of energies and forces with the pair list
at hand (`inference`), and of one step of Adam on a loss of both (`training`). The least of all repeats is
given beside the median: on a busy machine the least is the better measure. Prints JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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


def structures() -> dict[str, list[Atoms]]:
    """Ten ethanol molecules (720 pairs) and 64 atoms of silicon (1,792 pairs), rattled."""
    ethanol = [molecule("CH3CH2OH") for _ in range(10)]
    silicon = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    for k, atoms in enumerate((*ethanol, silicon)):
        atoms.rattle(0.05, seed=k)
    return {"ethanol x10": ethanol, "Si 64": [silicon]}


def seconds(task: Callable[[], Any], calls: int) -> list[float]:
    """Wall time of each call."""
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
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

    def __init__(self, model: str, channels: int, frames: list[Atoms]) -> None:
        sys.path.append(str(HERE.parents[1] / "tests" / "peers" / "schnetpack"))
        from peer import schnetpack

        spk = schnetpack()
        torch.manual_seed(0)
        basis = {"SchNet": spk.nn.GaussianRBF, "PaiNN": spk.nn.BesselRBF}[model]
        representation = getattr(spk.representation, model)(
            n_atom_basis=channels,
            n_interactions=LAYERS,
            radial_basis=basis(n_rbf=RADIAL, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        )
        self.model = spk.model.NeuralNetworkPotential(
            representation=representation,
            input_modules=[spk.atomistic.PairwiseDistances()],
            output_modules=[
                spk.atomistic.Atomwise(n_in=channels, output_key="energy"),
                spk.atomistic.Forces(),
            ],
        )
        neighbours = spk.transform.MatScipyNeighborList(cutoff=CUTOFF)
        convert = spk.interfaces.AtomsConverter(neighbor_list=neighbours, dtype=torch.float64)
        self.batch = convert(frames)

    def inputs(self) -> dict[str, torch.Tensor]:
        """The batch anew: the model adds to the dictionary that it is given."""
        return {k: v.detach() for k, v in self.batch.items()}

    def predict(self) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(self.inputs())
        return found["energy"], found["forces"]

    def answers(self, folder: Path) -> dict[str, Any]:
        """Weights and float64 answers into a file; then everything turns to float32."""
        self.model = self.model.double().eval()
        energy, forces = self.predict()
        arrays = {f"state/{k}": v.numpy() for k, v in self.model.state_dict().items()}
        np.savez(folder / "peer.npz", energy=energy.detach(), forces=forces.detach(), **arrays)
        self.model = self.model.float()
        self.batch = {k: v.float() if v.is_floating_point() else v for k, v in self.batch.items()}
        return {"pairs": self.batch["_idx_i"].shape[0]}

    def task(self, kind: str) -> Callable[[], Any]:
        if kind == "inference":
            self.model = self.model.eval()
            return self.predict
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
            side = PeerSide(request["model"], request["channels"], structures()[request["structure"]])
            reply = side.answers(Path(request["folder"]))
        elif request["do"] == "prepare":
            assert side is not None
            task = side.task(request["kind"])
            reply = seconds(task, 3)
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

    def __init__(self, folder: Path, frames: list[Atoms]) -> None:
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
        self.system = System.from_ase(frames)
        self.pairs = find_pairs(self.system, CUTOFF)
        self.expected = arrays

    def compare(self) -> dict[str, float]:
        """Largest differences in energy (eV/atom) and forces (eV/Å), float64."""
        from rikiba.calculators.autograd import evaluate

        found = evaluate(self.model, self.system, self.pairs)
        per_atom = self.system.n_atoms / self.system.n_systems
        energy = np.abs(found.need("energy").numpy() - self.expected["energy"]).max() / per_atom
        forces = np.abs(found.need("forces").numpy() - self.expected["forces"]).max()
        self.model = self.model.float()
        return {"energy_eV_per_atom": float(energy), "forces_eV_per_A": float(forces)}

    def task(self, kind: str) -> Callable[[], Any]:
        from rikiba.calculators.autograd import evaluate, frozen, run_program

        if kind == "inference":
            model, program = frozen(self.model), self.model.program()
            if program is None:
                return lambda: evaluate(model, self.system, self.pairs)
            return lambda: run_program(program, self.system, self.pairs)

        def predict() -> tuple[torch.Tensor, torch.Tensor]:
            found = evaluate(self.model, self.system, self.pairs, create_graph=True)
            return found.need("energy"), found.need("forces")

        return training_step(list(self.model.parameters()), predict)


def measure(peer: Peer, model: str, channels: int, structure: str, rounds: int) -> list[dict[str, Any]]:
    """Rows of inference and training for one model and structure."""
    with tempfile.TemporaryDirectory() as folder:
        built = peer.ask(do="build", model=model, channels=channels, structure=structure, folder=folder)
        ours = OurSide(Path(folder), structures()[structure])
    difference = ours.compare()
    if difference["energy_eV_per_atom"] > 1e-6 or difference["forces_eV_per_A"] > 1e-5:
        raise ValueError(f"{model} on {structure}: the two sides differ by {difference}.")
    if built["pairs"] != len(ours.pairs):
        raise ValueError(f"{structure}: {built['pairs']} pairs there, {len(ours.pairs)} here.")
    rows = []
    for kind in ("inference", "training"):
        task = ours.task(kind)
        once = max(min(peer.ask(do="prepare", kind=kind)), 1e-4)
        seconds(task, 3)
        calls = max(1, min(20, int(0.1 / once)))
        theirs, here = [], []
        for _ in range(rounds):
            theirs += peer.ask(do="time", calls=calls)
            here += seconds(task, calls)
        rows.append(
            {
                "model": model,
                "channels": channels,
                "structure": structure,
                "pairs": len(ours.pairs),
                "kind": kind,
                "schnetpack_ms": 1e3 * min(theirs),
                "rikiba_ms": 1e3 * min(here),
                "schnetpack_median_ms": 1e3 * statistics.median(theirs),
                "rikiba_median_ms": 1e3 * statistics.median(here),
                "ratio": min(theirs) / min(here),
                **difference,
            }
        )
        short = "{model} {channels} {structure} {kind}: {schnetpack_ms:.2f} ms there, {rikiba_ms:.2f} here"
        print(short.format(**rows[-1]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--channels", nargs="+", type=int, default=(64, 128))
    parser.add_argument("--rounds", type=int, default=10)
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
    rows = [
        row
        for model in options.models
        for channels in options.channels
        for structure in structures()
        for row in measure(peer, model, channels, structure, options.rounds)
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
