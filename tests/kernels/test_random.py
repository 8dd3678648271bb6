"""Counter-based random numbers against the published vectors, their distribution and independence."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.random import PER_SYSTEM, normals, philox, uniforms, uniforms_reference

# Known answers of philox4x32 with 10 rounds: file kat_vectors of the Random123 library 1.14
# (Salmon et al., doi:10.1145/2063384.2063405): counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(w, 16) for w in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    assert philox(torch.tensor(words(counter)), torch.tensor(words(key))).tolist() == words(answer)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_compiled_philox_known_answers(counter: str, key: str, answer: str) -> None:
    from rikiba.kernels.random_cpu import _philox

    assert [int(w) for w in _philox(*map(np.uint64, words(counter) + words(key)))] == words(answer)


def draw(n: int = 3, step: int = 5, rows: int = 1000) -> torch.Tensor:
    rng = np.random.default_rng(0)
    seeds = torch.from_numpy(rng.integers(-(2**62), 2**62, rows))
    index = torch.from_numpy(rng.integers(0, 2**32, rows))
    return normals(seeds, index, step, 7, n)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("step", [0, 5, 2**32 + 3, 2**62])
def test_compiled_equals_definition(n: int, step: int) -> None:
    fast = draw(n, step)
    with only_reference():
        assert torch.allclose(fast, draw(n, step), rtol=1e-12, atol=1e-14)
    assert fast.shape == (1000, n)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("step", [0, 2**32 + 3])
def test_compiled_uniforms_equal_their_definition(n: int, step: int) -> None:
    rng = np.random.default_rng(1)
    seeds = torch.from_numpy(rng.integers(-(2**62), 2**62, 1000))
    index = torch.from_numpy(rng.integers(0, 2**32, 1000))
    fast = uniforms(seeds, index, step, 7, n)
    assert torch.equal(fast, uniforms_reference(seeds, index, step, 7, n))
    assert float(fast.min()) > 0 and float(fast.max()) <= 1
    with pytest.raises(ValueError, match="at least 0"):
        uniforms(seeds, index, -1, 7, n)


def test_every_part_of_the_counter_matters() -> None:
    seeds, index = torch.tensor([1, 1, 2]), torch.tensor([0, 1, 0])
    base = normals(seeds, index, 0, 0, 2)
    assert len(base.unique()) == 6
    for step, stream in ((1, 0), (2**33, 0), (0, 1)):
        assert not (base == normals(seeds, index, step, stream, 2)).any()
    assert not (normals(seeds, torch.full_like(index, PER_SYSTEM), 0, 0, 2) == base).any()


def test_rows_do_not_know_each_other() -> None:
    seeds, index = torch.arange(50), torch.arange(50) * 3
    assert torch.equal(normals(seeds, index, 9, 1, 3)[17:18], normals(seeds[17:18], index[17:18], 9, 1, 3))


def test_distribution() -> None:
    seeds, index = torch.full((500,), 3), torch.arange(500)
    x = torch.cat([normals(seeds, index, k, 0, 3) for k in range(100)]).flatten().numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    for k in range(1, 5):  # 150000 numbers: moments within 4 standard errors
        exact = [0, 1, 0, 3][k - 1]
        error = math.sqrt([1, 2, 15, 96][k - 1] / len(x))
        assert abs((x**k).mean() - exact) < 4 * error
    a, b = x.reshape(-1, 3)[:, 0], x.reshape(-1, 3)[:, 2]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(len(a))
    assert stats.kstest(1.01 * x + 0.01, "norm").pvalue < 1e-3  # the test has the power to fail


def test_uniforms_lie_in_the_unit_interval() -> None:
    u = uniforms_reference(torch.arange(2000), torch.arange(2000), 0, 0, 4)
    assert u.min() > 0 and u.max() <= 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3


def test_bad_arguments() -> None:
    one = torch.tensor([1])
    with pytest.raises(ValueError, match="at least 0"):
        normals(one, one, -1, 0, 1)
    with pytest.raises(ValueError, match="stream"):
        normals(one, one, 0, 1 << 20, 1)
