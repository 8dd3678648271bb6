"""Read models of matgl into what `potentials.tensornet` and `potentials.m3gnet` are built from.

The two differ in notation only: elements in order of atomic number, matrices of the three irreducible
parts in one tensor, outputs of radial networks part by part. Read from the code of matgl 4.1.2.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .mace_torch import Weights

_ONEHOT = "element_refs.onehot"
_IGNORED = (_ONEHOT, "model.bond_expansion.rbf.cutoff", "model.basis_expansion.sbf.cutoff")
_OF_STATE = ("include_state", "ntypes_state", "dim_state_embedding", "dim_state_feats")


MessagesTo = Literal["centre", "neighbour"]


def recognises(file: ForeignFile) -> bool:
    """True for a `model.pt` with a `state.pt` beside it."""
    return file.path.name == "model.pt" and file.path.with_name("state.pt").is_file()


def read_file(*, path: Path, messages_to: MessagesTo | None = None) -> Weights:
    """`load_matgl`.

    Args:
        path: the `model.pt`; `state.pt` is beside it.
        messages_to: see `read_matgl`.
    """
    return load_matgl(path.parent, messages_to=messages_to)


def load_matgl(folder: str | PathLike[str], *, messages_to: MessagesTo | None = None) -> Weights:
    """Read a saved potential of matgl: a folder with model.pt and state.pt; `messages_to`: see `read_matgl`.

    Both are pickles; they are read by torch's restricted unpickler, which builds tensors, numbers, strings
    and containers of these and runs nothing else. Raises ValueError for another kind of folder and for what
    the classes here do not have; pickle.UnpicklingError for a file with other objects in it.
    """
    files = [Path(folder) / name for name in ("model.pt", "state.pt")]
    if not all(f.exists() for f in files):
        raise ValueError(f"'{folder}' is not a saved potential of matgl: it needs model.pt and state.pt.")
    settings, state = (torch.load(f, map_location="cpu", weights_only=True) for f in files)
    return read_matgl(state, settings, messages_to=messages_to)


def read_matgl(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], *, messages_to: MessagesTo | None = None
) -> Weights:
    """Translate the `state_dict()` of a matgl `Potential` and its constructor's arguments.

    Until version 4 matgl summed messages at the other end of the edges (of TensorNet, those of the embedding
    only). Later versions load older weights without conversion and answer wrongly with them; here they keep
    the meaning that they were trained with.

    Args:
        state: names and tensors.
        settings: what model.pt holds: the model's class and arguments under `model`, and those of the
            potential.
        messages_to: where the weights expect sums; None tells by the age of the model: TensorNets below
            version 2, and others whose state has `element_refs.onehot`, are summed at the neighbour.

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
    if messages_to is None:
        old = int(model.get("@model_version", 2)) < 2 if name == "TensorNet" else _ONEHOT in state
        messages_to = "neighbour" if old else "centre"
    return _READERS[name](_State(state, arguments), messages_to)


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
            for a, b in (("layers", "core"), ("gates", "gate")):
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


def _tensornet(state: _State, messages_to: MessagesTo) -> Weights:
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
        "filters.first.weights.0": torch.cat([state.take(f"{p}.weight") for p in projections]).T[None],
        "filters.first.biases.0": torch.cat([state.take(f"{p}.bias") for p in projections])[None, None],
        "first_mix.weight": mixing([f"{embedding}.linears_tensor.{k}" for k in range(3)]),
        **state.linear(f"{embedding}.emb2", "pair_embedding"),
        **state.linear(f"{embedding}.init_norm", "first_norm"),
        **state.linear(f"{embedding}.linears_scalar.0", "first_gate.layers.0"),
        **state.linear("out_norm", "last_norm"),
        **state.linear("linear", "readout.mix"),
        **state.gated("final_layer.gated", "readout.network", 4),
    }
    if messages_to == "neighbour":
        # Z of (neighbour, centre), and directions seen from there: the antisymmetric part changes its sign
        left, right = out["pair_embedding.weight"].chunk(2, 1)
        out["pair_embedding.weight"] = torch.cat([right, left], 1)
        for name in ("filters.first.weights.0", "filters.first.biases.0"):
            out[name][..., c : 2 * c] *= -1.0
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
            filters.setdefault(f"filters.rest.weights.{k}", []).append(w.T)
            filters.setdefault(f"filters.rest.biases.{k}", []).append(b[None])
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


def _m3gnet(state: _State, messages_to: MessagesTo) -> Weights:
    given = state.arguments
    widths = {int(given[k]) for k in ("units", "dim_node_embedding", "dim_edge_embedding")}
    if len(widths) != 1 or given.get("rbf_type", "SphericalBessel") != "SphericalBessel":
        raise ValueError("Only M3GNets with Bessel functions and equal widths of all layers are known here.")
    n_layers, readout = int(given["nblocks"]), "final_layer.gated"
    out = {
        "embedding": state.take("embedding.layer_node_embedding.weight")[state.order],
        **state.linear("embedding.layer_edge_embedding.layers.0", "pair_embedding"),
        **state.gated(readout, "readout", 4),
    }
    for t in range(n_layers):
        angular, graph, layer = f"three_body_interactions.{t}", f"graph_layers.{t}.conv", f"layers.{t}"
        out |= {
            **state.linear(f"{angular}.update_network_atom.layers.0", f"{layer}.angular_weights"),
            **state.gated(f"{angular}.update_network_bond", f"{layer}.angular", 1, bias=False),
            **state.gated(f"{graph}.edge_update_func", f"{layer}.pair_update", 3),
            **state.linear(f"{graph}.edge_weight_func", f"{layer}.pair_weights", bias=False),
            **state.gated(f"{graph}.node_update_func", f"{layer}.message", 3),
            **state.linear(f"{graph}.node_weight_func", f"{layer}.message_weights", bias=False),
        }
    basis = "smooth_bessel" if given.get("use_smooth") else "bessel_grid"
    arguments = {
        "cutoff": float(given["cutoff"]),
        "three_body_cutoff": float(given["threebody_cutoff"]),
        "channels": widths.pop(),
        "n_layers": n_layers,
        "n_max": int(given["max_n"]),
        "l_max": int(given["max_l"]) - 1,
        "radial_basis": basis,
        "three_body_basis": basis,
        "readout_layers": 3,
        "messages_to": messages_to,
    }
    return state.finished("M3GNet", arguments, out)


_READERS: dict[str, Callable[[_State, MessagesTo], Weights]] = {"TensorNet": _tensornet, "M3GNet": _m3gnet}
