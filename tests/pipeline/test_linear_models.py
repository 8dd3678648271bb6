"""Models that are linear in their coefficients are solved for, from the same file as the others."""

import tomllib
from pathlib import Path

import pytest

from rikiba import config as tables
from rikiba.config import ConfigError
from rikiba.pipeline.plan import Plan
from rikiba.pipeline.run import run_pipeline
from rikiba.training.checkpoint import load_potential
from rikiba.training.least_squares import LeastSquares
from rikiba.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "silicon" / "data"
TEXT = f"""
[data]
training = "{DATA / "test.xyz"}"
test = "{DATA / "test.xyz"}"
level_of_theory = "PBE"
stress_key = "stress"
[split]
validation_fraction = 0
[validation]
physics = false
[model.snap.potential]
kind = "sum"
[[model.snap.potential.terms]]
kind = "zbl"
covalent_fraction = 0.9
[[model.snap.potential.terms]]
kind = "snap"
twojmax = 4
cutoff = 4.5
[model.snap.training]
stress_weight = 10.0
"""


GAP = """
[model.gap.potential]
kind = "gap"
[[model.gap.potential.terms]]
kind = "soap"
cutoff = 5.0
n_max = 6
l_max = 4
n_sparse = 60
[model.gap.training]
energy_sigma = 0.002
virial_sigma = "none"
"""


MTP = """
[model.mtp.potential]
kind = "mtp"
level = 6
[model.mtp.training]
rounds = 1
iterations = 5
[model.mtp.training.linear]
energy_weight = 10.0
"""


def changed(text: str, *settings: str) -> dict:
    return tables.apply_settings(tomllib.loads(text), list(settings))


def test_a_run_solves_what_is_linear(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(TEXT)
    records = run_pipeline(changed(TEXT + GAP + MTP), out=tmp_path / "run", source=file)
    found = {r.name: r for r in records}
    # SNAP with 2J = 4 leaves about 0.2 eV/Å on this set; predicting nothing leaves 0.5 and more
    assert 0 < found["errors_snap"]["forces_mae_meV_per_A"] < 300
    assert (
        0 < found["errors_gap"]["forces_mae_meV_per_A"] < 300 and found["training_gap"]["coefficients"] == 60
    )
    assert 0 < found["errors_mtp"]["forces_mae_meV_per_A"] < 300
    assert found["training_snap"]["rank"] == found["training_snap"]["coefficients"] == 15
    saved = load_potential(tmp_path / "run" / "models" / "snap" / "potential.npz")
    assert float(saved.terms[1].coefficients.detach().abs().max()) > 1e-3
    written = tomllib.loads((tmp_path / "run" / "resolved.toml").read_text())["model"]["snap"]["training"]
    assert written["stress_weight"] == 10.0 and written["solver"] == "qr" and "max_epochs" not in written


def test_the_file_decides_how_a_model_learns() -> None:
    def fitter(*settings: str) -> object:
        return Plan.of(changed(TEXT, *settings), ROOT).models[0].trainer

    assert isinstance(fitter(), LeastSquares)
    other = TEXT.replace("stress_weight = 10.0", 'kind = "trainer"\nmax_epochs = 2')
    assert isinstance(Plan.of(changed(other), ROOT).models[0].trainer, Trainer)
    with pytest.raises(ConfigError, match=r"\[model.snap.training\].*'max_epochs'.*LeastSquares"):
        fitter("model.snap.training.max_epochs=3")
    with pytest.raises(
        ConfigError, match="trainer or least_squares or separable_least_squares or sparse_gaussian"
    ):
        fitter('model.snap.training.kind="adam"')
    with pytest.raises(ConfigError, match="members must be 1"):
        fitter("model.snap.members=3")
