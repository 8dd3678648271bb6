"""motep: moment tensor potentials by its C engine, called through its ASE calculator.

Its neighbour list, ASE's with a skin of 0.3 Å, is kept while atoms move less than that, as they do between
the frames: unlike rikiba it does not search at every call, which favours it. It computes in float64 always.
"""

from pathlib import Path
from typing import Any

import numpy as np
from side import AseSide, atoms_of, scale_for

TEMPLATES = Path(__file__).resolve().parents[2] / "tests" / "peers" / "motep" / "reference"


class Side(AseSide):
    """A potential with random coefficients; its products are those of a file in tests/peers/motep."""

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        from motep.io.mlip.mtp import read_mtp, write_mtp

        with np.load(structure) as file:
            self.structure = dict(file)
        data, rng = read_mtp(TEMPLATES / f"level{settings['level']}.mtp"), np.random.default_rng(0)
        data.species = sorted(set(self.structure["numbers"].tolist()))
        n = len(data.species)
        data.radial_basis.min, data.radial_basis.max = 1.0, settings["cutoff"]
        data.scaling = (settings["cutoff"] - 1.0) ** -2
        shape = (n, n, data.radial_funcs_count, data.radial_basis.size)
        data.radial_coeffs = rng.normal(0.0, 0.2, shape)
        data.species_coeffs = np.zeros(n)
        data.moment_coeffs = rng.normal(0.0, 1.0, data.alpha_scalar_moments)
        self.data = data
        self.load("float64")
        data.moment_coeffs *= scale_for(self.evaluate(self.structure["frames"][0])["forces"])
        file = Path(weights).with_suffix(".mtp")
        write_mtp(file, data, legacy=True)
        return {"imports": "motep", "file": str(file), "parameters": int(data.parameters.size)}

    def load(self, dtype: str) -> None:
        from motep.calculator import MTP

        self.atoms = atoms_of(self.structure)
        self.atoms.calc = MTP(self.data, engine="cext")
