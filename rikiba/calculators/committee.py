"""Several potentials of one kind as one calculator, with their spread as uncertainty."""

from collections.abc import Sequence

import torch

from rikiba.core.pairs import PairFinder
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential

from .autograd import evaluate, frozen
from .base import require_finite, require_volume


class Committee:
    """Mean over members, with the sample standard deviation (n−1) of every quantity as `spread`.

    The mean's forces are the derivatives of the mean energy, so dynamics on a committee conserves energy.
    Members share one pair list (Seung, Opper & Sompolinsky, doi:10.1145/130385.130417; for potentials:
    Schran, Brezina & Marsalek, doi:10.1063/5.0016004).

    Args:
        members: at least two potentials.
        skin: extra neighbour radius, Å.
    """

    def __init__(self, members: Sequence[Potential], *, skin: float = 0.5) -> None:
        if len(members) < 2:
            raise ValueError(f"A committee needs at least 2 members; given {len(members)}.")
        self.members = tuple(frozen(m) for m in members)
        self.pairs = PairFinder(max(m.cutoff for m in members), skin)

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        device = self.members[0].device
        if device is not None and device != system.positions.device:
            return self(system.to(device), forces=forces, stress=stress).to(system.positions.device)
        if stress:
            require_volume(system)
        shared = self.pairs(system)
        answers = []
        for member in self.members:
            pairs = shared if member.cutoff == shared.cutoff else shared.within(system, member.cutoff)[0]
            answers.append(evaluate(member, system, pairs, forces=forces, stress=stress))
        stacked = {
            q.name: torch.stack([getattr(a, q.name) for a in answers])
            for q in answers[0].present()
            if all(getattr(a, q.name) is not None for a in answers)
        }
        mean = Results(
            **{name: v.mean(0) for name, v in stacked.items()},
            spread=Results(**{name: v.std(0) for name, v in stacked.items()}),  # type: ignore[arg-type]
        )
        return require_finite(mean, system, "Committee")
