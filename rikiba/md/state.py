"""Where everything is and how fast it moves: structures, velocities, masses, seeds and the clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.system import System
from rikiba.kernels.local_motion import kinetic_energy
from rikiba.kernels.random import normals

from .constraint_set import Constraints
from .constraints.base import Constraint

if TYPE_CHECKING:
    from ase import Atoms

VELOCITY_STREAM = (1 << 20) - 1
"""Stream of random numbers for initial velocities; no operator uses it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """One or many systems in motion. Build it with `State.of` or `maxwell_boltzmann`.

    Positions are those of `system` and are never wrapped. A fixed atom has inverse mass 0 and no velocity.
    """

    system: System
    velocities: Float[Tensor, "atoms 3"]
    """Å per internal unit of time."""
    masses: Float[Tensor, "atoms"]
    """u."""
    inverse_masses: Float[Tensor, "atoms"]
    """1/u; 0 for a fixed atom."""
    seeds: Int[Tensor, "systems"]
    """Each system's own seed: its noise does not depend on who else is in the batch."""
    dof_removed: Int[Tensor, "systems"]
    """Degrees of freedom that carry no kinetic energy because they were zeroed and are conserved."""
    time: Float[Tensor, "systems"]
    """Internal units."""
    constraints: Constraints | None = None
    """What positions and velocities keep; fixed atoms alone are in `inverse_masses`."""
    step: int = 0

    @staticmethod
    def of(
        system: System,
        velocities: Float[Tensor, "atoms 3"] | None = None,
        *,
        masses: Float[Tensor, "atoms"] | None = None,
        fixed: Bool[Tensor, "atoms"] | None = None,
        seed: int | Sequence[int] = 0,
        dof_removed: int | Sequence[int] | None = None,
    ) -> "State":
        """A state at step 0 and time 0.

        Args:
            system: the structures.
            velocities: Å per internal unit of time; zero if not given.
            masses: u; the elements' standard masses if not given.
            fixed: True for atoms that never move.
            seed: one for each system, or one integer s, which gives system k the seed s + k.
            dof_removed: degrees of freedom without kinetic energy in each system. If not given: 3 where at
                least two atoms move freely, none is fixed and the total momentum is zero; otherwise 0.

        Raises ValueError for masses that are not positive, non-finite velocities, fixed atoms that move and
        wrong lengths.
        """
        n, device = system.n_atoms, system.positions.device
        mass = (
            system.masses if masses is None else torch.as_tensor(masses, dtype=torch.float64, device=device)
        )
        v = torch.zeros_like(system.positions) if velocities is None else velocities.to(device, torch.float64)
        if mass.shape != (n,) or not bool((mass > 0).all()) or not bool(mass.isfinite().all()):
            raise ValueError(f"masses must be {n} positive numbers in u; given {mass.tolist()[:8]} ….")
        if v.shape != (n, 3) or not bool(v.isfinite().all()):
            raise ValueError(
                f"velocities must be finite and of shape ({n}, 3); given shape {tuple(v.shape)}."
            )
        inverse = 1.0 / mass
        if fixed is not None:
            if fixed.shape != (n,) or fixed.dtype != torch.bool:
                raise ValueError(
                    f"fixed must be {n} booleans; given {fixed.dtype} of shape {tuple(fixed.shape)}."
                )
            if bool((v[fixed] != 0).any()):
                raise ValueError("Fixed atoms must have zero velocity; set their rows of `velocities` to 0.")
            inverse = torch.where(fixed.to(device), 0.0, inverse)
        state = State(
            system=system,
            velocities=v,
            masses=mass,
            inverse_masses=inverse,
            seeds=per_system_seeds(seed, system.n_systems, device),
            dof_removed=torch.zeros(system.n_systems, dtype=torch.int64, device=device),
            time=torch.zeros(system.n_systems, dtype=torch.float64, device=device),
        )
        if dof_removed is None:
            return state.replace(dof_removed=_momentum_dof(state))
        given = (
            torch.as_tensor(dof_removed, dtype=torch.int64, device=device).expand(system.n_systems).clone()
        )
        return state.replace(dof_removed=given)

    @staticmethod
    def from_ase(frames: "Atoms | Sequence[Atoms]", *, seed: int | Sequence[int] = 0) -> "State":
        """Positions, velocities (zero where absent), masses and constraints of ASE structures.

        Raises ValueError for a constraint that is not known here.
        """
        from ase import Atoms

        from .ase_constraints import attached

        frames = [frames] if isinstance(frames, Atoms) else list(frames)
        state = State.of(
            System.from_ase(frames),
            torch.cat([torch.from_numpy(a.get_velocities()) for a in frames]),
            masses=torch.cat([torch.from_numpy(a.get_masses().copy()) for a in frames]),
            seed=seed,
        )
        return state.constrained(attached(frames))

    def to_ase(self) -> "list[Atoms]":
        """One ASE structure per system, with velocities, masses and constraints."""
        from .ase_constraints import as_ase

        frames = self.system.to_ase()
        for k, atoms in enumerate(frames):
            rows = self.system.atom_rows(k)
            atoms.set_masses(self.masses[rows].cpu().numpy())
            atoms.set_velocities(self.velocities[rows].cpu().numpy())
            atoms.set_constraint(as_ase(self.constraints, self.inverse_masses, self.system, k))
        return frames

    def replace(self, **changes: Any) -> "State":
        """A copy with the named fields changed."""
        return replace(self, **changes)

    def moved(
        self, positions: Float[Tensor, "atoms 3"], velocities: Float[Tensor, "atoms 3"] | None = None
    ) -> "State":
        """The same state at other positions, and with other velocities if given."""
        velocities = self.velocities if velocities is None else velocities
        return self._advanced(self.system.moved(positions), velocities, self.time, self.step)

    def with_velocities(self, velocities: Float[Tensor, "atoms 3"]) -> "State":
        """The same state with other velocities."""
        return self._advanced(self.system, velocities, self.time, self.step)

    def after(self, dt: Float[Tensor, "systems"]) -> "State":
        """The same state with the clock one timestep on."""
        return self._advanced(self.system, self.velocities, self.time + dt, self.step + 1)

    def _advanced(self, system: System, velocities: Tensor, time: Tensor, step: int) -> "State":
        # written out because dataclasses.replace costs more than the arithmetic of a step
        return State(
            system=system,
            velocities=velocities,
            masses=self.masses,
            inverse_masses=self.inverse_masses,
            seeds=self.seeds,
            dof_removed=self.dof_removed,
            constraints=self.constraints,
            time=time,
            step=step,
        )

    def constrained(self, constraints: Sequence[Constraint]) -> "State":
        """The same state held by constraints, all of them named at once.

        Positions are put onto them, and molecules that a cell's boundary cuts made whole. Velocities lose
        what the constraints forbid: draw them with `maxwell_boltzmann(…, constraints=…)` for a temperature.
        Raises ValueError where constraints contradict or repeat each other, or the structure is far off.
        """
        from .constraint_binding import Bound

        if not constraints:
            return self
        if self.constraints is not None:
            raise ValueError("This state has constraints already; name all of them in one call.")
        bound = Bound(
            system=self.system,
            masses=self.masses,
            inverse_masses=self.inverse_masses,
            constraints=constraints,
        )
        held = replace(
            self,
            system=self.system.replace(positions=bound.positions),
            velocities=torch.where(bound.inverse_masses[:, None] > 0, self.velocities, 0.0),
            inverse_masses=bound.inverse_masses,
            constraints=None if bound.constraints.holds_nothing else bound.constraints,
        )
        return held.tangent().replace(dof_removed=_still_removed(held))

    def tangent(self) -> "State":
        """The same state with velocities that keep the constraints; itself where there are none."""
        if self.constraints is None:
            return self
        return self.with_velocities(self.tangent_of(self.velocities))

    def tangent_of(self, vectors: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3"]:
        """Vectors like velocities without what the constraints forbid."""
        if self.constraints is None:
            return vectors
        return self.constraints.velocities(
            vectors, self.system.positions, self.masses, self.inverse_masses, self.system.system_index
        )

    def of_group(self, rows: Float[Tensor, "atoms *rest"]) -> Float[Tensor, "atoms *rest"]:
        """Every atom's row replaced by that of the first atom that constraints connect it with."""
        held = self.constraints
        return rows if held is None else rows[held.first_atoms()[held.group]]

    def pulled_back(self, before: "State", dt: Float[Tensor, "systems"]) -> "State":
        """Positions put onto the constraints along their gradients a time dt `before`, velocities with them.

        v ← v + Δr/Δt: without this share of the constraints' impulse trajectories would run cold.
        """
        if self.constraints is None:
            return self
        free = self.system.positions
        held = self.constraints.positions(free, before.system.positions, self.masses, self.inverse_masses)
        rate = torch.where(dt != 0, 1.0 / torch.where(dt != 0, dt, 1.0), 0.0)
        each = rate if self.n_systems == 1 else rate[self.system.system_index][:, None]
        return self.moved(held).with_velocities(self.velocities + (held - free) * each)

    @property
    def n_systems(self) -> int:
        return self.system.n_systems

    @property
    def momentum(self) -> Float[Tensor, "systems 3"]:
        """Σ m v of each system."""
        return self.system.total(self.masses[:, None] * self.velocities)

    @property
    def angular_momentum(self) -> Float[Tensor, "systems 3"]:
        """Σ m (r − r_com) × v of each system's unwrapped positions."""
        r = self.system.positions - self._centre()[self.system.system_index]
        return self.system.total(self.masses[:, None] * torch.linalg.cross(r, self.velocities))

    def _centre(self) -> Tensor:
        total = self.system.total
        return total(self.masses[:, None] * self.system.positions) / total(self.masses)[:, None]

    @property
    def kinetic_energy(self) -> Float[Tensor, "systems"]:
        """K = Σ ½ m v², eV."""
        return kinetic_energy(self.masses, self.velocities, self.system.system_index, self.n_systems)

    @property
    def dof(self) -> Int[Tensor, "systems"]:
        """N_f = 3 (N − N_fixed) − N_constraints − dof_removed."""
        free = self.system.total((self.inverse_masses > 0).double()).round().long()
        taken = 0 if self.constraints is None else self.constraints.taken
        return 3 * free - taken - self.dof_removed

    @property
    def unrestricted(self) -> Bool[Tensor, "systems"]:
        """Systems without fixed atoms, planes or lines: forces among their atoms keep total momentum."""
        held = self.inverse_masses == 0
        if self.constraints is not None and len(self.constraints.projectors):
            eye = torch.eye(3, dtype=torch.float64, device=held.device)
            held = held | (self.constraints.projectors != eye).any(2).any(1)
        return self.system.total(held.double()) == 0

    @property
    def temperature_K(self) -> Float[Tensor, "systems"]:
        """T = 2K/(N_f k_B), K; NaN where a system has no degree of freedom."""
        return temperature(self.kinetic_energy, self.dof)

    def __getitem__(self, which: Any) -> "State":
        """The state of some of the systems, in the given order (they keep their seeds)."""
        index = torch.arange(self.n_systems, device=self.time.device)[which].reshape(-1)
        atoms = atom_index(self.system, index)
        return replace(
            self,
            system=self.system[index],
            velocities=self.velocities[atoms],
            masses=self.masses[atoms],
            inverse_masses=self.inverse_masses[atoms],
            seeds=self.seeds[index],
            dof_removed=self.dof_removed[index],
            constraints=None if self.constraints is None else self.constraints.select(self.system, index),
            time=self.time[index],
        )

    def to(self, device: torch.device | str) -> "State":
        """Move every tensor to a device."""
        names = ["system", "velocities", "masses", "inverse_masses", "seeds", "dof_removed", "time"]
        names += [] if self.constraints is None else ["constraints"]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def atom_index(system: System, which: Int[Tensor, "chosen"]) -> Int[Tensor, "atoms"]:
    """Indices of the atoms of the chosen systems, system after system."""
    rows = [system.atom_rows(int(k)) for k in which]
    parts = [torch.arange(r.start, r.stop, device=which.device) for r in rows]
    return torch.cat(parts) if parts else which.new_zeros(0)


def temperature(
    kinetic_energy: Float[Tensor, "systems"], dof: Int[Tensor, "systems"]
) -> Float[Tensor, "systems"]:
    """T = 2K/(N_f k_B) in K; NaN where N_f = 0."""
    return torch.where(dof > 0, 2.0 * kinetic_energy / (dof * units.boltzmann), torch.nan)


def per_system(
    value: float | Sequence[float] | Tensor, n_systems: int, device: Any = "cpu"
) -> Float[Tensor, "systems"]:
    """One number for all systems, or one for each, as float64; raises ValueError for another length."""
    t = torch.as_tensor(value, dtype=torch.float64, device=device)
    if t.dim() > 1 or (t.dim() == 1 and t.shape[0] != n_systems):
        raise ValueError(
            f"Give one number or {n_systems} (one for each system); given shape {tuple(t.shape)}."
        )
    return t.expand(n_systems).clone()


def per_system_seeds(
    seed: int | Sequence[int], n_systems: int, device: Any = "cpu"
) -> Int[Tensor, "systems"]:
    """Seeds s, s+1, … from one integer, or the given ones; raises ValueError for another length."""
    if isinstance(seed, int):
        return seed + torch.arange(n_systems, dtype=torch.int64, device=device)
    seeds = torch.as_tensor(seed, dtype=torch.int64, device=device).clone()
    if seeds.shape != (n_systems,):
        raise ValueError(f"Give one seed or {n_systems} (one for each system); given {tuple(seeds.shape)}.")
    return seeds


def maxwell_boltzmann(
    system: System,
    temperature_K: float | Sequence[float],
    *,
    seed: int | Sequence[int] = 0,
    masses: Float[Tensor, "atoms"] | None = None,
    fixed: Bool[Tensor, "atoms"] | None = None,
    constraints: Sequence[Constraint] = (),
    remove_momentum: bool = True,
    remove_rotation: bool | None = None,
    exact: bool = False,
) -> State:
    """A state with velocities from the Maxwell–Boltzmann distribution, v = √(k_B T/m) ξ.

    Removing the total momentum (and rotation) projects those degrees of freedom out and counts them in
    `dof_removed`, so the mean temperature of what remains is T. Systems with fixed or restricted atoms keep
    both. Constraints take their share by the projection that is orthogonal in kinetic energy, which leaves
    the distribution of what remains.

    Args:
        system: the structures.
        temperature_K: one for all systems or one for each.
        seed: one for each system, or one integer s, which gives system k the seed s + k.
        masses: u; the elements' standard masses if not given.
        fixed: True for atoms that never move.
        constraints: what positions and velocities keep.
        remove_momentum: subtract the centre-of-mass velocity.
        remove_rotation: subtract the rotation about the centre of mass; by default for systems that are
            periodic along no axis.
        exact: scale the velocities so that each system has the temperature exactly.

    Raises ValueError for a negative temperature and as `State.of` and `State.constrained` do.
    """
    state = State.of(system, masses=masses, fixed=fixed, seed=seed, dof_removed=0)
    kelvin = per_system(temperature_K, system.n_systems, system.positions.device)
    if not bool((kelvin >= 0).all()) or not bool(kelvin.isfinite().all()):
        raise ValueError(f"temperature_K must be at least 0; given {kelvin.tolist()}.")
    index = system.system_index
    first = system.counts.cumsum(0) - system.counts
    own = torch.arange(system.n_atoms, device=index.device) - first[index]
    noise = normals(state.seeds[index], own, 0, VELOCITY_STREAM, 3)
    width = torch.sqrt(units.boltzmann * kelvin[index] * state.inverse_masses)
    state = state.replace(velocities=width[:, None] * noise).constrained(constraints)
    turning = state.unrestricted & remove_momentum
    momentum = turning if state.constraints is None else turning & ~state.constraints.centred
    bare = state.replace(constraints=None)
    # one system at a time: sums over atoms then have the same bits whoever else is in the batch
    parts = [
        _without_drift(bare[k], momentum[k : k + 1], turning[k : k + 1], remove_rotation)
        for k in range(system.n_systems)
    ]
    state = state.replace(
        velocities=torch.cat([p.velocities for p in parts]) if parts else state.velocities,
        dof_removed=torch.cat([p.dof_removed for p in parts]) if parts else state.dof_removed,
    )
    return _at_temperature(state, kelvin) if exact else state


def _at_temperature(state: State, kelvin: Float[Tensor, "systems"]) -> State:
    """Velocities scaled to K = N_f k_B T/2; as they are where nothing moves."""
    kinetic, wanted = state.kinetic_energy, 0.5 * state.dof * units.boltzmann * kelvin
    scale = torch.where(kinetic > 0, torch.sqrt(wanted / torch.where(kinetic > 0, kinetic, 1.0)), 1.0)
    return state.with_velocities(state.velocities * scale[state.system.system_index][:, None])


def _without_drift(
    state: State, momentum: Bool[Tensor, "1"], turning: Bool[Tensor, "1"], rotation: bool | None
) -> State:
    """One system without total momentum and (if isolated or told) rotation, where it may have them."""
    turn = not bool(state.system.pbc.any()) if rotation is None else rotation
    state = without_momentum(state, momentum)
    return without_rotation(state, turning) if turn else state


def _still_removed(state: State) -> Int[Tensor, "systems"]:
    """What of `dof_removed` constraints leave: they count a centre of mass that they hold, and walls
    do not keep momentum, but for planes or lines that all moving atoms share."""
    held, removed = state.constraints, state.dof_removed
    if held is None:
        return torch.where(state.unrestricted, removed, 0)
    momentum = removed.clamp(max=3)
    left = torch.where(held.centred, removed - momentum, removed)
    shared = torch.where((momentum == 3) & ~held.centred, _shared_directions(state), 0)
    return torch.where(state.unrestricted, left, shared)


def _shared_directions(state: State) -> Int[Tensor, "systems"]:
    """Directions in which all atoms of a system may move alike; 0 where atoms differ or some are fixed."""
    held = state.constraints
    if held is None or len(held.projectors) == 0:
        return torch.where(state.unrestricted, 3, 0)
    first = state.system.counts.cumsum(0) - state.system.counts
    example = held.projectors[first]
    differs = (held.projectors - example[state.system.system_index]).abs().amax((1, 2)) > 1e-9
    alike = state.system.total((differs | (state.inverse_masses == 0)).double()) == 0
    rank = torch.diagonal(example, dim1=1, dim2=2).sum(1).round().long()
    return torch.where(alike, rank, 0)


def without_momentum(state: State, which: Bool[Tensor, "systems"]) -> State:
    """Subtract the centre-of-mass velocity of the chosen systems; 3 degrees of freedom count as removed."""
    velocity = state.momentum / state.system.total(state.masses)[:, None]
    velocity = torch.where(which[:, None], velocity, 0.0)
    return state.replace(
        velocities=state.velocities - velocity[state.system.system_index],
        dof_removed=state.dof_removed + 3 * which.long(),
    )


def without_rotation(state: State, which: Bool[Tensor, "systems"]) -> State:
    """Subtract ω × (r − r_com), I ω = L; rank(I) degrees of freedom count as removed (3; 2 if linear)."""
    index = state.system.system_index
    r = state.system.positions - state._centre()[index]
    square = (r * r).sum(-1)[:, None, None] * torch.eye(3, dtype=r.dtype, device=r.device)
    inertia = state.system.total(state.masses[:, None, None] * (square - r[:, :, None] * r[:, None, :]))
    moments, axes = torch.linalg.eigh(inertia)
    least = 1e-12 * state.system.total(state.masses)[:, None]  # u Å²: a single atom, up to rounding
    turns = moments > torch.maximum(1e-9 * moments[:, -1:], least)
    along = torch.einsum("kab,ka->kb", axes, state.angular_momentum)
    omega = torch.einsum("kab,kb->ka", axes, torch.where(turns, along / moments, 0.0))
    omega = torch.where(which[:, None], omega, 0.0)
    return state.replace(
        velocities=state.velocities - torch.linalg.cross(omega[index], r),
        dof_removed=state.dof_removed + turns.sum(1) * which,
    )


def _momentum_dof(state: State) -> Tensor:
    """3 where momentum is zero, no atom is fixed and at least two move; otherwise 0."""
    total = state.system.total
    scale = total(state.masses * state.velocities.norm(dim=-1))
    still = state.momentum.norm(dim=-1) <= 1e-9 * scale
    no_fixed = total((state.inverse_masses == 0).double()) == 0
    moves_freely = still & no_fixed & (state.system.counts > 1)
    return torch.where(moves_freely, 3, 0)
