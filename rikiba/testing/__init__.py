"""Checks that any new class passes, ours or a third party's: they raise AssertionError with what is wrong."""

from .building import examples_of
from .calculators import check_calculator
from .operators import check_operator
from .potentials import check_potential
from .properties import check_property, check_trajectory_property
from .references import check_reference

__all__ = [
    "check_calculator",
    "check_operator",
    "check_potential",
    "check_property",
    "check_reference",
    "check_trajectory_property",
    "examples_of",
]
