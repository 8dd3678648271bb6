"""Grouping by type and sums over sorted indices."""

import pytest
import torch

from rikiba.kernels.grouping import group_by_type, matmul_by_type, segment_sum


def test_grouping_is_undone() -> None:
    types = torch.tensor([2, 0, 2, 5, 0])
    groups = group_by_type(types, 7)
    assert [k for k, _, _ in groups.spans] == [0, 2, 5]
    x = torch.arange(10.0).reshape(5, 2)
    grouped = groups.gather(x)
    for kind, start, stop in groups.spans:
        torch.testing.assert_close(grouped[start:stop], x[types == kind])
    torch.testing.assert_close(groups.restore(grouped), x)
    assert not torch.equal(grouped, x)


@pytest.mark.parametrize("types", [[0, 0, 0], [1, 0, 1], []])
def test_matmul_by_type(types: list[int]) -> None:
    t = torch.tensor(types, dtype=torch.int64)
    x, w = torch.randn(len(t), 4, 3, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    expected = torch.einsum("nda,nab->ndb", x, w[t])
    torch.testing.assert_close(matmul_by_type(x, w, group_by_type(t, 2)), expected)


def test_segment_sum_is_sequential() -> None:
    """The same bits as a loop over rows in order; another order gives other bits."""
    g = torch.Generator().manual_seed(0)
    index = torch.sort(torch.randint(0, 5, (400,), generator=g))[0]
    values = torch.randn(400, 3, generator=g) * 10.0 ** torch.randint(-3, 4, (400, 1), generator=g)
    expected = torch.zeros(6, 3)
    for k, v in zip(index.tolist(), values, strict=True):
        expected[k] += v
    assert torch.equal(segment_sum(values, index, 6), expected)
    assert not torch.equal(segment_sum(values.flip(0), index.flip(0), 6), expected)
    with pytest.raises(ValueError, match="indices"):
        segment_sum(values, index[1:], 6)
