"""What exists: one or many atomic structures, concatenated along the atom axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from . import elements, units

if TYPE_CHECKING:
    from .results import Results

_PER_ATOM = ("positions", "numbers", "system_index", "magmoms", "tags", "owned")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class System:
    """One or many atomic structures, concatenated. A single structure is a batch of one.

    Positions, cells and charges are float64 always; a potential casts differences to its own dtype.
    Velocities, masses and constraints belong to `md.State`, not here.
    """

    positions: Float[Tensor, "atoms 3"]
    """Å; never wrapped."""
    numbers: Int[Tensor, "atoms"]
    """Atomic numbers Z."""
    cell: Float[Tensor, "systems 3 3"]
    """Å, rows are lattice vectors; zeros along axes that have none."""
    pbc: Bool[Tensor, "systems 3"]
    system_index: Int[Tensor, "atoms"]
    """Which system an atom belongs to; sorted."""
    charge: Float[Tensor, "systems"] | None = None
    """Total charge, e."""
    spin: Int[Tensor, "systems"] | None = None
    """Multiplicity 2S+1."""
    magmoms: Float[Tensor, "atoms"] | None = None
    """Input magnetic moments, μB."""
    field: Float[Tensor, "systems 3"] | None = None
    """Homogeneous electric field, V/Å."""
    head: Int[Tensor, "systems"] | None = None
    """Which level of theory a many-headed potential answers for."""
    tags: Int[Tensor, "atoms"] | None = None
    owned: Bool[Tensor, "atoms"] | None = None
    """None: all atoms are owned; otherwise False marks ghosts (domain decomposition, unfolded cells)."""
    info: tuple[Mapping[str, Any], ...] | None = None
    """Each frame's free metadata; rides through `from_ase` and `to_ase` unchanged."""

    @staticmethod
    def from_ase(frames: Atoms | Sequence[Atoms]) -> "System":
        """Build a System from ASE structures.

        Reads positions, numbers, cell, pbc, tags and, where every frame has them, `charge` and `spin`
        from `info`, initial magnetic moments, and keeps `info`.

        Raises ValueError for non-finite positions, for a periodic axis without a lattice vector and for
        linearly dependent lattice vectors.
        """
        frames = [frames] if isinstance(frames, Atoms) else list(frames)
        counts = [len(a) for a in frames]
        _check_frames(frames)
        n = sum(counts)

        def per_atom(get: Any, dtype: Any, shape: tuple[int, ...] = ()) -> Tensor:
            parts = [np.asarray(get(a), dtype=dtype).reshape((len(a), *shape)) for a in frames]
            return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, *shape), dtype))

        def info_values(key: str) -> list[Any] | None:
            values = [a.info.get(key) for a in frames]
            return values if frames and all(v is not None for v in values) else None

        charge, spin = info_values("charge"), info_values("spin")
        has_moments = bool(frames) and all(a.has("initial_magmoms") for a in frames)
        return System(
            positions=per_atom(lambda a: a.positions, np.float64, (3,)),
            numbers=per_atom(lambda a: a.numbers, np.int64),
            cell=torch.from_numpy(np.array([a.cell.array for a in frames], np.float64).reshape(-1, 3, 3)),
            pbc=torch.from_numpy(np.array([a.pbc for a in frames], bool).reshape(-1, 3)),
            system_index=torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64), output_size=n),
            charge=None if charge is None else torch.tensor(charge, dtype=torch.float64),
            spin=None if spin is None else torch.tensor(spin, dtype=torch.int64),
            magmoms=per_atom(lambda a: a.get_initial_magnetic_moments(), np.float64) if has_moments else None,
            tags=per_atom(lambda a: a.get_tags(), np.int64) if any(a.has("tags") for a in frames) else None,
            info=tuple(dict(a.info) for a in frames),
        )

    def to_ase(self, results: "Results | None" = None) -> list[Atoms]:
        """One ASE structure per system; `results` go into a SinglePointCalculator (and per-atom energies)."""
        out = []
        for k in range(self.n_systems):
            rows = self.atom_rows(k)
            atoms = Atoms(
                numbers=self.numbers[rows].cpu().numpy(),
                positions=self.positions[rows].detach().cpu().numpy(),
                cell=self.cell[k].detach().cpu().numpy(),
                pbc=self.pbc[k].cpu().numpy(),
                info=dict(self.info[k]) if self.info is not None else None,
            )
            if self.tags is not None:
                atoms.set_tags(self.tags[rows].cpu().numpy())
            if self.magmoms is not None:
                atoms.set_initial_magnetic_moments(self.magmoms[rows].detach().cpu().numpy())
            if self.charge is not None:
                atoms.info["charge"] = float(self.charge[k])
            if self.spin is not None:
                atoms.info["spin"] = int(self.spin[k])
            if results is not None:
                results.attach(atoms, k, rows)
            out.append(atoms)
        return out

    @property
    def n_atoms(self) -> int:
        return self.numbers.shape[0]

    @property
    def n_systems(self) -> int:
        return self.cell.shape[0]

    @property
    def counts(self) -> Int[Tensor, "systems"]:
        """Atoms in each system (ghosts included)."""
        return torch.bincount(self.system_index, minlength=self.n_systems)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements present, ordered by atomic number."""
        return elements.sorted_symbols(self.numbers.unique().tolist())

    def atom_rows(self, k: int) -> slice:
        """The slice of atoms that belong to system k."""
        start, stop = torch.searchsorted(
            self.system_index, torch.tensor([k, k + 1], device=self.system_index.device)
        ).tolist()
        return slice(start, stop)

    @property
    def has_volume(self) -> Bool[Tensor, "systems"]:
        """True where the three lattice vectors span a volume (so that a stress exists)."""
        filled: Tensor = self.cell.abs().sum(-1).gt(0).all(-1) & (torch.linalg.det(self.cell).abs() > 1e-12)
        return filled

    @property
    def volume(self) -> Float[Tensor, "systems"]:
        """|det cell| in Å³; 0 where the cell does not span a volume."""
        volume: Tensor = torch.linalg.det(self.cell).abs()
        return volume

    @property
    def masses(self) -> Float[Tensor, "atoms"]:
        """Standard atomic masses, u."""
        return elements.masses(self.numbers)

    @property
    def density_g_cm3(self) -> Float[Tensor, "systems"]:
        """Mass density in g/cm³; inf where there is no volume."""
        return self.total(self.masses) / self.volume / units.gram_per_cubic_centimetre

    @property
    def centre_of_mass(self) -> Float[Tensor, "systems 3"]:
        """Σ m r / Σ m of the unwrapped positions, Å."""
        m = self.masses
        return self.total(m[:, None] * self.positions) / self.total(m)[:, None]

    def dipole(self, charges: Float[Tensor, "atoms"]) -> Float[Tensor, "systems 3"]:
        """Σ q_i r_i in e·Å; depends on the origin where Σ q ≠ 0 and on the image choice where periodic."""
        return self.total(charges[:, None] * self.positions)

    def total(self, per_atom: Num[Tensor, "atoms *rest"]) -> Float[Tensor, "systems *rest"]:
        """Sum a per-atom quantity over the owned atoms of each system, in float64.

        Atom by atom, also where there is one system: a system's sum has the same bits in any batch.
        """
        values = per_atom.double()
        if self.owned is not None:
            values = values * self.owned.reshape(-1, *([1] * (values.dim() - 1)))
        out = values.new_zeros((self.n_systems, *values.shape[1:]))
        return out.index_add(0, self.system_index, values)

    def __getitem__(self, which: int | slice | Sequence[int] | Tensor) -> "System":
        """Select systems, in the given order, as a new System."""
        index = torch.arange(self.n_systems, device=self.cell.device)[which]
        index = index.reshape(-1)
        rows = [self.atom_rows(int(k)) for k in index]
        atoms = torch.cat(
            [torch.arange(r.start, r.stop, device=self.cell.device) for r in rows] or [index.new_zeros(0)]
        )
        new: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None:
                new[f.name] = None
            elif f.name == "info":
                new[f.name] = tuple(value[int(k)] for k in index)
            elif f.name == "system_index":
                new[f.name] = torch.repeat_interleave(self.counts[index])
            else:
                new[f.name] = value[atoms] if f.name in _PER_ATOM else value[index]
        return System(**new)

    def __len__(self) -> int:
        return self.n_systems

    def replace(self, **changes: Any) -> "System":
        """A copy with the named fields changed."""
        return System(**{name: getattr(self, name) for name in _FIELDS if name not in changes}, **changes)

    def moved(self, positions: Float[Tensor, "atoms 3"]) -> "System":
        """The same structures with atoms elsewhere."""
        # written out because dataclasses.replace takes longer than the arithmetic of a timestep
        return System(
            positions=positions,
            numbers=self.numbers,
            cell=self.cell,
            pbc=self.pbc,
            system_index=self.system_index,
            charge=self.charge,
            spin=self.spin,
            magmoms=self.magmoms,
            field=self.field,
            head=self.head,
            tags=self.tags,
            owned=self.owned,
            info=self.info,
        )

    def to(self, device: torch.device | str) -> "System":
        """Move every tensor to a device; float64 stays float64."""
        moved = {
            f.name: v.to(device) if isinstance(v := getattr(self, f.name), Tensor) else v
            for f in fields(self)
        }
        return System(**moved)  # type: ignore[arg-type]

    @staticmethod
    def cat(systems: Sequence["System"]) -> "System":
        """Concatenate. An optional field must be present in all of them or in none, else ValueError."""
        if not systems:
            raise ValueError("System.cat needs at least one System.")
        new: dict[str, Any] = {}
        for f in fields(System):
            values = [getattr(s, f.name) for s in systems]
            missing = sum(v is None for v in values)
            if missing and missing < len(values):
                raise ValueError(
                    f"Cannot concatenate: {missing} of {len(values)} systems lack '{f.name}'; "
                    f"give it to all of them or to none."
                )
            if missing:
                new[f.name] = None
            elif f.name == "info":
                new[f.name] = tuple(i for v in values for i in v)
            elif f.name == "system_index":
                offsets = np.cumsum([0] + [s.n_systems for s in systems[:-1]])
                new[f.name] = torch.cat([v + int(o) for v, o in zip(values, offsets, strict=True)])
            else:
                new[f.name] = torch.cat(values)
        return System(**new)


_FIELDS = tuple(f.name for f in fields(System))


def _check_frames(frames: Sequence[Atoms]) -> None:
    for k, atoms in enumerate(frames):
        if not np.isfinite(atoms.positions).all():
            bad = int(np.flatnonzero(~np.isfinite(atoms.positions).all(1))[0])
            raise ValueError(f"Frame {k}: the position of atom {bad} is not finite: {atoms.positions[bad]}.")
        lengths = np.linalg.norm(atoms.cell.array, axis=1)
        if (atoms.pbc & (lengths == 0)).any():
            raise ValueError(
                f"Frame {k}: axis {int(np.flatnonzero(atoms.pbc & (lengths == 0))[0])} is periodic but its "
                f"lattice vector is zero. Set pbc to False there or give the cell."
            )
        given = atoms.cell.array[lengths > 0]
        if len(given) and np.linalg.matrix_rank(given, tol=1e-8 * lengths.max()) < len(given):
            raise ValueError(f"Frame {k}: lattice vectors are linearly dependent:\n{atoms.cell.array}")
