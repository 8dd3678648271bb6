"""Choosing the representative environments of a sparse Gaussian process."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Method = Literal["cur", "fps", "uniform", "random"]


def choose(
    features: Float[Tensor, "environments components"],
    n: int,
    method: Method,
    generator: torch.Generator,
    scale: Float[Tensor, "components"] | None = None,
) -> Float[Tensor, "points components"]:
    """At most n points that represent the given environments.

    cur: environments drawn without replacement with probability proportional to their leverage (Mahoney &
    Drineas, doi:10.1073/pnas.0803205106, eq. 3). fps: each the farthest from those before. uniform: a grid
    between the smallest and the largest value of a single component. random: drawn evenly. Distances and
    leverages are those of features divided by `scale`.
    """
    if method == "uniform":
        if features.shape[1] != 1:
            raise ValueError(f"A uniform grid needs one component; these have {features.shape[1]}.")
        return torch.linspace(float(features.min()), float(features.max()), n, dtype=features.dtype)[:, None]
    distinct = torch.unique(features, dim=0)
    if len(distinct) <= n:
        return distinct
    scaled = distinct if scale is None else distinct / scale
    if method == "random":
        return distinct[torch.randperm(len(distinct), generator=generator)[:n]]
    if method == "fps":
        return distinct[farthest(scaled, n)]
    if method == "cur":
        return distinct[drawn(leverage(scaled, n), n, generator)]
    raise ValueError(f"sparse_method must be cur, fps, uniform or random; given '{method}'.")


def leverage(x: Float[Tensor, "rows columns"], rank: int) -> Float[Tensor, "rows"]:
    """Diagonal of the projection on the leading `rank` left singular vectors."""
    wide = len(x) < x.shape[1]
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > 1e-12 * values[-1]
    kept[: max(0, len(values) - rank)] = False
    if wide:
        return (vectors[:, kept] ** 2).sum(1)
    return ((x @ vectors[:, kept]) ** 2 / values[kept]).sum(1)


def drawn(weights: Float[Tensor, "rows"], n: int, generator: torch.Generator) -> Int[Tensor, "points"]:
    """n different rows, drawn one after another with these weights (as the largest of Gumbel variables)."""
    noise = -torch.log(-torch.log(torch.rand(len(weights), generator=generator, dtype=torch.float64)))
    return (weights.clamp(min=1e-300).log() + noise).topk(n).indices.sort().values


def farthest(x: Float[Tensor, "rows columns"], n: int) -> Int[Tensor, "points"]:
    """n rows, first the one nearest to the mean, then always the one farthest from all before."""
    chosen = [int((x - x.mean(0)).square().sum(1).argmin())]
    distance = (x - x[chosen[0]]).square().sum(1)
    for _ in range(n - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)
