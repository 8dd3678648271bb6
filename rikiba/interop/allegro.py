"""Read the weights of a model of the nequip-allegro package into what `Allegro` is built from.

The two differ in notation only: order of elements, layout of weights by degree and channel, and the constant
behind activations (√2 there). Read from the code of nequip-allegro 0.8.3.
"""

from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .foreign_file import ForeignFile
from .mace_torch import Weights
from .nequip import activation_name, check_zbl, matrices, order_of_types, per_type, without_prefix
from .torch_files import load_restricted

_FIRST = "tensor_embed.env_embed_linear.mlp.0.weight"

_IGNORED = {"_target_", "builder", "seed", "model_dtype", "compile_mode", "do_derivatives"}
_IGNORED |= {"per_type_energy_scales_trainable", "per_type_energy_shifts_trainable"}
_NETWORKS = ("scalar_embed", "allegro", "readout")
_DEFAULTS: dict[str, Any] = {
    "r_max": None,
    "type_names": None,
    "l_max": None,
    "radial_chemical_embed": None,
    "avg_num_neighbors": None,
    "parity": True,
    "radial_chemical_embed_dim": None,
    "num_layers": 2,
    "num_scalar_features": 64,
    "num_tensor_features": 16,
    "tp_path_channel_coupling": True,
    "per_type_energy_scales": None,
    "per_type_energy_shifts": None,
    "pair_potential": None,
}
_DEFAULTS |= {f"{name}_mlp_hidden_layers_depth": 1 for name in _NETWORKS}
_DEFAULTS |= {f"{name}_mlp_nonlinearity": "silu" for name in _NETWORKS}
_DEFAULTS |= {
    "scalar_embed_mlp_hidden_layers_width": 64,
    "allegro_mlp_hidden_layers_width": 64,
    "readout_mlp_hidden_layers_width": 32,
}
_ONLY_DEFAULT = {"per_edge_type_cutoff": None, "weight_individual_irreps": True, "forward_normalize": True}
_BESSEL = {"num_bessels": 8, "bessel_trainable": False, "polynomial_cutoff_p": 6}
_SPLINE = {"num_splines": 16, "spline_span": 12}


def recognises(file: ForeignFile) -> bool:
    """True for a saved `state_dict()` of a model of the nequip-allegro package."""
    return any(name.endswith(_FIRST) for name in file.state)


def read_file(*, path: Path, settings: Mapping[str, Any]) -> Weights:
    """`read_allegro` of a `state_dict()` that torch saved.

    Args:
        path: the file.
        settings: the table of the model in its configuration (r_max, type_names, num_layers …).
    """
    return read_allegro(load_restricted(path), settings)


def read_allegro(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Weights:
    """Translate the `state_dict()` of a model made by nequip-allegro's `AllegroModel`.

    Names in the state may have any common prefix.

    Args:
        state: names and tensors.
        settings: the arguments that the model was made with, as in the `model` part of a nequip
            configuration; those left out have the package's defaults.

    Raises ValueError for what `Allegro` does not have: cutoffs by pair of types, several types of one
    element, another pair potential than ZBL, networks that differ in their activation.
    """
    checked = _checked(settings)
    return _Reader(state, checked).weights()


class _Reader:
    """One state dict with its settings."""

    def __init__(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.state = without_prefix(state, _FIRST)
        self.symbols = [str(s) for s in settings["type_names"]]
        self.order = order_of_types(self.symbols)
        self.kind = settings["allegro_mlp_nonlinearity"]
        self.embed = dict(settings["radial_chemical_embed"])
        self.spline = str(self.embed.pop("_target_", "")).endswith("TwoBodySplineScalarEmbed")
        self.embed = (_SPLINE if self.spline else _BESSEL) | self.embed

    def weights(self) -> Weights:
        tensors = {
            "scale": per_type(self.state, self.order, "scales", 1.0),
            "shift.values": per_type(self.state, self.order, "shifts", 0.0),
            "atomic_energies.values": torch.zeros(len(self.symbols)),
            "first_tensors.weights.0": self._by_degree(self.state[_FIRST], 0),
            "first.weights.0": self._by_degree(
                self.state["allegro.first_layer_env_embed_projection.mlp.0.weight"]
            ),
        }
        tensors |= self._spline() if self.spline else self._bessel()
        tensors |= self._network("two_body", "scalar_embed_mlp.mlp_module.mlp.")
        tensors |= self._network("readout", "edge_readout.mlp_module.mlp.")
        n_layers = self.settings["num_layers"]
        for t in range(n_layers):
            paths = self.state[f"allegro.tps.{t}.weights"]
            channels = (
                self.settings["num_tensor_features"] if self.settings["tp_path_channel_coupling"] else 1
            )
            tensors[f"layers.{t}.product.weights"] = paths.reshape(channels, -1).T
            latent = self._network(f"layers.{t}.latent", f"allegro.latents.{t}.mlp.")
            if t < n_layers - 1:
                last = max(latent, key=lambda name: (len(name), name))
                latent[last] = self._by_degree(latent[last])
            tensors |= latent
        ours = {k: v.to(torch.float64).contiguous() for k, v in tensors.items()}
        return Weights("Allegro", self.arguments(), ours)

    def _network(self, ours: str, theirs: str) -> dict[str, Tensor]:
        found = matrices(self.state, theirs, self.kind)
        return {f"{ours}.weights.{k}": w for k, w in enumerate(found)}

    def _by_degree(self, matrix: Tensor, first: int | None = None) -> Tensor:
        """Columns after the first (the scalars), theirs by channel and then degree, by degree and channel."""
        first = self.settings["num_scalar_features"] if first is None else first
        head, rest = matrix[:, :first], matrix[:, first:]
        rest = rest.unflatten(1, (self.settings["num_tensor_features"], self.settings["l_max"] + 1))
        return torch.cat([head, rest.transpose(1, 2).flatten(1)], 1)

    def _bessel(self) -> dict[str, Tensor]:
        name = "radial_chemical_embed."
        tensors = {
            "embedding.centre": self.state[name + "type_embed.center_embed.weight"][self.order],
            "embedding.neighbour": self.state[name + "type_embed.neighbor_embed.weight"][self.order],
            "embedding.mix": self.state[name + "type_embed.basis_linear.mlp.0.weight"],
        }
        if self.embed["bessel_trainable"]:
            multiples = self.state[name + "bessel_encode.bessel_weights"].flatten()
            tensors["embedding.basis.frequencies"] = multiples * (pi / float(self.settings["r_max"]))
        return tensors

    def _spline(self) -> dict[str, Tensor]:
        n = len(self.symbols)
        table = self.state["radial_chemical_embed.spline.class_embed.weight"]
        table = table.unflatten(1, (-1, self.embed["num_splines"])).transpose(1, 2)
        by_types = table.unflatten(0, (n, n))[self.order][:, self.order]
        return {"embedding.weights": by_types.flatten(0, 1)}

    def arguments(self) -> dict[str, Any]:
        s, e = self.settings, self.embed
        neighbours = s["avg_num_neighbors"]
        elements = [self.symbols[int(k)] for k in self.order]
        radial: dict[str, Any] = {
            "radial_embedding": "spline",
            "n_splines": e.get("num_splines"),
            "spline_span": e.get("spline_span"),
        }
        if not self.spline:
            radial = {
                "radial_embedding": "bessel",
                "n_bessel": e["num_bessels"],
                "bessel_trainable": bool(e["bessel_trainable"]),
                "envelope_power": int(e["polynomial_cutoff_p"]),
            }
        widths = {
            name: [s[f"{key}_mlp_hidden_layers_width"]] * s[f"{key}_mlp_hidden_layers_depth"]
            for name, key in zip(("embedding", "latent", "readout"), _NETWORKS, strict=True)
        }
        values = {
            ours: per_type(self.state, self.order, theirs, default).tolist()
            for ours, theirs, default in (("scale", "scales", 1.0), ("shift", "shifts", 0.0))
        }
        return {
            "elements": elements,
            "cutoff": float(s["r_max"]),
            "n_layers": s["num_layers"],
            "l_max": s["l_max"],
            "parity": "both" if s["parity"] else "natural",
            "scalar_channels": s["num_scalar_features"],
            "tensor_channels": s["num_tensor_features"],
            "embedding_channels": s["radial_chemical_embed_dim"] or s["num_scalar_features"],
            **radial,
            **{f"{name}_widths": found for name, found in widths.items()},
            "activation": activation_name(self.kind),
            "path_weights": "channels" if s["tp_path_channel_coupling"] else "shared",
            "avg_num_neighbors": dict(neighbours) if isinstance(neighbours, Mapping) else float(neighbours),
            **{name: dict(zip(elements, found, strict=True)) for name, found in values.items()},
            "zbl": s["pair_potential"] is not None,
        }


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with defaults filled in."""
    unknown = set(settings) - set(_DEFAULTS) - set(_ONLY_DEFAULT) - _IGNORED
    if unknown:
        raise ValueError(f"Unknown settings of an Allegro model: {', '.join(sorted(unknown))}.")
    for name, value in _ONLY_DEFAULT.items():
        if settings.get(name, value) != value:
            raise ValueError(f"Allegro here has no '{name}'; the model was made with {settings[name]!r}.")
    out = _DEFAULTS | {k: v for k, v in settings.items() if k in _DEFAULTS}
    for name in ("r_max", "type_names", "l_max", "radial_chemical_embed", "avg_num_neighbors"):
        if out[name] is None:
            raise ValueError(f"The settings of an Allegro model must hold '{name}'.")
    kinds = {
        activation_name(out[f"{name}_mlp_nonlinearity"])
        for name in _NETWORKS
        if out[f"{name}_mlp_hidden_layers_depth"]
    }
    if len(kinds) > 1:
        raise ValueError(f"Allegro here has one activation; the model was made with {sorted(kinds)}.")
    if kinds == {"identity"} and out["allegro_mlp_nonlinearity"] is not None:
        raise ValueError("A linear Allegro model is read with nonlinearities None, not their names.")
    if out["pair_potential"] is not None:
        check_zbl(out["pair_potential"], out["radial_chemical_embed"].get("polynomial_cutoff_p", 6))
    return out
