"""The chgnet package in float64, its models, and the structures that they are evaluated on."""

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

GPA = 160.21766208
"""eV/Å³, as the package has it."""


def chgnet_in_double() -> None:
    """Make the package compute in float64; it fixes float32 in three modules and in the composition."""
    import chgnet.graph.converter
    import chgnet.graph.crystalgraph
    import chgnet.model.composition_model
    import chgnet.model.model

    torch.set_default_dtype(torch.float64)
    for module in (chgnet.graph.converter, chgnet.graph.crystalgraph, chgnet.model.model):
        module.TORCH_DTYPE = torch.float64
    reference = chgnet.model.composition_model.AtomRef
    single = reference._assemble_graphs

    def exact(self: Any, graphs: Any) -> torch.Tensor:
        counts = [torch.bincount(g.atomic_number - 1, minlength=self.max_num_elements) for g in graphs]
        found = torch.stack([n.double() / (n.sum() if self.is_intensive else 1) for n in counts])
        torch.testing.assert_close(found.float(), single(self, graphs), rtol=1e-6, atol=0)
        return found

    reference._assemble_graphs = exact


def model_of(values: dict[str, Any] | str, *, seed: int, step: float) -> torch.nn.Module:
    """A published model by name; one of these arguments, drawn, with parameters rounded to 1/step."""
    from chgnet.model import CHGNet

    if isinstance(values, str):
        model = CHGNet.load(model_name=values, use_device="cpu", verbose=False)
    else:
        torch.manual_seed(seed)
        model = CHGNet(**values)
        for name, parameter in model.named_parameters():
            if name.startswith("composition_model"):
                continue
            if not name.endswith("frequencies"):
                parameter.data += 0.2 * torch.randn_like(parameter)
            parameter.data = torch.round(parameter.data * step) / step
    return model.double().eval()


def graph_of(model: Any, atoms: Atoms) -> Any:
    """The peer's graph; structures with isolated atoms are refused by it."""
    from pymatgen.core import Structure

    symbols = atoms.get_chemical_symbols()
    structure = Structure(atoms.cell.array, symbols, atoms.positions, coords_are_cartesian=True)
    return model.graph_converter(structure)


def rattled(atoms: Atoms, amplitude: float, seed: int) -> Atoms:
    atoms = atoms.copy()
    noise = np.random.default_rng(seed).normal(scale=amplitude, size=atoms.positions.shape)
    atoms.positions = np.round(atoms.positions + noise, 6)
    return atoms


def structures() -> dict[str, Atoms]:
    """Oxides, metals, molecules in cells; perfect crystals with straight angles; a pair without any angle."""
    from structures import copper_small, silica_hydrogen, silicon

    oxide = bulk("NiO", "rocksalt", a=4.18, cubic=True)
    lithium = rattled(bulk("NiO", "rocksalt", a=4.15, cubic=True), 0.06, seed=6)
    lithium.symbols[[0, 2]] = "Li"
    lithium.symbols[[4]] = "Mn"
    iron = rattled(bulk("Fe", "bcc", a=2.86).repeat((2, 1, 1)), 0.05, seed=7)
    ethanol = rattled(molecule("CH3CH2OH", cell=[7.0, 7.5, 8.0], pbc=True), 0.05, seed=8)
    pair = Atoms("NaCl", [[0.5, 0.5, 0.5], [0.6, 0.4, 3.9]], cell=[9.0, 9.0, 9.0], pbc=True)
    found = {
        "nickel_oxide": oxide,
        "lithium_oxide": lithium,
        "iron": iron,
        "copper": copper_small(),
        "silicon": silicon(),
        "silica_hydrogen": silica_hydrogen(),
        "ethanol": ethanol,
        "pair": pair,
    }
    for atoms in found.values():
        atoms.positions = np.round(atoms.positions, 6)
        atoms.cell = np.round(atoms.cell.array, 6)
        atoms.pbc = True
    return found
