"""Records on disk: one JSON file each and an index that keeps their order."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..core.record import Record

INDEX = "index.json"


def slug(name: str) -> str:
    """A name that is safe as a file name and an HTML id: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "record"


def unique_slugs(records: Sequence[Record]) -> list[str]:
    """One slug per record; a repeated one gets '-2', '-3', …"""
    taken: set[str] = {slug(Path(INDEX).stem)}
    out = []
    for record in records:
        base = slug(record.name)
        name, n = base, 1
        while name.lower() in taken:
            n += 1
            name = f"{base}-{n}"
        taken.add(name.lower())
        out.append(name)
    return out


def write_records(records: Sequence[Record], folder: str | Path) -> Path:
    """Writes each record as `<name>.json` and `index.json`, which lists file, name, title, verdict.

    Returns the index's path. An index already there is replaced; other files are left alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for record, name in zip(records, unique_slugs(records), strict=True):
        record.save(folder / f"{name}.json")
        entries.append(
            {"file": f"{name}.json", "name": record.name, "title": record.title, "verdict": record.verdict}
        )
    index = folder / INDEX
    index.write_text(json.dumps({"records": entries}, ensure_ascii=False, indent=1), encoding="utf-8")
    return index


def read_records(folder: str | Path) -> list[Record]:
    """The records that `write_records` left in a folder, in their order.

    Raises:
        ValueError: no index in the folder, or a file that it lists is gone.
    """
    folder = Path(folder)
    index = folder / INDEX
    if not index.is_file():
        raise ValueError(
            f"No {INDEX} in '{folder}': give the folder that write_records made (runs/<name>/records)."
        )
    entries = json.loads(index.read_text(encoding="utf-8"))["records"]
    gone = [e["file"] for e in entries if not (folder / e["file"]).is_file()]
    if gone:
        raise ValueError(
            f"'{index}' lists {', '.join(gone)}, not found beside it; run the step that writes it again."
        )
    return [Record.load(folder / e["file"]) for e in entries]
