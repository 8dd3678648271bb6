"""Pulling and shearing: first slopes are the elastic moduli; restart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.campaigns.protocols.deformation import Deformation
from rikiba.core.record import Record
from rikiba.md import checkpoint as files
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.elastic import Elastic

A0 = 5.25055404
"""Lattice constant without stress, Å."""


def calculator() -> PotentialCalculator:
    return PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5))


def argon(n: int = 3) -> Atoms:
    return bulk("Ar", "fcc", A0, cubic=True).repeat(n)


@pytest.fixture(scope="module")
def constants() -> dict[str, float]:
    """Elastic constants at 0 K from differences of static stresses."""
    found = Elastic().compute(calculator(), bulk("Ar", "fcc", A0, cubic=True))
    c = np.array(found["C_GPa"])
    return {"C11": c[0, 0], "C12": c[0, 1], "C44": c[3, 3]}


def pulled(folder: Path, **more: Any) -> Record:
    settings: dict[str, Any] = {
        "axis": "z", "strain": 0.02, "rate_per_ps": 0.002, "temperature_K": 0.05, "timestep_fs": 6.0,
        "equilibration_ps": 3.0, "fit_strain": 0.02,
        "pressure_time_constant_fs": 100.0, "compressibility_per_GPa": 0.35, "replicas": 2, "seed": 4,
    }  # fmt: skip
    (record,) = Deformation(**{**settings, **more}).run(calculator(), argon(2), out=folder)
    return record


@pytest.mark.slow
def test_free_sides_give_youngs_modulus(constants: dict[str, float], tmp_path: Path) -> None:
    """And Poisson's ratio, of the static tensor; pulled and pushed, so that what is even drops out."""
    c11, c12 = constants["C11"], constants["C12"]
    young, poisson = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12), c12 / (c11 + c12)
    free = [pulled(tmp_path / f"{rate}", rate_per_ps=rate) for rate in (0.002, -0.002)]
    assert free[0]["slope_is"] == "Young's modulus"
    assert np.mean([r["slope_GPa"] for r in free]) == pytest.approx(young, rel=0.03)
    assert np.mean([r["poisson_ratio"] for r in free]) == pytest.approx(poisson, abs=0.02)
    assert abs(c11 - young) > 0.2 * young  # far more than the tolerance: not the modulus of fixed sides


def test_kept_lengths_give_the_elastic_constants(constants: dict[str, float], tmp_path: Path) -> None:
    """C_11 pulled with fixed sides, C_44 sheared: of the static tensor."""
    c11, c44 = constants["C11"], constants["C44"]
    kept = pulled(tmp_path / "kept", lateral_pressure_GPa=None, replicas=1)
    assert kept["slope_GPa"] == pytest.approx(c11, rel=0.02)
    sheared = pulled(tmp_path / "sheared", axis="xy", lateral_pressure_GPa=None, replicas=1)
    assert sheared["slope_GPa"] == pytest.approx(c44, rel=0.02)
    assert abs(c11 - c44) > 0.2 * c11


def test_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    pull = Deformation(
        axis="x", strain=0.02, rate_per_ps=0.1, temperature_K=20.0, timestep_fs=4.0, equilibration_ps=0.1,
        interval=2, checkpoint_interval=7, fit_strain=0.02,
    )  # fmt: skip
    (whole,) = pull.run(calculator(), argon(2), out=tmp_path / "whole")

    def stop_at(n: int) -> Any:
        heard: list[str] = []

        def tell(text: str, done: int | None = None, total: int | None = None) -> None:
            heard.append(text)
            if len(heard) == n:
                raise KeyboardInterrupt

        return tell

    for n in (12, 55):  # of 25 steps of equilibration and 50 of pulling
        folder = tmp_path / f"{n}"
        with pytest.raises(KeyboardInterrupt):
            pull.run(calculator(), argon(2), out=folder, progress=stop_at(n))
        (again,) = pull.run(calculator(), argon(2), out=folder, resume=True)
        assert again.to_json() == whole.to_json()
        a, b = (files.read(f / "deformation.checkpoint")[0] for f in (folder, tmp_path / "whole"))
        assert np.array_equal(a["state/positions"], b["state/positions"])
        assert (folder / "deformation.xyz").read_bytes() == (tmp_path / "whole/deformation.xyz").read_bytes()


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    base: dict[str, Any] = {
        "axis": "z",
        "strain": 0.1,
        "rate_per_ps": 0.01,
        "temperature_K": 1.0,
        "timestep_fs": 2.0,
    }
    for wrong, message in (
        ({"axis": "zx"}, "axis must be one of"),
        ({"rate_per_ps": 0.0}, "rate_per_ps not 0"),
        ({"rate_per_ps": 10.0}, "samples lie within"),
        ({"rate_per_ps": -0.01, "strain": 1.0}, "leaves nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            Deformation(**{**base, **wrong})
    with pytest.raises(ValueError, match="right angles"):
        Deformation(**base).run(calculator(), bulk("Ar", "fcc", A0).repeat(4), out=tmp_path)
