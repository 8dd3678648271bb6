"""Notation of representations."""

import pytest

from rikiba.nn.irreps import Irrep, Irreps


def test_parsing_round_trip() -> None:
    irreps = Irreps.parse("128x0e+128x1o + 2e")
    assert str(irreps) == "128x0e + 128x1o + 1x2e"
    assert Irreps.parse(str(irreps)) == irreps
    assert irreps.dim == 128 + 3 * 128 + 5 and irreps.l_max == 2
    assert str(Irreps.natural(16, 2)) == "16x0e + 16x1o + 16x2e"
    assert Irreps.natural(16, 2).channels() == 16


@pytest.mark.parametrize("text", ["", "128x", "3x1", "1xe", "0e +", "axo"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a representation"):
        Irreps.parse(text)


def test_products_obey_the_triangle_and_parity() -> None:
    assert [str(x) for x in Irrep(1, -1) * Irrep(2, 1)] == ["1o", "2o", "3o"]
    assert Irrep(1, -1).natural and not Irrep(1, 1).natural
    with pytest.raises(ValueError, match="unequal"):
        Irreps.parse("2x0e + 3x1o").channels()
