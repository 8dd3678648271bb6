"""Two processes train as one: equal histories and weights, with uneven batches and missing labels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from rikiba.core.results import Results
from rikiba.data.dataset import Dataset
from rikiba.potentials.pair_basis import PairBasis
from rikiba.training.distributed import Processes
from rikiba.training.trainer import Trainer

from labelled_frames import dataset  # isort: skip


def uneven() -> tuple[Dataset, Dataset]:
    """13 frames in steps of 4 (one process gets none of the last step); some labels are missing."""
    frames = list(dataset(13, seed=5).frames)
    frames[0] = replace(frames[0], results=Results(forces=frames[0].results.forces))
    frames[5] = replace(frames[5], results=Results(energy=frames[5].results.energy))
    frames[7] = replace(frames[7], weights={"forces": 0.5})
    return Dataset(frames), dataset(3, seed=6)


def train(processes: Processes, folder: Path | None = None):
    options = {
        "batch_size": 4,
        "max_epochs": 3,
        "learning_rate": 0.02,
        "stress_weight": 10.0,
        "dtype": "float64",
    }
    model = PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=4, seed=processes.rank)
    return Trainer(**options).fit(model, *uneven(), processes=processes, folder=folder)


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    processes = Processes.from_environment()
    assert (processes.rank, processes.world_size) == (rank, 2)
    result = train(processes, Path(folder) / "run")
    torch.save(
        {"weights": dict(result.potential.state_dict()), "history": list(result.history)},
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    one = train(Processes())
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    weights = one.potential.state_dict()
    for part in parts:
        for name, value in weights.items():
            torch.testing.assert_close(part["weights"][name], value, rtol=0, atol=1e-12)
        for ours, theirs in zip(one.history, part["history"], strict=True):
            for key in ("train_loss", "valid_loss", "valid_forces_mae_meV_per_A"):
                assert theirs[key] == pytest.approx(ours[key], rel=1e-11)
    assert torch.equal(parts[0]["weights"]["coefficients"], parts[1]["weights"]["coefficients"])
    # only the first process writes, and each line once
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 3
    # negative control: the sum over half the frames is not the sum over all
    half = Trainer(batch_size=4, max_epochs=3, learning_rate=0.02, stress_weight=10.0, dtype="float64").fit(
        PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=4), uneven()[0][::2], uneven()[1]
    )
    assert not torch.allclose(half.potential.coefficients, one.potential.coefficients, atol=1e-4)


def test_one_process_needs_no_group() -> None:
    processes = Processes()
    values = torch.arange(3.0)
    assert processes.sum(values) is values and processes.agree(2.5) == 2.5 and processes.first
