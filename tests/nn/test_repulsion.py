"""Nuclear repulsion: constants, limits, hand-computed values."""

from math import exp

import pytest
import torch

from rikiba.core import units
from rikiba.nn.repulsion import mace_zbl_pair_energy, zbl_pair_energy, zbl_screening


def by_hand(zi: int, zj: int, r: float) -> float:
    """The universal formula written out with plain numbers (Ziegler, Biersack & Littmark 1985)."""
    x = r * (zi**0.23 + zj**0.23) / (0.8854 * 0.529177)
    phi = 0.1818 * exp(-3.2 * x) + 0.5099 * exp(-0.9423 * x)
    phi += 0.2802 * exp(-0.4029 * x) + 0.02817 * exp(-0.2016 * x)
    return 14.39964 * zi * zj / r * phi


@pytest.mark.parametrize(("zi", "zj", "r"), [(1, 1, 0.5), (14, 14, 1.1), (6, 8, 0.3), (29, 1, 2.0)])
def test_universal_form(zi: int, zj: int, r: float) -> None:
    found = zbl_pair_energy(torch.tensor([r], dtype=torch.float64), torch.tensor([zi]), torch.tensor([zj]))
    assert float(found) == pytest.approx(by_hand(zi, zj, r), rel=1e-5)
    swapped = zbl_pair_energy(torch.tensor([r], dtype=torch.float64), torch.tensor([zj]), torch.tensor([zi]))
    assert float(swapped) == pytest.approx(float(found), rel=1e-14)


def test_bare_charges_at_contact_and_screening_far_away() -> None:
    z = torch.tensor([14, 14])
    r = torch.tensor([1e-6, 5.0], dtype=torch.float64)
    coulomb = units.coulomb_constant * 14 * 14 / r
    ratio = zbl_pair_energy(r, z, z) / coulomb
    assert float(ratio[0]) == pytest.approx(1.00007, abs=1e-4) and 0 < float(ratio[1]) < 1e-2
    assert float(zbl_screening(torch.zeros(1, dtype=torch.float64))) == pytest.approx(1.00007, abs=1e-9)


def test_maces_form_ends_at_the_covalent_radii() -> None:
    r = torch.tensor([0.4, 1.0, 1.5199, 1.52, 3.0], dtype=torch.float64)
    z = torch.full((5,), 6)
    found = mace_zbl_pair_energy(r, z, z, torch.full((5,), 1.52, dtype=torch.float64), power=6)
    assert bool((found[:3] > 0).all()) and float(found[2]) < 1e-6 and found[3:].eq(0).all()
    # written out: screening length 0.4543·0.529/(2·6^0.3) = 0.0702 Å, half of the universal one
    x = 1.0 * 2 * 6**0.3 / (0.4543 * 0.529)
    phi = 0.1818 * exp(-3.2 * x) + 0.5099 * exp(-0.9423 * x)
    phi += 0.2802 * exp(-0.4028 * x) + 0.02817 * exp(-0.2016 * x)
    u = 1.0 / 1.52
    envelope = 1 - 28 * u**6 + 48 * u**7 - 21 * u**8
    assert float(found[1]) == pytest.approx(14.3996 * 36 * phi * envelope, rel=1e-10)
    assert float(found[0]) < 0.5 * float(zbl_pair_energy(r[:1], z[:1], z[:1]))
