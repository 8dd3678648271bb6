"""Messages between any representations and gates, compiled: equal to their definitions in plain torch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rikiba.kernels.gate_cpu import SIGMOID, SILU, TANH, Gates, gate_forward, gate_reverse
from rikiba.kernels.irrep_message_cpu import (
    Couplings,
    Places,
    irrep_message_forward,
    irrep_message_reverse,
)
from rikiba.kernels.lanes import LANES

N_LM = 4
BLOCKS = ((1, 64), (3, 32))
"""(components, channels) of the features; each couples to a message of as many components."""
EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-4}


class Example:
    """Random pairs of five atoms, one without neighbours, and random couplings of up to four terms a line."""

    def __init__(self, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape)).to(dtype)

        self.counts = [3, 0, 9, 4, 1]
        self.start = np.cumsum([0, *self.counts])
        self.n_pairs = int(self.start[-1])
        self.centre = torch.repeat_interleave(torch.arange(5), torch.tensor(self.counts))
        self.sender = torch.from_numpy(rng.integers(0, 5, self.n_pairs))
        self.columns = sum(c for _, c in BLOCKS)
        self.table = draw(2 * self.n_pairs + 4, self.columns)
        self.features = [draw(5, d, c) for d, c in BLOCKS]
        self.harmonics = draw(self.n_pairs, N_LM)
        self.coupled = [draw(N_LM, 1, 4), draw(N_LM, 3, 3)]
        """[harmonics, m2, m3] of each block."""
        for c in self.coupled:
            c[c.abs() < 0.5] = 0.0
        self.cotangent = [draw(5, c.shape[2], n) for c, (_, n) in zip(self.coupled, BLOCKS, strict=True)]

    def arrays(self) -> tuple[Couplings, Places]:
        lines, targets, columns, places = [], [], [], []
        base = column = at = block = 0
        for (d, channels), c in zip(BLOCKS, self.coupled, strict=True):
            for m2 in range(d):
                found = [m3 for m3 in range(c.shape[2]) if bool(c[:, m2, m3].any())]
                lines.append((base, d * channels, m2 * channels, channels, column, len(targets)))
                targets += [at + m3 * channels for m3 in found]
                columns += [c[:, m2, m3] for m3 in found]
            for m3 in range(c.shape[2]):
                places.append((at, channels, block, c.shape[2] * channels, m3 * channels))
                at += channels
            block += c.shape[2] * channels
            base, column = base + d * channels, column + channels
        matrix = torch.stack(columns, 1)
        entries = [row.nonzero().flatten() for row in matrix]
        wide = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % LANES))
        feature, size, shift, width, first, term = (np.array(x) for x in zip(*lines, strict=True))
        couplings = Couplings(
            feature, size, shift, width, first, np.append(term, len(targets)), np.array(targets),
            wide.flatten().numpy(), np.cumsum([0, *map(len, entries)]), torch.cat(entries).numpy(),
            torch.cat([row[e] for row, e in zip(matrix, entries, strict=True)]).numpy(),
        )  # fmt: skip
        return couplings, Places(*(np.array(x) for x in zip(*places, strict=True)))

    def given(self) -> tuple[Any, ...]:
        """What both kernels read, up to the target."""
        couplings, places = self.arrays()
        weights = np.tile(np.array(EXACT, self.table.numpy().dtype), self.n_pairs)
        features = torch.cat([f.flatten() for f in self.features]).numpy()
        return (
            0, 5, self.start, self.sender.numpy(), 2 * np.arange(self.n_pairs), weights,
            self.table.flatten().numpy(), self.columns, features, 5, self.harmonics.flatten().numpy(), N_LM,
            couplings, places,
        )  # fmt: skip

    def definition(self, r: Tensor, harmonics: Tensor, features: list[Tensor]) -> list[Tensor]:
        """A of each block; R is linear in r, which is zero."""
        radial = self.table[0 : 2 * self.n_pairs : 2] + r[:, None] * self.table[1 : 2 * self.n_pairs : 2]
        parts = radial.split([c for _, c in BLOCKS], 1)
        out = []
        for part, c, h in zip(parts, self.coupled, features, strict=True):
            message = torch.einsum("pn,pl,lab,pan->pbn", part, harmonics, c, h[self.sender])
            out.append(h.new_zeros(5, *message.shape[1:]).index_add(0, self.centre, message))
        return out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_messages_and_their_reverse(dtype: torch.dtype) -> None:
    example = Example(dtype)
    r = torch.zeros(example.n_pairs, dtype=dtype, requires_grad=True)
    harmonics = example.harmonics.clone().requires_grad_()
    features = [f.clone().requires_grad_() for f in example.features]
    expected = example.definition(r, harmonics, features)
    energy = sum((a * g).sum() for a, g in zip(expected, example.cotangent, strict=True))
    assert isinstance(energy, Tensor)
    slopes = torch.autograd.grad(energy, [r, harmonics, *features])

    out = torch.full((sum(a.numel() for a in expected),), torch.nan, dtype=dtype)
    irrep_message_forward(*example.given(), out.numpy(), 0, 5)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        out, torch.cat([a.detach().flatten() for a in expected]), rtol=0, atol=tolerance
    )

    slope, y_slope = np.zeros(example.n_pairs), torch.zeros_like(example.harmonics)
    h_slope = torch.zeros(sum(f.numel() for f in features), dtype=dtype)
    cotangent = torch.cat([g.flatten() for g in example.cotangent])
    rest = (cotangent.numpy(), 0, 5, slope, y_slope.view(-1).numpy(), h_slope.numpy())
    irrep_message_reverse(*example.given(), *rest)
    torch.testing.assert_close(torch.from_numpy(slope).to(dtype), slopes[0], rtol=0, atol=10 * tolerance)
    # Y_0 is constant: its derivative is not asked for
    torch.testing.assert_close(y_slope[:, 1:], slopes[1][:, 1:], rtol=0, atol=10 * tolerance)
    flat = torch.cat([s.flatten() for s in slopes[2:]])
    torch.testing.assert_close(h_slope, flat, rtol=0, atol=10 * tolerance)

    example.coupled[1][1, 2, 0] += 0.01  # negative control
    wrong = out.clone()
    irrep_message_forward(*example.given(), wrong.numpy(), 0, 5)
    assert float((wrong - out).abs().max()) > 10 * tolerance


@pytest.mark.parametrize("codes", [(SILU, SILU), (TANH, SIGMOID), (SIGMOID, TANH)])
def test_gates_and_their_reverse(codes: tuple[int, int]) -> None:
    n, generator = 5, torch.Generator().manual_seed(0)
    functions = {SILU: torch.nn.functional.silu, TANH: torch.tanh, SIGMOID: torch.sigmoid}
    scalars, vectors = (
        torch.randn(n, *shape, generator=generator, dtype=torch.float64) for shape in ((96,), (3, 64))
    )
    cotangent = torch.randn(n, 32 + 3 * 64, generator=generator, dtype=torch.float64)
    leaves = [scalars.clone().requires_grad_(), vectors.clone().requires_grad_()]
    plain, opening = leaves[0].split([32, 64], 1)
    parts = [
        2.0 * functions[codes[0]](plain),
        (1.5 * functions[codes[1]](opening)[:, None] * leaves[1]).flatten(1),
    ]
    expected = torch.cat([p.flatten() for p in parts])
    backs = torch.cat([c.flatten() for c in cotangent.split([32, 192], 1)])
    slopes = torch.autograd.grad((expected * backs).sum(), leaves)

    columns = [[1, 3], [32, 64], [0, 96], [96, 64], [-1, 32], [0, 32], codes]
    gates = Gates(*(np.array(c) for c in columns), np.array([2.0, 1.5]))  # type: ignore[call-arg]
    mixed = torch.cat([scalars.flatten(), vectors.flatten()])
    opened, out = np.zeros(n * 64), np.zeros(len(expected))
    gate_forward(0, n, gates, mixed.numpy(), n, opened, out, 0, n)
    torch.testing.assert_close(torch.from_numpy(out), expected.detach(), rtol=0, atol=1e-14)
    gate_reverse(0, n, gates, mixed.numpy(), n, opened, backs.numpy(), 0, n)
    flat = torch.cat([s.flatten() for s in slopes])
    torch.testing.assert_close(mixed, flat, rtol=0, atol=1e-13)
    assert float((torch.from_numpy(out) - 1.01 * expected.detach()).abs().max()) > 1e-3
