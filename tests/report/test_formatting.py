import math

import pytest

from rikiba.report import number_text, split_key, value_text
from rikiba.report.formatting import column_text


@pytest.mark.parametrize(
    ("key", "name", "unit"),
    [
        ("C11_GPa", "C₁₁", "GPa"),
        ("frequencies_cm1", "frequencies", "cm⁻¹"),
        ("force_MAE_eV_per_A", "force MAE", "eV/Å"),
        ("energy_MAE_meV_per_atom", "energy MAE", "meV/atom"),
        ("timestep_fs", "timestep", "fs"),
        ("temperature_K", "temperature", "K"),
        ("barrier_kJ_per_mol", "barrier", "kJ/mol"),
        ("friction_per_ps", "friction", "ps⁻¹"),
        ("rate_per_A3", "rate", "Å⁻³"),
        ("stress_eV_per_A3", "stress", "eV/Å³"),
        ("drift_meV_per_atom_per_ps", "drift", "meV/atom/ps"),
        ("drift_meV_per_atom_ps", "drift", "meV/(atom·ps)"),
        ("dipole_e_A", "dipole", "e·Å"),
        ("diffusion_cm2_per_s", "diffusion", "cm²/s"),
        ("n_atoms", "number of atoms", ""),
        ("level_of_theory", "level of theory", ""),
        ("K_GPa", "K", "GPa"),
        ("R2", "R²", ""),
        ("GPa", "GPa", ""),
        ("vdos_per_cm1", "vdos", "cm"),
        ("angles_degree", "angles", "°"),
        ("energy_min", "energy min", ""),
        ("density_g_per_cm3", "density", "g/cm³"),
        ("thermal_conductivity_W_per_m_per_K", "thermal conductivity", "W/m/K"),
        ("viscosity_mPa_s", "viscosity", "mPa·s"),
        ("energy_per_banana", "energy per banana", ""),
    ],
)
def test_units_are_read_off_the_key(key: str, name: str, unit: str) -> None:
    assert split_key(key) == (name, unit)


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (153.41, 2.31, "153.4 ± 2.3"),
        (5.46873, 0.00111, "5.4687 ± 0.0011"),
        (-4.13, 0.2, "−4.13 ± 0.20"),
        (12345.6, 210.0, "12350 ± 210"),
        (2.31e-5, 3e-7, "(2.310 ± 0.030)×10⁻⁵"),
        (0.0, 0.02, "0.000 ± 0.020"),
        (1.0, 0.0, "1 ± 0"),
        (1.0, math.nan, "1 ± NaN"),
        (math.nan, 1.0, "NaN"),
        (-math.inf, None, "−∞"),
        (1234567, None, "1\u2009234\u2009567"),
        (6.02e23, None, "6.02×10²³"),
        (0.1 + 0.2, None, "0.3"),
        (True, None, "yes"),
    ],
)
def test_numbers_are_rounded_to_their_spread(value: float, spread: float | None, text: str) -> None:
    assert number_text(value, spread) == text


def test_a_spread_survives_rounding_to_two_digits() -> None:
    for power in range(-12, 12):
        value, spread = 3.14159 * 10.0**power, 0.027 * 10.0**power
        text = number_text(value, spread)
        mantissa, _, exponent = text.partition("×10")
        middle, error = (float(t) for t in mantissa.strip("()").split(" ± "))
        factor = 10.0 ** int(exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
        assert middle * factor == pytest.approx(value, rel=2e-3) and error * factor == pytest.approx(
            spread, rel=2e-2
        )


def test_lists_and_columns() -> None:
    assert value_text([1.0, 2.5], [0.1, 0.2]) == "[1.00 ± 0.10, 2.50 ± 0.20]"
    assert value_text(None) == "—"
    assert column_text([22.9, 14.21, 3]) == ["22.90", "14.21", "3"]
    assert column_text([1e-9, 2.5]) == ["1×10⁻⁹", "2.5"]


def test_columns_of_large_numbers_keep_two_decimals() -> None:
    assert column_text([42.1547, 3567.71]) == ["42.15", "3567.71"]
    assert column_text([0.0021, 3567.71]) == ["0.0021", "3567.7100"]
