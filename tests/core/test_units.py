"""Conversions against published values."""

import pytest

from rikiba.core import units


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / units.gigapascal, 160.2176634),  # 1 eV/Å³ in GPa, exact by the SI value of e
        (units.kilocalorie_per_mole, 0.0433641),
        (units.hartree, 27.211386245988),  # CODATA 2018
        (units.bohr, 0.529177210903),  # CODATA 2018
        (1 / units.femtosecond**2, 103.64270),  # 1 u Å²/fs² in eV
        (1 / units.femtosecond, 103.642697**0.5),  # Å √(u/eV) in fs: root of 1 u Å²/fs² in eV
        (units.boltzmann, 8.617333262e-5),  # CODATA 2018, eV/K
        (units.coulomb_constant, 14.399645),  # e²/4πε₀ in eV Å
        (units.inverse_centimetre, 1.239841984e-4),  # CODATA 2018, eV
        (units.debye, 0.2081943),  # e Å
        (1 / units.gram_per_cubic_centimetre, 1.66053907),  # u/Å³ in g/cm³
        (units.cubic_centimetre_per_molecule_to_litre_per_mole, 6.02214076e20),
        (units.gigapascal / units.bar, 1e4),
    ],
)
def test_known_values(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, rel=2e-7)


def test_frequency_of_a_known_oscillator() -> None:
    """ν̃ = √(k/μ)/2πc of ¹H³⁵Cl's force constant 516 N/m is near 2990 cm⁻¹ (Atkins, Physical Chemistry)."""
    k = 516.0 * units.joule / (1e10) ** 2  # N/m = J/m² → eV/Å²
    reduced = 1.00783 * 34.96885 / (1.00783 + 34.96885)
    assert (k / reduced) ** 0.5 * units.angular_to_inverse_centimetre == pytest.approx(2990, abs=5)
