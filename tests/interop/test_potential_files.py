"""Parameter files in their formats: small ones written here, whole runs from them, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba import config
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.cli.main import main
from rikiba.cli.sources import potentials
from rikiba.core.system import System
from rikiba.interop.eam_files import FUNCFL_FACTOR, EamFileError, read_eam
from rikiba.interop.potential_files import with_files
from rikiba.interop.three_body_files import ThreeBodyFileError, read_stillinger_weber, read_tersoff
from rikiba.potentials.eam import EAM
from rikiba.potentials.stillinger_weber import SILICON, StillingerWeber
from rikiba.potentials.tersoff import SILICON_B, Tersoff
from rikiba.training.checkpoint import load_potential, save_potential

NI_CU = EAM.examples()[0].arguments
"""Tables of two elements."""
CROSSED = EAM.examples()[1].arguments


def numbers(values: list[float]) -> str:
    return (
        "\n".join(" ".join(f"{x:.17g}" for x in values[k : k + 5]) for k in range(0, len(values), 5)) + "\n"
    )


def setfl(path: Path, arguments: dict, elements: tuple[str, ...]) -> Path:
    """A setfl file, or eam/fs where the density has two elements."""
    n_rho, n_r = (len(arguments[k][e]) for k, e in (("embedding", "Cu"), ("pair", "Cu-Cu")))
    text = f"comment\ncomment\ncomment\n{len(elements)} {' '.join(elements)}\n"
    text += f"{n_rho} {arguments['density_step']} {n_r} {arguments['distance_step']} {arguments['cutoff']}\n"
    for a in elements:
        text += "29 63.55 3.615 fcc\n" + numbers(arguments["embedding"][a])
        keys = [a] if a in arguments["density"] else [f"{a}-{b}" for b in elements]
        text += "".join(numbers(arguments["density"][key]) for key in keys)
    pair = arguments["pair"]
    for k, a in enumerate(elements):
        for b in elements[: k + 1]:
            text += numbers(pair[f"{a}-{b}"] if f"{a}-{b}" in pair else pair[f"{b}-{a}"])
    path.write_text(text)
    return path


def energy(potential: EAM | StillingerWeber | Tersoff) -> float:
    rng = np.random.default_rng(3)
    grid = 2.3 * np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    symbols = rng.choice(potential.elements, 8)
    atoms = Atoms(symbols, grid + rng.normal(0.0, 0.15, (8, 3)))
    return float(PotentialCalculator(potential)(System.from_ase(atoms)).need("energy"))


@pytest.mark.parametrize("arguments", [NI_CU, CROSSED], ids=["setfl", "fs"])
@pytest.mark.parametrize("elements", [("Cu", "Ni"), ("Ni", "Cu")])
def test_setfl_and_fs(tmp_path: Path, arguments: dict, elements: tuple[str, ...]) -> None:
    """What was written is read, whatever the order of the elements."""
    read = read_eam(setfl(tmp_path / "any.name", arguments, elements))
    assert read.class_name == "EAM" and set(read.arguments["density"]) == set(arguments["density"])
    assert energy(EAM(**read.arguments)) == pytest.approx(energy(EAM(**arguments)), rel=1e-13)
    changed = arguments | {"density": {k: [1.1 * x for x in v] for k, v in arguments["density"].items()}}
    other = read_eam(setfl(tmp_path / "other", changed, elements))
    assert abs(energy(EAM(**other.arguments)) - energy(EAM(**arguments))) > 1e-3


def funcfl(path: Path, number: int, n: int, step: float, scale: float) -> Path:
    """One element: F = −ρ, Z = scale·(3 − r)·r/2, f = 3 − r, all polynomials that the grid holds exactly."""
    r, rho = np.arange(n) * step, np.arange(40) * 0.5
    text = f"comment\n{number} 60.0 3.6 fcc\n40 0.5 {n} {step} 2.9\n"
    for values in (-rho, scale * (3.0 - r) * r / 2.0, 3.0 - r):
        text += numbers(values.tolist())
    path.write_text(text.replace("e-", "D-"))
    return path


def test_funcfl_files_are_joined(tmp_path: Path) -> None:
    """Two elements on different grids: r·φ = 27.2 · 0.529 · Z Z at the coarser grid's nodes."""
    paths = [funcfl(tmp_path / "Cu", 29, 61, 0.05, 1.0), funcfl(tmp_path / "Ni", 28, 31, 0.1, 2.0)]
    found = read_eam(paths).arguments
    assert found["distance_step"] == 0.1 and found["cutoff"] == 2.9
    r = np.arange(31) * 0.1
    charge = (3.0 - r) * r / 2.0
    np.testing.assert_allclose(found["pair"]["Ni-Cu"], FUNCFL_FACTOR * 2.0 * charge**2, atol=1e-12)
    np.testing.assert_allclose(found["density"]["Cu"], 3.0 - r, atol=1e-12)
    assert len(found["embedding"]["Cu"]) == 40
    EAM(**found)
    with pytest.raises(EamFileError, match="one file"):
        read_eam([paths[0], paths[0]])


def test_damaged_tables(tmp_path: Path) -> None:
    good = setfl(tmp_path / "good", NI_CU, ("Cu", "Ni")).read_text()
    (tmp_path / "short").write_text(good[:-300])
    with pytest.raises(EamFileError, match=r"too early|a number was expected"):
        read_eam(tmp_path / "short")
    (tmp_path / "letters").write_text(good.replace("29 63.55 3.615 fcc\n", "29 63.55 3.615 fcc\nx", 1))
    with pytest.raises(EamFileError, match="a number was expected"):
        read_eam(tmp_path / "letters")
    (tmp_path / "prose").write_text("This is no table.\n" * 9)
    with pytest.raises(EamFileError, match="neither a funcfl"):
        read_eam(tmp_path / "prose")
    with pytest.raises(FileNotFoundError):
        read_eam(tmp_path / "absent")


def sw_text(values: dict[str, float], triplet: str = "Si Si Si", tolerance: float = 0.0) -> str:
    order = ("epsilon_eV", "sigma", "a", "lambda", "gamma", "cos_theta0", "A", "B", "p", "q")
    words = [repr(float(values[k])) for k in order]
    return f"# comment\n{triplet} {' '.join(words[:6])} # more\n   {' '.join(words[6:])} {tolerance}\n"


def test_three_body_files(tmp_path: Path) -> None:
    path = tmp_path / "Si.sw"
    path.write_text(sw_text(SILICON))
    assert read_stillinger_weber(path).arguments == {"parameters": {"Si-Si-Si": SILICON}}
    path.write_text(sw_text(SILICON, tolerance=0.01))
    with pytest.raises(ThreeBodyFileError, match="tolerance"):
        read_stillinger_weber(path)
    path.write_text(sw_text(SILICON, "A A A") + sw_text(SILICON | {"A": 8.0}, "B B B"))
    found = read_stillinger_weber(path, {"Si": "B"}).arguments["parameters"]
    assert found["Si-Si-Si"]["A"] == 8.0
    with pytest.raises(ThreeBodyFileError, match="has A, B, not C"):
        read_stillinger_weber(path, {"Si": "C"})
    with pytest.raises(ThreeBodyFileError, match="groups of 17"):
        read_tersoff(path)
    order = ("m", "gamma", "lambda3_per_A", "c", "d", "cos_theta0", "n", "beta", "lambda2_per_A")
    order += ("B_eV", "R", "D", "lambda1_per_A", "A_eV")
    path.write_text("Si Si Si " + " ".join(repr(SILICON_B[k]) for k in order))
    read = read_tersoff(path, taper="sine")
    assert read.class_name == "Tersoff" and read.arguments["taper"] == "sine"
    expected = energy(Tersoff(parameters="silicon_B", taper="sine"))
    assert energy(Tersoff(**read.arguments)) == pytest.approx(expected, rel=1e-14)
    assert energy(Tersoff(taper="sine")) != pytest.approx(expected, rel=1e-6)


def test_file_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`file` beside `kind`, alone and inside a sum, through the command line to a record."""
    setfl(tmp_path / "NiCu.eam.alloy", NI_CU, ("Ni", "Cu"))
    table = {"kind": "eam", "file": "NiCu.eam.alloy", "switch_width": 0.0}
    (alone,) = potentials(table, tmp_path)
    assert isinstance(alone, EAM) and alone.arguments["switch_width"] == 0.0
    terms = {"kind": "sum", "terms": [table, {"kind": "zbl", "elements": ["Ni", "Cu"], "cutoff": 3.0}]}
    (both,) = potentials(terms, tmp_path)
    assert energy(both) > energy(alone)  # type: ignore[arg-type]
    again = load_potential(save_potential(tmp_path / "eam.rikiba", alone))
    assert energy(again) == energy(alone)  # type: ignore[arg-type]
    (tmp_path / "run.toml").write_text(
        '[structure]\nkind = "crystal"\nformula = "Ni"\nlattice = "fcc"\n\n'
        '[potential]\nkind = "eam"\nfile = "NiCu.eam.alloy"\n'
    )
    assert main(["relax", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / "resolved.toml").read_text()
    assert 'file = "NiCu.eam.alloy"' in written and "embedding" not in written
    capsys.readouterr()


def test_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "Si.sw"
    path.write_text(sw_text(SILICON))
    good = {"kind": "stillinger_weber", "file": "Si.sw"}
    assert torch.tensor(energy(config.build_kind("potentials", with_files(good, tmp_path)))).isfinite()
    for table, text in (
        (good | {"kind": "morse"}, "has no 'file'"),
        (good | {"parameters": "silicon"}, "leave them out"),
        (good | {"file": ["Si.sw", "Si.sw"]}, "One file"),
        (good | {"file": 3}, "file must be a name"),
        (good | {"kind": "tersoff"}, "groups of 17"),
    ):
        with pytest.raises(ValueError, match=text):
            with_files(table, tmp_path)
