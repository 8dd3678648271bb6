"""Read the weights of a mace-torch model into what `potentials.mace.MACE` is built from.

The two differ in notation only: order of couplings, one matrix per degree instead of flat lists, independent
symmetric couplings instead of all coupling trees (a linear change of basis), and the constant that normalises
the activation (sampled there, integrated here). Read from the code of mace-torch 0.3.16 and e3nn 0.4.4.
"""

from collections.abc import Mapping
from itertools import permutations
from math import pi
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.nn.coupling import symmetric_couplings
from rikiba.nn.equivariant import natural_paths
from rikiba.nn.mlp import unit_variance_factor

from .foreign_file import ForeignFile
from .inert_pickle import Record
from .torch_files import load_restricted

_SAMPLED_FACTOR = {"silu": 1.6791767923989418, "tanh": 1.5937334472592695}
"""e3nn's normalize2mom constants: one million normal deviates, seed 0."""


_MODELS = ("mace.modules.models.MACE", "mace.modules.models.ScaleShiftMACE")


class Weights(NamedTuple):
    """Everything needed to build a potential from another project's model."""

    class_name: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    """For `load_state_dict(tensors, strict=True)`; float64."""


def recognises(file: ForeignFile) -> bool:
    """True for a model of mace-torch, saved whole or as its `state_dict()`."""
    if file.module is not None:
        return file.module.name in _MODELS
    return {"atomic_numbers", "num_interactions", "node_embedding.linear.weight"} <= set(file.state)


def read_file(
    *,
    path: Path,
    avg_num_neighbors: float | None = None,
    activation: str = "silu",
    envelope_after_network: bool = False,
    first_residual: bool | None = None,
) -> Weights:
    """`read_mace_torch` of a model that torch saved, whole or as its `state_dict()`.

    A whole model (`.model`) says all that is needed; it is read without importing or running anything.

    Args:
        path: the file.
        avg_num_neighbors: of a `state_dict()`: the model's interactions[0].avg_num_neighbors.
        activation: of a `state_dict()`: silu or tanh, in the last readout.
        envelope_after_network: of a `state_dict()`: true for a model with apply_cutoff = False.
        first_residual: of a `state_dict()`: needed with max_ell = 0 only.
    """
    whole = ForeignFile(path).module
    if whole is not None:
        return read_mace_torch(whole.state_dict(), **settings_of(whole))
    if avg_num_neighbors is None:
        raise ValueError(
            "A state_dict() of mace-torch does not say what messages are divided by: give avg_num_neighbors, "
            "the model's interactions[0].avg_num_neighbors. A model saved whole says it."
        )
    return read_mace_torch(
        load_restricted(path),
        avg_num_neighbors=avg_num_neighbors,
        activation=activation,
        envelope_after_network=envelope_after_network,
        first_residual=first_residual,
    )


def settings_of(model: Record) -> dict[str, Any]:
    """What `read_mace_torch` needs beside the tensors, from the attributes of a whole model.

    Raises ValueError for a model of another class, and for attributes that MACE here does not have.
    """
    if model.name not in _MODELS:
        raise ValueError(f"'{model.name}' is not one of {', '.join(_MODELS)}.")
    layers = [model.child(f"interactions.{t}") for t in range(99)]
    neighbors = {float(x.state["avg_num_neighbors"]) for x in layers if x is not None}
    if len(neighbors) != 1:
        raise ValueError(f"Layers divide by different numbers of neighbours: {sorted(neighbors)}.")
    if model.state.get("use_so3") or model.state.get("edge_irreps") is not None:
        raise ValueError("This model has edge irreps or use_so3, which MACE here does not.")
    radial = model.child("radial_embedding")
    applied = model.state.get(
        "apply_cutoff", True if radial is None else radial.state.get("apply_cutoff", True)
    )
    found = {"avg_num_neighbors": neighbors.pop(), "envelope_after_network": not applied}
    first = layers[0]
    residual = first is not None and "Residual" in first.name
    return found | {"activation": _readout_activation(model), "first_residual": residual}


def _readout_activation(model: Record) -> str:
    """By the constant that normalises it: functions are not read."""
    readouts = [model.child(f"readouts.{t}.non_linearity.acts.0") for t in range(99)]
    constants = [float(x.state["cst"]) for x in readouts if x is not None]
    if not constants:
        return "silu"
    near = {name: abs(constants[-1] - factor) for name, factor in _SAMPLED_FACTOR.items()}
    best = min(near, key=lambda name: near[name])
    if near[best] > 0.01:
        raise ValueError(
            f"The readout's activation has the constant {constants[-1]:.4f}; silu and tanh are known."
        )
    return best


def read_mace_torch(
    state: Mapping[str, Tensor],
    *,
    avg_num_neighbors: float,
    activation: str = "silu",
    envelope_after_network: bool = False,
    first_residual: bool | None = None,
) -> Weights:
    """Translate the `state_dict()` of a MACE or ScaleShiftMACE of mace-torch.

    Everything but these settings follows from names and shapes; these stand in the model's attributes
    `interactions[0].avg_num_neighbors`, `readouts[-1].non_linearity` and (negated) `apply_cutoff`.

    Args:
        state: names and tensors.
        avg_num_neighbors: what messages are divided by.
        activation: silu or tanh, in the last readout.
        envelope_after_network: True for a model with apply_cutoff = False.
        first_residual: whether the first interaction is a residual one; needed with max_ell = 0 only, where
            shapes do not tell.

    Raises ValueError for what `MACE` does not have: several heads, another radial basis, features of
    unnatural parity, further embeddings.
    """
    model = _Reader({k: v.detach().to(torch.float64) for k, v in state.items()}, activation, first_residual)
    arguments = model.arguments() | {
        "avg_num_neighbors": float(avg_num_neighbors),
        "activation": activation,
        "envelope_after_network": envelope_after_network,
    }
    return Weights("MACE", arguments, model.tensors())


class _Reader:
    """One state dict with the sizes found in it."""

    def __init__(self, state: dict[str, Tensor], activation: str, first_residual: bool | None) -> None:
        self.state = state
        if activation not in _SAMPLED_FACTOR:
            raise ValueError(f"The readout's activation is silu or tanh; given '{activation}'.")
        self.activation = activation
        self._refuse()
        numbers = state["atomic_numbers"].long()
        self.order = torch.argsort(numbers)
        self.elements = [periodic_table.symbol(int(z)) for z in numbers[self.order]]
        self.n_types = len(self.elements)
        self.channels = state["node_embedding.linear.weight"].numel() // self.n_types
        self.n_layers = int(state["num_interactions"])
        c = self.channels
        self.l_out = [state[f"products.{t}.linear.weight"].numel() // c**2 - 1 for t in range(self.n_layers)]
        self.l_in = [0, *self.l_out[:-1]]
        n_lm = state[self._contraction(0, 0, "U_matrix_1")].shape[0]
        self.l_max = round(n_lm**0.5) - 1
        self.orders = [
            max(n for n in range(1, 9) if self._contraction(t, 0, f"U_matrix_{n}") in state)
            for t in range(self.n_layers)
        ]
        # without a self-connection the layer acts on all degrees of the message instead of on h
        by_shape = state["interactions.0.skip_tp.weight"].numel() == c * c * self.n_types
        if self.l_max == 0 and first_residual is None:
            raise ValueError("With max_ell = 0 say first_residual = True or False: shapes do not tell.")
        self.first_residual = by_shape if first_residual is None else first_residual
        self.n_radial = 1 + max(
            n for n in range(9) if f"interactions.0.conv_tp_weights.layer{n}.weight" in state
        )
        self.n_readouts = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("readouts."))

    def _refuse(self) -> None:
        state = self.state
        for name in ("joint_embedding", "embedding_readout"):
            if any(k.startswith(name) for k in state):
                raise ValueError(f"This model has '{name}', which MACE here does not.")
        if state["atomic_energies_fn.atomic_energies"].numel() != state["atomic_numbers"].numel():
            raise ValueError(
                "This model has several heads; select one with mace-torch's remove_pt_head first."
            )
        frequencies = state.get("radial_embedding.bessel_fn.bessel_weights")
        if frequencies is None:
            raise ValueError("This model's radial basis is not Bessel functions.")
        expected = torch.arange(1, len(frequencies) + 1) * (pi / float(state["r_max"]))
        constants = {
            "radial_embedding.bessel_fn.bessel_weights": expected,
            "radial_embedding.distance_transform.q": torch.tensor(0.9183),
            "radial_embedding.distance_transform.p": torch.tensor(4.5791),
            "radial_embedding.distance_transform.a": torch.tensor(1.0805),
            "pair_repulsion_fn.a_exp": torch.tensor(0.3),
            "pair_repulsion_fn.a_prefactor": torch.tensor(0.4543),
        }
        for name, value in constants.items():
            if name in state and not torch.allclose(state[name], value.to(torch.float64), rtol=1e-6):
                raise ValueError(f"'{name}' is not at its standard value: {state[name].tolist()}.")
        if "radial_embedding.distance_transform.alpha" in state:
            raise ValueError("This model's distance transform is 'Soft'; only 'Agnesi' is known here.")

    @staticmethod
    def _contraction(layer: int, degree: int, name: str) -> str:
        return f"products.{layer}.symmetric_contractions.contractions.{degree}.{name}"

    def arguments(self) -> dict[str, Any]:
        s, last = self.state, self.n_layers - 1
        radial = [f"interactions.0.conv_tp_weights.layer{n}.weight" for n in range(self.n_radial)]
        nonlinear = f"readouts.{self.n_readouts - 1}.linear_1.weight"
        energies = s["atomic_energies_fn.atomic_energies"].flatten()[self.order]
        return {
            "elements": list(self.elements),
            "cutoff": float(s["r_max"]),
            "channels": self.channels,
            "max_L": self.l_out[0],
            "l_max": self.l_max,
            "correlation": self.orders,
            "n_layers": self.n_layers,
            "n_bessel": s["radial_embedding.bessel_fn.bessel_weights"].numel(),
            "envelope_power": int(s["radial_embedding.cutoff_fn.p"]),
            "radial_widths": [s[name].shape[1] for name in radial[:-1]],
            "readout_width": s[nonlinear].numel() // self.channels if nonlinear in s else 16,
            "atomic_energies": dict(zip(self.elements, energies.tolist(), strict=True)),
            "scale": float(s.get("scale_shift.scale", torch.tensor(1.0))),
            "shift": float(s.get("scale_shift.shift", torch.tensor(0.0))),
            "zbl": any(k.startswith("pair_repulsion_fn.") for k in s),
            "distance_transform": "agnesi" if "radial_embedding.distance_transform.q" in s else "none",
            "first_residual": self.first_residual,
            "density_normalised": any("density_fn" in k for k in s),
            "last_readout_only": self.n_readouts < self.n_layers,
            "shared_product": s[self._contraction(last, 0, "weights_max")].shape[0] < self.n_types,
        }

    def tensors(self) -> dict[str, Tensor]:
        s, c = self.state, self.channels
        out = {
            "embedding": s["node_embedding.linear.weight"].view(self.n_types, c)[self.order],
            "atomic_energies.values": s["atomic_energies_fn.atomic_energies"].flatten()[self.order],
            "scale": s.get("scale_shift.scale", torch.ones(())).reshape(()),
            "shift": s.get("scale_shift.shift", torch.zeros(())).reshape(()),
        }
        for t in range(self.n_layers):
            out |= {f"layers.{t}.{k}": v for k, v in self._layer(t).items()}
        for t in range(self.n_readouts):
            out |= {f"readouts.{t}.{k}": v for k, v in self._readout(t).items()}
        return {k: v.to(torch.float64).contiguous() for k, v in out.items()}

    def _layer(self, t: int) -> dict[str, Tensor]:
        s, c, l_in, l_out = self.state, self.channels, self.l_in[t], self.l_out[t]
        name = f"interactions.{t}."
        paths = natural_paths(self.l_max, l_in, self.l_max)
        theirs = sorted(range(len(paths)), key=lambda k: (paths[k][2], paths[k][1], paths[k][0]))
        out = {
            "up.weight": s[name + "linear_up.weight"].view(l_in + 1, c, c),
            "skip.weight": self._per_type(s[name + "skip_tp.weight"]),
            "linear.weight": s[f"products.{t}.linear.weight"].view(l_out + 1, c, c),
        }
        factor = _SAMPLED_FACTOR["silu"] / unit_variance_factor("silu")
        for n in range(self.n_radial):
            w = s[f"{name}conv_tp_weights.layer{n}.weight"]
            if n == self.n_radial - 1:
                place = torch.empty(len(paths), dtype=torch.int64)
                place[torch.tensor(theirs)] = torch.arange(len(paths))
                w = w.unflatten(1, (len(paths), c))[:, place].flatten(1)
            out[f"radial.weights.{n}"] = w * (factor if n else 1.0)
        mix = s[name + "linear.weight"].view(len(paths), c, c)
        for l3 in range(self.l_max + 1):
            rows = [k for k, p in enumerate(theirs) if paths[p][2] == l3]
            out[f"convolution.mix.{l3}"] = mix[rows].flatten(0, 1)
        if name + "density_fn.layer0.weight" in s:
            out["density.weights.0"] = s[name + "density_fn.layer0.weight"]
        for degree in range(l_out + 1):
            out[f"product.weights.{degree}"] = self._product(t, degree)
        return out

    def _per_type(self, flat: Tensor) -> Float[Tensor, "degrees types c_in c_out"]:
        w = flat.view(-1, self.channels, self.n_types, self.channels)
        return w.permute(0, 2, 1, 3)[:, self.order]

    def _product(self, t: int, degree: int) -> Float[Tensor, "types couplings channels"]:
        found = []
        for order in range(1, self.orders[t] + 1):
            suffix = "weights_max" if order == self.orders[t] else f"weights.{self.orders[t] - 1 - order}"
            weights = self.state[self._contraction(t, degree, suffix)]
            tensor = self.state[self._contraction(t, degree, f"U_matrix_{order}")]
            basis = change_of_basis(tensor, self.l_max, order, degree)
            if basis.shape[0]:
                found.append(torch.einsum("nk,zkc->znc", basis, weights))
        joined = torch.cat(found, 1)
        return joined[self.order] if joined.shape[0] == self.n_types else joined

    def _readout(self, t: int) -> dict[str, Tensor]:
        s, c = self.state, self.channels
        if f"readouts.{t}.linear.weight" in s:
            return {"weights.0": s[f"readouts.{t}.linear.weight"].view(c, 1)}
        factor = _SAMPLED_FACTOR[self.activation] / unit_variance_factor(self.activation)
        return {
            "weights.0": s[f"readouts.{t}.linear_1.weight"].view(c, -1),
            "weights.1": s[f"readouts.{t}.linear_2.weight"].view(-1, 1) * factor,
        }


def change_of_basis(
    tensor: Float[Tensor, "*components_lm theirs"], l_max: int, order: int, degree: int
) -> Float[Tensor, "ours theirs"]:
    """T with sym(U_theirs) = U_ours T; only the symmetric part of a coupling acts on equal factors.

    Raises ValueError where their couplings reach outside the space of ours.
    """
    ours = symmetric_couplings(l_max, order, degree)
    n_lm = (l_max + 1) ** 2
    tensor = tensor.to(torch.float64).reshape(2 * degree + 1, *(n_lm,) * order, tensor.shape[-1])
    axes = [(0, *(1 + a for a in p), order + 1) for p in permutations(range(order))]
    symmetric = sum(tensor.permute(a) for a in axes) / len(axes)
    assert isinstance(symmetric, Tensor)
    entries = symmetric[(slice(None), *ours.monomials.T)]
    found = torch.einsum("Mkn,Mkt->nt", ours.coefficients, entries) / (2 * degree + 1)
    error = (symmetric.square().sum() - (2 * degree + 1) * found.square().sum()).abs()
    if error > 1e-5 * max(1.0, float(symmetric.square().sum())):
        raise ValueError(f"Couplings of order {order} to degree {degree} are not those of natural parity.")
    return found
