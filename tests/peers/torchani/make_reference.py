"""Evaluate ANI models with torchani and keep what it answers.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``; the argument is the
wheel of torchani 1.2 (`pip download --no-deps torchani==1.2`), which carries ANI-1x and ANI-1ccx::

    OMP_NUM_THREADS=1 .venvs/torchani/bin/python tests/peers/torchani/make_reference.py WHEEL

README.md beside this file says what is written.
"""

import bz2
import json
import sys
import tempfile
import zipfile
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torchani.arch import ANI
from torchani.neurochem import NeurochemInfo, load_aev_constants_and_symbols, modules_from_info

FOLDER = Path(__file__).parent / "reference"
COMMAND = "OMP_NUM_THREADS=1 .venvs/torchani/bin/python tests/peers/torchani/make_reference.py WHEEL"
SMALL = "ani-2x_8x"
CONSTANTS = """TM = 1
Rcr = 5.1000e+00
Rca = 3.5000e+00
EtaR = [1.9700000e+01]
ShfR = [{radial}]
Zeta = [1.4100000e+01]
ShfZ = [3.9269908e-01,1.1780972e+00,1.9634954e+00,2.7488936e+00]
EtaA = [1.2500000e+01]
ShfA = [{angular}]
Atyp = [H,C,N,O,S,F,Cl]
"""
LAYER = """layer [
nodes={n_out};
activation={activation};
type=0;
blocksize={n_in};
dropout=0;
dropset=0.000000;
maskupdate=0.000000;
maxnorm=0;
norm=0.000000;
normupdate=0.000000;
l2norm=1;
l2valu=0.000100;
btchnorm=0;
weights=FILE:{stem}-l{k}.wparam[{n_weights}];
biases=FILE:{stem}-l{k}.bparam[{n_out}];
]
"""


def crystal(symbols: str, edge: float, nearest: float, seed: int) -> Atoms:
    """Random atoms in a periodic triclinic cell, none nearer to another than `nearest`."""
    rng = np.random.default_rng(seed)
    cell = np.round(edge * np.eye(3) + 0.1 * edge * rng.normal(size=(3, 3)), 4)
    atoms = Atoms(symbols, cell=cell, pbc=True)
    while True:
        atoms.set_scaled_positions(rng.random((len(atoms), 3)))
        distances = atoms.get_all_distances(mic=True) + 10.0 * np.eye(len(atoms))
        if distances.min() > nearest:
            atoms.positions = np.round(atoms.positions, 6)
            return atoms


def structures(elements: tuple[str, ...]) -> dict[str, Atoms]:
    """By name."""
    ethanol = molecule("CH3CH2OH")
    ethanol.positions = np.round(
        ethanol.positions + np.random.default_rng(1).normal(0, 0.1, ethanol.positions.shape), 6
    )
    line = Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.16]])
    return {
        "ethanol": ethanol,
        "straight": line,
        "crystal": crystal("".join(elements) + "HHC", 5.6, 1.3, 3),
        "small_cell": crystal("HNCO", 3.6, 1.1, 4),
        "atom": Atoms("C"),
    }


def write_small(folder: Path) -> None:
    """A model in NeuroChem's format with ANI-2x's functions and random narrow networks, two members."""
    rng = np.random.default_rng(7)
    root = folder / SMALL
    root.mkdir(parents=True)
    radial = [0.8 + k * 4.3 / 16 for k in range(16)]
    angular = [0.8 + k * 2.7 / 8 for k in range(8)]
    text = CONSTANTS.format(radial=_list(radial), angular=_list(angular))
    (root / "functions.params").write_text(text)
    energies = {"H": -0.6, "C": -38.08, "N": -54.7, "O": -75.2, "S": -398.1, "F": -99.7, "Cl": -460.1}
    lines = [f"{s},{k}={e}" for k, (s, e) in enumerate(energies.items())]
    (root / "sae_linfit.dat").write_text("\n".join(lines) + "\n")
    (folder / f"{SMALL}.info").write_text(
        f"{SMALL}/functions.params\n{SMALL}/sae_linfit.dat\n{SMALL}/train\n2\n"
    )
    widths = [1008, 3, 4, 1]
    for member in range(2):
        networks = root / f"train{member}" / "networks"
        networks.mkdir(parents=True)
        for symbol in energies:
            stem, layers = f"ANN-{symbol}.nnf", "inputsize=1008;\natom_net " + symbol + " $\n"
            for k, (n_in, n_out) in enumerate(pairwise(widths), 1):
                w = np.round(rng.normal(size=(n_out, n_in)) * (0.6 if k == 1 else 1.0) * 8) / 8
                b = np.round(rng.normal(size=n_out) * 16) / 64
                w.astype("<f4").tofile(networks / f"{stem}-l{k}.wparam")
                b.astype("<f4").tofile(networks / f"{stem}-l{k}.bparam")
                layers += LAYER.format(
                    n_in=n_in, n_out=n_out, stem=stem, k=k, n_weights=n_in * n_out,
                    activation=6 if n_out == 1 else 9,
                )  # fmt: skip
            packed = bz2.compress((layers + "$\n\0").encode())
            (networks / stem).write_bytes(f"{len(packed)}=\n".encode() + packed)


def _list(values: list[float]) -> str:
    return ",".join(f"{v:.7e}" for v in values)


def evaluate(folder: Path, name: str) -> dict[str, Any]:
    """Everything about one model: energies in Hartree, forces in Hartree/Å, environment vectors."""
    constants, energies, prefix, n = (folder / f"{name}.info").read_text().split()
    info = NeurochemInfo(folder / energies, folder / constants, folder / prefix, int(n))
    aev, networks, self_energies, symbols = modules_from_info(info)
    model = ANI(symbols, aev, networks, self_energies, periodic_table_index=True).double()
    exact_constants(aev, folder / constants)
    model.energy_shifter.self_energies = torch.tensor(_atom_energies(folder / energies, symbols))
    out: dict[str, Any] = {}
    for key, atoms in structures(tuple(symbols)).items():
        numbers = torch.tensor(atoms.numbers)[None]
        positions = torch.tensor(atoms.positions).requires_grad_()
        strain = torch.zeros((3, 3)).requires_grad_()
        deformed = (positions @ (torch.eye(3) + strain))[None]
        cell = torch.tensor(atoms.cell.array) @ (torch.eye(3) + strain)
        box = {"cell": cell, "pbc": torch.tensor([True] * 3)} if atoms.pbc.all() else {}
        members = model((numbers, deformed), **box, ensemble_values=True).energies[:, 0]
        energy = members.mean()
        gradient, virial = torch.autograd.grad(energy, [positions, strain], allow_unused=True)
        vectors = model.potentials["nnp"].aev_computer(
            model.species_converter(numbers), deformed, *((box["cell"], box["pbc"]) if box else ())
        )[0]
        per_atom = model((numbers, deformed), **box, atomic=True).energies[0]
        values = {
            "numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array,
            "pbc": atoms.pbc, "members": members, "forces": -gradient, "node_energy": per_atom,
        }  # fmt: skip
        if key in ("ethanol", "small_cell"):
            values["environments"] = vectors
        if box:
            values["stress"] = 0.5 * (virial + virial.T) / abs(float(np.linalg.det(atoms.cell.array)))
        out |= {f"{key}/{k}": v.detach().numpy() if hasattr(v, "detach") else v for k, v in values.items()}
    return out


def exact_constants(aev: torch.nn.Module, file: Path) -> None:
    """Those of the file in float64; the peer keeps them as they are in float32."""
    given, _ = load_aev_constants_and_symbols(file)
    for term, kind in ((aev.radial, "radial"), (aev.angular, "angular")):
        for name in ("eta", "zeta", "shifts", "sections"):
            source = name if name == "sections" else f"{kind}_{name}"
            if hasattr(term, name):
                exact = torch.tensor(getattr(given, source)).reshape(getattr(term, name).shape)
                torch.testing.assert_close(getattr(term, name), exact, rtol=1e-6, atol=0)
                setattr(term, name, exact)


def _atom_energies(file: Path, symbols: tuple[str, ...]) -> list[float]:
    found = {line.split(",")[0]: float(line.split("=")[1]) for line in file.read_text().split()}
    return [found[s] for s in symbols]


def main() -> None:
    """Write one file a model, and the small model itself as a wheel-like archive."""
    wheel = Path(sys.argv[1])
    about = {"torchani": version("torchani"), "torch": version("torch"), "command": COMMAND}
    FOLDER.mkdir(exist_ok=True)
    torch.set_default_dtype(torch.float64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        published = folder / "torchani" / "resources"
        small = folder / "small"
        write_small(small)
        with zipfile.ZipFile(FOLDER / "small.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in small.rglob("*") if p.is_file()):
                entry = zipfile.ZipInfo(f"torchani/resources/{file.relative_to(small).as_posix()}")
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
        for root, model in ((published, "ani-1x_8x"), (published, "ani-1ccx_8x"), (small, SMALL)):
            found = evaluate(root, model)
            np.savez_compressed(FOLDER / f"{model}.npz", about=json.dumps(about), **found)


if __name__ == "__main__":
    main()
