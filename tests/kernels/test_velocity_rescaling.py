"""Stochastic velocity rescaling: definition and compiled version, moments, batches, systems at rest."""

import torch

from rikiba.kernels.local_motion import kinetic_energy
from rikiba.kernels.velocity_rescaling import velocity_rescaling

COUNTS = (1, 2, 5, 40)


def case() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    index = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    return {
        "velocities": torch.randn(len(index), 3, generator=g, dtype=torch.float64),
        "masses": 1.0 + torch.rand(len(index), generator=g, dtype=torch.float64),
        "system_index": index,
        "dof": torch.tensor([1.0, 3.0, 12.0, 117.0]).double(),
        "thermal_energy": torch.tensor([0.3, 1.0, 2.0, 0.5]).double(),
        "kept": torch.tensor([0.0, 0.3, 0.9, 1.0]).double(),
        "seeds": torch.tensor([5, 6, 7, 8]),
    }


def test_compiled_equals_the_definition() -> None:
    given = case()
    for step in range(20):
        fast = velocity_rescaling(**given, step=step, stream=3)
        defined = velocity_rescaling.definition(**given, step=step, stream=3)
        for a, b in zip(fast, defined, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    other = velocity_rescaling(**given, step=20, stream=2)[0]
    assert float((other - velocity_rescaling(**given, step=20, stream=3)[0]).abs().max()) > 0.1


def test_heat_is_the_change_of_kinetic_energy_and_companions_do_not_matter() -> None:
    given = case()
    moved, heat = velocity_rescaling(**given, step=1, stream=0)
    before, after = (
        kinetic_energy(given["masses"], v, given["system_index"], 4) for v in (given["velocities"], moved)
    )
    torch.testing.assert_close(after - before, heat, rtol=0, atol=1e-12)
    assert float(heat[3].abs()) < 1e-12  # c = 1
    torch.testing.assert_close(moved[-1], given["velocities"][-1], rtol=1e-14, atol=0)
    alone = {k: v[2:3] for k, v in given.items()}
    rows = slice(3, 8)
    alone |= {k: given[k][rows] for k in ("velocities", "masses")}
    alone["system_index"] = torch.zeros(5, dtype=torch.int64)
    single, warmed = velocity_rescaling(**alone, step=1, stream=0)
    assert torch.equal(single, moved[rows]) and torch.equal(warmed, heat[2:3])


def test_what_rests_stays_at_rest() -> None:
    given = case()
    given["velocities"] = torch.zeros_like(given["velocities"])
    moved, heat = velocity_rescaling(**given, step=1, stream=0)
    assert not moved.any() and not heat.any()


def test_energies_are_canonical() -> None:
    """With c = 0 the new energy is that of the bath whatever it was: ⟨K⟩ = N_f k_B T/2, variance N_f/2."""
    n, dof = 4000, 5.0
    k = (
        velocity_rescaling(
            torch.ones(n, 3).double(),
            torch.ones(n).double(),
            torch.arange(n),
            torch.full((n,), dof).double(),
            torch.ones(n).double(),
            torch.zeros(n).double(),
            torch.arange(n),
            0,
            0,
        )[1]
        + 1.5
    )
    assert abs(float(k.mean()) - 0.5 * dof) < 4 * (0.5 * dof / n) ** 0.5
    assert abs(float(k.var()) / (0.5 * dof) - 1.0) < 0.15
    # negative control: one degree of freedom too many is seen
    assert abs(float(k.mean()) - 0.5 * (dof + 1)) > 10 * (0.5 * dof / n) ** 0.5
