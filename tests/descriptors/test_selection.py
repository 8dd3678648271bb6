"""Selection of features: planted copies are dropped, and fewer functions fit as well."""

import numpy as np
import pytest
import torch

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import centred_radial_set
from rikiba.descriptors.selection import cur_columns, uncorrelated_columns
from rikiba.potentials.behler_parrinello import BehlerParrinello


def planted(seed: int = 0) -> torch.Tensor:
    """100 rows of 8 columns: 4 to 6 are combinations of 0 to 3, the last never varies."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((100, 4), dtype=torch.float64, generator=generator)
    copies = [2.0 * x[:, :1], x[:, 1:2] - x[:, 2:3], x[:, 3:] + 1e-3 * x[:, :1], 0.0 * x[:, :1]]
    both = torch.cat([x, *copies], 1)
    return both - both.mean(0)


def test_cur_keeps_what_spans_all() -> None:
    x = planted()
    kept = cur_columns(x.T @ x, 4)
    span = torch.linalg.lstsq(x[:, kept], x).solution
    assert float((x[:, kept] @ span - x).abs().max()) < 1e-10
    poor = torch.tensor([0, 4, 1, 2])  # negative control: a copy in the set leaves a direction out
    span = torch.linalg.lstsq(x[:, poor], x).solution
    assert float((x[:, poor] @ span - x).abs().max()) > 0.1
    with pytest.raises(ValueError, match="Only 4"):
        cur_columns(x.T @ x, 5)


def test_correlated_columns_are_dropped() -> None:
    x = planted()
    assert uncorrelated_columns(x.T @ x, 0.99).tolist() == [0, 1, 2, 3, 5]
    assert uncorrelated_columns(x.T @ x, 0.6).tolist() == [0, 1, 2, 3]


def test_radial_grid_at_the_centre() -> None:
    grid = centred_radial_set(5, 6.0)
    assert len(grid) == 6 and grid[0] == (pytest.approx(1 / 36), 0.0)
    assert grid[5][0] == pytest.approx(25 / 36)


def test_a_potential_chooses_its_functions_from_the_data() -> None:
    rng = np.random.default_rng(0)
    from ase import Atoms

    frames = [Atoms("OSi3O2", rng.uniform(0, 3.5, (6, 3))) for _ in range(12)]
    systems = [System.from_ase(a) for a in frames]
    data = [(s, find_pairs(s, 4.0)) for s in systems]
    whole = BehlerParrinello(elements=("O", "Si"), cutoff=4.0, n_radial=6, n_angular=2).double()
    few = BehlerParrinello(elements=("O", "Si"), cutoff=4.0, n_radial=6, n_angular=2, n_selected=20).double()
    first = few.columns_0.clone()
    few.prepare(iter(data))
    assert not torch.equal(few.columns_0, first) and len(set(few.columns_0.tolist())) == 20
    whole.prepare(iter(data))
    left = []
    for columns in (few.columns_0, first):
        g, own = [], []
        for s, p in data:
            t = whole.types(s)
            x = (whole.features(s, p, t, torch.float64) - whole.feature_mean[t]) / whole.feature_scale[t]
            g.append(x[t == 0])
            own.append(x[t == 0][:, columns])
        x, y = torch.cat(g), torch.cat(own)
        left.append(float((y @ torch.linalg.lstsq(y, x).solution - x).square().mean()))
    assert left[0] < 0.5 * left[1]  # the first twenty functions explain less of all
    again = BehlerParrinello(
        elements=("O", "Si"), cutoff=4.0, n_radial=6, n_angular=2, n_selected=20
    ).double()
    again.load_state_dict(few.state_dict())
    assert torch.equal(*(m(*data[0]).need("energies") for m in (few, again)))
    with pytest.raises(ValueError, match="not both"):
        BehlerParrinello(elements=("O",), columns={"O": [0]}, n_selected=3)
