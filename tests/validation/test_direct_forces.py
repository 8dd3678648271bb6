"""What forces that are no gradient cost: work on a closed path, and energy that no timestep conserves."""

import controls
import numpy as np

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.validation.checks import Subject, default_structures
from rikiba.validation.derivatives import closed_path
from rikiba.validation.precision import total_energy

CLUSTER = default_structures(("C", "O"), controls.CUTOFF)["cluster"]
HEATING_K = 600.0


def subject(model: object) -> Subject:
    return Subject.of(model, elements=("C", "O"), cutoff=controls.CUTOFF, precision="float64")  # type: ignore[arg-type]


def strayed(calculator: Calculator, timestep_fs: float) -> float:
    """Largest |H(t) − H(0)| in 40 fs, meV/atom."""
    steps = round(40.0 / timestep_fs)
    energy = total_energy(calculator, CLUSTER, temperature_K=HEATING_K, timestep_fs=timestep_fs, steps=steps)
    return float(np.abs(energy).max())


def test_work_on_a_closed_path() -> None:
    gradient, direct = (
        closed_path(subject(controls.Toy()), CLUSTER),
        closed_path(subject(controls.DirectForces()), CLUSTER),
    )
    assert gradient.passed and gradient.value < 1e-8
    assert direct.passed is False and direct.value > 1e3 * gradient.threshold


def test_a_finer_timestep_does_not_mend_the_energy() -> None:
    """The error of the integrator falls with the square of the timestep; that of the forces stays."""
    sound = PotentialCalculator(controls.Toy(), skin=0.0)
    coarse, fine = strayed(sound, 1.0), strayed(sound, 0.5)
    assert 2.5 < coarse / fine < 6.0
    coarse, direct = strayed(controls.DirectForces(), 1.0), strayed(controls.DirectForces(), 0.5)
    assert 0.8 < coarse / direct < 1.25
    assert direct > 20.0 * fine
