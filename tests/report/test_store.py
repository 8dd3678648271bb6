import json
from pathlib import Path

import pytest
import report_samples

from rikiba.core.record import Record
from rikiba.report import read_records, write_records


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = report_samples.records()
    index = write_records(records, tmp_path / "records")
    assert [e["name"] for e in json.loads(index.read_text())["records"]] == [r.name for r in records]
    assert [r.to_json() for r in read_records(tmp_path / "records")] == [r.to_json() for r in records]


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "index", "a b", "a-b", "A-B", "力場", "", "..", "a/b\\c"]
    records = [Record(name=n, title=f"number {k}") for k, n in enumerate(names)]
    write_records(records, tmp_path / "records")
    assert [r.title for r in read_records(tmp_path / "records")] == [r.title for r in records]
    assert [p.name for p in tmp_path.iterdir()] == ["records"]


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index\.json"):
        read_records(tmp_path)
    write_records([Record(name="a", title="A")], tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(ValueError, match=r"a\.json"):
        read_records(tmp_path)
