"""Rigid bodies packed into a box without overlaps: random insertion, then overlaps pushed apart.

Bodies are put at random places with random orientations, and Σ (1 − (r/d)²)² over the pairs of atoms of
different bodies that are closer than their least distance d is brought to zero by L-BFGS over the bodies'
positions and rotations (the idea of Martínez, Andrade, Birgin & Martínez, doi:10.1002/jcc.21224, whose
Packmol minimises a penalty of the same kind). What is returned keeps every distance, or nothing is.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from ase import Atoms

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System

MARGIN = 1.02
"""Distances aimed at are this much longer than the asked ones, so that the end is on the right side."""


class PackingError(ValueError):
    """The bodies do not fit: a lower density, a shorter least distance or another seed is needed."""


class PairDistances:
    """Least distance of any two atoms, Å: a default, and a table by pair such as {"Si-O": 1.5}.

    Raises ValueError for a name that is no pair of the elements present and for a distance that is not
    positive.
    """

    def __init__(self, default: float, table: Mapping[str, float], elements: set[str]) -> None:
        from ase.data import atomic_numbers

        if not default > 0:
            raise ValueError(f"min_distance must be positive; given {default} Å.")
        self.table = np.full((119, 119), float(default))
        example = "-".join((sorted(elements) * 2)[:2])
        for pair, value in table.items():
            names = pair.split("-")
            if len(names) != 2 or not set(names) <= elements or not value > 0:
                raise ValueError(
                    f"min_distances is by pair of the elements {', '.join(sorted(elements))}, such as "
                    f"'{example}', and positive; given {pair} = {value}."
                )
            a, b = (atomic_numbers[s] for s in names)
            self.table[a, b] = self.table[b, a] = float(value)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Least distances of pairs of atomic numbers, Å."""
        return np.asarray(self.table[first, second])

    def kept(self, atoms: Atoms) -> bool:
        """True where no two atoms, images included, are closer than allowed."""
        system = System.from_ase(atoms)
        zs = np.unique(atoms.numbers)
        pairs = find_pairs(system, float(self.table[np.ix_(zs, zs)].max()))
        r = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
        return bool((r >= self(atoms.numbers[pairs.i.numpy()], atoms.numbers[pairs.j.numpy()])).all())


def pack(
    bodies: Sequence[Atoms],
    cell: np.ndarray,
    *,
    pbc: bool | tuple[bool, bool, bool] = True,
    min_distance: Callable[[np.ndarray, np.ndarray], np.ndarray] | float = 2.0,
    fixed: Atoms | None = None,
    region: Callable[[np.random.Generator], np.ndarray] | None = None,
    confine: float | None = None,
    seed: int = 0,
    tries: int = 10,
    max_steps: int = 400,
) -> Atoms:
    """The bodies, whole and not wrapped, none nearer to another than the least distance.

    Args:
        bodies: rigid structures; each is turned and moved as one.
        cell: box, Å, rows are its vectors.
        pbc: axes along which the box repeats.
        min_distance: least distance between atoms of different bodies, Å; a number or a function of two
            arrays of atomic numbers.
        fixed: atoms that stay where they are and come first in the result.
        region: draws a centre, Å; uniform in the box if not given.
        confine: radius of a sphere about the origin that holds the centres, Å.
        seed: of places and orientations.
        tries: random starts before giving up.
        max_steps: of the minimisation of each start.

    Raises PackingError where no start ends without overlaps.
    """
    distance = min_distance if callable(min_distance) else lambda a, b: np.full(len(a), float(min_distance))
    problem = _Packing(bodies, np.asarray(cell, float), pbc, distance, fixed, confine)
    worst = np.inf
    for attempt in range(tries):
        rng = np.random.default_rng([seed, attempt])
        found, overlap = problem.solve(rng, region, max_steps)
        if overlap <= 0.0:
            return found
        worst = min(worst, overlap)
    raise PackingError(
        f"{len(bodies)} bodies do not fit into {abs(np.linalg.det(cell)):.0f} Å³: after {tries} starts a "
        f"pair is still {worst:.2f} Å closer than the least distance. Lower the density or min_distance."
    )


class _Packing:
    def __init__(
        self,
        bodies: Sequence[Atoms],
        cell: np.ndarray,
        pbc: bool | tuple[bool, bool, bool],
        distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
        fixed: Atoms | None,
        confine: float | None,
    ) -> None:
        self.bodies, self.distance, self.confine = bodies, distance, confine
        parts = ([fixed] if fixed is not None else []) + list(bodies)
        self.atoms = Atoms(numbers=np.concatenate([b.numbers for b in parts]), cell=cell, pbc=pbc)
        self.n_fixed = 0 if fixed is None else len(fixed)
        self.fixed_positions = np.zeros((0, 3)) if fixed is None else fixed.positions.copy()
        # the atom's body (−1: fixed) and its place relative to the body's centre
        self.body = np.repeat(np.arange(len(bodies)), [len(b) for b in bodies])
        self.local = np.concatenate([b.positions - b.positions.mean(0) for b in bodies])
        self.owner = np.concatenate([np.full(self.n_fixed, -1), self.body])
        zs = np.unique(self.atoms.numbers)
        a, b = (m.ravel() for m in np.meshgrid(zs, zs))
        self.reach = float(distance(a, b).max()) * MARGIN

    def solve(
        self, rng: np.random.Generator, region: Callable[[np.random.Generator], np.ndarray] | None, steps: int
    ) -> tuple[Atoms, float]:
        from scipy.optimize import minimize
        from scipy.spatial.transform import Rotation

        n = len(self.bodies)
        place = region or (lambda g: g.random(3) @ self.atoms.cell.array)
        centres = np.array([place(rng) for _ in range(n)])
        turned = Rotation.from_quat(rng.normal(size=(n, 4))).as_matrix()
        for _ in range(4):  # rotations are small vectors about the last orientation
            local = np.einsum("bij,bj->bi", turned[self.body], self.local)
            x = np.concatenate([centres.ravel(), np.zeros(3 * n)])
            end = minimize(
                self._penalty,
                x,
                args=(local,),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": steps // 4, "ftol": 1e-14, "gtol": 1e-9},
            )
            centres = end.x[: 3 * n].reshape(n, 3)
            turned = Rotation.from_rotvec(end.x[3 * n :].reshape(n, 3)).as_matrix() @ turned
            local = np.einsum("bij,bj->bi", turned[self.body], self.local)
            found = self._placed(centres, local)
            overlap = self._overlap(found)
            if overlap <= 0.0:
                break
        return found, overlap

    def _placed(self, centres: np.ndarray, local: np.ndarray) -> Atoms:
        atoms = self.atoms.copy()
        atoms.positions = np.concatenate([self.fixed_positions, centres[self.body] + local])
        return atoms

    def _close(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """i, j, r_ij, |r_ij| and least distance of the pairs of different bodies, each once."""
        system = System.from_ase(atoms)
        pairs = find_pairs(system, self.reach)
        i, j = pairs.i.numpy(), pairs.j.numpy()
        images = pairs.shift.numpy().any(1)
        once = (i < j) & (self.owner[i] != self.owner[j])
        # a body and its own image can overlap in a small box; the image moves along with it
        own = images & (self.owner[i] == self.owner[j]) & (self.owner[i] >= 0)
        keep = once | own
        i, j = i[keep], j[keep]
        vector = pairs.vectors(system).numpy()[keep]
        least = self.distance(atoms.numbers[i], atoms.numbers[j])
        return i, j, vector, np.linalg.norm(vector, axis=1), least

    def _overlap(self, atoms: Atoms) -> float:
        """How much closer than allowed the worst pair is, Å; at most 0 where all keep their distance."""
        _, _, _, r, least = self._close(atoms)
        worst = float((least - r).max()) if len(r) else 0.0
        if self.confine is not None:
            inside = np.linalg.norm(atoms.positions[self.n_fixed :], axis=1).max() - self.confine
            worst = max(worst, float(inside))
        return worst

    def _penalty(self, x: np.ndarray, local: np.ndarray) -> tuple[float, np.ndarray]:
        from scipy.spatial.transform import Rotation

        n = len(self.bodies)
        turn = torch.from_numpy(x[3 * n :].reshape(n, 3))
        rotation = Rotation.from_rotvec(turn.numpy()).as_matrix()
        arm = np.einsum("bij,bj->bi", rotation[self.body], local)
        atoms = self._placed(x[: 3 * n].reshape(n, 3), arm)
        i, j, vector, r, least = self._close(atoms)
        aim = least * MARGIN
        gap = np.where(r < aim, 1.0 - (r / aim) ** 2, 0.0)
        value = float((gap**2).sum())
        by_vector = (-4.0 * gap / aim**2)[:, None] * vector
        by_atom = np.zeros((len(atoms), 3))
        np.add.at(by_atom, j, by_vector)
        np.add.at(by_atom, i, -by_vector)
        by_atom = by_atom[self.n_fixed :]
        if self.confine is not None:
            where = atoms.positions[self.n_fixed :]
            radius = np.linalg.norm(where, axis=1)
            out = np.maximum(radius - 0.98 * self.confine, 0.0)
            value += float((out**2).sum())
            by_atom += (2.0 * out / np.maximum(radius, 1e-12))[:, None] * where
        by_centre = np.zeros((n, 3))
        np.add.at(by_centre, self.body, by_atom)
        torque = np.zeros((n, 3))
        np.add.at(torque, self.body, np.cross(arm, by_atom))
        return value, np.concatenate([by_centre.ravel(), _by_rotation_vector(turn.numpy(), torque).ravel()])


def _by_rotation_vector(w: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """∂E/∂w for R = exp[w]× from the torque Σ a × ∂E/∂a: J_lᵀ τ with the left Jacobian of SO(3).

    J_l = 1 + (1 − cos θ)/θ² [w]× + (θ − sin θ)/θ³ [w]×², so J_lᵀ τ = τ − b w×τ + c w×(w×τ).
    """
    theta2 = (w * w).sum(1, keepdims=True)
    theta = np.sqrt(theta2)
    small = theta2 < 1e-8
    safe = np.where(small, 1.0, theta)
    b = np.where(small, 0.5 - theta2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    c = np.where(small, 1.0 / 6.0 - theta2 / 120.0, (safe - np.sin(safe)) / safe**3)
    first = np.cross(w, torque)
    return torque - b * first + c * np.cross(w, first)
