"""Read the weights of a SchNetPack model into what `potentials.schnet` and `potentials.painn` are built from.

The two differ in notation only: filters of all layers lie in one tensor here, their weights transposed, and
the table of elements has rows only for those that the model was trained on. A model saved whole
(`best_model`) says more than its `state_dict()`, and is read as inert records. Read from the code of
SchNetPack 2.0.4 and 2.1.1.
"""

import re
from collections.abc import Mapping, Sequence
from math import pi
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .inert_pickle import Record
from .mace_torch import Weights
from .torch_files import load_restricted

_KNOWN = (
    r"representation\.embedding\.weight",
    r"representation\.radial_basis\.(freqs|offsets|widths)",
    r"representation\.cutoff_fn\.cutoff",
    r"representation\.cutoff",
    r"representation\.filter_net\.(weight|bias)",
    r"representation\.interactions\.\d+\.(in2f|f2out\.[01]|filter_network\.[01])\.(weight|bias)",
    r"representation\.interactions\.\d+\.interatomic_context_net\.[01]\.(weight|bias)",
    r"representation\.mixing\.\d+\.(intraatomic_context_net\.[01]|mu_channel_mix)\.(weight|bias)",
    r"output_modules\.\d+\.outnet\.\d+\.(weight|bias)",
    r"postprocessors\.\d+\.(mean|atomref)",
)


_MODEL = "schnetpack.model.base.NeuralNetworkPotential"
_ACTIVATIONS = {
    "torch.nn.functional.silu": "silu",
    "torch._C._nn.silu": "silu",
    "schnetpack.nn.activations.shifted_softplus": "shifted_softplus",
}


def recognises(file: ForeignFile) -> bool:
    """True for a model of SchNetPack, saved whole or as its `state_dict()`."""
    if file.module is not None:
        return file.module.name == _MODEL
    return "representation.embedding.weight" in file.state


def read_file(
    *,
    path: Path,
    elements: Sequence[str],
    readout_activation: Literal["silu", "shifted_softplus"] | None = None,
    norm_epsilon: float | None = None,
    energy_unit_eV: float = 1.0,
) -> Weights:
    """`read_schnetpack` of a model that torch saved, whole or as its `state_dict()`.

    Args:
        path: the file.
        elements: symbols of the elements that the model was trained on.
        readout_activation: of the energy's output network, of a `state_dict()`; silu if not given.
        norm_epsilon: of PaiNN, of a `state_dict()`; 1e-8 if not given.
        energy_unit_eV: the model's unit of energy in eV.

    Raises ValueError as `read_schnetpack`, and where a whole model says otherwise than these arguments.
    """
    given = {"readout_activation": readout_activation, "norm_epsilon": norm_epsilon}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    whole = ForeignFile(path).module
    if whole is None:
        state: Mapping[str, Tensor] = load_restricted(path)
    else:
        state, said = state_of(whole), settings_of(whole)
        wrong = [name for name, value in settings.items() if said.get(name, value) != value]
        if wrong:
            raise ValueError(f"The model says {said}; leave out {', '.join(wrong)}.")
        settings = said
    return read_schnetpack(state, elements=elements, energy_unit_eV=energy_unit_eV, **settings)


def state_of(model: Record) -> dict[str, Tensor]:
    """The `state_dict()` of a whole model, without offsets that it does not add.

    Raises ValueError for other models, and for steps after the network that change an energy otherwise.
    """
    if model.name != _MODEL:
        raise ValueError(f"'{model.name}' is not {_MODEL}.")
    state = model.state_dict()
    adds = model.state.get("do_postprocessing", True)
    for k in range(99):
        step = model.child(f"postprocessors.{k}")
        if step is None:
            return state
        kind = step.name.rpartition(".")[2]
        if kind.startswith("CastTo"):
            continue
        if kind != "AddOffsets" or not step.state.get("is_extensive", True):
            raise ValueError(f"The model's energies go through {step.name}, which is not known here.")
        for flag, name in (("add_mean", "mean"), ("add_atomrefs", "atomref")):
            if not (adds and step.state.get(flag)):
                state.pop(f"postprocessors.{k}.{name}", None)
    raise ValueError("The model has too many postprocessors.")


def settings_of(model: Record) -> dict[str, Any]:
    """What `read_schnetpack` needs beside the tensors, from the attributes of a whole model.

    Raises ValueError for activations that SchNet and PaiNN here do not have, and for energies that are no
    sums over atoms.
    """
    heads = [x for x in (model.child(f"output_modules.{k}") for k in range(9)) if x is not None]
    outputs = [x for x in heads if x.child("outnet") is not None]
    if len(outputs) != 1 or outputs[0].state.get("aggregation_mode") != "sum":
        raise ValueError("The model must have one output network, whose atoms' outputs are summed.")
    mixing = model.child("representation.mixing.0")
    layer = "representation.interactions.0"
    usual = "shifted_softplus" if mixing is None else "silu"
    names = ("filter_network.0", "f2out.0") if mixing is None else ("interatomic_context_net.0",)
    for name in names:
        found = _activation(model.child(f"{layer}.{name}"))
        if found != usual:
            raise ValueError(f"The activation of {layer}.{name} is {found}; {usual} is known.")
    said = {"readout_activation": _activation(outputs[0].child("outnet.0"))}
    return said if mixing is None else said | {"norm_epsilon": float(mixing.state["epsilon"])}


def _activation(dense: Record | None) -> str:
    """By the name of the function, which is not imported."""
    if dense is None:
        raise ValueError("The model lacks a dense layer that SchNet and PaiNN have.")
    function = dense.state.get("activation", dense.child("activation"))
    name = str(getattr(function, "name", function))
    if name not in _ACTIVATIONS:
        raise ValueError(f"The activation {name} is not known; {', '.join(_ACTIVATIONS)} are.")
    return _ACTIVATIONS[name]


def read_schnetpack(
    state: Mapping[str, Tensor],
    *,
    elements: Sequence[str],
    readout_activation: Literal["silu", "shifted_softplus"] = "silu",
    norm_epsilon: float = 1e-8,
    energy_unit_eV: float = 1.0,
) -> Weights:
    """Translate the `state_dict()` of a NeuralNetworkPotential with a SchNet or PaiNN and one energy output.

    Everything but these settings follows from names and shapes. Distances must be in Å, the cutoff function
    the cosine, the energy a sum over atoms. Offsets that the model adds to the energy (mean per atom, single
    atoms) are read where it stores them.

    Args:
        state: names and tensors.
        elements: symbols of the elements that the model was trained on; its table has rows for all.
        readout_activation: of the energy's output network (its default is silu).
        norm_epsilon: of PaiNN (`epsilon`).
        energy_unit_eV: the model's unit of energy in eV.

    Raises ValueError for what the two classes here do not have: another cutoff function or radial basis,
    trained Gaussians, electronic or complex nuclear embeddings, several outputs.
    """
    reader = _Reader({k: v.detach().to(torch.float64) for k, v in state.items()}, elements)
    arguments = reader.arguments(energy_unit_eV) | {"readout_activation": readout_activation}
    if reader.class_name == "PaiNN":
        arguments["norm_epsilon"] = norm_epsilon
    return Weights(reader.class_name, arguments, reader.tensors(energy_unit_eV))


class _Reader:
    """One state dict with the sizes found in it."""

    def __init__(self, state: dict[str, Tensor], elements: Sequence[str]) -> None:
        self.state = state
        unknown = [k for k in state if not any(re.fullmatch(p, k) for p in _KNOWN)]
        if unknown:
            raise ValueError(f"This model has parts that SchNet and PaiNN here do not: {', '.join(unknown)}.")
        self.class_name = "PaiNN" if "representation.filter_net.weight" in state else "SchNet"
        self.elements = periodic_table.sorted_symbols(elements)
        self.numbers = periodic_table.numbers_of(self.elements)
        self.n_layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("representation.inter"))
        outputs = sorted({k.split(".outnet.")[0] for k in state if ".outnet." in k})
        if len(outputs) != 1:
            raise ValueError(f"One output network is needed, that of the energy; this model has {outputs}.")
        self.output = f"{outputs[0]}.outnet"
        self.n_readout = sum(k.startswith(self.output) and k.endswith("weight") for k in state)
        if state[f"{self.output}.{self.n_readout - 1}.weight"].shape[0] != 1:
            raise ValueError("The output network must end in one number, the energy of an atom.")
        if "representation.cutoff_fn.cutoff" not in state:
            raise ValueError("This model's cutoff function is not the cosine.")
        self.cutoff = float(state["representation.cutoff_fn.cutoff"])
        self.basis, self.n_radial = self._basis()

    def _basis(self) -> tuple[str, int]:
        frequencies = self.state.get("representation.radial_basis.freqs")
        if frequencies is not None:
            expected = torch.arange(1, len(frequencies) + 1) * (pi / self.cutoff)
            _same("frequencies of the Bessel functions", frequencies, expected)
            return "bessel", len(frequencies)
        centres = self.state.get("representation.radial_basis.offsets")
        if centres is None:
            raise ValueError("This model's radial basis is neither Gaussians nor Bessel functions.")
        n = len(centres)
        _same("centres of the Gaussians", centres, torch.linspace(0.0, self.cutoff, n, dtype=torch.float64))
        widths = self.state["representation.radial_basis.widths"]
        _same("widths of the Gaussians", widths, torch.full_like(widths, self.cutoff / (n - 1)))
        return "gaussian", n

    def arguments(self, unit: float) -> dict[str, Any]:
        s = self.state
        out = {
            "elements": list(self.elements),
            "cutoff": self.cutoff,
            "channels": s["representation.embedding.weight"].shape[1],
            "n_layers": self.n_layers,
            "n_radial": self.n_radial,
            "radial_basis": self.basis,
            "envelope": "cosine",
            "readout_widths": [s[f"{self.output}.{k}.weight"].shape[0] for k in range(self.n_readout - 1)],
            "atomic_energies": dict(zip(self.elements, self._atomic_energies(unit).tolist(), strict=True)),
            "scale": unit,
            "shift": unit * sum(float(v) for k, v in s.items() if k.endswith(".mean")),
            "isolated_limit": False,
        }
        if self.class_name == "SchNet":
            out["n_filters"] = s["representation.interactions.0.in2f.weight"].shape[0]
        return out

    def _atomic_energies(self, unit: float) -> Tensor:
        total = torch.zeros(len(self.elements), dtype=torch.float64)
        for name, value in self.state.items():
            if name.endswith(".atomref"):
                total = total + unit * value.flatten()[self.numbers]
        return total

    def tensors(self, unit: float) -> dict[str, Tensor]:
        out = {
            "embedding": self.state["representation.embedding.weight"][self.numbers],
            "atomic_energies.values": self._atomic_energies(unit),
        }
        for k in range(self.n_readout):
            out |= self._dense(f"readout.layers.{k}", f"{self.output}.{k}")
        out |= self._schnet() if self.class_name == "SchNet" else self._painn()
        return {k: v.contiguous() for k, v in out.items()}

    def _dense(self, ours: str, theirs: str) -> dict[str, Tensor]:
        names = {f"{ours}.{n}": f"{theirs}.{n}" for n in ("weight", "bias")}
        return {k: self.state[v] for k, v in names.items() if v in self.state}

    def _schnet(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        names = [f"representation.interactions.{t}" for t in range(self.n_layers)]
        for t, name in enumerate(names):
            out |= self._dense(f"layers.{t}.inward", f"{name}.in2f")
            for k in range(2):
                out |= self._dense(f"layers.{t}.outward.layers.{k}", f"{name}.f2out.{k}")
        for k in range(2):
            networks = [f"{name}.filter_network.{k}" for name in names]
            out[f"filters.weights.{k}"] = torch.stack([self.state[f"{n}.weight"].T for n in networks])
            out[f"filters.biases.{k}"] = torch.stack([self.state[f"{n}.bias"][None] for n in networks])
        return out

    def _painn(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for t in range(self.n_layers):
            inter, mixing = f"representation.interactions.{t}", f"representation.mixing.{t}"
            out |= self._dense(f"layers.{t}.mix", f"{mixing}.mu_channel_mix")
            for k in range(2):
                out |= self._dense(f"layers.{t}.message.layers.{k}", f"{inter}.interatomic_context_net.{k}")
                out |= self._dense(f"layers.{t}.update.layers.{k}", f"{mixing}.intraatomic_context_net.{k}")
        width = 3 * self.state["representation.embedding.weight"].shape[1]
        weight, bias = (self.state[f"representation.filter_net.{n}"] for n in ("weight", "bias"))
        # all layers' filters one after another, or one set that they share
        per_layer = weight.unflatten(0, (-1, width)).expand(self.n_layers, -1, -1)
        out["filters.weights.0"] = per_layer.transpose(1, 2)
        out["filters.biases.0"] = bias.view(-1, 1, width).expand(self.n_layers, -1, -1)
        return out


def _same(what: str, given: Tensor, expected: Tensor) -> None:
    # models made in float32 store these constants rounded to it
    if given.shape != expected.shape or not torch.allclose(given, expected.to(given), rtol=1e-6, atol=1e-6):
        raise ValueError(f"The {what} are not the usual ones: {given.flatten().tolist()}.")
