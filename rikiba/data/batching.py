"""Frames into batches: missing labels as NaN, pairs found once, an order that a resume can repeat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import QUANTITIES, Results
from rikiba.core.system import System

from .dataset import Dataset, Labelled

TRAINED = ("energy", "forces", "stress")
"""Quantities that a batch always has labels and weights for (NaN labels where no frame has one)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Several frames as one System, with their pairs, labels and weights."""

    system: System
    pairs: Pairs
    labels: Results
    """Energy, forces and stress always, others where some frame has them; NaN marks a missing label."""
    weights: dict[str, Float[Tensor, "systems"]]
    """Factor on each frame's loss per quantity; 1 where the frame gives none."""
    frames: tuple[int, ...]
    """Indices in the dataset."""
    sources: tuple[str, ...]
    """File and frame of each system, for messages."""

    def __len__(self) -> int:
        return self.system.n_systems

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            system=self.system.to(device),
            pairs=self.pairs.to(device),
            labels=self.labels.to(device),
            weights={k: v.to(device) for k, v in self.weights.items()},
        )

    def without_labels(self) -> "Batch":
        """The same structures with every label missing and every weight zero: adds nothing to a loss."""
        return replace(
            self,
            labels=self.labels._map(lambda t: torch.full_like(t, float("nan"))),
            weights={k: torch.zeros_like(v) for k, v in self.weights.items()},
        )


def collate(
    frames: Sequence[Labelled],
    pairs: Pairs | Sequence[Pairs] | None = None,
    indices: Sequence[int] | None = None,
    cutoff: float | None = None,
) -> Batch:
    """Concatenate frames into one Batch.

    `pairs` is the list of the whole batch, or one list per frame; without it they are searched up to
    `cutoff` (Å). A label that a frame lacks becomes NaN. Raises ValueError for no frames, for a label that is
    not finite (the frame is named), and where only some frames have a charge, spin or magnetic moments.
    """
    if not frames:
        raise ValueError("collate needs at least one frame.")
    system = _system(frames)
    if pairs is None:
        if cutoff is None:
            raise ValueError("collate needs the pairs, or a cutoff to find them with.")
        pairs = find_pairs(system, cutoff)
    elif not isinstance(pairs, Pairs):
        pairs = Pairs.cat(list(pairs))
    names = set(TRAINED) | {name for f in frames for name in f.weights}
    return Batch(
        system=system,
        pairs=pairs,
        labels=_labels(frames),
        weights={
            name: torch.tensor([f.weights.get(name, 1.0) for f in frames], dtype=torch.float64)
            for name in sorted(names)
        },
        frames=tuple(range(len(frames))) if indices is None else tuple(int(k) for k in indices),
        sources=tuple(f.source for f in frames),
    )


def _system(frames: Sequence[Labelled]) -> System:
    """Concatenated structures; where only some frames have tags or info, the others get ASE's default."""
    systems = [f.system for f in frames]
    if any(s.tags is not None for s in systems):
        systems = [s if s.tags is not None else s.replace(tags=torch.zeros_like(s.numbers)) for s in systems]
    if any(s.info is not None for s in systems):
        systems = [s if s.info is not None else s.replace(info=({},)) for s in systems]
    return systems[0] if len(systems) == 1 else System.cat(systems)


def _labels(frames: Sequence[Labelled]) -> Results:
    """Labels of all frames; NaN in the rows of a frame that has none."""
    out: dict[str, Any] = {}
    for q in QUANTITIES.values():
        given = [getattr(f.results, q.name) for f in frames]
        if q.name not in TRAINED and all(g is None for g in given):
            continue
        parts = []
        for frame, value in zip(frames, given, strict=True):
            rows = frame.system.n_atoms if q.per == "atom" else 1
            if value is None:
                value = torch.full((rows, *q.shape), float("nan"), dtype=torch.float64)
            elif tuple(value.shape) != (rows, *q.shape):
                raise ValueError(
                    f"{frame.source or 'A frame'}: '{q.name}' has shape {tuple(value.shape)}; "
                    f"{(rows, *q.shape)} is needed."
                )
            elif not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"{frame.source or 'A frame'}: '{q.name}' is not finite; remove the frame or label it."
                )
            parts.append(value.double())
        out[q.name] = torch.cat(parts)
    return Results(**out)


@final
class Loader:
    """Batches of a dataset in an order that follows from (seed, epoch) alone, so that a resume is exact.

    `batch_size` counts the frames of one step over all ranks. Each step's frames are dealt to the ranks in
    turn, so every rank sees the same number of batches and the union over ranks is the batch of a single
    process. A rank that is dealt none gets the step's first frame without labels (`Batch.without_labels`).

    Pairs are found once per frame and kept in 32/16-bit integers, 14 bytes a pair, until `cache_MiB` is full;
    further frames are searched each time. Frames themselves are never kept, so a lazy dataset stays on disk.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        cutoff: float,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        cache_pairs: bool = True,
        cache_MiB: float = 1024.0,
    ) -> None:
        """
        Args:
            dataset: labelled frames, in memory or lazy
            batch_size: frames a step, summed over all ranks
            cutoff: pairs are listed up to this distance, Å
            shuffle: a new order each epoch; otherwise the dataset's order
            seed: seed of the order
            rank: index of this process
            world_size: number of processes
            cache_pairs: keep each frame's pair list
            cache_MiB: memory that kept pair lists may take
        """
        if len(dataset) == 0:
            raise ValueError("The dataset is empty; there is nothing to load.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least 1 is needed.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} does not exist among {world_size} processes.")
        self.dataset, self.batch_size, self.cutoff = dataset, batch_size, float(cutoff)
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self._room = cache_MiB * 2**20 if cache_pairs else 0.0
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return -(-len(self.dataset) // self.batch_size)

    def order(self, epoch: int) -> list[int]:
        """Dataset indices in the order of an epoch, the same on every rank."""
        if not self.shuffle:
            return list(range(len(self.dataset)))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(len(self.dataset), generator=generator).tolist()

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from batch number `start` on."""
        order = self.order(epoch)
        for begin in range(start * self.batch_size, len(order), self.batch_size):
            step = order[begin : begin + self.batch_size]
            mine = step[self.rank :: self.world_size]
            yield self._batch(mine) if mine else self._batch(step[:1]).without_labels()

    def _batch(self, indices: Sequence[int]) -> Batch:
        frames = [self.dataset[k] for k in indices]
        lists = [self._pairs(k, f.system) for k, f in zip(indices, frames, strict=True)]
        return collate(frames, lists, indices)

    def _pairs(self, k: int, system: System) -> Pairs:
        if k in self._kept:
            i, j, shift = self._kept[k]
            return Pairs(
                i=i.long(), j=j.long(), shift=shift.long(), cutoff=self.cutoff, n_atoms=system.n_atoms
            )
        pairs = find_pairs(system, self.cutoff)
        size = 14 * len(pairs)
        fits = len(pairs) == 0 or int(pairs.shift.abs().max()) < 2**15
        if fits and size <= self._room:
            self._room -= size
            self._kept[k] = (pairs.i.int(), pairs.j.int(), pairs.shift.short())
        return pairs
