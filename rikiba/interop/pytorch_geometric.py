"""Read the weights of PyTorch Geometric's DimeNet and DimeNet++ into what our own are built from.

Their radial basis lacks our factor √2 c^(−3/2), their frequencies count in 1/c, and their embedding has a row
for every atomic number. Read from the code of torch_geometric 2.8.1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .mace_torch import Weights
from .torch_files import load_restricted

_SHARED = {
    "hidden_channels": "channels",
    "num_blocks": "n_layers",
    "num_spherical": "n_spherical",
    "num_radial": "n_radial",
    "num_before_skip": "n_before_skip",
    "num_after_skip": "n_after_skip",
    "num_output_layers": "n_dense_output",
}
_BILINEAR = {"num_bilinear": "bilinear"}
_HADAMARD = {
    "int_emb_size": "down_channels",
    "basis_emb_size": "basis_channels",
    "out_emb_channels": "output_channels",
}
_NAMES = {
    "emb.lin_rbf": "first.radial",
    "emb.lin": "first.mix",
    "interaction_blocks": "interactions",
    "output_blocks": "outputs",
    "layers_before_skip": "before",
    "layers_after_skip": "after",
    "lin_rbf1": "radial.0",
    "lin_rbf2": "radial.1",
    "lin_sbf1": "angular",
    "lin_sbf2": "angular_up",
    "lin_rbf": "radial",
    "lin_sbf": "angular",
    "lin_kj": "from_kj",
    "lin_ji": "from_ji",
    "lin_down": "down",
    "lin_up": "up",
    "lin1": "first",
    "lin2": "second",
    "lins": "dense",
    "W": "bilinear",
}
"""Parts of names, whole between dots."""
_READ_RADIAL = ("emb.lin_rbf.weight", "lin_rbf.weight", "lin_rbf1.weight")
"""Endings of the matrices that act on the radial basis."""


def recognises(file: ForeignFile) -> bool:
    """True for a saved `state_dict()` of torch_geometric's `DimeNet` or `DimeNetPlusPlus`."""
    return {"rbf.freq", "emb.emb.weight", "emb.lin_rbf.weight"} <= set(file.state)


def read_file(
    *, path: Path, elements: Sequence[str], cutoff: float = 5.0, envelope_exponent: int = 5
) -> Weights:
    """`read_dimenet` of a `state_dict()` that torch saved; sizes are those of its tensors.

    Args:
        path: the file.
        elements: symbols to keep.
        cutoff: Å.
        envelope_exponent: as the model was made with.
    """
    state = load_restricted(path)
    settings = sizes_of(state) | {"cutoff": cutoff, "envelope_exponent": envelope_exponent}
    return read_dimenet(state, settings, elements)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of torch_geometric's constructor that the shapes of tensors say.

    Raises KeyError for a name that such a model has.
    """
    block = "interaction_blocks.0."

    def counted(prefix: str) -> int:
        return len({name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)})

    n_radial = len(state["rbf.freq"])
    plus = f"{block}lin_down.weight" in state
    angular = state[f"{block}lin_sbf{'1' if plus else ''}.weight"]
    found = {
        "hidden_channels": state["emb.emb.weight"].shape[1],
        "out_channels": state["output_blocks.0.lin.weight"].shape[0],
        "num_blocks": counted("interaction_blocks."),
        "num_spherical": angular.shape[1] // n_radial,
        "num_radial": n_radial,
        "num_before_skip": counted(f"{block}layers_before_skip."),
        "num_after_skip": counted(f"{block}layers_after_skip."),
        "num_output_layers": counted("output_blocks.0.lins."),
    }
    if not plus:
        return found | {"num_bilinear": state[f"{block}W"].shape[1]}
    return found | {
        "int_emb_size": state[f"{block}lin_down.weight"].shape[0],
        "basis_emb_size": angular.shape[0],
        "out_emb_channels": state["output_blocks.0.lin_up.weight"].shape[0],
    }


def read_dimenet(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], elements: Sequence[str]
) -> Weights:
    """Translate the `state_dict()` of torch_geometric's `DimeNet` or `DimeNetPlusPlus`.

    Args:
        state: names and tensors.
        settings: the arguments that the model was made with; those left out have the package's defaults.
        elements: symbols to keep; the model has a vector for every atomic number up to 94.

    Raises ValueError for settings that ours do not have: several outputs, another activation than swish.
    """
    plus = "int_emb_size" in settings
    names = _SHARED | (_HADAMARD if plus else _BILINEAR)
    other = {"cutoff", "envelope_exponent", "out_channels", "act", "max_num_neighbors", "output_initializer"}
    unknown = set(settings) - set(names) - other
    if unknown or settings.get("out_channels", 1) != 1 or settings.get("act", "swish") != "swish":
        raise ValueError(f"DimeNet here has one output and swish; the model was made with {dict(settings)}.")
    cutoff = float(settings.get("cutoff", 5.0))
    kept = periodic_table.sorted_symbols(elements)
    arguments = {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}
    arguments |= {"elements": list(kept), "cutoff": cutoff, "form": "code", "isolated_limit": False}
    arguments |= {"envelope_power": settings.get("envelope_exponent", 5) + 1}
    tensors = {"atomic_energies.values": torch.zeros(len(kept), dtype=torch.float64)}
    for name, value in state.items():
        value = value.detach().to(torch.float64)
        if name == "emb.emb.weight":
            tensors["first.elements"] = value[periodic_table.numbers_of(kept)]
        elif name == "rbf.freq":
            tensors["radial_basis.frequencies"] = value / cutoff
        else:
            factor = cutoff**1.5 / 2.0**0.5 if name.endswith(_READ_RADIAL) else 1.0
            tensors[_renamed(name)] = value * factor
    return Weights("DimeNetPlusPlus" if plus else "DimeNet", arguments, tensors)


def _renamed(name: str) -> str:
    for start in ("emb.lin_rbf", "emb.lin"):
        if name.startswith(start + "."):
            return _NAMES[start] + name.removeprefix(start)
    own = "last" if name.startswith("output_blocks") else "skip"
    parts = (own if part == "lin" else _NAMES.get(part, part) for part in name.split("."))
    return ".".join(parts)
