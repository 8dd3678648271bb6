"""rikiba: the peer's weights imported, called through `PotentialCalculator` or moved by `Simulation`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import TIMESTEP_FS, Arrays, atoms_of
from side import Side as Base

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.potentials.base import Potential


class Side(Base):
    """The model of the peer, or of `settings` where `about` holds no weights."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        self.motion = motion
        with np.load(structure) as file:
            self.structure = dict(file)
        kind = about.get("imports")
        if kind is None:
            self.model: Potential = self._random(settings)
        else:
            state = {}
            if kind not in ("chgnet", "sevennet", "matgl", "motep", "pacemaker"):
                with np.load(weights) as file:
                    state = {k: torch.as_tensor(v) for k, v in file.items()}
            self.model = imported(kind, state, about, sorted(set(atoms_of(self.structure).symbols)))
        return {"parameters": sum(p.numel() for p in self.model.parameters())}

    def load(self, dtype: str) -> None:
        """Variant "kept": the neighbour list has its usual skin instead of being searched at every call."""
        self.model = self.model.to(getattr(torch, dtype))
        self.system = System.from_ase(atoms_of(self.structure))
        kept = PotentialCalculator(self.model)
        searching = kept if self.motion else PotentialCalculator(self.model, skin=0.0)
        self.calculators = {"": searching, "kept": kept}

    def evaluate(self, positions: np.ndarray) -> Arrays:
        system = self.system.replace(positions=torch.from_numpy(positions))
        found = self.calculators[self.variant](system, stress=self.periodic)
        answer = {"energy": found.need("energy").numpy(), "forces": found.need("forces").numpy()}
        return answer | ({"stress": found.need("stress")[0].numpy()} if self.periodic else {})

    def check(self, structure: str, dtype: str, to: str) -> dict[str, Any]:
        from rikiba.core.pairs import find_pairs

        super().check(structure, dtype, to)
        return {"pairs": len(find_pairs(self.system, self.model.cutoff))}

    def restart(self) -> None:
        from rikiba.md.ensembles.nve import NVE
        from rikiba.md.simulation import Simulation
        from rikiba.md.state import maxwell_boltzmann

        velocities = torch.from_numpy(self.structure["velocities"])
        state = maxwell_boltzmann(self.system, 300.0, seed=0).replace(velocities=velocities)
        self.simulation = Simulation(self.calculators["kept"], NVE(), state, timestep_fs=TIMESTEP_FS)

    def advance(self, steps: int) -> None:
        self.simulation.run(steps)

    def state(self) -> Arrays:
        system = self.simulation.state.system
        energy = self.calculators["kept"](system).need("energy").numpy()
        return {"positions": system.positions.numpy(), "energy": energy}

    def _random(self, settings: dict[str, Any]) -> Potential:
        """A MACE of its own; its neighbours counted in the structure."""
        from rikiba.core.pairs import find_pairs
        from rikiba.potentials.mace import MACE

        system = System.from_ase(atoms_of(self.structure))
        neighbours = len(find_pairs(system, settings["cutoff"])) / system.n_atoms
        symbols = sorted(set(atoms_of(self.structure).symbols))
        return MACE(elements=symbols, avg_num_neighbors=neighbours, **settings)


def imported(
    kind: str, state: dict[str, torch.Tensor], about: dict[str, Any], symbols: list[str]
) -> Potential:
    """The peer's model, float64."""
    from rikiba.interop.foreign import build

    if kind == "mace":
        from rikiba.interop.mace_torch import read_mace_torch

        found = read_mace_torch(state, avg_num_neighbors=about["avg_num_neighbors"])
    elif kind == "nequip":
        from rikiba.interop.nequip import read_nequip

        found = read_nequip(state, about["settings"])
    elif kind == "allegro":
        from rikiba.interop.allegro import read_allegro

        found = read_allegro(state, about["settings"])
    elif kind == "sevennet":
        from rikiba.interop.sevennet import load_sevennet

        found = load_sevennet(about["file"])
    elif kind == "chgnet":
        from rikiba.interop.chgnet import read_file

        found = read_file(path=Path(about["file"]))
    elif kind == "matgl":
        from rikiba.interop.matgl import load_matgl

        found = load_matgl(about["folder"], messages_to=about["messages_to"])
    elif kind == "schnetpack":
        from rikiba.interop.schnetpack import read_schnetpack

        found = read_schnetpack(state, elements=symbols)
    elif kind == "deepmd":
        from rikiba.interop.deepmd import read_deepmd_torch

        found = read_deepmd_torch(state, about["config"])
    elif kind == "torchani":
        from rikiba.core.elements import sorted_symbols
        from rikiba.interop.ani import read_torchani

        found = read_torchani(state, elements=sorted_symbols(symbols), cutoff=5.2, angular_cutoff=3.5)
    elif kind == "motep":
        from rikiba.core.elements import sorted_symbols
        from rikiba.interop.mlip import load_mlip

        found = load_mlip(about["file"], elements=sorted_symbols(symbols))
    elif kind == "pacemaker":
        from rikiba.interop.pacemaker import read_pacemaker

        found = read_pacemaker(about["file"])
    else:
        raise ValueError(f"There is no importer for '{kind}'.")
    return build(found, torch.float64)
