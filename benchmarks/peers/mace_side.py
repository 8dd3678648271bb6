"""mace-torch: its own graph of the structure, its model in eager mode as its ASE calculator runs it."""

from typing import Any

import numpy as np
import torch
from side import TIMESTEP_FS, Arrays, atoms_of, freeze, scale_for
from side import Side as Base


class Side(Base):
    """A ScaleShiftMACE with random weights."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 keeps slices in its table of constants

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        from e3nn import o3
        from mace import modules, tools

        self.motion, self.cutoff = motion, settings["cutoff"]
        with np.load(structure) as file:
            self.structure = dict(file)
        numbers = sorted(set(self.structure["numbers"].tolist()))
        self.table = tools.AtomicNumberTable(numbers)
        torch.set_default_dtype(torch.float64)
        neighbours = self._graph(atoms_of(self.structure))["edge_index"].shape[1] / len(
            self.structure["numbers"]
        )
        hidden = "+".join(f"{settings['channels']}x{l}{'eo'[l % 2]}" for l in range(settings["max_L"] + 1))
        torch.manual_seed(0)
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        self.model = modules.ScaleShiftMACE(
            r_max=self.cutoff,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=settings["l_max"],
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=settings["n_layers"],
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.zeros(len(numbers)),
            avg_num_neighbors=neighbours,
            atomic_numbers=numbers,
            correlation=settings["correlation"],
            gate=torch.nn.functional.silu,
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )
        freeze(self.model)
        self.load("float64")
        forces = self.evaluate(self.structure["frames"][0])["forces"]
        self.model.scale_shift.scale *= scale_for(forces)
        np.savez(weights, **{k: v.detach().numpy() for k, v in self.model.state_dict().items()})
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"avg_num_neighbors": neighbours, "parameters": parameters}

    def load(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)
        torch.set_default_dtype(self.dtype)
        self.model = self.model.to(self.dtype)
        self.atoms = atoms_of(self.structure)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        batch = self._graph(self.atoms)
        self.pairs = batch["edge_index"].shape[1]
        found = self.model(batch, compute_force=True, compute_stress=self.periodic)
        names = ["energy", "forces", "stress"] if self.periodic else ["energy", "forces"]
        return {name: found[name].detach().numpy() for name in names}

    def restart(self) -> None:
        from ase import units
        from ase.md.verlet import VelocityVerlet
        from mace.calculators import MACECalculator

        name = str(self.dtype).removeprefix("torch.")
        self.atoms = atoms_of(self.structure)
        self.atoms.calc = MACECalculator(models=[self.model], device="cpu", default_dtype=name)
        self.dynamics = VelocityVerlet(self.atoms, timestep=TIMESTEP_FS * units.fs)

    def advance(self, steps: int) -> None:
        self.dynamics.run(steps)

    def state(self) -> Arrays:
        energy = np.array([self.atoms.get_potential_energy()])
        return {"positions": self.atoms.positions.copy(), "energy": energy}

    def _graph(self, atoms: Any) -> dict[str, torch.Tensor]:
        from mace import data, tools

        config = data.config_from_atoms(atoms)
        item = data.AtomicData.from_config(config, z_table=self.table, cutoff=self.cutoff)
        return tools.torch_geometric.Batch.from_data_list([item]).to_dict()  # type: ignore[no-any-return]
