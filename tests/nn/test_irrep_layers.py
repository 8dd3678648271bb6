"""Layers for features of any parity: equality with e3nn, rotation, what may be left out."""

import pytest
import torch
from e3nn import o3

from rikiba.kernels.grouping import group_by_type
from rikiba.nn.irrep_layers import (
    IrrepConvolution,
    IrrepLinear,
    SelfConnection,
    coupling_paths,
    harmonics_of,
    useful_irreps,
)
from rikiba.nn.irreps import Irrep, Irreps
from rikiba.nn.so3 import clebsch_gordan, rotation_matrix, spherical_harmonics

FEATURES = Irreps.parse("3x0e + 2x1o + 3x1e + 2x0o + 2x2e")
OUTPUTS = Irreps.parse("4x0e + 2x0o + 3x1o + 3x1e + 2x2o")


def random_features(irreps: Irreps, n: int) -> list[torch.Tensor]:
    return [torch.randn(n, ir.dim, m, dtype=torch.float64) for m, ir in irreps.terms]


def test_convolution_is_that_of_e3nn() -> None:
    torch.manual_seed(0)
    convolution = IrrepConvolution(irreps_in=FEATURES, irreps_out=OUTPUTS, harmonics=harmonics_of(2)).double()
    i, j = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 2, 0, 0, 1])
    unit = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    harmonics, features = spherical_harmonics(unit, 2), random_features(FEATURES, 3)
    radial = torch.randn(5, convolution.n_weights, dtype=torch.float64)
    found = convolution(i, j, radial, harmonics, convolution.join(features))
    expected: dict[Irrep, list[torch.Tensor]] = {ir: [] for _, ir in OUTPUTS.terms}
    column = 0
    terms = [ir for _, ir in FEATURES.terms]
    for stream in convolution.streams:
        for path in stream.paths:
            l1, l2, l3 = path.features.l, path.harmonics, path.output.l
            c = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * path.output.dim**0.5
            if l1 and l2 and l3:  # the installed e3nn may have the sign of older versions
                c = c * torch.sign((c * clebsch_gordan(l1, l2, l3)).sum())
            h = features[terms.index(path.features)][j]
            y = harmonics[:, l2 * l2 : (l2 + 1) ** 2]
            r = radial[:, column : column + stream.channels]
            message = torch.einsum("pmc,pn,mnk,pc->pkc", h, y, c, r)
            expected[path.output].append(
                torch.zeros(3, 2 * l3 + 1, h.shape[2]).double().index_add(0, i, message)
            )
            column += stream.channels
    assert column == convolution.n_weights
    for ir, block, w in zip(convolution.outputs, found, convolution.mix, strict=True):
        mixed = torch.cat(expected[ir], 2) @ w / w.shape[0] ** 0.5
        torch.testing.assert_close(block, mixed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("improper", [False, True])
def test_all_layers_turn(improper: bool) -> None:
    torch.manual_seed(1)
    convolution = IrrepConvolution(irreps_in=FEATURES, irreps_out=OUTPUTS, harmonics=harmonics_of(3)).double()
    linear = IrrepLinear(irreps_in=OUTPUTS, irreps_out=FEATURES).double()
    skip = SelfConnection(irreps_in=FEATURES, irreps_out=OUTPUTS, kind="types", types=2, embedding=1).double()
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    r = q * torch.linalg.det(q).sign() * (-1 if improper else 1)
    proper = rotation_matrix(2, r * torch.linalg.det(r).sign())

    def turn(x: list[torch.Tensor], irreps: Irreps) -> list[torch.Tensor]:
        signs = [ir.p if improper else 1 for _, ir in irreps.terms]
        return [s * proper[ir.l] @ part for s, part, (_, ir) in zip(signs, x, irreps.terms, strict=True)]

    i, j = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 0])
    unit = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1)
    radial = torch.randn(4, convolution.n_weights, dtype=torch.float64)
    features = random_features(FEATURES, 3)
    groups, none = group_by_type(torch.tensor([1, 0, 1]), 2), torch.zeros(2, 1, dtype=torch.float64)

    def apply(x: list[torch.Tensor], vectors: torch.Tensor) -> tuple[list[torch.Tensor], ...]:
        out = convolution(i, j, radial, spherical_harmonics(vectors, 3), convolution.join(x))
        for k, extra in skip(x, groups, none).items():
            out[k] = out[k] + extra
        back = linear(out)
        return out, [back[k] for k in sorted(back)]

    before, after = apply(features, unit), apply(turn(features, FEATURES), unit @ r.T)
    kept = Irreps(tuple(FEATURES.terms[k] for k in sorted(b for _, b in linear.pairs)))
    assert len(kept.terms) == 4
    for x, y, irreps in zip(before, after, (OUTPUTS, kept), strict=True):
        for a, b in zip(turn(x, irreps), y, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(before[0][2], after[0][2], atol=1e-3)


def test_paths_obey_parity() -> None:
    ir = {name: Irreps.parse(name).terms[0][1] for name in ("0e", "0o", "1o", "1e")}
    found = coupling_paths([ir["1o"]], list(ir.values()), harmonics_of(2))
    assert {(p.harmonics, str(p.output)) for p in found} == {(1, "0e"), (0, "1o"), (2, "1o"), (1, "1e")}
    even = [Irrep(0, 1), Irrep(1, 1)]
    found = coupling_paths(even[1:], even, harmonics_of(2, inversion=False))
    assert {(p.harmonics, p.output.l) for p in found} == {(1, 0), (0, 1), (1, 1), (2, 1)}


def test_what_cannot_matter_is_left_out() -> None:
    both = Irreps.parse("4x0e + 4x0o + 3x1o + 3x1e + 2x2e + 2x2o")
    first, last = Irreps.parse("5x0e"), Irreps.parse("4x0e")

    def kept(n: int, l_max: int) -> list[str]:
        return [
            str(h)
            for h in useful_irreps([both] * (n - 1) + [last], first=first, harmonics=harmonics_of(l_max))
        ]

    assert kept(2, 2) == ["5x0e", "4x0e + 3x1o + 2x2e", "4x0e"]
    assert kept(3, 1)[1:3] == ["4x0e + 3x1o", "4x0e + 3x1o"]
    assert kept(4, 1)[2] == "4x0e + 3x1o + 3x1e + 2x2e"
    assert not any("0o" in h for h in kept(5, 2)) and "0o" in kept(6, 2)[3]
    with pytest.raises(ValueError, match="cannot reach"):
        useful_irreps([Irreps.parse("2x0o")], first=first, harmonics=harmonics_of(1))


def test_an_output_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="do not reach 1e"):
        IrrepConvolution(
            irreps_in=Irreps.parse("3x0e"), irreps_out=Irreps.parse("2x1e"), harmonics=harmonics_of(2)
        )
