"""Read neural network potentials of n2p2 and RuNNer: `input.nn`, `scaling.data`, `weights.*.data`.

Symmetry functions of types 2 (G²), 3 (narrow, G⁴) and 9 (wide, G⁵), all cutoff types, scaling modes,
activations and normalised data; of the fourth generation also `weightse.*.data` (electronegativities) and
`hardness.*.data`. Files are in atomic units; lengths become Å, energies eV. Networks of normalised data give
(E − N·mean_energy)·conv_energy and χ·conv_energy; charges are in e, and hardness, Gaussian widths, screening
and the parameters of symmetry functions stand in the data's own units, normalised or not. Weights follow the
functions of each element as the program sorts them: by type, cutoff function, cutoff, η, shift, ζ, λ and
neighbours' elements, whatever their order in the file. The charge is the last input of a network that reads
it.

Singraber, Behler & Dellago, doi:10.1021/acs.jctc.8b00770. Formats from documentation and code of n2p2 2.2.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core import units
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.hdnnp_4g import Hdnnp4G

from .mace_torch import Weights

_ENVELOPES = {
    0: "none", 1: "cosine", 2: "tanh", 3: "tanh_unit", 4: "mollifier",
    5: "smoothstep1", 6: "smoothstep2", 7: "smoothstep3", 8: "smoothstep4",
}  # fmt: skip
_WITH_START = (1, 4, 5, 6, 7, 8)
_ACTIVATIONS = {
    "t": "tanh", "s": "sigmoid", "p": "softplus", "l": "identity", "g": "gaussian_half", "c": "cosine",
    "r": "reversed_sigmoid", "e": "exponential", "h": "harmonic",
}  # fmt: skip


class N2p2Error(ValueError):
    """Files that do not hold a potential of n2p2 that is known here."""


class Function(NamedTuple):
    """One symmetry function in the units of the file; fields stand in the order of the program's sorting."""

    centre: int
    """Atomic number."""
    kind: int
    cutoff: float
    eta: float
    shift: float
    zeta: float
    sign: float
    neighbours: tuple[int, ...]
    """Atomic numbers, sorted."""


class Settings:
    """The keywords of an `input.nn`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[list[str]]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split("#")[0].split()
            if words:
                self.lines.setdefault(words[0], []).append(words[1:])
        symbols = [w for words in self.lines.get("elements", []) for w in words]
        if not symbols:
            raise N2p2Error(f"{path} names no elements.")
        self.elements = list(periodic_table.sorted_symbols(symbols))

    def has(self, key: str) -> bool:
        return key in self.lines

    def words(self, key: str) -> list[str]:
        """The last line of a keyword; raises N2p2Error where there is none."""
        if key not in self.lines:
            raise N2p2Error(f"{self.path} lacks '{key}'.")
        return self.lines[key][-1]

    def number(self, key: str, default: float) -> float:
        return float(self.lines[key][-1][0]) if key in self.lines else default

    def generation(self) -> str:
        """What the file says of it, by the keyword of n2p2 or one of RuNNer's; the second if nothing."""
        keys = [key for key in ("nnp_type", "nnp_gen", "nnp_generation") if key in self.lines]
        return self.words(keys[0])[0] if keys else "2G-HDNNP"

    def functions(self) -> list[Function]:
        """All symmetry functions, sorted as the program sorts them."""
        lines = [*self.lines.get("symfunction_short", []), *self.lines.get("symfunction", [])]
        found = [self._function(words) for words in lines]
        if not found:
            raise N2p2Error(f"{self.path} has no symmetry functions (symfunction_short, symfunction).")
        return sorted(found)

    def _function(self, words: Sequence[str]) -> Function:
        kind, z = int(words[1]), periodic_table.number
        if kind == 2:
            eta, shift, cutoff = (float(w) for w in words[3:6])
            return Function(z(words[0]), kind, cutoff, eta, shift, 0.0, 0.0, (z(words[2]),))
        if kind not in (3, 9):
            raise N2p2Error(f"Symmetry functions of type {kind} are not known here; types 2, 3 and 9 are.")
        eta, sign, zeta, cutoff = (float(w) for w in words[4:8])
        shift = float(words[8]) if len(words) > 8 else 0.0
        neighbours = tuple(sorted(z(w) for w in words[2:4]))
        return Function(z(words[0]), kind, cutoff, eta, shift, zeta, sign, neighbours)

    def hidden(self, symbol: str, suffix: str = "short") -> list[int]:
        """Widths of an element's hidden layers."""
        n = int(
            self._of_element("hidden_layers", symbol, suffix, self.words(f"global_hidden_layers_{suffix}"))[0]
        )
        nodes = [int(w) for w in self.words(f"global_nodes_{suffix}")][:n]
        for words in self.lines.get(f"element_nodes_{suffix}", []):
            if words[0] == symbol and int(words[1]) <= n:
                nodes[int(words[1]) - 1] = int(words[2])
        return nodes

    def activations(self, symbol: str, suffix: str = "short") -> list[str]:
        """Functions of an element's hidden layers; raises N2p2Error unless the output is linear."""
        letters = list(self.words(f"global_activation_{suffix}"))
        for words in self.lines.get(f"element_activation_{suffix}", []):
            if words[0] == symbol:
                letters[int(words[1]) - 1] = words[2]
        n = len(self.hidden(symbol, suffix))
        if len(letters) <= n or letters[n] != "l" or any(x not in _ACTIVATIONS for x in letters):
            raise N2p2Error(f"Activations {' '.join(letters)} are not known here; the output must be linear.")
        return [_ACTIVATIONS[x] for x in letters[:n]]

    def _of_element(self, key: str, symbol: str, suffix: str, default: list[str]) -> list[str]:
        own = [w[1:] for w in self.lines.get(f"element_{key}_{suffix}", []) if w[0] == symbol]
        return own[-1] if own else default


def recognises(file: Any) -> bool:
    """True for an `input.nn`."""
    return bool(file.named("input.nn"))


def read_file(
    *, path: Path, length_unit_A: float = units.bohr, energy_unit_eV: float = units.hartree
) -> Weights:
    """Everything that `BehlerParrinello` or `Hdnnp4G` needs, from an `input.nn` and the files beside it.

    Args:
        path: the `input.nn`, or its folder.
        length_unit_A: the files' unit of length in Å.
        energy_unit_eV: the files' unit of energy in eV.

    Raises FileNotFoundError, and N2p2Error for other symmetry functions than types 2, 3 and 9, potentials of
    the third generation, and files that do not fit each other.
    """
    path = Path(path)
    path = path / "input.nn" if path.is_dir() else path
    settings = Settings(path)
    generation = settings.generation()
    reader = _Reader(settings, length_unit_A, energy_unit_eV)
    if generation in ("4G-HDNNP", "4G", "4"):
        return reader.charged_weights()
    if generation not in ("2G-HDNNP", "2G", "1", "2", "short") or settings.has("use_electrostatics"):
        raise N2p2Error(
            f"This is a potential of type {generation}; those of the second and fourth generation are known."
        )
    return reader.weights()


class _Reader:
    def __init__(self, settings: Settings, length: float, energy: float) -> None:
        self.settings, self.length, self.energy = settings, length, energy
        self.elements, self.functions = settings.elements, settings.functions()
        self.sets = {k: self._distinct(k) for k in (2, 3, 9)}
        # the descriptor puts wide functions with other than whole exponents behind the rest
        self.sets[9].sort(key=lambda f: not float(f[2]).is_integer())

    def _distinct(self, kind: int) -> list[tuple[float, ...]]:
        return list(dict.fromkeys(self._ours(f) for f in self.functions if f.kind == kind))

    def _ours(self, f: Function) -> tuple[float, ...]:
        eta, shift, cutoff = f.eta / self.length**2, f.shift * self.length, f.cutoff * self.length
        return (eta, shift, cutoff) if f.kind == 2 else (eta, shift, f.zeta, f.sign, cutoff)

    def columns(self, symbol: str) -> list[int]:
        """Our place of each function of an element, in their order."""
        n, place = len(self.elements), {periodic_table.number(s): k for k, s in enumerate(self.elements)}
        wide = self.sets[9]
        whole = [f for f in wide if float(f[2]).is_integer()]
        parts = [(9, whole), (9, wide[len(whole) :]), (3, self.sets[3])]
        out = []
        for f in (f for f in self.functions if f.centre == periodic_table.number(symbol)):
            at = [place[z] for z in f.neighbours]
            if f.kind == 2:
                out.append(at[0] * len(self.sets[2]) + self.sets[2].index(self._ours(f)))
                continue
            pair = sum(n - k for k in range(at[0])) + at[1] - at[0]
            first = n * len(self.sets[2])
            for kind, functions in parts:
                if f.kind == kind and self._ours(f) in functions:
                    out.append(first + pair * len(functions) + functions.index(self._ours(f)))
                    break
                first += n * (n + 1) // 2 * len(functions)
        return out

    def weights(self) -> Weights:
        """Of the second generation."""
        columns, energies, tensors = self._networks(())
        arguments = self._arguments(columns, energies)
        model = BehlerParrinello(**arguments)
        tensors |= {k: v for k, v in model.state_dict().items() if k.startswith("features.")}
        return Weights("BehlerParrinello", arguments, tensors)

    def charged_weights(self) -> Weights:
        """Of the fourth generation."""
        s = self.settings
        if s.number("conv_charge", 1.0) != 1.0:
            raise N2p2Error(
                f"{s.path} normalises charges too (conv_charge {s.number('conv_charge', 1.0):g}), as no "
                f"released version does; potentials with charges in e are known."
            )
        screening = s.words("screen_electrostatics")
        if len(screening) > 2 and screening[2] != "c":
            raise N2p2Error(f"screen_electrostatics has the form {screening[2]}; the cosine (c) is known.")
        columns, energies, tensors = self._networks(("",))
        for k, e in enumerate(self.elements):
            sizes = [len(columns[e]), *s.hidden(e, "electrostatic"), 1]
            volt = self.energy / s.number("conv_energy", 1.0)
            tensors |= self._network(k, e, sizes, "weightse", "charge_networks", volt)
        widths = {w[0]: float(w[1]) * self.length for w in s.lines.get("fixed_gausswidth", [])}
        missing = [e for e in self.elements if e not in widths]
        if missing:
            raise N2p2Error(f"{s.path} has no fixed_gausswidth for {', '.join(missing)}.")
        hardness = {e: self._hardness(e) for e in self.elements}
        arguments = self._arguments(columns, energies) | {
            "charge_hidden": {e: s.hidden(e, "electrostatic") for e in self.elements},
            "charge_activation": s.activations(self.elements[0], "electrostatic"),
            "widths": widths,
            "hardness": hardness,
            "screening": [float(w) * self.length for w in screening[:2]],
            "screening_form": "cosine",
            "ewald_tolerance": s.number("ewald_prec", 1e-6),
        }
        model = Hdnnp4G(**arguments)
        tensors["log_hardness"] = torch.tensor(
            [hardness[e] for e in self.elements], dtype=torch.float64
        ).log()
        kept = ("features.", "widths")
        tensors |= {k: v for k, v in model.state_dict().items() if k.startswith(kept)}
        return Weights("Hdnnp4G", arguments, tensors)

    def _hardness(self, symbol: str) -> float:
        path = self.settings.path.with_name(f"hardness.{periodic_table.number(symbol):03d}.data")
        value = float(path.read_text().split()[0]) * self.energy
        if not value > 0:
            raise N2p2Error(f"{path} holds a hardness of {value:g} V/e; it must be positive.")
        return value

    def _networks(
        self, further: Sequence[str]
    ) -> tuple[dict[str, list[int]], dict[str, float], dict[str, Tensor]]:
        """Columns and E0 by element, and the tensors of the energies' networks with `further` inputs."""
        s = self.settings
        columns = {e: self.columns(e) for e in self.elements}
        n = len(self.elements)
        pairs = n * (n + 1) // 2
        m = n * len(self.sets[2]) + pairs * (len(self.sets[3]) + len(self.sets[9]))
        mean = torch.zeros((n, m), dtype=torch.float64)
        scale = torch.ones_like(mean)
        scaling = self._scaling() if self._scales() else {}
        tensors: dict[str, Tensor] = {}
        for k, e in enumerate(self.elements):
            if scaling:
                mean[k, columns[e]], scale[k, columns[e]] = self._affine(scaling[k], len(columns[e]), e)
            tensors[f"columns_{k}"] = torch.tensor(columns[e])
            sizes = [len(columns[e]) + len(further), *s.hidden(e), 1]
            tensors |= self._network(k, e, sizes)
        energies = {e: 0.0 for e in self.elements}
        energies |= {w[0]: float(w[1]) * self.energy for w in s.lines.get("atom_energy", [])}
        tensors |= {
            "feature_mean": mean,
            "feature_scale": scale,
            "atomic_energies.values": torch.tensor([energies[e] for e in self.elements], dtype=torch.float64),
        }
        return columns, energies, tensors

    def _arguments(self, columns: dict[str, list[int]], energies: dict[str, float]) -> dict[str, Any]:
        s = self.settings
        kind, *alpha = s.words("cutoff_type")
        if int(kind) not in _ENVELOPES:
            raise N2p2Error(f"There is no cutoff_type {kind}.")
        activations = {e: s.activations(e) for e in self.elements}
        if len({tuple(a) for a in activations.values()}) > 1:
            raise N2p2Error(
                f"All elements' networks must have the same activations; these have {activations}."
            )
        angular = [f.cutoff for f in self.functions if f.kind != 2]
        longest = max(f.cutoff for f in self.functions) * self.length
        return {
            "elements": self.elements,
            "cutoff": longest,
            "angular_cutoff": max(angular) * self.length if angular else None,
            "radial": self.sets[2],
            "wide": self.sets[9],
            "narrow": self.sets[3],
            "hidden": {e: s.hidden(e) for e in self.elements},
            "activation": activations[self.elements[0]],
            "envelope": _ENVELOPES[int(kind)],
            "envelope_start": float(alpha[0]) if alpha and int(kind) in _WITH_START else 0.0,
            "columns": columns,
            "atomic_energies": energies,
            "scale": self.energy / s.number("conv_energy", 1.0),
            "shift": self.energy * s.number("mean_energy", 0.0),
            "isolated_limit": False,
        }

    def _scales(self) -> bool:
        names = ("scale_symmetry_functions", "center_symmetry_functions", "scale_symmetry_functions_sigma")
        return any(self.settings.has(n) for n in names)

    def _scaling(self) -> dict[int, dict[int, list[float]]]:
        """Element → function → (smallest, largest, mean, standard deviation)."""
        out: dict[int, dict[int, list[float]]] = {}
        path = self.settings.path.with_name("scaling.data")
        for line in path.read_text().splitlines():
            words = line.split("#")[0].split()
            if len(words) in (5, 6):
                out.setdefault(int(words[0]) - 1, {})[int(words[1]) - 1] = [float(w) for w in words[2:]]
        return out

    def _affine(self, rows: dict[int, list[float]], n: int, symbol: str) -> tuple[Tensor, Tensor]:
        """Mean and unit such that their scaled function is (G − mean)/unit."""
        s = self.settings
        if sorted(rows) != list(range(n)):
            raise N2p2Error(f"scaling.data has {len(rows)} functions of {symbol}; input.nn has {n}.")
        low, high, mean, *sigma = torch.tensor([rows[k] for k in range(n)], dtype=torch.float64).T
        centred, by_range = s.has("center_symmetry_functions"), s.has("scale_symmetry_functions")
        by_sigma = s.has("scale_symmetry_functions_sigma")
        start, stop = s.number("scale_min_short", 0.0), s.number("scale_max_short", 1.0)
        if by_sigma:
            if not sigma:
                raise N2p2Error("scaling.data holds no standard deviations, which scaling by sigma needs.")
            unit, origin = sigma[0] / (stop - start), mean
        elif by_range:
            unit, origin = (high - low) / (stop - start), mean if centred else low
        else:
            return mean, torch.ones_like(mean)
        if not bool((unit > 0.0).all()):
            raise N2p2Error(f"scaling.data has functions of {symbol} that never vary; they cannot be scaled.")
        return origin - start * unit, unit

    def _network(
        self,
        k: int,
        symbol: str,
        widths: Sequence[int],
        file: str = "weights",
        name: str = "networks",
        output_unit: float = 1.0,
    ) -> dict[str, Tensor]:
        path = self.settings.path.with_name(f"{file}.{periodic_table.number(symbol):03d}.data")
        sizes = list(pairwise(widths))
        weights = [torch.full((b, a), torch.nan, dtype=torch.float64) for a, b in sizes]
        biases = [torch.full((b,), torch.nan, dtype=torch.float64) for _, b in sizes]
        try:
            for line in path.read_text().splitlines():
                words = line.split("#")[0].split()
                if len(words) < 5:
                    continue
                places = [int(w) for w in words[3:]]
                if words[1] == "a":
                    weights[places[0]][places[3] - 1, places[1] - 1] = float(words[0])
                else:
                    biases[places[0] - 1][places[1] - 1] = float(words[0])
        except (IndexError, ValueError) as error:
            raise N2p2Error(f"{path} does not fit a network of {widths}: {error}") from error
        if any(bool(t.isnan().any()) for t in (*weights, *biases)):
            raise N2p2Error(f"{path} does not hold all weights of a network of {widths}.")
        if self.settings.has("normalize_nodes"):
            weights = [w / a for w, (a, _) in zip(weights, sizes, strict=True)]
            biases = [b / a for b, (a, _) in zip(biases, sizes, strict=True)]
        weights[-1], biases[-1] = weights[-1] * output_unit, biases[-1] * output_unit
        out = {f"{name}.{k}.{2 * t}.weight": w for t, w in enumerate(weights)}
        return out | {f"{name}.{k}.{2 * t}.bias": b for t, b in enumerate(biases)}
