"""Read ANI models from the text and raw files of NeuroChem, as ANI-1x, ANI-1ccx and ANI-2x are published.

A folder holds the constants of the environment vectors (`*.params`), energies of atoms (`sae_linfit.dat`)
and, in `train0`, `train1` …, the networks of each member: `ANN-H.nnf` names the layers and the files of their
weights (float32, [n_out, n_in]) and biases. An `.info` file beside it names all that. The wheel of torchani
1.2 carries them in `resources/`; it is read where it is installed or as the file that it is, never imported.

Smith et al., doi:10.1063/1.5023802 (ANI-1x), doi:10.1038/s41467-019-10827-4 (ANI-1ccx); Devereux et al.,
doi:10.1021/acs.jctc.0c00121 (ANI-2x). Formats read from the files themselves and the code of torchani 2.2.
"""

import bz2
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from zipfile import Path as ZipPath

import numpy as np
import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core import units

from .mace_torch import Weights

PUBLISHED = {"ani-1x": "ani-1x_8x", "ani-1ccx": "ani-1ccx_8x", "ani-2x": "ani-2x_8x"}
"""Name of a published model → its files in torchani's `resources`."""
_ACTIVATIONS = {5: "gaussian", 9: "celu"}
_LINEAR = 6


class NeuroChemError(ValueError):
    """Files that do not hold an ANI model in NeuroChem's format."""


def recognises(file: Any) -> bool:
    """True for an `.info` file of NeuroChem."""
    if not file.named(".info"):
        return False
    words = file.path.read_text(errors="replace").split()
    return len(words) == 4 and words[0].endswith(".params") and words[3].isdigit()


def read_file(*, path: Path, model: str = "", members: Sequence[int] | None = None) -> Weights:
    """Everything that `ANI` needs, from an `.info` file, a folder of a model, or a wheel of torchani.

    Args:
        path: the `.info` file, the folder, or the wheel's file, which is read as it is.
        model: of a wheel: ani-1x, ani-1ccx or ani-2x.
        members: which networks of the ensemble; all if not given.

    Raises FileNotFoundError, and NeuroChemError for files of another layout, activations other than CELU and
    Gaussians, and members that are not there.
    """
    path = Path(path)
    where: Any = path
    if path.suffix == ".whl":
        where = _existing(ZipPath(path) / "torchani" / "resources", model)
    elif not path.exists():
        raise FileNotFoundError(f"There is no '{path}'.")
    return _read(where, members)


def pretrained(
    *, model: Literal["ani-1x", "ani-1ccx", "ani-2x"] = "ani-1x", members: Sequence[int] | None = None
) -> Weights:
    """A published model from the files of an installed torchani, which is not imported.

    Args:
        model: ani-1x and ani-2x are trained on ωB97X/6-31G*, ani-1ccx towards CCSD(T)*/CBS.
        members: which networks of the ensemble; all eight if not given.

    Raises ImportError where the package is not installed or, as from version 2.3 on, holds no weights.
    """
    spec = find_spec("torchani")
    places = [Path(p) / "resources" for p in (spec.submodule_search_locations or [])] if spec else []
    for resources in (p for p in places if (p / f"{PUBLISHED[model]}.info").is_file()):
        return _read(_existing(resources, model), members)
    raise ImportError(
        f"The weights of {model} are read from torchani 1.2 (2.2 for ani-2x), which is not installed: "
        "pip install torchani==1.2, or convert its wheel's file."
    )


def read_torchani(
    state: Mapping[str, Tensor],
    *,
    elements: Sequence[str],
    cutoff: float,
    angular_cutoff: float,
    activation: Literal["celu", "gelu", "gaussian"] = "celu",
) -> Weights:
    """Translate the `state_dict()` of an ANI of torchani 2.3 or later.

    Args:
        state: names and tensors.
        elements: symbols in the model's order (`model.symbols`).
        cutoff: of its radial functions, Å; the cutoffs do not stand in the state.
        angular_cutoff: of its angular functions, Å.
        activation: of its networks.

    Raises ValueError for a model that has other potentials beside its networks, and for shared networks.
    """
    tensors = {k.removeprefix("potentials.nnp."): v.detach().double() for k, v in state.items()}
    foreign = [k for k in tensors if k.startswith("potentials.")]
    if foreign or not any(".atomics." in k for k in tensors):
        raise ValueError(f"This is not an ANI with networks alone; it has {', '.join(foreign) or 'none'}.")
    aev = {k.removeprefix("aev_computer."): v for k, v in tensors.items() if k.startswith("aev_computer.")}
    names = ("EtaR", "radial.eta"), ("ShfR", "radial.shifts"), ("EtaA", "angular.eta"), (
        "ShfA", "angular.shifts"), ("Zeta", "angular.zeta"), ("ShfZ", "angular.sections")  # fmt: skip
    settings: dict[str, Any] = {ours: aev[theirs].flatten().tolist() for ours, theirs in names}
    settings |= {"Rcr": [cutoff], "Rca": [angular_cutoff], "Atyp": list(elements)}
    own = tensors["energy_shifter.self_energies"].tolist()
    read = _Reader(settings, dict(zip(elements, own, strict=True)))
    read.activation = activation
    prefixes = sorted(
        {k.split("atomics.")[0] for k in tensors if ".atomics." in k}, key=lambda p: [len(p), p]
    )
    networks = []
    for prefix in prefixes:
        member = {}
        for e in read.elements:
            name = f"{prefix}atomics.{e}."
            n = sum(k.startswith(f"{name}layers.") and k.endswith("weight") for k in tensors)
            layers = [*(f"{name}layers.{k}" for k in range(n)), f"{name}final_layer"]
            zero = torch.zeros(())
            member[e] = [
                (
                    tensors[f"{x}.weight"].T.numpy(),
                    tensors.get(f"{x}.bias", zero.double().expand(len(tensors[f"{x}.weight"]))).numpy(),
                )
                for x in layers
            ]
        networks.append(member)
    return read.weights(networks)


def _read(where: Any, members: Sequence[int] | None) -> Weights:
    constants, energies, prefix, n = _places(where)
    numbers = range(n) if members is None else members
    if not numbers or any(k not in range(n) for k in numbers):
        raise NeuroChemError(f"{where} has members 0 … {n - 1}; asked for {list(numbers)}.")
    read = _Reader(_settings(constants), _atom_energies(energies))
    networks = [read.member(_beside(prefix, f"{prefix.name}{k}") / "networks") for k in numbers]
    return read.weights(networks)


def _places(where: Any) -> tuple[Any, Any, Any, int]:
    """(constants, atom energies, prefix of the members' folders, number of members)."""
    if where.is_dir():
        info = [f for f in where.iterdir() if f.name.endswith(".info")]
        if len(info) != 1:
            return _without_info(where)
        where = info[0]
    words = where.read_text().split()
    if len(words) != 4 or not words[3].isdigit():
        raise NeuroChemError(f"{where} should name three files and the number of members.")
    constants, energies, prefix = (_beside(where, w) for w in words[:3])
    return constants, energies, prefix, int(words[3])


def _without_info(folder: Any) -> tuple[Any, Any, Any, int]:
    constants = [f for f in folder.iterdir() if f.name.endswith(".params")]
    n = sum(bool(re.fullmatch(r"train\d+", f.name)) for f in folder.iterdir())
    energies = folder / "sae_linfit.dat"
    if len(constants) != 1 or not energies.exists() or not n:
        raise NeuroChemError(
            f"{folder} is no model of NeuroChem: it lacks a *.params file, sae_linfit.dat or train0 …"
        )
    return constants[0], energies, folder / "train", n


def _beside(path: Any, name: str) -> Any:
    return path.parent / name


def _existing(resources: Any, model: str) -> Any:
    """The model's `.info` file."""
    name = PUBLISHED.get(model, model)
    if not (resources / f"{name}.info").exists():
        have = [f.name for f in resources.iterdir() if f.name.endswith(".info")] if resources.exists() else []
        known = [k for k, v in PUBLISHED.items() if f"{v}.info" in have]
        raise FileNotFoundError(f"There is no model '{model}' in {resources}; there are: {', '.join(known)}.")
    return resources / f"{name}.info"


def _settings(path: Any) -> dict[str, Any]:
    """`Name = value` or `Name = [list]` of each line."""
    found: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        name, mark, value = (x.strip() for x in line.partition("="))
        if not mark:
            continue
        words = [w.strip() for w in value.strip("[]").split(",")]
        found[name] = words if name == "Atyp" else [float(w) for w in words]
    needed = {"Rcr", "Rca", "EtaR", "ShfR", "Zeta", "ShfZ", "EtaA", "ShfA", "Atyp"}
    if not needed <= set(found):
        raise NeuroChemError(f"{path} lacks {', '.join(sorted(needed - set(found)))}.")
    several = [k for k in ("Rcr", "Rca", "EtaR", "EtaA", "Zeta") if len(found[k]) != 1]
    if several:
        raise NeuroChemError(
            f"{path} gives several values of {', '.join(several)}; ANI here has one of each."
        )
    return found


def _atom_energies(path: Any) -> dict[str, float]:
    """`H,0=-0.600952980000`, Hartree."""
    out = {}
    for line in path.read_text().splitlines():
        key, mark, value = line.partition("=")
        if mark:
            out[key.split(",")[0].strip()] = float(value)
    return out


class _Reader:
    """Constants of one model."""

    def __init__(self, settings: Mapping[str, Any], energies: Mapping[str, float]) -> None:
        self.settings = settings
        self.theirs: list[str] = settings["Atyp"]
        self.elements = list(periodic_table.sorted_symbols(self.theirs))
        missing = [s for s in self.elements if s not in energies]
        if missing:
            raise NeuroChemError(f"There are no atom energies of {', '.join(missing)}.")
        self.energies = {s: energies[s] * units.hartree for s in self.elements}
        self.activation = ""

    def arguments(self, networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        s = self.settings
        return {
            "elements": self.elements,
            "cutoff": s["Rcr"][0],
            "angular_cutoff": s["Rca"][0],
            "eta_radial": s["EtaR"][0],
            "eta_angular": s["EtaA"][0],
            "zeta": s["Zeta"][0],
            "radial_shifts": s["ShfR"],
            "angular_shifts": s["ShfA"],
            "angles": s["ShfZ"],
            "envelope": "cosine",
            "radial_factor": 0.25,
            "cosine_factor": 0.95,
            "hidden": {e: [len(b) for _, b in networks[0][e][:-1]] for e in self.elements},
            "activation": self.activation,
            "n_members": len(networks),
            "atomic_energies": self.energies,
            "scale": units.hartree,
            "isolated_limit": False,
        }

    def member(self, folder: Any) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        """Symbol → (weights [n_in, n_out], biases) of each layer."""
        return {e: self._network(folder, e) for e in self.elements}

    def _network(self, folder: Any, element: str) -> list[tuple[np.ndarray, np.ndarray]]:
        text = _layers_text((folder / f"ANN-{element}.nnf").read_bytes())
        layers = []
        blocks = re.findall(r"layer\s*\[\s*\n(.*?)\n\s*\]", text, re.DOTALL)
        if not blocks:
            raise NeuroChemError(f"{folder}/ANN-{element}.nnf names no layers.")
        for k, block in enumerate(blocks):
            n_out, n_in = (int(_value(block, name)) for name in ("nodes", "blocksize"))
            code = int(_value(block, "activation"))
            if k == len(blocks) - 1:
                known = code == _LINEAR and n_out == 1
            else:
                known = _ACTIVATIONS.get(code, "") == (self.activation or _ACTIVATIONS.get(code))
                self.activation = _ACTIVATIONS.get(code, "")
            if not known:
                raise NeuroChemError(
                    f"ANN-{element}.nnf has activation {code} in layer {k} of {n_out} nodes."
                )
            parts = re.findall(r"(?:weights|biases)\s*=\s*FILE:\s*([^\s\[]+)\s*\[(\d+)\]", block)
            if [int(n) for _, n in parts] != [n_in * n_out, n_out]:
                raise NeuroChemError(f"ANN-{element}.nnf layer {k} does not hold {n_in}×{n_out} weights.")
            w, b = (np.frombuffer((folder / name).read_bytes(), "<f4") for name, _ in parts)
            layers.append((w.reshape(n_out, n_in).T.astype(np.float64), b.astype(np.float64)))
        return layers

    def weights(self, networks: Sequence[Mapping[str, Any]]) -> Weights:
        order = self._columns()
        tensors = {"atomic_energies.values": torch.tensor(list(self.energies.values()), dtype=torch.float64)}
        for t, element in enumerate(self.elements):
            for k in range(len(networks[0][element])):
                w = np.stack([net[element][k][0] for net in networks])
                b = np.stack([net[element][k][1][None] for net in networks])
                name = f"networks.networks.{t}"
                tensors[f"{name}.weights.{k}"] = torch.from_numpy(w[:, order] if k == 0 else w)
                tensors[f"{name}.biases.{k}"] = torch.from_numpy(b)
        return Weights("ANI", self.arguments(networks), {k: v.contiguous() for k, v in tensors.items()})

    def _columns(self) -> np.ndarray:
        """Their place of each of our functions: elements stand there in another order."""
        s, place, n = self.settings, [self.theirs.index(e) for e in self.elements], len(self.elements)
        n_radial, n_angular = len(s["ShfR"]), len(s["ShfA"]) * len(s["ShfZ"])
        block = np.zeros((n, n), np.int64)
        block[np.triu_indices(n)] = np.arange(n * (n + 1) // 2)
        block = np.maximum(block, block.T)
        radial = [p * n_radial + np.arange(n_radial) for p in place]
        pairs = [block[place[a], place[b]] for a in range(n) for b in range(a, n)]
        return np.concatenate(radial + [n * n_radial + p * n_angular + np.arange(n_angular) for p in pairs])


def _layers_text(content: bytes) -> str:
    """The part of an .nnf file after its first line `SIZE=`, which is compressed."""
    _, mark, packed = content.partition(b"=\n")
    if not mark:
        raise NeuroChemError("An .nnf file begins with a number and '='.")
    try:
        return bz2.decompress(packed).decode("ascii").strip("\x00")
    except (OSError, ValueError) as error:
        raise NeuroChemError(f"An .nnf file is damaged: {error}.") from error


def _value(block: str, name: str) -> str:
    found = re.search(rf"\b{name}\s*=\s*(\d+)\s*;", block)
    if found is None:
        raise NeuroChemError(f"A layer of an .nnf file lacks '{name}'.")
    return found.group(1)
