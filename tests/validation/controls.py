"""Models that are wrong in one way each, for the checks to catch."""

import torch
from torch import nn

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.cutoff import polynomial
from rikiba.potentials.base import Potential

CUTOFF = 4.0


def density(pairs: Pairs, system: System) -> torch.Tensor:
    """Smooth features of each atom, [atoms, 3]: C² at the cutoff."""
    r = pairs.vectors(system).norm(dim=-1)
    x = torch.stack([torch.exp(-r), torch.exp(-((r - 2.0) ** 2)), torch.cos(r)], 1)
    x = x * polynomial(r / CUTOFF, 5)[:, None]
    return x.new_zeros((system.n_atoms, 3)).index_add(0, pairs.i, x)


class Toy(Potential):
    """A sound potential; its relatives below break one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("C", "O"), CUTOFF
        self.weights = nn.Parameter(torch.tensor([[1.0, 0.4, -0.3], [0.6, -0.5, 0.8]], dtype=torch.float64))

    def forward(self, system: System, pairs: Pairs) -> Results:
        w = self.weights[self.types(system)]
        return Results(energies=(torch.sin(density(pairs, system)) * w).sum(1) + self.extra(system, pairs))

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor | float:
        return 0.0


class Ordered(Toy):
    """An un-symmetrised descriptor: neighbours count by their place in the list."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system).norm(dim=-1)
        place = torch.arange(len(pairs)) - pairs.row_start[pairs.i]
        f = 0.01 * place * polynomial(r / CUTOFF, 5)
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class Oriented(Toy):
    """A descriptor that knows the z axis."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        v = pairs.vectors(system)
        r = v.norm(dim=-1)
        f = 0.01 * v[:, 2] ** 2 * polynomial(r / CUTOFF, 5)
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class Handed(Toy):
    """A pseudoscalar: rotations are fine, mirror images are not."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        v = pairs.vectors(system)
        r = v.norm(dim=-1)
        moments = []
        for k in (2, 5, 9):
            f = torch.exp(-0.1 * k * r)[:, None] * v * polynomial(r / CUTOFF, 5)[:, None]
            moments.append(f.new_zeros((system.n_atoms, 3)).index_add(0, pairs.i, f))
        a, b, c = moments
        return 0.5 * (a * torch.linalg.cross(b, c)).sum(1)


class HardCutoff(Toy):
    """Pairs that end without a switch."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system).norm(dim=-1)
        f = 0.2 * torch.exp(-r)
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class OnlyC1(Toy):
    """A switch whose second derivative jumps at the cutoff."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system).norm(dim=-1)
        f = 0.2 * (1.0 - r / CUTOFF) ** 2
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class HiddenKink(Toy):
    """A force with a kink at 3.1 Å, well inside the cutoff."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system).norm(dim=-1)
        f = 0.3 * torch.relu(3.1 - r) ** 2
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class ReLUNetwork(Toy):
    """Smooth features, a network with corners."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1)).double()

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        return self.net(3.0 * density(pairs, system))[:, 0]


class Placed(Toy):
    """An energy that depends on where the structure is."""

    uses_positions = True

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        return 0.01 * torch.sin(system.positions[:, 0])


class Wrapping(Toy):
    """An energy that depends on which image of an atom is given."""

    uses_positions = True

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        centre = system.total(system.positions) / system.counts[:, None]
        return 1e-4 * ((system.positions - centre[system.system_index]) ** 2).sum(1)


class MeanField(Toy):
    """A potential that mixes everything it is given."""

    def forward(self, system: System, pairs: Pairs) -> Results:
        local = super().forward(system, pairs).need("energies")
        return Results(energies=local + 0.01 * local * system.total(local)[system.system_index])


class Understated(Toy):
    """Two rounds of messages, one cutoff claimed."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        h = density(pairs, system)[:, 0]
        r = pairs.vectors(system).norm(dim=-1)
        f = h[pairs.j] * polynomial(r / CUTOFF, 5)
        return 0.1 * f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class Attractive(Toy):
    """Atoms gain energy without end as they approach."""

    def extra(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system).norm(dim=-1)
        f = -1.0 / r * polynomial(r / CUTOFF, 5)
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class DirectForces:
    """A head that predicts forces of its own beside the energy: covariant, but no derivative of anything."""

    def __init__(self) -> None:
        self.inner = PotentialCalculator(Toy(), skin=0.0)
        self.cutoff = CUTOFF

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = self.inner(system, forces=forces, stress=stress)
        if not forces:
            return results
        pairs = self.inner.pairs(system)
        v = pairs.vectors(system)
        weight = density(pairs, system)[:, 1][pairs.j] * polynomial(v.norm(dim=-1) / CUTOFF, 5)
        extra = torch.zeros_like(system.positions).index_add(0, pairs.i, 0.05 * weight[:, None] * v)
        return results.replace(forces=results.need("forces") + extra)


class WrongStress:
    """The stress of a sound potential with its sign, or one off-diagonal component, changed."""

    def __init__(self, how: str) -> None:
        self.inner = PotentialCalculator(Toy(), skin=0.0)
        self.how = how

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = self.inner(system, forces=forces, stress=stress)
        if not stress:
            return results
        s = results.need("stress").clone()
        if self.how == "sign":
            s = -s
        elif self.how == "asymmetric":
            s[:, 0, 1] += 1e-3
        else:
            s = s * (1.0 + 1e-4)
        return results.replace(stress=s)


class ForgetsBatch:
    """Gives every structure of a batch the first one's energy."""

    def __init__(self) -> None:
        self.inner = PotentialCalculator(Toy(), skin=0.0)

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = self.inner(system, forces=forces, stress=stress)
        energy = results.need("energy")
        return results.replace(energy=energy[:1].expand_as(energy).clone())
