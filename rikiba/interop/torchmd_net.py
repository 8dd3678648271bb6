"""Read equivariant transformers of TorchMD-Net into what `EquivariantTransformer` is built from.

Names and shapes from TorchMD-Net 3.1.0. Its checkpoints know every atomic number below a limit and not which
were trained: say the elements.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .mace_torch import Weights

_NEEDED = {
    "model": ("equivariant-transformer",),
    "rbf_type": ("expnorm",),
    "activation": ("silu",),
    "attn_activation": ("silu",),
    "neighbor_embedding": (True,),
    "distance_influence": ("both",),
    "cutoff_lower": (0, 0.0),
    "output_model": ("Scalar",),
    "prior_model": (None, (), []),
}


def recognises(file: ForeignFile) -> bool:
    """True for a checkpoint with hyperparameters of an equivariant transformer."""
    saved = file.saved
    return isinstance(saved, Mapping) and (
        isinstance(saved.get("hyper_parameters"), Mapping)
        and saved["hyper_parameters"].get("model") == "equivariant-transformer"
    )


def read_file(*, path: Path, elements: Sequence[str]) -> Weights:
    """`read_torchmd_net` of a checkpoint (.ckpt).

    Args:
        path: the file.
        elements: chemical symbols that it was trained for.
    """
    saved = ForeignFile(path).saved
    state = {k.removeprefix("model."): v for k, v in saved["state_dict"].items()}
    return read_torchmd_net(state, saved["hyper_parameters"], elements)


def read_torchmd_net(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], elements: Sequence[str]
) -> Weights:
    """Translate weights and hyperparameters.

    Args:
        state: names and tensors of the model.
        settings: its hyperparameters.
        elements: chemical symbols that it was trained for.

    Raises ValueError for settings that `EquivariantTransformer` does not have.
    """
    for name, allowed in _NEEDED.items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(f"{name} = {settings[name]!r} is not known here; {allowed[0]!r} is.")
    order = list(periodic_table.sorted_symbols(elements))
    numbers = torch.tensor([periodic_table.number(s) for s in order])
    mean, std = (float(state[k]) if k in state else d for k, d in (("mean", 0.0), ("std", 1.0)))
    if mean != 0.0:
        raise ValueError(f"The model adds {mean} to every energy; that is not known here.")
    t = {k: v.detach().to(torch.float64) for k, v in state.items()}
    radial = "representation_model.distance_expansion."
    cutoff = float(settings["cutoff_upper"])
    trained = {"radial.centres": t[f"{radial}means"], "radial.beta": t[f"{radial}betas"]}
    arguments = {
        "elements": order,
        "cutoff": cutoff,
        "channels": int(settings["embedding_dimension"]),
        "n_layers": int(settings["num_layers"]),
        "n_heads": int(settings["num_heads"]),
        "n_radial": len(trained["radial.beta"]),
        "trainable_radial": True,  # theirs start at exp(−cutoff), so they are kept in any case
        "envelope": "cosine",
        "envelope_on": "values" if settings.get("vector_cutoff", False) else "attention",
        "norm_epsilon": 1e-30,
        "atomic_energies": None,
        "scale": std,
        "isolated_limit": False,
    }
    tensors = trained | _embedding(t, numbers) | _layers(t, int(settings["num_layers"])) | _readout(t)
    tensors["atomic_energies.values"] = torch.zeros(len(order), dtype=torch.float64)
    if not math.isfinite(cutoff):
        raise ValueError(f"cutoff_upper must be finite; given {cutoff}.")
    return Weights("EquivariantTransformer", arguments, tensors)


def _embedding(t: Mapping[str, Tensor], numbers: Tensor) -> dict[str, Tensor]:
    near = "representation_model.neighbor_embedding."
    out = {
        "embedding": t["representation_model.embedding.weight"][numbers],
        "neighbour_embedding": t[f"{near}embedding.weight"][numbers],
        "norm.weight": t["representation_model.out_norm.weight"],
        "norm.bias": t["representation_model.out_norm.bias"],
    }
    for ours, theirs in (("neighbour_filter", "distance_proj"), ("combine", "combine")):
        out |= {f"{ours}.{k}": t[f"{near}{theirs}.{k}"] for k in ("weight", "bias")}
    return out


def _layers(t: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    names = {
        "norm": "layernorm",
        "query": "q_proj",
        "key": "k_proj",
        "value": "v_proj",
        "output": "o_proj",
        "key_filter": "dk_proj",
        "value_filter": "dv_proj",
    }
    out: dict[str, Tensor] = {}
    for layer in range(n):
        theirs = f"representation_model.attention_layers.{layer}."
        for ours, name in names.items():
            out |= {f"layers.{layer}.{ours}.{k}": t[f"{theirs}{name}.{k}"] for k in ("weight", "bias")}
        if layer:  # there are no vectors to mix in the first
            out[f"layers.{layer}.mix.weight"] = t[f"{theirs}vec_proj.weight"]
    return out


def _readout(t: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for k in range(2):
        theirs = f"output_model.output_network.{k}."
        out[f"readout.{k}.first.weight"] = t[f"{theirs}vec1_proj.weight"]
        for place in (0, 1):
            for part in ("weight", "bias"):
                value = t[f"{theirs}update_net.layers.{2 * place}.{part}"]
                # of what the last block makes, only the scalar is read
                out[f"readout.{k}.update.layers.{place}.{part}"] = value[:1] if k and place else value
    out["readout.0.second.weight"] = t["output_model.output_network.0.vec2_proj.weight"]
    return out
