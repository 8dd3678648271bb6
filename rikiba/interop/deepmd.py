"""Read an `se_e2_a` model of deepmd-kit into what `potentials.deep_potential.DeepPotential` is built from.

Formats: `.dp` and `.hlo` (HDF5), `.yaml` and `.json` of the backend-independent form, `.pth` (TorchScript)
and `.pt` (checkpoints) of the PyTorch backend. Read from the code of deepmd-kit 3.2.0.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.nn.residual import ResidualNetworks

from . import yaml_text
from .foreign_file import ForeignFile
from .mace_torch import Weights
from .torch_script import is_torch_script, read_torch_script, tensors_of

_ACTIVATIONS = ("tanh", "silu", "softplus", "sigmoid")
_UNKNOWN = (
    *("spin", "numb_fparam", "numb_aparam", "dim_case_embd", "exclude_types", "env_protection"),
    *("pair_exclude_types", "atom_exclude_types", "use_exp_switch", "use_aparam_as_mask"),
)
"""Options that must be absent, empty or zero."""


class Layer(NamedTuple):
    """w [n_in, n_out], b [n_out] and, where it is trained, the timestep."""

    w: Tensor
    b: Tensor
    dt: Tensor | None


class _Model(NamedTuple):
    """What every format holds; tensors in float64, types in the model's own order."""

    type_map: Sequence[str]
    descriptor: Mapping[str, Any]
    fitting: Mapping[str, Any]
    mean: Tensor
    deviation: Tensor
    embedding: Sequence[Sequence[Layer]]
    networks: Sequence[Sequence[Layer]]
    bias: Tensor


def recognises(file: ForeignFile) -> bool:
    """True for files of deepmd-kit by their ending, texts by their content."""
    if file.named(".yaml", ".yml", ".json"):
        return "se_e2_a" in file.path.read_text(encoding="utf-8", errors="replace")
    if file.named(".pth"):
        # other programs have checkpoints of this name; this one is TorchScript
        return is_torch_script(file.path)
    if file.named(".pt") and isinstance(file.saved, Mapping):
        return "_extra_state" in _inner_state(file.saved)
    return file.named(".dp", ".hlo")


def read_file(*, path: Path) -> Weights:
    """`load_deepmd`.

    Args:
        path: the file.
    """
    return load_deepmd(path)


def load_deepmd(path: str | Path) -> Weights:
    """Read a model file of deepmd-kit by its ending; no code in it is run.

    Raises ValueError for another ending, for models of several heads and for what `DeepPotential` does not
    have (see `read_deepmd`); pickle.UnpicklingError for a file of the PyTorch backend with other objects.
    """
    ending = Path(path).suffix
    if ending in (".dp", ".hlo"):
        import h5py

        with h5py.File(path) as file:
            return read_deepmd(_filled(json.loads(file.attrs["json"]), lambda name: file[name][()]))
    if ending in (".yaml", ".yml", ".json"):
        return read_deepmd(_filled(_parsed(Path(path).read_text(encoding="utf-8"), ending), _array))
    if ending == ".pth":
        root = read_torch_script(path)
        config = root.attributes.get("model_def_script")
        if not isinstance(config, str) or not config:
            raise ValueError(f"'{path}' is not a model of deepmd-kit: it has no model_def_script.")
        return read_deepmd_torch(dict(tensors_of(root)), json.loads(config))
    if ending == ".pt":
        found = torch.load(path, map_location="cpu", weights_only=True)
        state = _inner_state(found) if isinstance(found, Mapping) else {}
        if "_extra_state" not in state:
            raise ValueError(f"'{path}' is not a checkpoint of deepmd-kit: it has no _extra_state.")
        return read_deepmd_torch(state, state["_extra_state"]["model_params"])
    raise ValueError(
        f"A model of deepmd-kit ends in .dp, .hlo, .yaml, .json, .pth or .pt; given '{ending}'. Others: "
        f"dp convert-backend MODEL model.dp"
    )


def _inner_state(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict in a checkpoint, or what is one itself."""
    found = saved.get("model", saved)
    return found if isinstance(found, Mapping) else {}


def _parsed(text: str, ending: str) -> Any:
    if ending == ".json":
        return json.loads(text)
    return yaml_text.parse(text, "deepmd")


def read_deepmd(data: Mapping[str, Any]) -> Weights:
    """Translate the serialised form of a model (what `serialize()` gives, or a file's content).

    Raises ValueError for what `DeepPotential` does not have: other descriptors than `se_e2_a`, parameters of
    frames or atoms, excluded types, spin, activations other than tanh, silu, softplus and sigmoid.
    """
    model = data.get("model", data)
    descriptor, fitting = model["descriptor"], model["fitting"]
    if fitting.get("mixed_types", False):
        raise ValueError("This model has one fitting network for all types; one for each is read.")
    own, given = descriptor["@variables"], model["@variables"]
    _refuse(model | {"spin": None}, descriptor, fitting, descriptor.get("env_mat", {}))
    return _weights(
        _Model(
            type_map=model["type_map"],
            descriptor=descriptor,
            fitting=fitting,
            mean=_double(own["davg"]),
            deviation=_double(own["dstd"]),
            embedding=_serialised(descriptor["embeddings"]),
            networks=_serialised(fitting["nets"]),
            bias=_offsets(given["out_bias"], given["out_std"])
            + _double(fitting["@variables"]["bias_atom_e"]).flatten(),
        )
    )


def read_deepmd_torch(state: Mapping[str, Any], config: Mapping[str, Any]) -> Weights:
    """Translate the `state_dict()` of a model of the PyTorch backend and the `model` part of its input.

    Raises ValueError as `read_deepmd` does, and for several heads.
    """
    if "model_dict" in config:
        raise ValueError("This file has several heads; write one with: dp --pt freeze --head NAME.")
    descriptor, fitting = config["descriptor"], config["fitting_net"]
    if descriptor.get("type") not in ("se_e2_a", "se_a") or fitting.get("type", "ener") != "ener":
        raise ValueError(
            f"An se_e2_a model of energies is read; given '{descriptor.get('type')}', "
            f"'{fitting.get('type')}'."
        )
    _refuse(config, descriptor, fitting)
    found = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and "atomic_model." in name:
            found[name.partition("atomic_model.")[2]] = value.double()
    return _weights(
        _Model(
            type_map=config["type_map"],
            descriptor=descriptor,
            fitting=fitting,
            mean=found["descriptor.sea.mean"],
            deviation=found["descriptor.sea.stddev"],
            embedding=_named(found, "descriptor.sea.filter_layers.networks."),
            networks=_named(found, "fitting_net.filter_layers.networks."),
            bias=_offsets(found["out_bias"], found["out_std"]) + found["fitting_net.bias_atom_e"].flatten(),
        )
    )


def _refuse(*tables: Mapping[str, Any]) -> None:
    for table in tables:
        for name in _UNKNOWN:
            if table.get(name):
                raise ValueError(f"DeepPotential has no '{name}'; this model has {table[name]!r}.")


def _offsets(bias: Any, deviation: Any) -> Tensor:
    if not torch.all(_double(deviation) == 1.0):
        raise ValueError(f"Energies per atom must not be scaled by type; out_std is {deviation}.")
    return _double(bias).flatten()


def _weights(m: _Model) -> Weights:
    n = len(m.type_map)
    if m.descriptor.get("type", "se_e2_a") not in ("se_e2_a", "se_a"):
        raise ValueError(f"An se_e2_a descriptor is read; given '{m.descriptor['type']}'.")
    if len(m.networks) != n or len(m.embedding) not in (n, n * n):
        raise ValueError(
            f"{n} types need {n} fitting and {n} or {n * n} embedding networks; found {len(m.networks)} and "
            f"{len(m.embedding)}."
        )
    activations = {str(t.get("activation_function", "tanh")).lower() for t in (m.descriptor, m.fitting)}
    if len(activations) != 1 or not activations <= set(_ACTIVATIONS):
        raise ValueError(f"All networks must have one activation of {_ACTIVATIONS}; given {activations}.")
    symbols = periodic_table.sorted_symbols(m.type_map)
    order = [list(m.type_map).index(s) for s in symbols]
    one_side = len(m.embedding) == n
    theirs = order if one_side else [i + j * n for i in order for j in order]
    embedding, networks = [m.embedding[k] for k in theirs], [m.networks[k] for k in order]
    channels = embedding[0][-1].w.shape[1]
    slots = [int(m.descriptor["sel"][k]) for k in order]
    mean, deviation = _statistics(m.mean[order], m.deviation[order])
    arguments: dict[str, Any] = {
        "elements": list(symbols),
        "cutoff": float(m.descriptor["rcut"]),
        "switch_start": float(m.descriptor["rcut_smth"]),
        "embedding": [layer.w.shape[1] for layer in embedding[0]],
        "axis_channels": networks[0][0].w.shape[0] // channels,
        "fitting": [layer.w.shape[1] for layer in networks[0][:-1]],
        "one_side": one_side,
        "embedding_timesteps": any(layer.dt is not None for layer in embedding[0]),
        "fitting_timesteps": any(layer.dt is not None for layer in networks[0]),
        "activation": activations.pop(),
        "sel": dict(zip(symbols, slots, strict=True)),
        "isolated_limit": False,
    }
    tensors = {"descriptor.mean": mean, "descriptor.deviation": deviation}
    tensors |= _stacked("descriptor.networks.", embedding) | _stacked("networks.", networks)
    energies = m.bias[order] - _without_environment(m, order, arguments, networks)
    arguments["atomic_energies"] = dict(zip(symbols, energies.tolist(), strict=True))
    tensors["atomic_energies.values"] = energies
    return Weights("DeepPotential", arguments, {k: v.contiguous() for k, v in tensors.items()})


def _statistics(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviations of each type; theirs are repeated for every slot."""
    same = bool((mean == mean[:, :1]).all() and (deviation == deviation[:, :1]).all())
    if not same or bool(mean[..., 1:].any()) or bool((deviation[..., 1:] != deviation[..., 1:2]).any()):
        raise ValueError("davg and dstd must be those of the central type: equal in all slots, x, y and z.")
    return mean[:, 0, 0], deviation[:, 0, :2]


def _without_environment(
    m: _Model, order: list[int], arguments: Mapping[str, Any], networks: Sequence[Sequence[Layer]]
) -> Tensor:
    """What a type with a given atomic energy has subtracted: its network of a descriptor of zeros."""
    given = m.fitting.get("atom_ener") or ()
    subtracts = [len(given) > k and given[k] is not None for k in order]
    net = ResidualNetworks(
        n_networks=len(order),
        widths=(networks[0][0].w.shape[0], *arguments["fitting"]),
        outputs=1,
        timesteps=arguments["fitting_timesteps"],
        activation=arguments["activation"],
    ).double()
    net.load_state_dict(_stacked("", networks))
    zero = torch.zeros((1, networks[0][0].w.shape[0]), dtype=torch.float64)
    with torch.no_grad():
        out = [net.one(k, zero).squeeze() if s else zero[0, 0] for k, s in enumerate(subtracts)]
    return torch.stack(out)


def _stacked(prefix: str, networks: Sequence[Sequence[Layer]]) -> dict[str, Tensor]:
    """Parameters of `ResidualNetworks`."""
    out = {}
    for k, layers in enumerate(zip(*networks, strict=True)):
        out[f"{prefix}weights.{k}"] = torch.stack([layer.w for layer in layers])
        out[f"{prefix}biases.{k}"] = torch.stack([layer.b for layer in layers])
        steps = [layer.dt for layer in layers if layer.dt is not None]
        if steps:
            out[f"{prefix}timesteps.{k}"] = torch.stack(steps)
    return out


def _serialised(collection: Mapping[str, Any]) -> list[list[Layer]]:
    """Networks of the backend-independent form."""
    out = []
    for network in collection["networks"]:
        layers = []
        for layer in network["layers"]:
            v = {k: None if x is None else _double(x) for k, x in layer["@variables"].items()}
            w = v["w"]
            assert w is not None
            b, dt = v.get("b"), v.get("idt")
            b = w.new_zeros(w.shape[1]) if b is None else b.flatten()
            layers.append(Layer(w, b, None if dt is None else dt.flatten()))
        out.append(layers)
    return out


def _named(state: Mapping[str, Tensor], prefix: str) -> list[list[Layer]]:
    """Networks of the PyTorch backend."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.layers\.(\d+)\.matrix$")
    places = sorted((int(a), int(b)) for a, b in (m.groups() for m in map(pattern.match, state) if m))
    out: list[list[Layer]] = [[] for _ in range(1 + max((a for a, _ in places), default=-1))]
    for a, b in places:
        name = f"{prefix}{a}.layers.{b}."
        w, dt = state[name + "matrix"], state.get(name + "idt")
        bias = state.get(name + "bias", w.new_zeros(w.shape[1]))
        out[a].append(Layer(w, bias.flatten(), None if dt is None else dt.flatten()))
    return out


def _filled(value: Any, array: Callable[[Any], Any], variable: bool = False) -> Any:
    """The same tree with what stands below "@variables" replaced by arrays."""
    if isinstance(value, dict) and not value.get("@is_variable", False):
        return {k: _filled(v, array, variable or k == "@variables") for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, array, variable) for v in value]
    return value if value is None or not (variable or isinstance(value, dict)) else array(value)


def _array(value: Any) -> Any:
    if isinstance(value, dict) and value.get("@class") == "np.ndarray":
        return np.asarray(value["value"], dtype=np.dtype(value["dtype"]))
    return value


def _double(x: Any) -> Tensor:
    return torch.as_tensor(np.asarray(x)).double()
