"""Melt and quench: silicon melts into a denser, higher-coordinated liquid; a cool crystal stays one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.campaigns.neighbourhood import neighbourhood
from rikiba.campaigns.protocols.melt_quench import MeltQuench, Stage
from rikiba.core.record import Record
from rikiba.md import checkpoint as files
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.properties.trajectories import Trajectory

SILICON = bulk("Si", "diamond", 5.43, cubic=True).repeat(2)
ARGON = bulk("Ar", "fcc", 5.3, cubic=True).repeat(3)


def silicon(stages: list[Stage], **more: Any) -> MeltQuench:
    settings = {"timestep_fs": 2.0, "seed": 1, "compressibility_per_GPa": 0.02, "time_constant_fs": 50.0}
    return MeltQuench(stages=stages, **{**settings, "pressure_time_constant_fs": 200.0, **more})  # type: ignore[arg-type]


def row(record: Record, name: str) -> dict[str, Any]:
    table = record.tables[0]
    return next(dict(zip(table.columns, r, strict=True)) for r in table.rows if r[0] == name)


def test_silicon_melts_and_a_cool_crystal_does_not(tmp_path: Path) -> None:
    """Liquid silicon is denser than the crystal and has more than four neighbours; at 800 K it stays one."""
    calculator = PotentialCalculator(StillingerWeber())
    hot = [
        Stage(name="melt", temperature_K=4500.0, duration_ps=1.0),
        Stage(name="cool", temperature_K=2200.0, duration_ps=0.6, pressure_GPa=0.0),
        Stage(name="liquid", temperature_K=2200.0, duration_ps=1.4, pressure_GPa=0.0),
    ]
    (melted,) = silicon(hot).run(calculator, SILICON, out=tmp_path / "hot")
    cool = [Stage(name="crystal", temperature_K=800.0, duration_ps=1.2, pressure_GPa=0.0)]
    (stayed,) = silicon(cool).run(calculator, SILICON, out=tmp_path / "cool")
    liquid, crystal = row(melted, "liquid"), row(stayed, "crystal")
    assert crystal["neighbours"] == pytest.approx(4.0, abs=0.02)
    assert crystal["density (g/cm³)"] == pytest.approx(2.33, abs=0.06)
    assert liquid["neighbours"] > 4.4
    assert liquid["density (g/cm³)"] > crystal["density (g/cm³)"] + 0.05
    assert liquid["⟨U⟩ (eV/atom)"] > crystal["⟨U⟩ (eV/atom)"] + 0.3
    assert row(melted, "cool")["rate (K/ps)"] == pytest.approx(-2300 / 0.6)
    assert liquid["⟨T⟩ (K)"] == pytest.approx(2200, rel=0.1)
    assert [c.label for c in melted.figures[0].curves] == ["melt", "cool", "liquid"]


@pytest.mark.slow
def test_quenched_silicon_keeps_defects_that_a_crystal_has_not(tmp_path: Path) -> None:
    """216 atoms, 6000 K/ps and 600 K/ps: an amorphous solid; the slower rate leaves the lower energy."""
    atoms = bulk("Si", "diamond", 5.43, cubic=True).repeat(3)
    energies = {}
    for rate in (6000.0, 300.0):
        stages = [
            Stage(name="melt", temperature_K=4500.0, duration_ps=2.0),
            Stage(name="liquid", temperature_K=2500.0, duration_ps=2.0, pressure_GPa=0.0),
            Stage(name="quench", temperature_K=300.0, rate_K_per_ps=rate, pressure_GPa=0.0),
            Stage(name="anneal", temperature_K=300.0, duration_ps=2.0, pressure_GPa=0.0),
        ]
        calculator = PotentialCalculator(StillingerWeber())
        (record,) = silicon(stages, interval=25).run(calculator, atoms, out=tmp_path / f"{rate:g}")
        energies[rate] = row(record, "anneal")["⟨U⟩ (eV/atom)"]
        assert 4.0 < row(record, "anneal")["neighbours"] < 5.5
    assert -4.3 < energies[300.0] < energies[6000.0] - 0.01


def argon(folder: Path, interrupt: int | None = None) -> Any:
    """A hold, a ramp at constant volume and one at constant pressure; stopped after so many steps."""
    stages = [
        Stage(name="hold", temperature_K=30.0, duration_ps=0.16),
        Stage(name="heat", temperature_K=60.0, rate_K_per_ps=150.0),
        Stage(name="press", temperature_K=40.0, duration_ps=0.2, pressure_GPa=0.2),
    ]
    schedule = MeltQuench(stages=stages, timestep_fs=4.0, interval=5, checkpoint_interval=9, seed=2)
    calculator = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.5))
    steps = 0

    def tell(text: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal steps
        steps += 1
        if interrupt is not None and steps == interrupt:
            raise KeyboardInterrupt

    try:
        return schedule.run(calculator, ARGON, out=folder, resume=interrupt is None, progress=tell)
    except KeyboardInterrupt:
        return None


def test_it_goes_on_in_the_middle_of_a_stage_bit_for_bit(tmp_path: Path) -> None:
    (whole,) = argon(tmp_path / "whole")
    for interrupt in (25, 60, 110):  # in each of the stages of 40, 50 and 50 steps
        folder = tmp_path / f"{interrupt}"
        assert argon(folder, interrupt) is None
        (again,) = argon(folder)
        assert again.to_json() == whole.to_json()
        for name in ("01_hold", "02_heat", "03_press"):
            assert (folder / f"{name}.xyz").read_bytes() == (tmp_path / "whole" / f"{name}.xyz").read_bytes()
        mine, theirs = (files.read(f / "03_press.checkpoint")[0] for f in (folder, tmp_path / "whole"))
        assert np.array_equal(mine["state/positions"], theirs["state/positions"])
    # a run that is not resumed begins anew, whatever the folder holds
    schedule = MeltQuench(
        stages=[Stage(name="hold", temperature_K=30.0, duration_ps=0.16)], timestep_fs=4.0, interval=5, seed=9
    )
    calculator = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.5))
    (other,) = schedule.run(calculator, ARGON, out=tmp_path / "whole")
    assert other["hold_density_g_per_cm3"] == whole["hold_density_g_per_cm3"]
    assert not np.array_equal(
        files.read(tmp_path / "whole" / "01_hold.checkpoint")[0]["state/velocities"],
        files.read(tmp_path / "25" / "01_hold.checkpoint")[0]["state/velocities"],
    )


def test_ramps_follow_the_clock() -> None:
    legs = MeltQuench(
        stages=[
            Stage(name="a", temperature_K=300.0, duration_ps=1.0),
            Stage(name="b", temperature_K=100.0, rate_K_per_ps=50.0, pressure_GPa=1.0),
            Stage(name="c", temperature_K=100.0, duration_ps=2.0, pressure_GPa=3.0),
        ],
        timestep_fs=2.0,
    ).legs()
    assert [leg.n_steps for leg in legs] == [500, 2000, 1000]
    assert [leg.begin_ps for leg in legs] == [0.0, 1.0, 5.0]
    assert [leg.rate_K_per_ps for leg in legs] == [0.0, -50.0, 0.0]
    ramp = legs[1].value(legs[1].from_K, 100.0)
    from rikiba.core import units

    times = torch.tensor([0.5, 1.0, 3.0, 5.0, 9.0]).double() * units.picosecond
    assert ramp.at(times).tolist() == pytest.approx([300.0, 300.0, 200.0, 100.0, 100.0])  # type: ignore[union-attr]
    press = legs[2].value(legs[2].from_GPa, 3.0)
    assert (press.start, press.end, press.begin_ps) == (1.0, 3.0, 5.0)  # type: ignore[union-attr]


def test_neighbours_of_perfect_crystals() -> None:
    for atoms, expected in (
        (ARGON, 12.0),
        (bulk("Fe", "bcc", 2.87, cubic=True).repeat(4), 14.0),
        (SILICON, 4.0),
    ):
        path = Trajectory.from_ase([atoms], timestep_fs=1.0)
        cutoff = 1.2 * 2.87 if expected == 14.0 else None
        assert neighbourhood(path, cutoff=cutoff).coordination == pytest.approx(expected, abs=1e-9)
    small = Trajectory.from_ase([bulk("Ar", "fcc", 5.3, cubic=True)], timestep_fs=1.0)
    with pytest.raises(ValueError, match="No two atoms"):
        neighbourhood(small)
    with pytest.raises(ValueError, match="larger cell"):
        neighbourhood(Trajectory.from_ase([ARGON], timestep_fs=1.0), cutoff=9.0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="either duration_ps or rate"):
        Stage(name="a", temperature_K=3.0)
    with pytest.raises(ValueError, match="letters"):
        Stage(name="a/b", temperature_K=3.0, duration_ps=1.0)
    with pytest.raises(ValueError, match="needs duration_ps"):
        MeltQuench(stages=[Stage(name="a", temperature_K=3.0, rate_K_per_ps=1.0)], timestep_fs=1.0)
    with pytest.raises(ValueError, match="names of their own"):
        MeltQuench(stages=[Stage(name="a", temperature_K=3.0, duration_ps=1.0)] * 2, timestep_fs=1.0)
    with pytest.raises(ValueError, match="four samples"):
        MeltQuench(stages=[Stage(name="a", temperature_K=3.0, duration_ps=0.01)], timestep_fs=1.0)
