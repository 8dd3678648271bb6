"""torchani: functions of ANI-1x and networks of its sizes with random weights, for a structure's elements."""

from typing import Any

import numpy as np
import torch
from side import Arrays, freeze, scale_for, symbols_of
from side import Side as Base

HARTREE_eV = 27.211386024367243
"""torchani's."""
WIDTHS = {"H": (160, 128, 96), "C": (144, 112, 96), "N": (128, 112, 96), "O": (128, 112, 96)}
OTHER_WIDTHS = (160, 128, 96)


class Side(Base):
    """One network of each element; neighbours by its adaptive list, all pairs or cells by size."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        from torchani.aev import AEVComputer, ANIAngular, ANIRadial
        from torchani.arch import ANI
        from torchani.nn import ANINetworks, AtomicNetwork
        from torchani.sae import SelfEnergy

        with np.load(structure) as file:
            self.structure = dict(file)
        symbols = symbols_of(self.structure["numbers"])
        torch.manual_seed(0)
        radial, angular = ANIRadial.like_1x(), ANIAngular.like_1x()
        _exact_constants(radial, angular)
        environments = AEVComputer(radial, angular, len(symbols), cutoff_fn="cosine", neighborlist="adaptive")
        networks = {
            s: AtomicNetwork([environments.out_dim, *WIDTHS.get(s, OTHER_WIDTHS), 1], "celu", bias=True)
            for s in symbols
        }
        self.networks = networks
        self.model = freeze(
            ANI(symbols, environments, ANINetworks(networks), SelfEnergy(symbols, [0.0] * len(symbols)),
                periodic_table_index=True)
        )  # fmt: skip
        _exact_constants(environments.radial, environments.angular)
        self.load("float64")
        scale = scale_for(self.evaluate(self.structure["frames"][0])["forces"])
        for network in networks.values():
            for parameter in network.final_layer.parameters():
                parameter *= scale
        state = {k: v.numpy() for k, v in self.model.state_dict().items()}
        np.savez(weights, **state)
        return {"parameters": sum(p.numel() for p in self.model.parameters())}

    def load(self, dtype: str) -> None:
        self.kind = getattr(torch, dtype)
        self.model = self.model.to(self.kind)
        self.numbers = torch.from_numpy(self.structure["numbers"]).long()[None]
        self.cell = torch.from_numpy(self.structure["cell"]).to(self.kind)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        if self.periodic:  # outside the cell its stress would be wrong with more than 190 atoms
            cell = self.structure["cell"]
            positions = positions - np.floor(positions @ np.linalg.inv(cell)) @ cell
        x = torch.from_numpy(positions).to(self.kind)[None].requires_grad_()
        if not self.periodic:
            energy = self.model((self.numbers, x)).energies
            (gradient,) = torch.autograd.grad(energy.sum(), x)
            forces = -HARTREE_eV * gradient[0].numpy()
            return {"energy": HARTREE_eV * energy.detach().double().numpy(), "forces": forces}
        strain = torch.eye(3, dtype=self.kind).requires_grad_()
        cell, periodic = self.cell @ strain, torch.tensor([True, True, True])
        energy = self.model((self.numbers, x @ strain), cell, periodic).energies
        gradient, virial = torch.autograd.grad(energy.sum(), [x, strain])
        volume = abs(float(np.linalg.det(self.structure["cell"])))
        stress = HARTREE_eV * 0.5 * (virial + virial.T).numpy() / volume
        forces = -HARTREE_eV * gradient[0].numpy()
        return {"energy": HARTREE_eV * energy.detach().double().numpy(), "forces": forces, "stress": stress}


def _exact_constants(radial: Any, angular: Any) -> None:
    """Those of ANI-1x in float64; the program keeps them rounded to float32.

    Otherwise the check of equality in float64 would compare constants that differ in the eighth digit.
    """
    exact = {
        "eta": (16.0, 8.0),
        "shifts": ([0.9 + k * 4.3 / 16 for k in range(16)], [0.9 + k * 2.6 / 4 for k in range(4)]),
        "zeta": (None, 32.0),
        "sections": (None, [(k + 0.5) * np.pi / 8 for k in range(8)]),
    }
    for name, values in exact.items():
        for term, value in zip((radial, angular), values, strict=True):
            if value is not None:
                found = getattr(term, name)
                given = torch.tensor(value, dtype=torch.float64).reshape(found.shape)
                torch.testing.assert_close(found.double(), given, rtol=1e-6, atol=1e-6)
                setattr(term, name, given)
