"""What every side of a comparison shares; needs numpy alone, which all environments of the peers have."""

import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
CHECKED_STEPS = 10
TIMESTEP_FS = 0.5


class Side(ABC):
    """A model that is evaluated, or moved, on a structure.

    A subclass has `build`, which makes or reads the model in float64, `load`, which makes everything ready
    for one structure, and `evaluate`, or `restart` and `advance` where it takes part in molecular dynamics.
    """

    motion = False
    variant = ""
    """Another way of doing the same, where a side has one."""
    pairs: int | None = None
    """Directed pairs within the cutoff in the last evaluation, where the side counts them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.structure: Arrays = {}
        self._turn = 0

    @abstractmethod
    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Make the model for the elements of a structure.

        A peer writes its weights to the file and tells in its answer what else there is to know; our side
        finds both there and in `about`.
        """

    @abstractmethod
    def load(self, dtype: str) -> None:
        """Make the model ready in this precision for `self.structure`."""

    def evaluate(self, positions: np.ndarray) -> Arrays:
        """Energy (eV), forces (eV/Å) and, where periodic, stress (eV/Å³); the neighbour list included."""
        raise NotImplementedError

    def restart(self) -> None:
        """Back to the first frame and the structure's velocities."""
        raise NotImplementedError

    def advance(self, steps: int) -> None:
        """Steps of velocity Verlet, 0.5 fs each."""
        raise NotImplementedError

    def state(self) -> Arrays:
        """Positions (Å) and potential energy (eV) of the motion."""
        raise NotImplementedError

    @property
    def periodic(self) -> bool:
        return bool(self.structure["periodic"])

    def check(self, structure: str, dtype: str, to: str) -> dict[str, Any]:
        """Numbers of the first frame, or of the state after a few steps, into a file."""
        self._take(structure, dtype)
        if self.motion:
            self.restart()
            self.advance(CHECKED_STEPS)
            found = self.state()
        else:
            found = self.evaluate(self.structure["frames"][0])
        np.savez(to, **found)  # type: ignore[arg-type]
        return {"pairs": self.pairs}

    def ready(self, structure: str) -> None:
        """Float32, to be timed; the first call is part of it."""
        self._take(structure, "float32")
        if self.motion:
            self.steps(1)
        else:
            self.call()

    def call(self) -> Arrays:
        """The next frame: positions are never those of the call before."""
        frames = self.structure["frames"]
        self._turn += 1
        return self.evaluate(frames[self._turn % len(frames)])

    def steps(self, n: int) -> float:
        """Seconds of a step, as the mean of n after one; every turn begins with the same state."""
        self.restart()
        self.advance(1)
        start = time.perf_counter()
        self.advance(n)
        return (time.perf_counter() - start) / n

    def _take(self, structure: str, dtype: str) -> None:
        with np.load(structure) as file:
            self.structure = dict(file)
        self.load(dtype)


class AseSide(Side):
    """A side with an ASE calculator; `load` makes `atoms`, with the calculator on them."""

    atoms: Any

    def evaluate(self, positions: np.ndarray) -> Arrays:
        self.atoms.positions = positions
        found = {"energy": np.array([self.atoms.get_potential_energy()]), "forces": self.atoms.get_forces()}
        if self.periodic:
            found["stress"] = self.atoms.get_stress(voigt=False)
        return found


def symbols_of(numbers: np.ndarray) -> list[str]:
    """Chemical symbols, sorted by atomic number, each once; for environments with ASE."""
    from ase.data import chemical_symbols

    return [chemical_symbols[int(z)] for z in sorted(set(numbers.tolist()))]


def atoms_of(structure: Arrays) -> Any:
    """ASE's Atoms in the first frame."""
    from ase import Atoms

    return Atoms(
        structure["numbers"],
        structure["frames"][0],
        cell=structure["cell"],
        pbc=bool(structure["periodic"]),
        velocities=structure["velocities"],
    )


def scale_for(forces: np.ndarray) -> float:
    """Factor of the energy that makes the root mean square of the forces 1 eV/Å, as in trained models."""
    return float(1.0 / np.sqrt((forces**2).mean()))


def freeze(model: Any) -> Any:
    """Nothing is differentiated with respect to weights: cheaper for the peers."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()
