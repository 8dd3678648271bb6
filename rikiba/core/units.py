"""The one unit system and every conversion.

Inside rikiba: energy eV, length Å, mass u (unified atomic mass unit), charge e, temperature K, and so
time Å·√(u/eV) ≈ 10.1805 fs. Constants are CODATA 2018 (Tiesinga et al., Rev. Mod. Phys. 93, 025010
(2021), doi:10.1103/RevModPhys.93.025010); the SI-defining ones are exact.
"""

from math import pi, sqrt

_e = 1.602176634e-19  # C, exact
_h = 6.62607015e-34  # J s, exact
_k = 1.380649e-23  # J/K, exact
_c = 299792458.0  # m/s, exact
_NA = 6.02214076e23  # 1/mol, exact
_u = 1.66053906660e-27  # kg
_a0 = 0.529177210903e-10  # m
_Eh = 4.3597447222071e-18  # J
_eps0 = 8.8541878128e-12  # F/m

# energy, in eV
eV = 1.0
hartree = _Eh / _e
rydberg = hartree / 2.0
joule = 1.0 / _e
kilocalorie_per_mole = 4184.0 / _NA / _e
kilojoule_per_mole = 1000.0 / _NA / _e
inverse_centimetre = _h * _c * 100.0 / _e
"""Energy of one wavenumber, h·c·(1 cm⁻¹), in eV."""
terahertz_energy = _h * 1e12 / _e
"""Energy h·(1 THz) in eV."""

# length, in Å
angstrom = 1.0
bohr = _a0 * 1e10
nanometre = 10.0

# mass, in u
electron_mass = 9.1093837015e-31 / _u
kilogram = 1.0 / _u

# time, in Å·√(u/eV)
femtosecond = 1e-15 / (1e-10 * sqrt(_u / _e))
picosecond = 1e3 * femtosecond
nanosecond = 1e6 * femtosecond

# temperature
boltzmann = _k / _e
"""k_B in eV/K."""
hbar = _h / (2.0 * pi) / _e * 1e15 * femtosecond
"""ħ in eV·(internal time)."""

# pressure, in eV/Å³
gigapascal = 1e9 * 1e-30 / _e
bar = 1e5 * 1e-30 / _e
atmosphere = 101325.0 * 1e-30 / _e

# electrostatics
coulomb_constant = _e / (4.0 * pi * _eps0) * 1e10
"""e²/(4πε₀) in eV·Å."""
debye = 1e-21 / _c / _e * 1e10
"""Dipole moment of 1 D in e·Å."""

# density
gram_per_cubic_centimetre = 1e-3 / _u * 1e-24
"""1 g/cm³ in u/Å³."""

# frequency: angular frequency in 1/(internal time) → cm⁻¹ and THz
angular_to_inverse_centimetre = hbar / inverse_centimetre
"""Multiply an angular frequency √(eigenvalue of the mass-weighted Hessian) by this to get cm⁻¹."""
angular_to_terahertz = hbar / terahertz_energy

# rate constants
cubic_centimetre_per_molecule_to_litre_per_mole = _NA * 1e-3
"""k [cm³ molecule⁻¹ s⁻¹] × this = k [L mol⁻¹ s⁻¹]."""
