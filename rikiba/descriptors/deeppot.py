"""Smooth environment matrix and embedding of Deep Potential (DeepPot-SE, `se_e2_a`).

Zhang et al., NeurIPS 2018, arXiv:1805.09003. Equal to deepmd-kit on the same weights (tests/peers/deepmd).
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.kernels.grouping import group_by_type
from rikiba.kernels.pair_convolution import Coupling, plan_convolution
from rikiba.nn.cutoff import cosine, quintic
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.equivariant import PlanStore
from rikiba.nn.radial_spline import RadialSpline, SplinePoints, convolve
from rikiba.nn.residual import ResidualNetworks

Switch = Literal["quintic", "cosine"]
LEAST_DEVIATION = 1e-2
"""Smaller standard deviations are taken as this, in 1/Å, as in the published code."""


class SmoothEnvironment(DoubleBuffers):
    """D_i = A_iᵀ A_i^<, A_i = (1/N) Σ_j [R_ij ⊗ G(R_ij,0) − R⁰ ⊗ G(R⁰_0)]: [4, channels].

    R_ij = ((s − μ)/σ_r, s x/(r σ_a), s y/(r σ_a), s z/(r σ_a)) with s(r) = w(r)/r, w the switch from 1 to 0
    between `switch_start` and the cutoff: the quintic of the published code, C² at both ends, or the cosine
    of the paper (eq. 5), C¹; μ, σ_r, σ_a are of the type of i (`fit`), G a network for the type of j, or for
    both types. A^< are the first `axis_channels` columns of A. R⁰ is R
    without a neighbour, s = 0: subtracting it makes a neighbour vanish smoothly at the cutoff where μ ≠ 0.

    Departure from the published code, which keeps so many slots for neighbours of each type and leaves R⁰ in
    empty ones: with `slots` Σ_types slots·R⁰ ⊗ G(R⁰_0) is added, which gives the same numbers as long as no
    atom has more neighbours than slots (there it drops the farthest; here they count).

    Args:
        n_types: number of elements.
        cutoff: Å.
        switch_start: where the switch leaves 1, Å.
        switch: quintic or cosine.
        widths: hidden widths of the embedding network G; the last is the number of channels.
        axis_channels: columns of A^<.
        one_side: a network for each type of neighbour; otherwise one for each pair of types.
        timesteps: trained step in every layer of G.
        activation: of G.
        n_neighbours: N.
        slots: number of slots for each type; none is the form without empty slots.

    Raises ValueError for a switch that does not start inside the cutoff and for sizes that do not fit.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        n_types: int,
        cutoff: float,
        switch_start: float,
        switch: Switch,
        widths: Sequence[int],
        axis_channels: int,
        one_side: bool,
        timesteps: bool,
        activation: str,
        n_neighbours: float,
        slots: Sequence[int] | None,
    ) -> None:
        super().__init__()
        if not 0.0 < switch_start < cutoff:
            raise ValueError(
                f"switch_start lies between 0 and the cutoff of {cutoff} Å; given {switch_start}."
            )
        if switch not in ("quintic", "cosine"):
            raise ValueError(f"switch is quintic or cosine; given '{switch}'.")
        if not widths or not 1 <= axis_channels <= widths[-1]:
            raise ValueError(
                f"axis_channels is 1 to the last embedding width; given {axis_channels}, {list(widths)}."
            )
        if slots is not None and (len(slots) != n_types or min(slots) < 0 or sum(slots) < 1):
            raise ValueError(f"slots are whole numbers, one for each of {n_types} types; given {slots}.")
        self.n_types, self.cutoff, self.switch_start, self.switch = n_types, cutoff, switch_start, switch
        self.axis_channels, self.one_side, self.n_neighbours = axis_channels, one_side, float(n_neighbours)
        self.slots = None if slots is None else tuple(slots)
        self.channels = widths[-1]
        self.networks = ResidualNetworks(
            n_networks=n_types if one_side else n_types**2,
            widths=(1, *widths),
            timesteps=timesteps,
            activation=activation,
        )
        self.register_buffer("mean", torch.zeros(n_types, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones((n_types, 2), dtype=torch.float64))
        whole = torch.eye(4, dtype=torch.float64)[:, None]
        plan = plan_convolution([Coupling(0, 0, 0, whole)], n_harmonics=4, n_features=1)
        self._plan = PlanStore(plan)

    @property
    def n_features(self) -> int:
        return self.channels * self.axis_channels

    def network_of(self, centre: Int[Tensor, "n"], neighbour: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Number of the embedding network of each pair of types."""
        return neighbour if self.one_side else centre * self.n_types + neighbour

    def inverse(self, r: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """s(r) = w(r)/r, 1/Å."""
        if self.switch == "cosine":
            return cosine(((r - self.switch_start) / (self.cutoff - self.switch_start)).clamp(min=0.0)) / r
        return quintic(r / self.cutoff, self.switch_start / self.cutoff) / r

    def forward(
        self,
        vectors: Float[Tensor, "pairs 3"],
        pairs: Pairs,
        types: Int[Tensor, "atoms"],
        spline: RadialSpline | None = None,
    ) -> Float[Tensor, "atoms features"]:
        """D of every atom, [channels, axis_channels] flattened; `pairs` lie within the cutoff.

        With `spline` G is interpolated between its values at the knots.
        """
        centre, neighbour = types[pairs.i], types[pairs.j]
        r = torch.linalg.vector_norm(vectors, dim=1)
        s = self.inverse(r)
        mean, deviation = self.mean.to(s.dtype), self.deviation.to(s.dtype)[centre]
        first = (s - mean[centre]) / deviation[:, 0]
        rows = torch.cat([first[:, None], vectors * (s / (r * deviation[:, 1]))[:, None]], 1)
        points: SplinePoints | None = None
        if spline is None:
            kinds = self.network_of(centre, neighbour)
            g = self.networks(first[:, None], group_by_type(kinds, self.networks.n_networks))
        else:
            at = spline.points(r)
            table = self._table(spline, s.dtype)
            points = SplinePoints(at.row + (centre * self.n_types + neighbour) * table.shape[1], at.weights)
            g = table.flatten(0, 1)
        one = g.new_ones((1, 1, self.channels))
        senders = torch.zeros_like(pairs.j)
        a = convolve(self._plan.like(g), pairs.i, senders, g[:, None], points, rows, one, pairs.n_atoms)
        counts = s.new_zeros(pairs.n_atoms * self.n_types)
        counts = counts.index_add(0, pairs.i * self.n_types + neighbour, torch.ones_like(s))
        return self._products(a, types, counts.view(-1, self.n_types))

    def alone(self) -> Float[Tensor, "types features"]:
        """D of an atom of each type without neighbours."""
        kinds = torch.arange(self.n_types, device=self.mean.device)
        real = self.networks.weights[0]
        zero = real.new_zeros((self.n_types, 4, self.channels))
        return self._products(zero, kinds, real.new_zeros((self.n_types, self.n_types)))

    def empty(self, dtype: torch.dtype) -> Float[Tensor, "types types channels"]:
        """R⁰_0 G(R⁰_0) for each type of the centre and of the neighbour."""
        first = -self.mean / self.deviation[:, 0]
        kinds = torch.arange(self.n_types, device=first.device)
        centre, neighbour = torch.cartesian_prod(kinds, kinds).view(-1, 2).unbind(1)
        x = first[centre].to(dtype)[:, None]
        groups = group_by_type(self.network_of(centre, neighbour), self.networks.n_networks)
        return (x * self.networks(x, groups)).view(self.n_types, self.n_types, -1)

    def _products(self, a: Tensor, types: Tensor, counts: Tensor) -> Tensor:
        """From Σ_j R_ij ⊗ G to D."""
        kept = counts.new_tensor(self.slots or (0,) * self.n_types)
        constant = torch.einsum("nk,nkc->nc", kept - counts, self.empty(a.dtype)[types])
        a = torch.cat([a[:, :1] + constant[:, None], a[:, 1:]], 1) / self.n_neighbours
        return (a.transpose(1, 2) @ a[:, :, : self.axis_channels]).flatten(1)

    def _table(self, spline: RadialSpline, dtype: torch.dtype) -> Float[Tensor, "kinds rows channels"]:
        """Spline coefficients of G(r) for each type of the centre and of the neighbour."""
        # s has a pole at r = 0, where the networks have long saturated
        r = spline.samples(self.mean.device).clamp(min=0.25 * spline.spacing)
        s = self.inverse(r)
        values = [
            self.networks.one(
                int(self.network_of(torch.tensor(i), torch.tensor(j))),
                ((s - self.mean[i]) / self.deviation[i, 0])[:, None],
            )
            for i in range(self.n_types)
            for j in range(self.n_types)
        ]
        return spline.table(torch.stack(values), dtype)

    def fit(self, environments: Iterable[tuple[Tensor, Pairs, Int[Tensor, "atoms"]]]) -> list[int]:
        """Set μ, σ_r and σ_a by mean and deviation of R over neighbours, empty slots among them.

        Takes (pair vectors, pairs within the cutoff, types) and returns the number of atoms of each type.
        A type without neighbours keeps μ = 0, σ = 1.
        """
        count, atoms = self.mean.new_zeros(self.n_types), self.mean.new_zeros(self.n_types)
        sums = self.mean.new_zeros((self.n_types, 3))
        for vectors, pairs, types in environments:
            r = torch.linalg.vector_norm(vectors.to(sums.dtype), dim=1)
            s = self.inverse(r)
            centre = types[pairs.i]
            sums.index_add_(0, centre, torch.stack([s, s * s, s * s / 3.0], 1))
            count.index_add_(0, centre, torch.ones_like(s))
            atoms += torch.bincount(types, minlength=self.n_types)
        if self.slots is not None:
            count = atoms * sum(self.slots)
        found = count > 0
        mean = sums / torch.where(found, count, torch.ones_like(count))[:, None]
        radial = (mean[:, 1] - mean[:, 0] ** 2).clamp(min=0.0).sqrt()
        deviation = torch.stack([radial, mean[:, 2].sqrt()], 1).clamp(min=LEAST_DEVIATION)
        self.mean.copy_(torch.where(found, mean[:, 0], torch.zeros_like(count)))
        self.deviation.copy_(torch.where(found[:, None], deviation, torch.ones_like(deviation)))
        return [int(n) for n in atoms]
