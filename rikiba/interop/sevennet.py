"""Read a SevenNet checkpoint into what `potentials.nequip.NequIP` is built from.

SevenNet (Park, Kim, Hwang & Han, doi:10.1021/acs.jctc.4c00190) is NequIP with another self-connection,
trained Bessel frequencies and, in its published models, no parity. Translated here: order of couplings (by
version), signs of the coupling coefficients (stored in the file), constants of activations, order of
elements. Read from the code of sevenn 0.13.0 and e3nn 0.6.0.
"""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.nn.irrep_layers import Path, harmonics_of, reaches
from rikiba.nn.irreps import Irrep, Irreps
from rikiba.nn.mlp import unit_variance_factor
from rikiba.nn.so3 import clebsch_gordan
from rikiba.potentials.nequip import NequIP, NequIPLayer

from .foreign_file import ForeignFile
from .mace_torch import Weights
from .nequip import SAMPLED_FACTOR, TheirLayer, cut, e3nn_order, normalisation_ratio, their_paths
from .torch_files import load_restricted

_REQUIRED: dict[str, Any] = {
    "use_bias_in_linear": False,
    "interaction_type": "nequip",
    "act_radial": "silu",
    "act_scalar": {"e": "silu", "o": "tanh"},
    "act_gate": {"e": "silu", "o": "tanh"},
}
"""Settings that must have this value where they are given."""


def recognises(file: ForeignFile) -> bool:
    """True for a checkpoint of SevenNet."""
    return isinstance(file.saved, Mapping) and {"config", "model_state_dict"} <= set(file.saved)


def read_file(*, path: FilePath, modality: str | None = None) -> Weights:
    """`load_sevennet`.

    Args:
        path: the file.
        modality: which data set of a model of several.
    """
    return load_sevennet(path, modality=modality)


def load_sevennet(path: str | FilePath, *, modality: str | None = None) -> Weights:
    """Read a checkpoint file (`.pth`) of SevenNet; of a model of several data sets, the part for `modality`.

    The file is a pickle; it is read by torch's restricted unpickler, which builds tensors, arrays, numbers,
    strings and containers of these and runs nothing else. Raises ValueError for another kind of file and for
    what `NequIP` does not have; pickle.UnpicklingError for a file with other objects in it.
    """
    found = load_restricted(path)
    if not isinstance(found, Mapping) or not {"config", "model_state_dict"} <= set(found):
        raise ValueError(f"'{path}' is not a SevenNet checkpoint: it has no config or model_state_dict.")
    return read_sevennet(found["model_state_dict"], found["config"], modality=modality)


def read_sevennet(
    state: Mapping[str, Tensor], config: Mapping[str, Any], *, modality: str | None = None
) -> Weights:
    """Translate a SevenNet model's `state_dict()` and its config.

    Raises ValueError for a modality that is missing or unknown, and for what `NequIP` does not have: other
    activations than silu and tanh, biases for all data sets, layers of different shapes.
    """
    return _Reader(state, config, modality).weights()


def _present_name(name: str) -> str:
    """Names of modules before version 0.10 as they are since."""
    module, _, rest = name.partition(".")
    old = {
        "EdgeEmbedding": "edge_embedding",
        "reducing nn input to hidden": "reduce_input_to_hidden",
        "reducing nn hidden to energy": "reduce_hidden_to_energy",
    }
    return f"{old.get(module, module).replace(' ', '_')}.{rest.replace('denumerator', 'denominator')}"


def _constant(bias: Tensor | None, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.float64) if bias is None else bias


def _modality(config: Mapping[str, Any], modality: str | None) -> tuple[int, int]:
    """(how many data sets, number of the wanted one); (0, 0) for a model of one data set."""
    known = {str(name): int(k) for name, k in (config.get("_modal_map") or {}).items()}
    if not config.get("use_modality", False):
        if modality is not None:
            raise ValueError(f"This model has no modalities; given '{modality}'.")
        return 0, 0
    if modality not in known:
        raise ValueError(f"Say which modality of {', '.join(sorted(known))}; given {modality!r}.")
    return len(known), known[modality]


class _Reader:
    """One state dict with its config."""

    def __init__(self, state: Mapping[str, Tensor], config: Mapping[str, Any], modality: str | None) -> None:
        for name, value in _REQUIRED.items():
            if config.get(name, value) != value:
                raise ValueError(f"SevenNet's '{name}' must be {value!r}; this model has {config[name]!r}.")
        self.config = config
        self.n_modalities, self.modality = _modality(config, modality)
        self.state = {
            _present_name(k): v.detach().to(torch.float64)
            for k, v in state.items()
            if isinstance(v, Tensor) and v.numel()
        }
        type_map = {int(z): int(k) for z, k in config["_type_map"].items()}
        self.numbers = sorted(type_map)
        self.order = torch.tensor([type_map[z] for z in self.numbers])
        self.n_layers = int(config["num_convolution_layer"])
        degrees = {k: int(config.get(k, -1)) for k in ("lmax", "lmax_edge", "lmax_node")}
        self.l_max = degrees["lmax_edge"] if degrees["lmax_edge"] > 0 else degrees["lmax"]
        self.max_L = degrees["lmax_node"] if degrees["lmax_node"] > 0 else degrees["lmax"]
        self.harmonics = harmonics_of(self.l_max, inversion=bool(config["is_parity"]))
        self.hidden = self._hidden()

    def _hidden(self) -> list[list[tuple[int, Irrep]]]:
        """Their features before each layer and after the last, in their order."""
        manual = self.config.get("irreps_manual", False)
        if manual:
            found = [list(Irreps.parse(text).terms) for text in manual]
            shapes = {str(terms) for terms in found[1:-1]}
            if len(shapes) > 1 or [ir for _, ir in found[-1]] != [Irrep(0, 1)]:
                raise ValueError(f"All hidden layers must have the same features; irreps_manual is {manual}.")
            return found
        channels = int(self.config["channel"])
        out = [[(channels, Irrep(0, 1))]]
        for t in range(self.n_layers):
            last = t == self.n_layers - 1
            found_here = self._reached(out[-1], 0 if last else self.max_L, even=last)
            out.append([(channels, ir) for ir in found_here])
        return out

    def _reached(self, features: list[tuple[int, Irrep]], degree: int, *, even: bool) -> list[Irrep]:
        """All that features ⊗ harmonics contains up to a degree, in e3nn's order."""
        wanted = [Irrep(l, p) for l in range(degree + 1) for p in (1, -1) if p == 1 or not even]
        return e3nn_order([o for o in wanted if any(reaches(f, o, self.harmonics) for _, f in features)])

    def weights(self) -> Weights:
        arguments = self.arguments()
        model = NequIP(**arguments)
        n = len(self.numbers)
        (embedding,), added = self._linear(
            "onehot_to_feature_x.linear.weight",
            [(n, arguments["embedding_channels"])],
            [0],
            "use_modal_node_embedding",
        )
        embedding = embedding[self.order] / n**0.5
        tensors = {
            "embedding": embedding if added is None else embedding + added,
            "scale": self._per_type("scale"),
            "shift.values": self._shift(),
            "atomic_energies.values": torch.zeros(n),
        }
        if arguments["bessel_trainable"]:
            tensors["radial_basis.frequencies"] = self.state["edge_embedding.basis_function.coeffs"].flatten()
        for t, layer in enumerate(model.layers):
            assert isinstance(layer, NequIPLayer)
            theirs = self._layer(t)
            tensors |= {f"layers.{t}.{k}": v for k, v in theirs.into(layer, model.hidden[t]).items()}
        tensors |= {f"readout.weights.{k}": w for k, w in enumerate(self._readout()[0])}
        return Weights("NequIP", arguments, {k: v.to(torch.float64).contiguous() for k, v in tensors.items()})

    def arguments(self) -> dict[str, Any]:
        c = self.config
        elements = [periodic_table.symbol(z) for z in self.numbers]
        by_degree = {ir.l: n for n, ir in self.hidden[min(1, self.n_layers - 1)]}
        out_channels = self.hidden[-1][0][0]
        channels = [by_degree.get(l, out_channels) for l in range(self.max_L + 1)]
        if channels[0] != out_channels:
            raise ValueError(f"The last layer has {out_channels} channels, those before {channels[0]}.")
        out: dict[str, Any] = {
            "elements": elements,
            "cutoff": float(c["cutoff"]),
            "channels": channels,
            "l_max": self.l_max,
            "max_L": self.max_L,
            "parity": "both" if c["is_parity"] else "ignored",
            "n_layers": self.n_layers,
            "embedding_channels": self.hidden[0][0][0],
            "n_bessel": int(c["radial_basis"].get("bessel_basis_num", 8)),
            "bessel_trainable": "edge_embedding.basis_function.coeffs" in self.state,
            "solid_harmonics": not c.get("_normalize_sph", False),  # absent in the oldest files
            "radial_widths": [int(n) for n in c["weight_nn_hidden_neurons"]],
            "readout_widths": [w.shape[1] for w in self._readout()[0][:-1]],
            "readout_activation": self._readout_activation(),
            "self_connection": self._self_connection(),
            "first_self_connection": True,
            "scalar_biases": self._biased(),
            # messages are divided by their denominator, which need not be the root of a number of neighbours
            "avg_num_neighbors": float(self.state["0_convolution.denominator"]) ** 2,
            "scale": dict(zip(elements, self._per_type("scale").tolist(), strict=True)),
            "shift": dict(zip(elements, self._shift().tolist(), strict=True)),
        }
        return out | self._envelope()

    def _linear(
        self, name: str, shapes: list[tuple[int, int]], scalars: list[int], option: str
    ) -> tuple[list[Tensor], Tensor | None]:
        """Blocks of a linear layer, and what the one-hot modality adds to its scalars.

        Where the option is set, the modality is so many more inputs of the scalars, at the end.
        """
        n = self.n_modalities if self.config.get(option, False) else 0
        if not n:
            return cut(self.state[name], shapes), None
        inputs, width = sum(shapes[k][0] for k in scalars), shapes[scalars[0]][1]
        *blocks, added = cut(self.state[name], [*shapes, (n, width)])
        for k in scalars:
            blocks[k] = blocks[k] * (inputs / (inputs + n)) ** 0.5
        return blocks, added[self.modality] / (inputs + n) ** 0.5

    def _envelope(self) -> dict[str, Any]:
        given = self.config["cutoff_function"]
        name = given["cutoff_function_name"]
        if self.config["radial_basis"]["radial_basis_name"] != "bessel":
            raise ValueError(f"The radial basis must be bessel; it is {self.config['radial_basis']}.")
        if name == "XPLOR":
            return {"envelope": "xplor", "xplor_start": float(given["cutoff_on"])}
        if name == "poly_cut":
            return {"envelope_power": int(given.get("poly_cut_p_value", 6))}
        raise ValueError(f"The cutoff function must be XPLOR or poly_cut; it is '{name}'.")

    def _self_connection(self) -> str:
        given = self.config["self_connection_type"]
        kinds = {given} if isinstance(given, str) else set(given)
        names = {"nequip": "types", "linear": "linear"}
        if len(kinds) != 1 or not kinds <= set(names):
            raise ValueError(f"All self-connections must be 'nequip' or all 'linear'; they are {given}.")
        return names[kinds.pop()]

    def _per_type(self, name: str) -> Tensor:
        found = self.state[f"rescale_atomic_energy.{name}"]
        if self.n_modalities and self.config.get(f"use_modal_wise_{name}", False):
            found = found[self.modality]
        return found.flatten().expand(len(self.numbers))[self.order]

    def _shift(self) -> Tensor:
        """Shifts with what the modality adds to every readout."""
        return self._per_type("shift") + self._per_type("scale") * self._readout()[1]

    def _biased(self) -> bool:
        options = ("use_modal_self_inter_intro", "use_modal_self_inter_outro")
        return self.n_modalities > 0 and any(self.config.get(o, False) for o in options)

    def _readout_activation(self) -> str:
        if not self.config.get("readout_as_fcn", False):
            return "identity"
        name = str(self.config["readout_fcn_activation"])
        if name not in SAMPLED_FACTOR:
            raise ValueError(f"The readout's activation must be silu or tanh; it is '{name}'.")
        return name

    def _readout(self) -> tuple[list[Tensor], float]:
        """Matrices of the readout, and a constant that it adds."""
        s, n = self.state, self.hidden[-1][0][0]
        ratio = normalisation_ratio(Irrep(0, 1))
        if self._readout_activation() == "identity":
            last = s["reduce_hidden_to_energy.linear.weight"].view(-1, 1)
            (first,), added = self._linear(
                "reduce_input_to_hidden.linear.weight", [(n, len(last))], [0], "use_modal_output_block"
            )
            constant = 0.0 if added is None else float(added @ last) / len(last) ** 0.5
            return [first * ratio, last / unit_variance_factor("identity")], constant
        found = self._network("readout_FCN.fcn.", self._readout_activation())
        return [found[0] * ratio, *found[1:]], 0.0

    def _network(self, prefix: str, activation: str) -> list[Tensor]:
        """Matrices of an e3nn perceptron in our normalisation."""
        n = sum(k.startswith(prefix) for k in self.state)
        factor = SAMPLED_FACTOR[activation] / unit_variance_factor(activation)
        return [self.state[f"{prefix}layer{k}.weight"] * (factor if k else 1.0) for k in range(n)]

    def _layer(self, t: int) -> TheirLayer:
        features, made = self.hidden[t], self.hidden[t + 1]
        channels = {ir: n for n, ir in features}
        gated = [(n, ir) for n, ir in made if ir.l > 0]
        n_out = {ir: n for n, ir in made}
        n_out[Irrep(0, 1)] += sum(n for n, _ in gated)
        last = t == self.n_layers - 1
        coupled = self._reached(features, max(ir.l for _, ir in made), even=last)
        paths = their_paths([ir for _, ir in features], coupled, self.harmonics)
        by_output = [p for o in coupled for p in paths if p.output == o]
        *radial, columns = self._network(f"{t}_convolution.weight_nn.", "silu")
        stored = by_output if self._sorted_by_output() else paths
        split = columns.split([channels[p.features] for p in stored], 1)
        signed = {p: w * self._sign(t, p) for p, w in zip(stored, split, strict=True)}
        mixed = [p for p in by_output if p.output in n_out]
        scalar = Irrep(0, 1)
        rows, bias_out = self._linear(
            f"{t}_self_interaction_2.linear.weight",
            [(channels[p.features], n_out[p.output]) for p in mixed],
            [k for k, p in enumerate(mixed) if p.output == scalar],
            "use_modal_self_inter_outro",
        )
        up, bias_in = self._linear(
            f"{t}_self_interaction_1.linear.weight",
            [(n, n) for n, _ in features],
            [k for k, (_, ir) in enumerate(features) if ir == scalar],
            "use_modal_self_inter_intro",
        )
        ratio = float(self.state["0_convolution.denominator"] / self.state[f"{t}_convolution.denominator"])
        return TheirLayer(
            up={ir: w * ratio for (_, ir), w in zip(features, up, strict=True)},
            radial=radial,
            last_radial=signed,
            mix=dict(zip(mixed, rows, strict=True)),
            skip=self._skip(t, [(n, ir) for n, ir in features if ir in n_out], n_out),
            gated=gated,
            after_gate=t > 0,
            bias_in=_constant(bias_in, channels[scalar]) * ratio if self._biased() else None,
            bias_out=_constant(bias_out, n_out[scalar]) if self._biased() else None,
        )

    def _skip(self, t: int, both: list[tuple[int, Irrep]], n_out: dict[Irrep, int]) -> dict[Irrep, Tensor]:
        name, n_types = f"{t}_self_connection_intro.", len(self.numbers)
        if self._self_connection() == "linear":
            blocks = cut(self.state[name + "linear.weight"], [(1, n, n_out[ir]) for n, ir in both])
            return {ir: w for (_, ir), w in zip(both, blocks, strict=True)}
        shapes = [(n, n_types, n_out[ir]) for n, ir in both]
        blocks = cut(self.state[name + "fc_tensor_product.weight"], shapes)
        return {ir: w.transpose(0, 1)[self.order] for (_, ir), w in zip(both, blocks, strict=True)}

    def _sorted_by_output(self) -> bool:
        """Whether the columns of radial networks are sorted by output, as they are from version 0.11 on."""
        words = str(self.config["version"]).split(".")
        number = (int(words[0]), int(words[1]))
        return number >= (0, 11) and words[3:] != ["dev0"]

    def _sign(self, t: int, path: Path) -> float:
        """Sign of the coupling coefficients that the file was trained with, against ours."""
        l1, l2, l3 = path.features.l, path.harmonics, path.output.l
        if 0 in (l1, l2, l3):
            return 1.0
        name = f"{t}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}"
        if name not in self.state:
            raise ValueError(f"The checkpoint does not hold its coupling coefficients '{name}'.")
        ours, theirs = clebsch_gordan(l1, l2, l3), self.state[name]
        for sign in (1.0, -1.0):
            if torch.allclose(theirs, sign * ours, atol=1e-5):
                return sign
        raise ValueError(f"The coupling coefficients '{name}' are not those of real spherical harmonics.")
