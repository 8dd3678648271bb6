"""The page in a real browser: it draws everything, logs no error, asks the network for nothing."""

from pathlib import Path

import browser
import pytest
import report_samples

from rikiba.report import page as page_module
from rikiba.report import write_page

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(browser.chromium() is None, reason=browser.INSTALL),
]

FIGURES = sum(len(r.figures) for r in report_samples.records())
SCENES = sum(len(r.scenes) for r in report_samples.records())


def _page(folder: Path) -> Path:
    return write_page(report_samples.records(), folder / "report.html", title="A report")


def test_everything_is_drawn_without_errors_or_requests(tmp_path: Path) -> None:
    seen = browser.visit(_page(tmp_path))
    seen.check(figures=FIGURES, scenes=SCENES)
    assert seen.body["frames"] == "30 40"
    assert seen.dom.count('class="main-svg"') >= FIGURES


def test_a_broken_viewer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page_module.asset
    monkeypatch.setattr(
        page_module, "asset", lambda name: whole(name).replace("findBonds(xyz, this", "findBond(xyz, this")
    )
    seen = browser.visit(_page(tmp_path))
    assert seen.body["state"] == "failed"
    assert any("findBond" in line for line in seen.errors)
    with pytest.raises(AssertionError):
        seen.check(figures=FIGURES, scenes=SCENES)


def test_a_script_that_does_not_parse_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page_module.asset
    monkeypatch.setattr(page_module, "asset", lambda name: whole(name) + ("}{" if name == "page.js" else ""))
    seen = browser.visit(_page(tmp_path))
    assert any("SyntaxError" in line for line in seen.errors)
    with pytest.raises(AssertionError):
        seen.check(figures=FIGURES, scenes=SCENES)


def test_an_invisible_molecule_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page_module.asset
    monkeypatch.setattr(
        page_module, "asset", lambda name: whole(name).replace("items.sort(", "items.length = 0; items.sort(")
    )
    seen = browser.visit(_page(tmp_path))
    assert seen.body["pixels"] == "0 0" and not seen.errors
    with pytest.raises(AssertionError):
        seen.check(figures=FIGURES, scenes=SCENES)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('<img src="https://example.org/x.png">', "Content Security Policy"),
        ("<script>document.title = 'changed'</script>", "Content Security Policy"),
    ],
)
def test_a_request_or_a_foreign_script_is_refused(tmp_path: Path, added: str, message: str) -> None:
    path = _page(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("</main>", added + "</main>"), encoding="utf-8")
    seen = browser.visit(path)
    assert any(message in line for line in seen.errors)
    assert "<title>A report</title>" in seen.dom
