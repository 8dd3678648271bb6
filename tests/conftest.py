"""Fixtures for every test."""

import os
from pathlib import Path

import pytest
import torch

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
