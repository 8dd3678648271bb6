"""The error table of FitSNAP's tantalum example from its own coefficients.

Thompson et al., doi:10.1016/j.jcp.2014.12.018; files in the data folder, fitsnap_ta.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import units
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.formats import read
from rikiba.interop.lammps_snap import load_lammps_snap
from rikiba.potentials.base import Potential
from rikiba.potentials.snap import Snap


class LammpsZbl(Potential):
    """The repulsion under the fit: LAMMPS' zbl 4.0 4.8 between Ta, as lammps/README.md says."""

    learned = False
    elements = ("Ta",)
    cutoff = 4.8

    def forward(self, system: System, pairs: Pairs) -> Results:
        r = pairs.vectors(system).norm(dim=-1)
        inner, outer, z = 4.0, 4.8, 73.0
        length = 0.46850 / (2 * z**0.23)
        terms = zip((0.18175, 0.50986, 0.28022, 0.02817), (3.19980, 0.94229, 0.40290, 0.20162), strict=True)
        parts = [(c * z * z * 14.399645, k / length) for c, k in terms]
        e, e1, e2 = 0.0, 0.0, 0.0
        for c, k in parts:
            value = c * np.exp(-k * outer) / outer
            e += value
            e1 -= value * (k + 1 / outer)
            e2 += value * (k * k + 2 * k / outer + 2 / outer**2)
        w = outer - inner
        a, b = (-3 * e1 + w * e2) / w**2, (2 * e1 - w * e2) / w**3
        shift = -e + w * e1 / 2 - w * w * e2 / 12
        bare = sum(c * torch.exp(-k * r) for c, k in parts) / r
        u = (r - inner).clamp(min=0.0)
        half = 0.5 * (bare + a / 3 * u**3 + b / 4 * u**4 + shift)
        return Results(energies=half.new_zeros(system.n_atoms).index_add(0, pairs.i, half))


def table(text: str) -> dict[tuple[str, str], tuple[int, float, float]]:
    """(group, quantity) → number, mean absolute and root mean square error, unweighted."""
    pattern = r"\('(\S+)', 'Unweighted', '(\w+)'\)\s*\|\s*(\d+) \|\s*(\S+)\s*\|\s*(\S+)\s*\|"
    return {(g, q): (int(n), float(a), float(b)) for g, q, n, a, b in re.findall(pattern, text)}


def differences(snap: Snap, file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Residuals of every frame: energy per atom (eV), forces (eV/Å), stress (bar, 6 components)."""
    calculator, zbl = PotentialCalculator(snap), LammpsZbl()
    for frame in read(file, level_of_theory="PBE (VASP)", stress_key="stress"):
        system, labels = frame.system, frame.results
        both = (
            calculator(system, stress=True),
            evaluate(zbl, system, find_pairs(system, zbl.cutoff), stress=True),
        )
        total = {k: sum(r.need(k) for r in both) - labels.need(k) for k in ("energy", "forces", "stress")}
        yield "Energy", total["energy"].numpy() / system.n_atoms
        yield "Force", total["forces"].numpy().ravel()
        rows, columns = np.triu_indices(3)
        yield "Stress", total["stress"][0].numpy()[rows, columns] / units.bar


def measured(snap: Snap, folder: Path) -> dict[tuple[str, str], tuple[int, float, float]]:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for file in sorted(folder.glob("*.xyz")):
        for quantity, values in differences(snap, file):
            for group in (file.stem, "*ALL"):
                found.setdefault((group, quantity), []).append(values)
    out = {}
    for key, parts in found.items():
        x = np.concatenate(parts)
        out[key] = (len(x), float(np.abs(x).mean()), float(np.sqrt((x**2).mean())))
    return out


def test_error_table(data_dir: Path) -> None:
    """All means and root mean squares of 12 groups and of all together, to five digits."""
    folder = data_dir / "fitsnap_ta"
    if not folder.exists():
        pytest.skip("needs fitsnap_ta in the data folder")
    stem = folder / "reference" / "Ta_pot"
    weights = load_lammps_snap(f"{stem}.snapcoeff", f"{stem}.snapparam")
    snap = Snap(**weights.arguments)
    snap.load_state_dict(weights.tensors)
    expected = table((folder / "reference" / "Ta_metrics.md").read_text())
    assert len(expected) == 39
    found = measured(snap, folder / "groups")
    for key, (n, mae, rmse) in expected.items():
        assert found[key][0] == n, key
        assert found[key][1:] == pytest.approx((mae, rmse), rel=2e-5), key
    # negative control: one coefficient off by a part in a thousand
    with torch.no_grad():
        snap.coefficients[3] *= 1.001
    other = measured(snap, folder / "groups")
    wrong = [k for k, v in expected.items() if other[k][1:] != pytest.approx(v[1:], rel=2e-5)]
    assert len(wrong) > 20


def test_repulsion_ends_smoothly() -> None:
    at = [Atoms("Ta2", [[0, 0, 0], [r, 0, 0]]) for r in (4.5, 4.8 - 1e-4)]
    systems = [System.from_ase(a) for a in at]
    inside, at_end = (float(evaluate(LammpsZbl(), s, find_pairs(s, 4.8)).need("energy")) for s in systems)
    assert abs(inside) > 1e-6 > 1e-9 > abs(at_end)
