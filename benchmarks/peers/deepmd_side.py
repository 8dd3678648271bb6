"""deepmd-kit: a model of its PyTorch backend, frozen, called through `DeepPot` as by its ASE calculator."""

import json
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, scale_for, symbols_of
from side import Side as Base

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "peers" / "deepmd"))

MARGIN, LEAST_SLOTS = 1.25, 24
"""Slots for each type: so many times the neighbours that an atom has at most, and at least so many."""


class Side(Base):
    """An `se_e2_a` model with random weights, and statistics of the structure that it is built for."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from peer import backend

        torch.set_num_threads(threads)
        self.models = backend()
        self._folder = tempfile.TemporaryDirectory()

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any] | None:
        with np.load(structure) as file:
            self.structure = dict(file)
        self.config = deepcopy(settings)
        self.config["type_map"] = symbols_of(self.structure["numbers"])
        self.config["descriptor"]["sel"] = self._slots(settings["descriptor"]["rcut"])
        torch.manual_seed(0)
        model = self.models.get_model(deepcopy(self.config))
        model.atomic_model.descriptor.compute_input_stats([self._sample()])
        self.state = model.state_dict()
        self.load("float64")
        scale = scale_for(self.evaluate(self.structure["frames"][0])["forces"])
        last = len(self.config["fitting_net"]["neuron"])
        for name, tensor in self.state.items():
            if f"fitting_net.filter_layers.networks.{name.split('networks.')[-1][0]}.layers.{last}." in name:
                tensor.mul_(scale)
        names = [n for n in self.state if "_networks" not in n and self.state[n].numel()]
        np.savez(weights, **{n: self.state[n].numpy() for n in names})
        return {"config": self.config}

    def load(self, dtype: str) -> None:
        from deepmd.infer import DeepPot

        config = deepcopy(self.config)
        config["descriptor"]["precision"] = config["fitting_net"]["precision"] = dtype
        model = self.models.get_model(deepcopy(config))
        model.load_state_dict(self.state)
        model.eval().model_def_script = json.dumps(config)
        file = Path(self._folder.name) / f"{dtype}.pth"
        torch.jit.save(torch.jit.script(model), file)
        self.model = DeepPot(str(file), auto_batch_size=False)
        self.types = self._types()

    def evaluate(self, positions: np.ndarray) -> Arrays:
        cell = self.structure["cell"].reshape(1, 9) if self.periodic else None
        energy, forces, virial = self.model.eval(positions.reshape(1, -1), cell, self.types)
        answer = {"energy": energy.reshape(1), "forces": forces[0]}
        if self.periodic:
            # their virial is −∂E/∂strain
            answer["stress"] = -virial.reshape(3, 3) / abs(np.linalg.det(self.structure["cell"]))
        return answer

    def _types(self) -> np.ndarray:
        numbers = self.structure["numbers"]
        return np.searchsorted(np.unique(numbers), numbers)

    def _sample(self) -> dict[str, Any]:
        cell = torch.tensor(self.structure["cell"]).reshape(1, 9) if self.periodic else None
        frame = torch.tensor(self.structure["frames"][:1])
        return {"coord": frame, "atype": torch.tensor(self._types())[None], "box": cell}

    def _slots(self, cutoff: float) -> list[int]:
        from ase import Atoms
        from ase.neighborlist import neighbor_list

        types = self._types()
        atoms = Atoms(
            self.structure["numbers"],
            self.structure["frames"][0],
            cell=self.structure["cell"],
            pbc=self.periodic,
        )
        i, j = neighbor_list("ij", atoms, cutoff)
        most = [np.bincount(i[types[j] == k], minlength=1).max() for k in range(types.max() + 1)]
        return [max(LEAST_SLOTS, int(np.ceil(MARGIN * n))) for n in most]
