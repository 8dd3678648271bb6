"""Nosé–Hoover chains: definition and compiled version, reversal, order of the products."""

import pytest
import torch

from rikiba.kernels.local_motion import kinetic_energy
from rikiba.kernels.nose_hoover_chain import (
    SUZUKI_YOSHIDA,
    nose_hoover_chain,
    nose_hoover_velocities,
)


def case(links: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return {
        "positions": draw(5, links) - 0.5,
        "velocities": 2 * draw(5, links) - 1,
        "masses": 0.5 + draw(5, links),
        "twice_kinetic": 4 * draw(5),
        "dof": torch.tensor([1.0, 3.0, 5.0, 9.0, 30.0]).double(),
        "thermal_energy": 0.1 + draw(5),
        "dt": 0.05 + 0.1 * draw(5),
    }


@pytest.mark.parametrize("links", [1, 2, 3, 5])
@pytest.mark.parametrize("order", SUZUKI_YOSHIDA)
def test_compiled_equals_the_definition_and_goes_back(links: int, order: int) -> None:
    given, factors = case(links), torch.tensor(SUZUKI_YOSHIDA[order]).double()
    assert sum(SUZUKI_YOSHIDA[order]) == pytest.approx(1.0, abs=1e-13)
    fast = nose_hoover_chain(**given, factors=factors)
    for a, b in zip(fast, nose_hoover_chain.definition(**given, factors=factors), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    x, v, scale = fast
    back = given | {"positions": x, "velocities": v, "twice_kinetic": given["twice_kinetic"] * scale**2}
    x, v, again = nose_hoover_chain(**back | {"dt": -given["dt"]}, factors=factors)
    torch.testing.assert_close(x, given["positions"], rtol=0, atol=1e-12)
    torch.testing.assert_close(v, given["velocities"], rtol=0, atol=1e-12)
    torch.testing.assert_close(scale * again, torch.ones(5).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("order", "power"), [(1, 2), (3, 4), (5, 4), (7, 6)])
def test_order_of_the_product(order: int, power: int) -> None:
    """The error after a fixed time falls with the product's order."""
    given = case(3, seed=1) | {"dt": torch.full((5,), 0.8).double()}

    def after(steps: int, which: int) -> torch.Tensor:
        return nose_hoover_chain(
            **given, factors=torch.tensor(SUZUKI_YOSHIDA[which]).double().repeat(steps) / steps
        )[2]

    exact = after(400, 7)
    coarse, fine = ((after(n, order) - exact).norm() for n in (8, 16))
    assert float(coarse / fine) == pytest.approx(2.0**power, rel=0.25)


def test_atoms_in_the_same_pass_have_the_bits_of_the_chain_alone() -> None:
    given, factors = case(3, seed=2), torch.tensor(SUZUKI_YOSHIDA[3]).double()
    del given["twice_kinetic"]
    g = torch.Generator().manual_seed(4)
    index = torch.tensor([0] + [1] * 3 + [2] * 4 + [3] * 9 + [4] * 14)
    atoms = torch.randn(len(index), 3, generator=g, dtype=torch.float64)
    masses = 1.0 + torch.rand(len(index), generator=g, dtype=torch.float64)
    x, v, moved = nose_hoover_velocities(
        **given, factors=factors, atoms=atoms, atom_masses=masses, system_index=index
    )
    twice = 2.0 * kinetic_energy(masses, atoms, index, 5)
    alone = nose_hoover_chain(**given, twice_kinetic=twice, factors=factors)
    for a, b in zip((x, v, moved), (*alone[:2], atoms * alone[2][index][:, None]), strict=True):
        assert torch.equal(a, b)
    defined = nose_hoover_velocities.definition(
        **given, factors=factors, atoms=atoms, atom_masses=masses, system_index=index
    )
    for a, b in zip((x, v, moved), defined, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
