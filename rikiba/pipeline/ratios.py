"""How many times larger one error is than another on the same frames, with an interval fit for few frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

Judgement = Literal["holds", "fails", "undecided"]
FEWEST = 4
"""Observations below which nothing is judged, as for the error bars of `validation.errors`."""


@final
@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of mean errors and its 95 % interval, NaN where there are fewer than `FEWEST` observations."""

    value: float
    low: float
    high: float
    observations: int

    def judged(self, tolerance: float) -> Judgement:
        """Whether the ratio is at most `tolerance`; undecided where the interval reaches to both sides."""
        if self.low > tolerance:
            return "fails"
        return "holds" if self.high <= tolerance else "undecided"


def ratio(above: np.ndarray, below: np.ndarray) -> Ratio:
    """Σ above / Σ below, both averaged over members, with the interval of its logarithm.

    Arrays are (members, observations): the same observations in both, summed errors of each. The variance is
    that of the jackknife over observations (so that what is hard for both cancels) plus, for each side with
    several members, that of the mean over members; the quantile is Student's t with the degrees of freedom of
    Satterthwaite (doi:10.2307/3002019), (Σ v)²/Σ(v²/f). With four observations t is 3.2, not 2.
    """
    from scipy.stats import t

    n = above.shape[1]
    nothing = Ratio(value=float("nan"), low=float("nan"), high=float("nan"), observations=n)
    if n == 0 or not below.sum() > 0:
        return nothing
    value = float(above.mean(0).sum() / below.mean(0).sum())
    if n < FEWEST or not value > 0:
        return Ratio(value=value, low=float("nan"), high=float("nan"), observations=n)
    terms = [_jackknife(above.mean(0), below.mean(0)), _between_members(above), _between_members(below)]
    variance = sum(v for v, _ in terms)
    shares = sum(v**2 / f for v, f in terms if f > 0)
    freedom = variance**2 / shares if shares > 0 else n - 1
    half = float(t.ppf(0.975, freedom) * np.sqrt(variance))
    low, high = np.exp(np.log(value) + np.array([-half, half]))
    return Ratio(value=value, low=float(low), high=float(high), observations=n)


def _jackknife(above: np.ndarray, below: np.ndarray) -> tuple[float, int]:
    """Variance of log(Σ above / Σ below) from leaving out each observation, and its degrees of freedom."""
    n = len(above)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.log(above.sum() - above) - np.log(below.sum() - below)
    return float((n - 1) / n * ((left - left.mean()) ** 2).sum()), n - 1


def _between_members(sums: np.ndarray) -> tuple[float, int]:
    """Variance of the mean over members of the logarithm of the error; zero where there is one member."""
    members = len(sums)
    if members < 2:
        return 0.0, 0
    with np.errstate(divide="ignore"):
        return float(np.log(sums.sum(1)).var(ddof=1) / members), members - 1


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """Fails where one fails, holds where all hold."""
    if "fails" in judgements:
        return "fails"
    return "holds" if judgements and set(judgements) == {"holds"} else "undecided"
