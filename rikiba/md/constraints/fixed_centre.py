"""A centre of mass that stands still."""

import torch

from rikiba.core.system import System

from .base import Parts


class FixedCentre:
    """The centre of mass of each structure's moving atoms stands still, whatever noise or walls do to it.

    It takes three degrees of freedom: under Langevin dynamics too, where total momentum is free without it,
    and not twice where the velocities had no total momentum at the start. Beside fixed atoms it is the centre
    of the others that stands still. Barostats do without it: they keep a total momentum of zero.
    """

    def bind(self, system: System) -> Parts:
        held = torch.ones(system.n_systems, dtype=torch.bool, device=system.cell.device)
        return Parts(centred=held)
