"""Every number of the benchmarks page comes from a results file."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_page_is_made_from_the_results() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == tables.page(), "run: python benchmarks/tables.py"
    assert "µs per step" in written and "rmd17-ethanol" in written
