"""Read the weights of a model of the nequip package into what `potentials.nequip.NequIP` is built from.

The two differ in notation only: order of couplings and of representations, constants that normalise
activations (sampled in e3nn or √2, integrated here), and features that cannot influence the energy, which are
left out here. Read from the code of nequip 0.19.1 and e3nn 0.6.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import pi, sqrt
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.nn.irrep_layers import Path, harmonics_of, reaches
from rikiba.nn.irreps import Irrep, Irreps
from rikiba.nn.mlp import unit_variance_factor
from rikiba.potentials.nequip import NequIP, NequIPLayer

from .foreign_file import ForeignFile
from .mace_torch import Weights
from .torch_files import load_restricted

SAMPLED_FACTOR = {"silu": 1.6791767923989418, "tanh": 1.5937334472592695}
"""e3nn's normalize2mom constants: one million normal deviates, seed 0."""

_IGNORED = {"_target_", "builder", "seed", "model_dtype", "compile_mode", "do_derivatives"}
_IGNORED |= {"per_type_energy_scales_trainable", "per_type_energy_shifts_trainable"}
_DEFAULTS: dict[str, Any] = {
    "r_max": None,
    "type_names": None,
    "num_layers": 4,
    "l_max": 1,
    "parity": True,
    "num_features": 32,
    "type_embed_num_features": None,
    "radial_mlp_depth": 1,
    "radial_mlp_width": 128,
    "readout_mlp_hidden_layers_depth": 0,
    "readout_mlp_hidden_layers_width": None,
    "readout_mlp_nonlinearity": "silu",
    "num_bessels": 8,
    "bessel_trainable": False,
    "polynomial_cutoff_p": 6,
    "avg_num_neighbors": None,
    "per_type_energy_scales": None,
    "per_type_energy_shifts": None,
    "pair_potential": None,
    "convnet_sc": True,
    "learnable_shift": False,
}
_ONLY_DEFAULT = {
    "per_edge_type_cutoff": None,
    "categorical_graph_field_embed": None,
    "convnet_resnet": False,
    "convnet_nonlinearity_type": "gate",
}


def recognises(file: ForeignFile) -> bool:
    """True for a saved `state_dict()` of a model of the nequip package."""
    return any(".layer0_convnet." in name for name in file.state)


def read_file(*, path: FilePath, settings: Mapping[str, Any]) -> Weights:
    """`read_nequip` of a `state_dict()` that torch saved.

    Args:
        path: the file.
        settings: the table of the model in its configuration (r_max, type_names, num_layers …).
    """
    return read_nequip(load_restricted(path), settings)


def read_nequip(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Weights:
    """Translate the `state_dict()` of a model made by nequip's `NequIPGNNModel`.

    Names in the state may have any common prefix.

    Args:
        state: names and tensors.
        settings: the arguments that the model was made with, as in the `model` part of a nequip
            configuration; those left out have nequip's defaults.

    Raises ValueError for what `NequIP` does not have: cutoffs by pair of types, embeddings of other fields,
    several types of one element, another pair potential than ZBL.
    """
    return _Reader(state, settings).weights()


def normalisation_ratio(irrep: Irrep) -> float:
    """e3nn's constant over ours for features of that kind behind a gate."""
    name = "tanh" if irrep == Irrep(0, -1) else "silu"
    return SAMPLED_FACTOR[name] / unit_variance_factor(name)


def their_paths(
    features: Sequence[Irrep], outputs: Sequence[Irrep], harmonics: Sequence[Irrep]
) -> list[Path]:
    """Couplings in the order in which e3nn's users list them: features, harmonics, degree of the output."""
    return [Path(h.l, f, o) for f in features for h in harmonics for o in f * h if o in outputs]


def e3nn_order(irreps: Sequence[Irrep]) -> list[Irrep]:
    """As e3nn sorts: by degree, odd parity first."""
    return sorted(set(irreps), key=lambda ir: (ir.l, ir.p))


def cut(flat: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """A flat tensor as consecutive blocks of these shapes; raises ValueError where they do not use it up."""
    sizes = [int(torch.tensor(s).prod()) for s in shapes]
    if sum(sizes) != flat.numel():
        raise ValueError(
            f"{flat.numel()} weights do not fit the settings, which need {sum(sizes)}: "
            "check num_features, l_max, parity and type names."
        )
    return [part.view(*shape) for part, shape in zip(flat.flatten().split(sizes), shapes, strict=True)]


def without_prefix(state: Mapping[str, Tensor], ending: str) -> dict[str, Tensor]:
    """The part of a state whose names share the prefix of the one name with this ending, float64.

    Raises ValueError unless exactly one name has the ending.
    """
    found = [k for k in state if k.endswith(ending)]
    if len(found) != 1:
        raise ValueError(f"The state holds {len(found)} names that end in {ending}; one is needed.")
    prefix = found[0].removesuffix(ending)
    return {
        k.removeprefix(prefix): v.detach().to(torch.float64) for k, v in state.items() if k.startswith(prefix)
    }


def order_of_types(symbols: Sequence[str]) -> Tensor:
    """The order by atomic number; raises ValueError where several types are of one element."""
    numbers = periodic_table.numbers_of(symbols)
    if len(set(numbers.tolist())) != len(numbers):
        raise ValueError(f"Several types are of one element: {list(symbols)}.")
    return torch.argsort(numbers)


def per_type(state: Mapping[str, Tensor], order: Tensor, name: str, default: float) -> Tensor:
    """The scales or shifts of the types in our order; one number for all, or none, is repeated."""
    found = state.get(f"per_type_energy_scale_shift.{name}")
    if found is None or not found.numel():
        found = torch.full((1,), default, dtype=torch.float64)
    return found.flatten().expand(len(order))[order]


def matrices(state: Mapping[str, Tensor], prefix: str, kind: str | None) -> list[Tensor]:
    """Matrices of a perceptron in our normalisation: theirs have a gain of √2 behind every activation."""
    names = sorted((k for k in state if k.startswith(prefix)), key=lambda k: (len(k), k))
    gain = 1.0 if kind is None else sqrt(2.0)
    factor = gain / unit_variance_factor(activation_name(kind))
    return [state[name] * (factor if k else 1.0) for k, name in enumerate(names)]


@dataclass
class TheirLayer:
    """Weights of one layer, still in their normalisation, by representation and coupling."""

    up: dict[Irrep, Tensor] = field(default_factory=dict)
    radial: list[Tensor] = field(default_factory=list)
    """All matrices of the radial network but the last."""
    last_radial: dict[Path, Tensor] = field(default_factory=dict)
    mix: dict[Path, Tensor] = field(default_factory=dict)
    """[channels, outputs]; outputs of 0e are the scalars, then the gates of `gated`."""
    skip: dict[Irrep, Tensor] = field(default_factory=dict)
    """[attributes, inputs, outputs]."""
    gated: list[tuple[int, Irrep]] = field(default_factory=list)
    bias_in: Tensor | None = None
    bias_out: Tensor | None = None
    """As the outputs of 0e."""
    after_gate: bool = True
    """Whether the features come out of a gate, rather than being the embedding."""

    def into(self, layer: NequIPLayer, hidden: Irreps) -> dict[str, Tensor]:
        """Tensors of our layer that takes `hidden`."""
        ratio = {ir: normalisation_ratio(ir) if self.after_gate else 1.0 for _, ir in hidden.terms}
        out = {f"radial.weights.{k}": w for k, w in enumerate(self.radial)}
        streams = layer.convolution.streams
        columns = [self.last_radial[p] for s in streams for p in s.paths]
        out[f"radial.weights.{len(self.radial)}"] = torch.cat(columns, 1)
        for k, (_, ir) in enumerate(hidden.terms):
            out[f"up.weights.{k}"] = self.up[ir] * ratio[ir]
        for o, ir in enumerate(layer.convolution.outputs):
            rows = torch.cat([self.mix[p] for s in streams for p in s.paths_to(ir)])
            out[f"convolution.mix.{o}"] = self._outputs(rows, ir, layer)
        if self.bias_in is not None and self.bias_out is not None:
            out["bias_in"] = self.bias_in
            out["bias_out"] = self._outputs(self.bias_out, Irrep(0, 1), layer)
        if layer.skip is not None:
            for k, (a, b) in enumerate(layer.skip.pairs):
                ir = hidden.terms[a][1]
                w = self.skip[ir] * ratio[ir]
                out[f"skip.weights.{k}"] = self._outputs(w, layer.convolution.outputs[b], layer)
        return out

    def _outputs(self, w: Tensor, ir: Irrep, layer: NequIPLayer) -> Tensor:
        """Of the columns for 0e, those of gates that we have, in our order."""
        if ir != Irrep(0, 1):
            return w
        sizes = [layer.n_scalars, *(n for n, _ in self.gated)]
        scalars, *gates = w.split(sizes, -1)
        theirs = {g: part for (_, g), part in zip(self.gated, gates, strict=True)}
        ours = [theirs[g] for _, g in layer.irreps_out.terms if g.l > 0]
        return torch.cat([scalars, *ours], -1)


class _Reader:
    """One state dict with its settings."""

    def __init__(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        self.settings = _checked(settings)
        self.state = without_prefix(state, "type_embed.embed_module.weight")
        self.symbols = [str(s) for s in self.settings["type_names"]]
        self.order = order_of_types(self.symbols)
        features, l_max = self.settings["num_features"], self.settings["l_max"]
        self.channels = [features] * (l_max + 1) if isinstance(features, int) else list(features)

    def weights(self) -> Weights:
        arguments = self.arguments()
        model = NequIP(**arguments)
        tensors = {
            "embedding": self.state["type_embed.embed_module.weight"][self.order],
            "scale": per_type(self.state, self.order, "scales", 1.0),
            "shift.values": per_type(self.state, self.order, "shifts", 0.0),
            "atomic_energies.values": torch.zeros(len(self.symbols)),
        }
        if arguments["bessel_trainable"]:
            multiples = self.state["bessel_encode.bessel_weights"].flatten()
            tensors["radial_basis.frequencies"] = multiples * (pi / arguments["cutoff"])
        for t, layer in enumerate(self._layers(model.n_layers)):
            ours = model.layers[t]
            assert isinstance(ours, NequIPLayer)
            tensors |= {f"layers.{t}.{k}": v for k, v in layer.into(ours, model.hidden[t]).items()}
        kind = self.settings["readout_mlp_nonlinearity"]
        readout = matrices(self.state, "per_atom_energy_readout.mlp_module.mlp.", kind)
        readout[0] = readout[0] * normalisation_ratio(Irrep(0, 1))
        tensors |= {f"readout.weights.{k}": w for k, w in enumerate(readout)}
        return Weights("NequIP", arguments, {k: v.to(torch.float64).contiguous() for k, v in tensors.items()})

    def arguments(self) -> dict[str, Any]:
        s = self.settings
        neighbours = s["avg_num_neighbors"]
        depth, width = s["readout_mlp_hidden_layers_depth"], s["readout_mlp_hidden_layers_width"]
        kind = "embedding" if s["convnet_sc"] else "none"
        by_symbol = {
            name: per_type(self.state, self.order, name, default).tolist()
            for name, default in (("scales", 1.0), ("shifts", 0.0))
        }
        elements = [self.symbols[int(k)] for k in self.order]
        return {
            "elements": elements,
            "cutoff": float(s["r_max"]),
            "channels": self.channels,
            "l_max": s["l_max"],
            "parity": "both" if s["parity"] else "natural",
            "n_layers": s["num_layers"],
            "embedding_channels": self.state["type_embed.embed_module.weight"].shape[1],
            "n_bessel": s["num_bessels"],
            "bessel_trainable": bool(s["bessel_trainable"]),
            "envelope_power": int(s["polynomial_cutoff_p"]),
            "radial_widths": [s["radial_mlp_width"]] * s["radial_mlp_depth"],
            "readout_widths": [self.channels[0] if width is None else width] * depth,
            "readout_activation": activation_name(s["readout_mlp_nonlinearity"]),
            "self_connection": kind,
            "first_self_connection": bool(s["learnable_shift"]),
            "avg_num_neighbors": dict(neighbours) if isinstance(neighbours, Mapping) else float(neighbours),
            "scale": dict(zip(elements, by_symbol["scales"], strict=True)),
            "shift": dict(zip(elements, by_symbol["shifts"], strict=True)),
            "zbl": s["pair_potential"] is not None,
        }

    def _layers(self, n_layers: int) -> list[TheirLayer]:
        """All layers with all their features, also those that we leave out."""
        l_max, parity = self.settings["l_max"], self.settings["parity"]
        attributes = self.state["type_embed.embed_module.weight"].shape[1]
        features = [(attributes, Irrep(0, 1))]
        out = []
        for t in range(n_layers):
            last = t == n_layers - 1
            wanted = [
                (self.channels[l], Irrep(l, p))
                for l in range(1 if last else l_max + 1)
                for p in ((1, -1) if parity and not last else ((-1) ** l,))
            ]
            made = [(n, o) for n, o in wanted if any(reaches(f, o, harmonics_of(l_max)) for _, f in features)]
            out.append(self._layer(t, features, made, attributes))
            features = made
        return out

    def _layer(
        self, t: int, features: list[tuple[int, Irrep]], made: list[tuple[int, Irrep]], attributes: int
    ) -> TheirLayer:
        name, channels = f"layer{t}_convnet.conv.", {ir: n for n, ir in features}
        gated = [(n, ir) for n, ir in made if ir.l > 0]
        n_out = {ir: n for n, ir in made}
        n_out[Irrep(0, 1)] += sum(n for n, _ in gated)
        paths = their_paths([ir for _, ir in features], list(n_out), harmonics_of(self.settings["l_max"]))
        *hidden, last = matrices(self.state, name + "edge_mlp.mlp.", "silu")
        columns = last.split([channels[p.features] for p in paths], 1)
        by_output = [p for o in e3nn_order(list(n_out)) for p in paths if p.output == o]
        rows = cut(
            self.state[name + "linear_2.weight"], [(channels[p.features], n_out[p.output]) for p in by_output]
        )
        up = cut(self.state[name + "linear_1.weight"], [(n, n) for n, _ in features])
        skip: dict[Irrep, Tensor] = {}
        if name + "sc.weight" in self.state:
            both = [(n, ir) for n, ir in features if ir in n_out]
            blocks = cut(self.state[name + "sc.weight"], [(n, attributes, n_out[ir]) for n, ir in both])
            skip = {ir: w.transpose(0, 1) for (_, ir), w in zip(both, blocks, strict=True)}
        return TheirLayer(
            up={ir: w for (_, ir), w in zip(features, up, strict=True)},
            radial=hidden,
            last_radial=dict(zip(paths, columns, strict=True)),
            mix=dict(zip(by_output, rows, strict=True)),
            skip=skip,
            gated=gated,
            after_gate=t > 0,
        )


def activation_name(kind: str | None) -> str:
    """Ours for theirs, in which None is linear."""
    return "identity" if kind in (None, "None", "null") else str(kind)


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with defaults filled in."""
    unknown = set(settings) - set(_DEFAULTS) - set(_ONLY_DEFAULT) - _IGNORED
    if unknown:
        raise ValueError(f"Unknown settings of a nequip model: {', '.join(sorted(unknown))}.")
    for name, value in _ONLY_DEFAULT.items():
        if settings.get(name, value) != value:
            raise ValueError(f"NequIP here has no '{name}'; the model was made with {settings[name]!r}.")
    out = _DEFAULTS | {k: v for k, v in settings.items() if k in _DEFAULTS}
    for name in ("r_max", "type_names", "avg_num_neighbors"):
        if out[name] is None:
            raise ValueError(f"The settings of a nequip model must hold '{name}'.")
    if out["pair_potential"] is not None:
        check_zbl(out["pair_potential"], out["polynomial_cutoff_p"])
    return out


def check_zbl(potential: Mapping[str, Any], power: int) -> None:
    """Raise ValueError unless a pair potential is ZBL in eV and Å behind an envelope of this power."""
    kind, units = str(potential.get("_target_")), potential.get("units")
    if not kind.endswith(".ZBL") or units != "metal" or potential.get("polynomial_cutoff_p", 6) != power:
        raise ValueError(
            f"The pair potential must be ZBL in units 'metal' with the model's own envelope power; "
            f"it is {dict(potential)}."
        )
