"""One pass over the atoms against the plain definition, companions, and one move at a time."""

from typing import Any

import pytest
import torch

from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.local_motion import DRIFT, FRICTION, KICK, kinetic_energy, local_motion

KINDS, STREAMS = (KICK, DRIFT, FRICTION, DRIFT, FRICTION), (0, 1, 2, 3, 4)


def drawn() -> dict[str, torch.Tensor]:
    """Three systems of 5, 9 and 1 atoms; the fourth atom stands still."""
    g = torch.Generator().manual_seed(1)
    of = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    masses = torch.rand(15, generator=g, dtype=torch.float64) + 1.0
    values = {"positions": of(15, 3), "velocities": of(15, 3), "forces": of(15, 3), "masses": masses}
    values["inverse_masses"] = 1.0 / masses
    values["inverse_masses"][3] = 0.0
    values["velocities"][3] = 0.0
    values["system_index"] = torch.tensor([0] * 5 + [1] * 9 + [2])
    values["seeds"] = torch.tensor([4, -5, 6])
    return values


NUMBERS = torch.tensor([[0.1, 0.2, 0.3], [0.02, 0.03, 0.04]]).double()
NUMBERS = torch.stack([NUMBERS, NUMBERS, torch.stack([1 - NUMBERS[0], NUMBERS[1]]), 2 * NUMBERS, NUMBERS])


def test_compiled_equals_definition() -> None:
    fast = local_motion(KINDS, STREAMS, NUMBERS, 77, **drawn())
    with only_reference():
        slow = local_motion(KINDS, STREAMS, NUMBERS, 77, **drawn())
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert torch.equal(fast[0][3], drawn()["positions"][3]) and not fast[1][3].any()
    assert not fast[2][[0, 1, 3]].any() and bool((fast[2][[2, 4]] > 0).all())


def test_one_after_another_is_the_same_to_the_bit() -> None:
    together = local_motion(KINDS, STREAMS, NUMBERS, 5, **drawn())
    values: dict[str, Any] = drawn()
    for k, (kind, stream) in enumerate(zip(KINDS, STREAMS, strict=True)):
        r, v, kinetic = local_motion((kind,), (stream,), NUMBERS[k : k + 1], 5, **values)
        values |= {"positions": r, "velocities": v}
        assert torch.equal(kinetic[0], together[2][k])
    assert torch.equal(r, together[0]) and torch.equal(v, together[1])
    other = local_motion(KINDS, (0, 1, 2, 3, 5), NUMBERS, 5, **drawn())
    assert torch.equal(other[0], together[0]) and not torch.equal(other[1], together[1])


def test_companions_do_not_matter_to_the_bit() -> None:
    together, values = local_motion(KINDS, STREAMS, NUMBERS, 5, **drawn()), drawn()
    mine = slice(5, 14)
    alone = {k: x[mine] for k, x in values.items() if k not in ("system_index", "seeds")}
    alone |= {"system_index": torch.zeros(9, dtype=torch.int64), "seeds": values["seeds"][1:2]}
    found = local_motion(KINDS, STREAMS, NUMBERS[:, :, 1:2], 5, **alone)
    for a, b in zip(found, (together[0][mine], together[1][mine], together[2][:, :, 1:2]), strict=True):
        assert torch.equal(a, b)


def test_kinetic_energy() -> None:
    values = drawn()
    args = (values["masses"], values["velocities"], values["system_index"], 4)
    fast = kinetic_energy(*args)
    with only_reference():
        torch.testing.assert_close(fast, kinetic_energy(*args), rtol=1e-14, atol=0.0)
    assert fast[3] == 0.0
    one = kinetic_energy(*(x[:5] for x in args[:3]), 1)
    assert torch.equal(one, fast[:1])


def test_a_kick_needs_the_forces_of_where_the_atoms_are() -> None:
    with pytest.raises(ValueError, match="new positions"):
        local_motion((DRIFT, KICK), (0, 1), NUMBERS[:2], 0, **drawn())
    with pytest.raises(ValueError, match="stream"):
        local_motion((DRIFT,), (1 << 20,), NUMBERS[:1], 0, **drawn())
