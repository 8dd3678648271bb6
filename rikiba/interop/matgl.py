"""Read models of matgl into what `potentials.tensornet.TensorNet` and `potentials.m3gnet.M3GNet` are built from.

The two differ in notation only: elements in order of atomic number, matrices of the three irreducible parts in
one tensor, outputs of radial networks part by part. Read from the code of matgl 4.1.2.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .mace_torch import Weights

_IGNORED = ("element_refs.onehot", "model.bond_expansion.rbf.cutoff", "model.basis_expansion.sbf.cutoff")
_OF_STATE = ("include_state", "ntypes_state", "dim_state_embedding", "dim_state_feats")


def load_matgl(folder: str | PathLike[str]) -> Weights:
    """Read a saved potential of matgl: a folder with model.pt and state.pt.

    Both are pickles; they are read by torch's restricted unpickler, which builds tensors, numbers, strings
    and containers of these and runs nothing else. Raises ValueError for another kind of folder and for what
    the classes here do not have; pickle.UnpicklingError for a file with other objects in it.
    """
    files = [Path(folder) / name for name in ("model.pt", "state.pt")]
    if not all(f.exists() for f in files):
        raise ValueError(f"'{folder}' is not a saved potential of matgl: it needs model.pt and state.pt.")
    settings, state = (torch.load(f, map_location="cpu", weights_only=True) for f in files)
    return read_matgl(state, settings)


def read_matgl(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Weights:
    """Translate the `state_dict()` of a matgl `Potential` and its constructor's arguments.

    Args:
        state: names and tensors.
        settings: what model.pt holds: the model's class and arguments under `model`, and those of the
            potential.

    Raises ValueError for other models than TensorNet and M3GNet, intensive ones, those with state features,
    and other activations, radial functions and readouts than those here.
    """
    model = settings.get("model")
    if not isinstance(model, Mapping) or not {"@class", "init_args"} <= set(model):
        raise ValueError("These are not the settings of a potential of matgl: they hold no model.")
    name, arguments = model["@class"], dict(model["init_args"])
    if name not in _READERS:
        raise ValueError(f"There are {', '.join(_READERS)} here; this is a model '{name}'.")
    _refuse(arguments, settings, state)
    return _READERS[name](_State(state, arguments))


def _refuse(arguments: Mapping[str, Any], settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    wanted = {"is_intensive": False, "activation_type": "swish", "ntargets": 1, "task_type": "regression"}
    defaults = {"is_intensive": True}
    for key, value in wanted.items():
        if arguments.get(key, defaults.get(key, value)) != value:
            raise ValueError(f"{key} must be {value!r}; this model has {arguments.get(key)!r}.")
    if any(arguments.get(key) for key in _OF_STATE) or arguments.get("use_phi"):
        raise ValueError("Models with state features or azimuthal angles are not known here.")
    if settings.get("calc_repuls"):
        raise ValueError("This potential adds a nuclear repulsion (calc_repuls), which is not known here.")
    if float(state["data_mean"]) != 0.0:
        raise ValueError(
            f"This potential adds {float(state['data_mean'])} eV to every structure, whatever its size "
            "(data_mean); only extensive energies are known here."
        )


class _State:
    """Tensors in float64, each to be asked for once, with elements in order of atomic number."""

    def __init__(self, state: Mapping[str, Tensor], arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self._left = {k: v.detach().to(torch.float64) for k, v in state.items() if k not in _IGNORED}
        symbols = list(arguments["element_types"])
        self.elements = periodic_table.sorted_symbols(symbols)
        self.order = torch.tensor([symbols.index(s) for s in self.elements])
        self.scale, _ = float(self._left.pop("data_std")), self._left.pop("data_mean")
        offsets = self._left.pop("element_refs.property_offset", torch.zeros(len(symbols)))
        self.atomic_energies = dict(zip(self.elements, offsets.flatten()[self.order].tolist(), strict=True))

    def take(self, name: str) -> Tensor:
        if f"model.{name}" not in self._left:
            raise ValueError(f"The weights '{name}' are missing; the settings do not fit them.")
        return self._left.pop(f"model.{name}")

    def linear(self, theirs: str, ours: str, bias: bool = True) -> dict[str, Tensor]:
        out = {f"{ours}.weight": self.take(f"{theirs}.weight")}
        return out | ({f"{ours}.bias": self.take(f"{theirs}.bias")} if bias else {})

    def gated(self, theirs: str, ours: str, layers: int, bias: bool = True) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for k in range(layers):
            for a, b in (("layers", "values"), ("gates", "gates")):
                out |= self.linear(f"{theirs}.{a}.{2 * k}", f"{ours}.{b}.layers.{k}", bias)
        return out

    def finished(self, class_name: str, arguments: dict[str, Any], tensors: dict[str, Tensor]) -> Weights:
        if self._left:
            raise ValueError(f"This model has parts that {class_name} has not: {', '.join(self._left)}.")
        common = {
            "elements": list(self.elements),
            "atomic_energies": self.atomic_energies,
            "scale": self.scale,
            "isolated_limit": False,
        }
        energies = torch.tensor([self.atomic_energies[s] for s in self.elements], dtype=torch.float64)
        return Weights(class_name, arguments | common, tensors | {"atomic_energies.values": energies})


def _tensornet(state: _State) -> Weights:
    given = state.arguments
    if given.get("rbf_type") != "SphericalBessel" or not given.get("use_smooth"):
        raise ValueError("Only TensorNets with smooth Bessel functions (use_smooth) are known here.")
    c, n_layers = int(given["units"]), int(given["nblocks"])
    embedding, root = "tensor_embedding", c**0.5

    def mixing(names: list[str]) -> Tensor:
        return torch.stack([state.take(f"{n}.weight").T for n in names]) * root

    def by_part(x: Tensor) -> Tensor:
        """Rows [channel, part] → [part, channel]."""
        return x.unflatten(0, (c, 3)).transpose(0, 1).flatten(0, 1)

    projections = [f"{embedding}.distance_proj{k}" for k in (1, 2, 3)]
    out = {
        "embedding": state.take(f"{embedding}.emb.weight")[state.order],
        "first_filters.weights.0": torch.cat([state.take(f"{p}.weight") for p in projections]).T[None],
        "first_filters.biases.0": torch.cat([state.take(f"{p}.bias") for p in projections])[None, None],
        "first_mix.weight": mixing([f"{embedding}.linears_tensor.{k}" for k in range(3)]),
        **state.linear(f"{embedding}.emb2", "pair_embedding"),
        **state.linear(f"{embedding}.init_norm", "first_norm"),
        **state.linear(f"{embedding}.linears_scalar.0", "first_gate.layers.0"),
        **state.linear("out_norm", "last_norm"),
        **state.linear("linear", "readout.mix"),
        **state.gated("final_layer.gated", "readout.network", 4),
    }
    for kind in ("weight", "bias"):
        gate = state.take(f"{embedding}.linears_scalar.1.{kind}")
        out[f"first_gate.layers.1.{kind}"] = by_part(gate)
    filters: dict[str, list[Tensor]] = {}
    for t in range(n_layers):
        layer = f"layers.{t}"
        for k in range(3):
            w, b = (state.take(f"{layer}.linears_scalar.{k}.{kind}") for kind in ("weight", "bias"))
            if k == 2:
                w, b = by_part(w), by_part(b)
            filters.setdefault(f"filters.weights.{k}", []).append(w.T)
            filters.setdefault(f"filters.biases.{k}", []).append(b[None])
        out[f"layers.{t}.mix_in.weight"] = mixing([f"{layer}.linears_tensor.{k}" for k in (0, 1, 2)])
        out[f"layers.{t}.mix_out.weight"] = mixing([f"{layer}.linears_tensor.{k}" for k in (3, 4, 5)])
    out |= {name: torch.stack(parts) for name, parts in filters.items()}
    arguments = {
        "cutoff": float(given["cutoff"]),
        "channels": c,
        "n_layers": n_layers,
        "n_radial": int(given["max_n"]),
        "radial_basis": "smooth_bessel",
        "envelope": "cosine",
        "group": given.get("equivariance_invariance_group", "O(3)"),
        "readout": "gated",
    }
    return state.finished("TensorNet", arguments, out)


_READERS: dict[str, Callable[[_State], Weights]] = {"TensorNet": _tensornet}
