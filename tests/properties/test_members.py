"""Spread of a property over models."""

import numpy as np
import pytest
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.elastic import Elastic
from rikiba.properties.eos import Eos
from rikiba.properties.members import over_members


def argon(epsilon: float) -> PotentialCalculator:
    return PotentialCalculator(LennardJones(epsilon_eV={"Ar": epsilon}, sigma={"Ar": 3.4}, cutoff=7.5))


def test_spread_is_the_sample_deviation() -> None:
    members = [argon(e) for e in (0.010, 0.011, 0.012)]
    record = over_members(Eos(relax=False), members, bulk("Ar", "fcc", a=5.25))
    single = [Eos(relax=False).compute(m, bulk("Ar", "fcc", a=5.25))["B0_GPa"] for m in members]
    assert record["B0_GPa"] == pytest.approx(np.mean(single))
    assert record.spread["B0_GPa"] == pytest.approx(np.std(single, ddof=1))
    # depth scales the modulus and leaves the volume
    assert record.spread["V0_A3_per_atom"] < 1e-6 * record["V0_A3_per_atom"]
    tensor = over_members(Elastic(relax=False), members, bulk("Ar", "fcc", a=5.25))
    assert np.shape(tensor.spread["C_GPa"]) == (6, 6)
    assert tensor["mechanically_stable"] is True


def test_one_member_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        over_members(Eos(), [argon(0.01)], bulk("Ar", "fcc", a=5.25))
