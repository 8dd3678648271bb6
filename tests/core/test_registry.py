"""Names are found by looking at files."""

import pytest

from rikiba.core import registry
from rikiba.core.citations import bibtex
from rikiba.core.registry import UnknownName, load, name_of, names


def test_files_are_names() -> None:
    assert {"lennard_jones", "morse", "buckingham", "zbl", "behler_parrinello", "sum"} <= set(
        names("potentials")
    )
    assert "base" not in names("potentials") and "pair" not in names("potentials")


def test_load_and_name_are_inverse() -> None:
    for name in names("potentials"):
        assert name_of("potentials", load("potentials", name)) == name


def test_import_path() -> None:
    cls = load("potentials", "collections:OrderedDict")
    assert name_of("potentials", cls) == "collections:OrderedDict"


def test_unknown_name_suggests() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'morse'"):
        load("potentials", "mors")
    with pytest.raises(UnknownName, match="cannot be imported"):
        load("potentials", "no_such_package:Thing")


def test_every_class_has_a_summary() -> None:
    for name in names("potentials"):
        assert len(registry.summary(load("potentials", name))) > 20


def test_bibtex_of_unknown_doi() -> None:
    assert "10.1000/none" in bibtex(["10.1000/NONE", "10.1000/none"])
    assert bibtex([]) == ""
