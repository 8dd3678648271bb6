"""SevenNet with a checkpoint of its wheel, through its ASE calculator."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, atoms_of, freeze
from side import Side as Base

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Where ASE's six components of the stress stand."""


class Side(Base):
    """A published model."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from sevenn.nn.node_embedding import OnehotEmbedding

        torch.set_num_threads(threads)
        self.one_hot, self.original = OnehotEmbedding, OnehotEmbedding.forward

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        import sevenn
        from sevenn.calculator import SevenNetCalculator

        self.file = Path(sevenn.__file__).parent / "pretrained_potentials" / settings["file"]
        self.calculator = SevenNetCalculator(str(self.file), device="cpu")
        freeze(self.calculator.model)
        parameters = sum(p.numel() for p in self.calculator.model.parameters())
        return {"file": str(self.file), "parameters": parameters}

    def load(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.atoms = atoms_of(self.structure)
        if self.dtype == torch.float64:
            from sevenn.checkpoint import SevenNetCheckpoint

            self.double = freeze(SevenNetCheckpoint(self.file).build_model().double())
            self.double.set_is_batch_data(False)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        if self.dtype == torch.float64:
            return self._in_double()
        self.calculator.calculate(self.atoms)
        found = self.calculator.results
        self.pairs = found["num_edges"]
        answer = {"energy": np.array([found["energy"]]), "forces": found["forces"]}
        return answer | ({"stress": found["stress"][VOIGT]} if self.periodic else {})

    def _in_double(self) -> Arrays:
        """The calculator knows float32 only: its one-hot layer would return it."""
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        def forward(layer: Any, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            found = self.original(layer, data)
            for key in (layer.key_output, layer.key_additional_output):
                if key is not None:
                    found[key] = found[key].double()
            return found

        graph = unlabeled_atoms_to_graph(self.atoms, self.calculator.cutoff)
        data = {k: torch.as_tensor(np.asarray(v)) for k, v in graph.items() if k != "data_info"}
        data["edge_vec"] = data["edge_vec"].double()
        self.pairs = data["edge_vec"].shape[0]
        self.one_hot.forward = forward
        try:
            found = self.double(data)
        finally:
            self.one_hot.forward = self.original
        answer = {
            "energy": found["inferred_total_energy"].detach().numpy().reshape(1),
            "forces": found["inferred_force"].detach().numpy(),
        }
        if self.periodic:
            stress = -found["inferred_stress"].detach().numpy().reshape(6)[[0, 1, 2, 4, 5, 3]]
            answer["stress"] = stress[VOIGT]
        return answer
