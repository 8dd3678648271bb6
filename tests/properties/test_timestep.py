"""The fastest vibration against known frequencies, and the timestep that follows."""

import math

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.md.vibration import fastest_vibration, timestep_warning
from rikiba.potentials.morse import Morse
from rikiba.properties.frequencies import Frequencies
from rikiba.properties.timestep import Timestep


def hydrogen() -> tuple[PotentialCalculator, Atoms]:
    """A Morse molecule: k = 2 D α², ω = √(k/μ)."""
    potential = Morse(depth_eV={"H-H": 4.6}, alpha_per_A={"H-H": 1.95}, distance={"H-H": 0.74}, cutoff=6.0)
    return PotentialCalculator(potential), Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])


def test_a_diatomic_molecule() -> None:
    calculator, atoms = hydrogen()
    fastest = fastest_vibration(calculator, atoms)
    omega = math.sqrt(2.0 * 4.6 * 1.95**2 / (1.008 / 2.0))
    assert fastest.angular_frequency == pytest.approx(omega, rel=3e-3)
    assert fastest.participation == ("H",)
    assert fastest.limit_timestep_fs == pytest.approx(2.0 / omega / units.femtosecond, rel=3e-3)


def test_the_top_of_the_whole_spectrum() -> None:
    """Lanczos' method against the full Hessian, for a molecule."""
    calculator = FromASE(EMT())
    ethanol = molecule("CH3CH2OH")
    every = Frequencies(relax=False).compute(calculator, ethanol)["unprojected_cm1"]
    assert fastest_vibration(calculator, ethanol).wavenumber_cm1 == pytest.approx(max(every), rel=0.01)


def test_a_metal_takes_a_longer_step_than_hydrogen() -> None:
    """Copper's highest phonon is near 7.5 THz (250 cm⁻¹); one atom in the cell shows it by repetition."""
    copper = fastest_vibration(FromASE(EMT()), bulk("Cu"))
    assert 200 < copper.wavenumber_cm1 < 300
    light = fastest_vibration(*hydrogen())
    assert copper.recommended_timestep_fs > 5.0 and light.recommended_timestep_fs < 0.5
    assert timestep_warning(FromASE(EMT()), [bulk("Cu")], 2.0) is None
    said = timestep_warning(hydrogen()[0], [hydrogen()[1]], 1.0)
    assert said is not None and "cm⁻¹ (H, period" in said and "unstable" not in said
    assert "unstable" in str(timestep_warning(hydrogen()[0], [hydrogen()[1]], 5.0))


def test_the_ripple_is_of_second_order_and_the_limit_holds() -> None:
    calculator, atoms = hydrogen()
    record = Timestep(temperature_K=50.0, factors=(0.5, 1.0, 2.0, 6.0, 7.0)).compute(calculator, atoms)
    assert record["ripple_order"] == pytest.approx(2.0, abs=0.15)
    # ωΔt = 1.9 holds and 2.2 does not
    best = record["recommended_timestep_fs"]
    assert len(record["scan_timestep_fs"]) == 4 and record["failing_timestep_fs"] == [7.0 * best]


def test_what_does_not_vibrate_is_refused() -> None:
    with pytest.raises(ValueError, match="Nothing vibrates"):
        Timestep().compute(hydrogen()[0], Atoms("H"))
    with pytest.raises(ValueError, match="without atoms"):
        fastest_vibration(hydrogen()[0], Atoms())
