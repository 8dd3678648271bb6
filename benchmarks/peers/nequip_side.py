"""The nequip package through its ASE calculator: eager, or compiled ahead of time with AOTInductor."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, atoms_of, freeze, scale_for, symbols_of
from side import Side as Base

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Where ASE's six components of the stress stand."""


class Side(Base):
    """A NequIPGNNModel with random weights."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from nequip.utils.global_state import set_global_state

        torch.set_num_threads(threads)
        set_global_state()
        self.compiled: Any = None

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        with np.load(structure) as file:
            self.structure = dict(file)
        self.aoti = settings.pop("aoti", False)
        self.settings = settings | {
            "type_names": symbols_of(self.structure["numbers"]),
            "avg_num_neighbors": 28.0,
            "per_type_energy_scales": 1.0,
            "per_type_energy_shifts": 0.0,
        }
        self.model, self.compiled = self._model("float64"), None
        self.load("float64")
        forces = self.evaluate(self.structure["frames"][0])["forces"]
        self.settings["per_type_energy_scales"] = scale_for(forces)
        self.model = self._model("float64")
        state = {k: v.numpy() for k, v in self.model.state_dict().items() if v.numel()}
        np.savez(weights, **state)
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"settings": self.settings, "parameters": parameters} | self._compile()

    def load(self, dtype: str) -> None:
        from nequip.integrations.ase import NequIPCalculator

        self.atoms = atoms_of(self.structure)
        if dtype == "float32" and self.compiled is not None:
            self.atoms.calc = NequIPCalculator.from_compiled_model(self.compiled, device="cpu")
            return
        model = self.model if dtype == "float64" else self._model(dtype)
        self.atoms.calc = NequIPCalculator(model, "cpu", transforms=self._transforms())

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        calculator = self.atoms.calc
        calculator.calculate(self.atoms)
        found = {"energy": np.array([calculator.results["energy"]]), "forces": calculator.results["forces"]}
        if self.periodic:
            found["stress"] = calculator.results["stress"][VOIGT]
        return found

    def check(self, structure: str, dtype: str, to: str) -> dict[str, Any]:
        super().check(structure, dtype, to)
        data = self.atoms.calc.atoms_to_data(self.atoms)
        return {"pairs": data["edge_index"].shape[1]}

    def _model(self, dtype: str) -> Any:
        from nequip.model import NequIPGNNModel

        model = freeze(NequIPGNNModel(seed=0, model_dtype=dtype, **self.settings))
        if dtype == "float32":
            model.load_state_dict(self.model.state_dict())
        return model

    def _transforms(self) -> list[Any]:
        from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform

        types = ChemicalSpeciesToAtomTypeMapper(model_type_names=self.settings["type_names"])
        return [types, NeighborListTransform(r_max=self.settings["r_max"])]

    def _compile(self) -> dict[str, float]:
        """As `nequip-compile --mode aotinductor --target ase`, which wants a checkpoint of a training."""
        if not self.aoti:
            return {}
        from nequip.data import from_ase
        from nequip.scripts._compile_utils import ASE_TARGET
        from nequip.utils.aot import aot_export_model
        from nequip.utils.aoti_metadata import (
            NEQUIP_AOTI_INPUTS_KEY,
            NEQUIP_AOTI_OUTPUTS_KEY,
            serialize_aoti_keys,
        )
        from nequip.utils.global_state import get_latest_global_state

        start, model = time.perf_counter(), self._model("float32")
        data = from_ase(atoms_of(self.structure))
        for transform in self._transforms():
            data = transform(data)
        dims = {"graph": torch.export.Dim.STATIC}
        for name in ("node", "edge"):
            dims[name] = torch.export.dynamic_shapes.Dim(f"num_{name}s", min=2)
        about = model.metadata | get_latest_global_state(only_metadata_related=True)
        about = {k: str(int(v)) if isinstance(v, bool) else str(v) for k, v in about.items()}
        about[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(ASE_TARGET["input"])
        about[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(ASE_TARGET["output"])
        self.folder = tempfile.TemporaryDirectory()
        self.compiled = aot_export_model(
            model=model,
            device="cpu",
            input_fields=ASE_TARGET["input"],
            output_fields=ASE_TARGET["output"],
            data=ASE_TARGET["data_settings"](data),
            batch_map=dims,
            output_path=str(Path(self.folder.name) / "model.nequip.pt2"),
            inductor_configs={"aot_inductor.metadata": about},
        )
        return {"compile_s": time.perf_counter() - start}
