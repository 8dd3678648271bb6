"""Tensor shapes in signatures are true: some of the tests run again with every annotated shape enforced."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHECKED = (
    "rikiba.core",
    "rikiba.kernels.distance_constraints",
    "rikiba.kernels.grouping",  # kernels.random_cpu is compiled by numba, which takes no wrapped functions
    "rikiba.kernels.local_motion",
    "rikiba.kernels.nose_hoover_chain",
    "rikiba.kernels.pair_convolution",
    "rikiba.kernels.radial_table",
    "rikiba.kernels.quasi_newton",
    "rikiba.kernels.random",
    "rikiba.kernels.settle",
    "rikiba.kernels.symmetric_contraction",
    "rikiba.kernels.velocity_rescaling",
    "rikiba.nn",
    "rikiba.descriptors",
    "rikiba.potentials",
    "rikiba.calculators",
    "rikiba.md",
    "rikiba.relaxation",
    "rikiba.properties",
    "rikiba.data",
    "rikiba.training",
    "rikiba.validation",
)

SELECTED = (
    "tests/core/test_system.py",
    "tests/calculators/test_calculators.py",
    "tests/data/test_batching.py",
    "tests/descriptors/test_acsf.py",
    "tests/kernels/test_pair_convolution.py",
    "tests/kernels/test_quasi_newton.py",
    "tests/md/test_definitions.py",
    "tests/md/test_langevin.py::test_fixed_atoms_stay",
    "tests/md/test_simulation.py::test_two_runs_equal_one",
    "tests/md/test_verlet.py::test_momentum_is_conserved",
    "tests/nn/test_equivariant.py",
    "tests/nn/test_radial.py",
    "tests/nn/test_so3.py",
    "tests/potentials/test_classical.py",
    "tests/potentials/test_pair_basis.py",
    "tests/properties/test_bond_lengths.py",
    "tests/properties/test_vdos.py",
    "tests/seams",
    "tests/training/test_loss.py",
    "tests/validation/test_errors.py",
)
"""Quick tests that pass through most signatures; none of them gives a wrong shape on purpose."""

CONTROL = """
import pytest, torch
from ase import Atoms
from rikiba.core.system import System
from rikiba.md.state import State
from rikiba.calculators.autograd import stress_from_virial

SYSTEM = System.from_ase(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True))

def test_right():
    assert stress_from_virial(torch.zeros(1, 3, 3), SYSTEM).shape == (1, 3, 3)

def test_wrong_rank():
    stress_from_virial(torch.zeros(3, 3), SYSTEM)

def test_wrong_size():
    State.of(SYSTEM, torch.zeros(2, 4, dtype=torch.float64))

def test_integers_for_reals():
    stress_from_virial(torch.zeros(1, 3, 3, dtype=torch.int64), SYSTEM)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """pytest on `words` in a process of its own, with shapes enforced."""
    hook = f"--jaxtyping-packages={','.join(CHECKED)},shape_checker.shapes"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", hook, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def test_annotated_shapes_hold() -> None:
    done = run(*SELECTED)
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_wrong_shape_is_noticed(tmp_path: Path) -> None:
    """Negative control: wrong rank, size and dtype raise, the right call does not."""
    file = tmp_path / "test_control.py"
    file.write_text(CONTROL, encoding="utf-8")
    done = run(str(file), "-rfp")
    outcome = {
        line.split("::")[1].split()[0]: line.split()[0]
        for line in done.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED"))
    }
    wrong = ("test_wrong_rank", "test_wrong_size", "test_integers_for_reals")
    assert outcome == {"test_right": "PASSED", **dict.fromkeys(wrong, "FAILED")}, done.stdout
    assert done.stdout.count("E   jaxtyping.TypeCheckError") >= 3
