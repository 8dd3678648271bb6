"""The Python of the documentation runs: every block of a page that says so, in order, in an empty folder."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- run -->"
FENCE = re.compile(r"^```python(?:[ ]+title=\"(?P<file>[^\"]+)\")?\n(?P<code>.*?)^```$", re.M | re.S)
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if MARK in p.read_text(encoding="utf-8"))


def run_page(text: str, folder: Path, name: str) -> int:
    """Writes blocks with a title as files and executes the others in one namespace; returns how many ran."""
    space: dict = {"__name__": "page"}
    n = 0
    for block in FENCE.finditer(text):
        if block["file"]:
            (folder / block["file"]).write_text(block["code"], encoding="utf-8")
            continue
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block["code"], name, "exec"), space)
        n += 1
    return n


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(page: Path, empty_folder: Path) -> None:
    assert run_page(page.read_text(encoding="utf-8"), empty_folder, str(page)) > 0


def test_pages_are_found() -> None:
    assert len(PAGES) >= 6


def test_a_wrong_block_is_noticed(empty_folder: Path) -> None:
    page = (
        f'{MARK}\n```python title="made.py"\nvalue = 2\n```\ntext\n```python\nfrom made import value\n```\n'
    )
    assert run_page(page, empty_folder, "page") == 1
    with pytest.raises(AssertionError):
        run_page(page + "```python\nassert value == 3\n```\n", empty_folder, "page")


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in contents, page


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+?\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), (page, target)


def test_every_claim_names_a_test_that_is_there() -> None:
    text = (ROOT / "docs" / "what-works.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`]+\.py)`", text)
    assert len(named) > 20
    for path in named:
        assert (ROOT / path).is_file(), path


def test_every_documented_name_is_there() -> None:
    import importlib

    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M):
            module, _, attribute = name.rpartition(".")
            if attribute[0].isupper() or module.count(".") > 1:
                assert hasattr(importlib.import_module(module), attribute), name
            else:
                importlib.import_module(name)
