"""A slab of any crystal, cut along any lattice plane."""

from dataclasses import dataclass
from typing import final

from ase import Atoms

from .base import Builder, made, require_periodic


@final
@dataclass(frozen=True, kw_only=True)
class Surface:
    """A slab of any crystal with any Miller indices, periodic along the surface.

    The termination is that of the given cell's origin; `shift` moves the cut.

    Args:
        crystal: the bulk crystal; Miller indices refer to its cell (use the conventional one).
        miller: indices of the surface plane.
        layers: repetitions of the oriented unit cell along the normal.
        repeat: repetitions along the two axes of the surface.
        vacuum: empty space on either side, Å.
        shift: moves the plane of the cut by this fraction of the crystal's cell vectors.
        periodic_normal: repeat the slab along its normal too, as plane-wave codes do.
    """

    crystal: Builder
    miller: tuple[int, int, int]
    layers: int = 3
    repeat: tuple[int, int] = (1, 1)
    vacuum: float = 10.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    periodic_normal: bool = False

    def __post_init__(self) -> None:
        if not any(self.miller):
            raise ValueError("miller must not be (0, 0, 0).")
        if self.layers < 1 or min(self.repeat) < 1:
            raise ValueError(f"layers and repeat are at least 1; given {self.layers} and {self.repeat}.")
        if not self.vacuum > 0:
            raise ValueError(f"vacuum must be positive; given {self.vacuum} Å.")

    def build(self) -> Atoms:
        """The slab; `info` has its area per side and whether both sides carry the same elements."""
        from ase.build import surface

        crystal = self.crystal.build()
        require_periodic(crystal, "A surface")
        crystal.set_scaled_positions((crystal.get_scaled_positions() + self.shift) % 1.0)
        atoms = surface(crystal, self.miller, self.layers, vacuum=self.vacuum)
        atoms *= (*self.repeat, 1)
        atoms.pbc = (True, True, self.periodic_normal)
        z = atoms.positions[:, 2]
        low = sorted(s for s, h in zip(atoms.symbols, z, strict=True) if h < z.min() + 0.1)
        high = sorted(s for s, h in zip(atoms.symbols, z, strict=True) if h > z.max() - 0.1)
        area = float(atoms.get_volume() / atoms.cell.lengths()[2])
        return made(self, atoms, miller=list(self.miller), area_A2=area, same_termination=low == high)
