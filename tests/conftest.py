"""Fixtures for every test."""

import os
from pathlib import Path

import pytest
import small_runs
import torch

from rikiba import config as tables
from rikiba.core.record import Record

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of public reference data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RIKIBA_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("reference data not found; set RIKIBA_DATA to the folder that holds rmd17/, mlearn/ …")
    return folder


@pytest.fixture(scope="session")
def ethanol_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """The ethanol example at small size, run once for all tests: its folder and its records."""
    pytest.importorskip("tblite", reason="pip install rikiba[xtb]")
    from rikiba.pipeline.run import run_pipeline

    out = tmp_path_factory.mktemp("ethanol")
    source = ROOT / "examples" / "ethanol" / "ethanol.toml"
    config = tables.apply_settings(tables.read(source), small_runs.ETHANOL)
    return out, run_pipeline(config, out=out, source=source)
