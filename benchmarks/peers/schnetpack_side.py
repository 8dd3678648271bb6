"""SchNetPack: its AtomsConverter with matscipy's neighbour list, and its model, as in its ASE calculator."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, atoms_of, freeze, scale_for
from side import Side as Base

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "peers" / "schnetpack"))


class Side(Base):
    """A NeuralNetworkPotential with random weights."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from peer import schnetpack

        torch.set_num_threads(threads)
        self.spk = schnetpack()

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        spk, self.settings = self.spk, settings
        basis = {"SchNet": spk.nn.GaussianRBF, "PaiNN": spk.nn.BesselRBF}[settings["model"]]
        torch.manual_seed(0)
        self.representation = getattr(spk.representation, settings["model"])(
            n_atom_basis=settings["channels"],
            n_interactions=settings["n_layers"],
            radial_basis=basis(n_rbf=settings["n_radial"], cutoff=settings["cutoff"]),
            cutoff_fn=spk.nn.CosineCutoff(settings["cutoff"]),
        )
        _exact_constants(self.representation.double().radial_basis, settings["cutoff"])
        self.readout = spk.atomistic.Atomwise(n_in=settings["channels"], output_key="energy")
        with np.load(structure) as file:
            self.structure = dict(file)
        self.load("float64")
        scale = scale_for(self.evaluate(self.structure["frames"][0])["forces"])
        for parameter in self.readout.outnet[-1].parameters():
            parameter *= scale
        model = self._model(stress=False).double()
        np.savez(weights, **{k: v.numpy() for k, v in model.state_dict().items()})
        return {"parameters": sum(p.numel() for p in model.parameters())}

    def load(self, dtype: str) -> None:
        kind = getattr(torch, dtype)
        self.model = self._model(stress=self.periodic).to(kind)
        neighbours = self.spk.transform.MatScipyNeighborList(cutoff=self.settings["cutoff"])
        self.convert = self.spk.interfaces.AtomsConverter(neighbor_list=neighbours, dtype=kind)
        self.atoms = atoms_of(self.structure)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        inputs = self.convert(self.atoms)
        self.pairs = inputs["_idx_i"].shape[0]
        found = self.model(inputs)
        names = ["energy", "forces", "stress"] if self.periodic else ["energy", "forces"]
        return {name: found[name].detach().numpy() for name in names}

    def _model(self, *, stress: bool) -> Any:
        """The same weights with or without the modules that the stress needs."""
        atomistic = self.spk.atomistic
        strain = [atomistic.Strain()] if stress else []
        model = self.spk.model.NeuralNetworkPotential(
            representation=self.representation,
            input_modules=[*strain, atomistic.PairwiseDistances()],
            output_modules=[self.readout, atomistic.Forces(calc_stress=stress)],
        )
        return freeze(model)


def _exact_constants(basis: Any, cutoff: float) -> None:
    """Centres, widths and frequencies, which the program keeps as they are in float32, in float64.

    Otherwise the check of equality in float64 would compare constants that differ in the eighth digit.
    """
    for name, constant in basis.named_buffers():
        n = len(constant)
        exact = {
            "offsets": torch.linspace(0.0, cutoff, n, dtype=torch.float64),
            "widths": torch.full((n,), cutoff / (n - 1), dtype=torch.float64),
            "freqs": torch.arange(1, n + 1, dtype=torch.float64) * (torch.pi / cutoff),
        }[name]
        torch.testing.assert_close(constant.double(), exact, rtol=1e-6, atol=1e-6)
        constant.copy_(exact)
