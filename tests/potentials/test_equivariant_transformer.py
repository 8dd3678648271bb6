"""The equivariant transformer: where its envelope acts, what it sees, that it learns."""

import pytest
from ase import Atoms
from network_checks import energy, labelled, with_biases

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.potentials.equivariant_transformer import EquivariantTransformer
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

SMALL = {"elements": ("O", "Si"), "cutoff": 4.0, "channels": 8, "n_heads": 2, "n_radial": 6, "n_layers": 2}


def jump(envelope_on: str) -> float:
    """Change of the energy when an atom steps over the cutoff of another, eV."""
    model = with_biases(EquivariantTransformer(**SMALL, envelope_on=envelope_on, seed=2))
    inside, outside = (
        energy(model, Atoms("OSiSi", [[0, 0, 0], [1.8, 0, 0], [0, x, 0]])) for x in (3.9999, 4.0001)
    )
    return abs(inside - outside)


def test_the_published_place_of_the_envelope_jumps() -> None:
    assert jump("values") < 1e-5
    assert jump("attention") > 1e-3


def test_it_learns() -> None:
    data = labelled(12, seed=3)
    start = EquivariantTransformer(**SMALL, scale=0.5)
    before = errors(PotentialCalculator(start), data).values["forces_mae_meV_per_A"]
    result = Trainer(max_epochs=30, batch_size=4, learning_rate=0.01).fit(start, data)
    after = errors(PotentialCalculator(result.potential), data).values["forces_mae_meV_per_A"]
    assert after < 0.4 * before


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="divide among 3 heads"):
        EquivariantTransformer(**(SMALL | {"n_heads": 3}))
    with pytest.raises(ValueError, match="envelope_on"):
        EquivariantTransformer(**SMALL, envelope_on="keys")
