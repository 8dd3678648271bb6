"""How many neighbours atoms have, whatever their elements: within the first minimum of the total g(r)."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from rikiba.properties.rdf import Rdf
from rikiba.properties.trajectories import Trajectory

SMOOTHING = 3
"""Bins of the running mean in which the minimum is looked for."""


@final
@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """The total radial distribution and the mean number of neighbours."""

    r: Float[np.ndarray, "bins"]
    """Å."""
    g: Float[np.ndarray, "bins"]
    cutoff: float
    """Å."""
    coordination: float


def neighbourhood(path: Trajectory, *, cutoff: float | None = None, bin_width: float = 0.05) -> Neighbourhood:
    """g(r) of all atoms alike and the mean number of neighbours within `cutoff`.

    Without a cutoff it is the least g between the first peak, at r₁, and 1.6 r₁ (the first of several equal
    ones); the first peak is the first to reach half the height of the highest.

    Raises ValueError where the cell is too small to see that far, or no two atoms are near.
    """
    alike = replace(path, numbers=np.ones_like(path.numbers))
    record = Rdf(bin_width=bin_width).analyse(alike)
    (total,), (running,) = record.figures[0].curves, record.figures[1].curves
    r, g, n = np.array(total.x), np.array(total.y), np.array(running.y)
    if not g.any():
        raise ValueError(f"No two atoms are within {r[-1]:.2f} Å of each other.")
    if cutoff is None:
        smooth = np.convolve(g, np.ones(SMOOTHING) / SMOOTHING, mode="same")
        peak = int(np.argmax(smooth >= 0.5 * smooth.max()))
        while peak + 1 < len(r) and smooth[peak + 1] > smooth[peak]:
            peak += 1
        beyond = (r > r[peak]) & (r <= 1.6 * r[peak])
        place = int(np.flatnonzero(beyond)[np.argmin(smooth[beyond])]) if beyond.any() else len(r) - 1
    else:
        place = int(np.searchsorted(r + 0.5 * bin_width, cutoff - 1e-9))
    if place >= len(r) - SMOOTHING:
        raise ValueError(
            f"Neighbours are looked for up to {r[-1]:.2f} Å, half the cell's width, which is not beyond the "
            f"first shell; take a larger cell or give coordination_cutoff."
        )
    return Neighbourhood(r=r, g=g, cutoff=float(r[place] + 0.5 * bin_width), coordination=float(n[place]))
