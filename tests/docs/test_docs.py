"""The documentation runs: every block of a page that says so, in order, in an empty folder."""

import re
import shlex
from pathlib import Path

import pytest

from rikiba.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
MARK, COMMANDS_TOO = "<!-- run -->", "<!-- run with commands -->"
TITLE = r"(?:[ ]+title=\"(?P<file>[^\"]+)\")?"
FENCE = re.compile(rf"^```(?P<language>python|toml|sh){TITLE}\n(?P<code>.*?)^```$", re.M | re.S)
PAGES = sorted(
    p
    for p in (ROOT / "docs").rglob("*.md")
    if {MARK, COMMANDS_TOO} & set(p.read_text(encoding="utf-8").split("\n"))
)


def run_page(text: str, folder: Path, name: str) -> int:
    """Writes blocks with a title as files and executes Python in one namespace; returns how many blocks ran.

    Commands are carried out where the page says so; tables without a title are parts of files.
    """
    space: dict = {"__name__": "page"}
    n = 0
    for block in FENCE.finditer(text):
        if block["file"]:
            (folder / block["file"]).write_text(block["code"], encoding="utf-8")
            continue
        if block["language"] != "python":
            if block["language"] == "sh" and COMMANDS_TOO in text:
                for command in block["code"].strip().split("\n"):
                    program, *words = shlex.split(command, comments=True)
                    assert program == "rikiba" and main(words) == 0, command
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


def test_a_wrong_command_is_noticed(empty_folder: Path) -> None:
    page = f"{COMMANDS_TOO}\n```sh\nrikiba list no_such_room\n```\n"
    with pytest.raises(AssertionError, match="no_such_room"):
        run_page(page, empty_folder, "page")
    assert run_page(page.replace(COMMANDS_TOO, MARK), empty_folder, "page") == 0


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
