"""Read the weights of the chgnet package into what `potentials.chgnet.CHGNet` is built from.

The two differ in notation only: frequencies in units of the inverse cutoff, a table of 94 elements, and an
update of angles that nothing reads. Read from the code of chgnet 0.4.2.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .mace_torch import Weights
from .torch_files import load_restricted

Release = Literal["0.3.0", "0.2.0", "r2scan"]
UNTRAINED = ("Po", "At", "Rn", "Fr", "Ra")
"""Elements of the model's table of which its training data have none (doi:10.1038/s42256-023-00716-3)."""

_REQUIRED: dict[str, Any] = {
    "conv_norm": None,
    "mlp_first": True,
    "non_linearity": "silu",
    "update_bond": True,
    "update_angle": True,
    "final_mlp": "MLP",
}
"""Settings that must have this value where they are given."""


def recognises(file: ForeignFile) -> bool:
    """True for a checkpoint of the chgnet package."""
    model = file.saved.get("model") if isinstance(file.saved, Mapping) else None
    return isinstance(model, Mapping) and {"state_dict", "model_args"} <= set(model)


def read_file(
    *, path: Path, elements: Sequence[str] | None = None, bias_needs_angles: bool = False
) -> Weights:
    """Read a checkpoint (`.pth.tar`) of the chgnet package; nothing in it is run.

    Args:
        path: the file.
        elements: symbols to keep; all of which the published models' training data have structures if not
            given.
        bias_needs_angles: of a model of version 0.2.0, the jump of its published code where a structure's
            last angle disappears; see `CHGNet`.

    Raises ValueError for another kind of file and for what `CHGNet` does not have.
    """
    found = load_restricted(path)
    model = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(model, Mapping) or not {"state_dict", "model_args"} <= set(model):
        raise ValueError(
            f"'{path}' is not a checkpoint of chgnet: it has no model with state_dict and model_args."
        )
    return read_chgnet(
        model["state_dict"], model["model_args"], elements=elements, bias_needs_angles=bias_needs_angles
    )


def pretrained(
    *, model: Release = "0.3.0", elements: Sequence[str] | None = None, bias_needs_angles: bool = False
) -> Weights:
    """A published model from the files of the installed package chgnet, which is not imported.

    Args:
        model: 0.3.0 and 0.2.0 are trained on PBE(+U) (MPtrj), r2scan on r²SCAN (MP-r2SCAN).
        elements: symbols to keep; all 89 if not given.
        bias_needs_angles: see `read_file`.

    Raises ImportError where the package is not installed.
    """
    spec = importlib.util.find_spec("chgnet")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [f for folder in folders for f in sorted(Path(folder, "pretrained", model).glob("*.pth.tar"))]
    if not files:
        raise ImportError(
            f"The weights of CHGNet {model} come with the package chgnet: pip install rikiba[chgnet]. Only "
            "its files are read, so `pip install --no-deps chgnet` is enough.",
            name="chgnet",
        )
    return read_file(path=files[0], elements=elements, bias_needs_angles=bias_needs_angles)


def read_chgnet(
    state: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    *,
    elements: Sequence[str] | None = None,
    bias_needs_angles: bool = False,
) -> Weights:
    """Translate the `state_dict()` of a CHGNet and its `model_args`; the rest as `read_file`."""
    for name, value in _REQUIRED.items():
        if settings.get(name, value) != value:
            raise ValueError(f"CHGNet's '{name}' must be {value!r}; this model has {settings[name]!r}.")
    if settings.get("gMLP_norm", "layer") == "batch":
        raise ValueError("CHGNet here has layer norms or none; this model has batch norms.")
    reader = _Reader(state, settings, elements)
    arguments = reader.arguments() | {"bias_needs_angles": bias_needs_angles}
    return Weights("CHGNet", arguments, reader.tensors())


class _Reader:
    """One state dict with the sizes found in it."""

    def __init__(
        self, state: Mapping[str, Tensor], settings: Mapping[str, Any], elements: Sequence[str] | None
    ) -> None:
        self.state = {k: v.detach().to(torch.float64) for k, v in state.items()}
        n = self._table("atom_embedding.embedding.weight").shape[0]
        known = [periodic_table.symbol(z) for z in range(1, n + 1)]
        chosen = [s for s in known if s not in UNTRAINED] if elements is None else elements
        self.elements = periodic_table.sorted_symbols(chosen)
        missing = [s for s in self.elements if s not in known]
        if missing:
            raise ValueError(f"This model's table ends at {known[-1]}; it has no {', '.join(missing)}.")
        self.rows = periodic_table.numbers_of(self.elements) - 1
        self.cutoff = float(settings.get("atom_graph_cutoff", 6.0))
        self.bond_cutoff = float(settings.get("bond_graph_cutoff", 3.0))
        self.power = int(settings.get("cutoff_coeff", 8))
        self.n_layers = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("atom_conv_layers."))

    def _table(self, name: str) -> Tensor:
        if name not in self.state:
            raise ValueError(f"This is not a model of chgnet that is known here: it has no '{name}'.")
        return self.state[name]

    def _linear(self, prefix: str) -> list[str]:
        """Names of the linear layers of a perceptron, in order."""
        pattern = re.compile(re.escape(prefix) + r"\.layers\.(\d+)\.weight")
        numbers = sorted(int(m[1]) for m in map(pattern.fullmatch, self.state) if m)
        return [f"{prefix}.layers.{k}" for k in numbers]

    def _hidden(self, prefix: str) -> list[int]:
        return [self._table(f"{name}.weight").shape[0] for name in self._linear(prefix)[:-1]]

    def _energies(self) -> Tensor:
        reference = self.state.get("composition_model.fc.weight")
        return torch.zeros(len(self.rows)) if reference is None else reference.flatten()[self.rows]

    def arguments(self) -> dict[str, Any]:
        s = self.state
        return {
            "elements": list(self.elements),
            "cutoff": self.cutoff,
            "bond_cutoff": self.bond_cutoff,
            "channels": self._table("atom_embedding.embedding.weight").shape[1],
            "n_layers": self.n_layers,
            "n_radial": self._table("bond_embedding.weight").shape[1],
            "n_angular": (self._table("angle_embedding.weight").shape[1] - 1) // 2,
            "envelope_power": self.power,
            "hidden_widths": self._hidden("atom_conv_layers.0.twoBody_atom.mlp_core"),
            "angle_widths": self._hidden("angle_layers.0.twoBody_bond.mlp_core"),
            "readout_widths": self._hidden("mlp"),
            "gate_norm": "atom_conv_layers.0.twoBody_atom.bn1.weight" in s,
            "readout_norm": "readout_norm.weight" in s,
            "output_bias": "atom_conv_layers.0.mlp_out.layers.1.bias" in s,
            "atomic_energies": dict(zip(self.elements, self._energies().tolist(), strict=True)),
            "isolated_limit": False,
        }

    def tensors(self) -> dict[str, Tensor]:
        out = {
            "embedding": self._table("atom_embedding.embedding.weight")[self.rows],
            "atomic_energies.values": self._energies(),
            "radial.frequencies": self._table("bond_basis_expansion.rbf_expansion_ag.frequencies")
            / self.cutoff,
            "bond_radial.frequencies": self._table("bond_basis_expansion.rbf_expansion_bg.frequencies")
            / self.bond_cutoff,
            "angular.frequencies": self._table("angle_basis_expansion.fourier_expansion.frequencies"),
            "bond_embedding.weight": self._table("bond_embedding.weight"),
            "pair_weights.weight": self._table("bond_weights_ag.weight"),
            "bond_weights.weight": self._table("bond_weights_bg.weight"),
            "angle_embedding.weight": self._table("angle_embedding.weight"),
        }
        out |= self._copied("site_wise", "moment") | self._copied("readout_norm", "readout_norm")
        out |= self._network("mlp", "readout")
        for t in range(self.n_layers):
            out |= self._gated(f"atom_conv_layers.{t}.twoBody_atom", f"atom_gates.{t}")
            out |= self._copied(f"atom_conv_layers.{t}.mlp_out.layers.1", f"atom_outputs.{t}")
        for t in range(self.n_layers - 1):
            out |= self._gated(f"bond_conv_layers.{t}.twoBody_bond", f"bond_gates.{t}")
            out |= self._copied(f"bond_conv_layers.{t}.mlp_out.layers.1", f"bond_outputs.{t}")
        for t in range(self.n_layers - 2):  # what the last makes is not read
            out |= self._gated(f"angle_layers.{t}.twoBody_bond", f"angle_gates.{t}")
        return {k: v.to(torch.float64).contiguous() for k, v in out.items()}

    def _copied(self, theirs: str, ours: str) -> dict[str, Tensor]:
        parts = ("weight", "bias")
        return {f"{ours}.{p}": self.state[f"{theirs}.{p}"] for p in parts if f"{theirs}.{p}" in self.state}

    def _network(self, theirs: str, ours: str) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for k, name in enumerate(self._linear(theirs)):
            out |= self._copied(name, f"{ours}.layers.{k}")
        return out

    def _gated(self, theirs: str, ours: str) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for part, norm in (("core", "bn1"), ("gate", "bn2")):
            out |= self._network(f"{theirs}.mlp_{part}", f"{ours}.{part}")
            out |= self._copied(f"{theirs}.{norm}", f"{ours}.{part}_norm")
        return out
