"""Every number of the benchmarks page comes from a results file."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # as for the script itself
        spec.loader.exec_module(module)
    return module


def test_page_is_made_from_the_results(tables: ModuleType) -> None:
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == tables.page(), "run: python benchmarks/tables.py"
    assert "µs per step" in written and "rmd17-ethanol" in written and "MACE 128x0e" in written


def test_plot_shows_every_model(tables: ModuleType) -> None:
    """Its text is the models' names; the drawing itself depends on matplotlib's version."""
    written = (ROOT / "docs" / "benchmarks-peers.svg").read_text(encoding="utf-8")
    models = tables.by_model([r for part in tables.peer_rows().values() for r in part])
    assert models and all(f">{name}</text>" in written for name in models), "run: python benchmarks/tables.py"
    assert tables.plot() == tables.plot()


def test_a_changed_result_changes_page_and_plot(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    page, plot = tables.page(), tables.plot()
    rows = {name: json.loads(json.dumps(part)) for name, part in tables.peer_rows().items()}
    next(iter(rows.values()))[0]["ratio"] = 1234.0
    monkeypatch.setattr(tables, "peer_rows", lambda: rows)
    assert tables.page() != page and "1234" in tables.page()
    assert tables.plot() != plot
