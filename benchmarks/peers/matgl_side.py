"""matgl with public weights, through its ASE calculator."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, atoms_of, freeze
from side import Side as Base

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "peers" / "matgl"))
DATA = Path(os.environ.get("RIKIBA_DATA", ROOT.parent / "shared" / "data"))


class Side(Base):
    """A saved potential from the reference data."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        import matgl

        self.set_default = matgl.set_default_dtype

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        from peer import public_model

        self.folder = DATA / "pretrained" / "matgl" / settings["folder"]
        self.model = public_model(self.folder)
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"folder": str(self.folder), "messages_to": settings["messages_to"], "parameters": parameters}

    def load(self, dtype: str) -> None:
        from matgl.ext.ase import PESCalculator
        from peer import public_model, with_exact_constants

        self.set_default("float", 64 if dtype == "float64" else 32)
        model = public_model(self.folder)
        model = with_exact_constants(model) if dtype == "float64" else model.float()
        self.calculator = PESCalculator(freeze(model), stress_unit="eV/A3", use_voigt=False)
        self.atoms = atoms_of(self.structure)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        self.calculator.calculate(self.atoms, ["energy", "forces", "stress"], ["positions"])
        found = self.calculator.results
        answer = {"energy": np.array([found["energy"]]), "forces": found["forces"]}
        return answer | ({"stress": found["stress"]} if self.periodic else {})
