import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_samples

from rikiba.core.record import Curve, Figure, Record, Scene, Table
from rikiba.report import write_page
from rikiba.report.page import REST, arrange, page

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Tags(HTMLParser):
    """Elements of a page, and whether each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def test_the_page_has_everything_that_the_records_say(tmp_path: Path) -> None:
    records = report_samples.records()
    path = write_page(records, tmp_path / "deep" / "report.html", title="Ethanol", subtitle="two potentials")
    tags = Tags(path.read_text(encoding="utf-8"))
    assert not tags.open
    text = " ".join("".join(tags.text).split())
    for said in (
        "Ethanol",
        "two potentials",
        "153.4 ± 2.3 GPa",
        "C₁₁",
        "cm⁻¹",
        "−4.13 ± 0.20 meV/atom/ps",
        "1 failed",
        "3 frames had atoms closer than 0.5 Å",
        "10.1103/RevModPhys.73.515",
        "By element",
        "GFN2-xTB",
    ):
        assert said in text, said
    for record in records:
        assert record.title in text
        assert all(note in text for note in record.notes)
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = [a["href"][1:] for t, a in tags.seen if t == "a" and (a["href"] or "").startswith("#")]
    assert set(anchors) <= set(ids)
    assert sum(a.get("class", "").startswith("plot") for _, a in tags.seen) == sum(
        len(r.figures) for r in records
    )


def test_nothing_is_fetched_from_anywhere() -> None:
    text = page(report_samples.records(), title="t")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]
    assert "'unsafe-inline'" not in policy[1].split("script-src")[1].split(";")[0]
    for tag, attributes in Tags(text).seen:
        assert "src" not in attributes, tag
        href = attributes.get("href") or ""
        if tag == "a":
            assert href.startswith(("#", "https://doi.org/"))
        else:
            assert href in ("", "data:,")
    css = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in css and "@import" not in css


def test_plotly_comes_once_and_only_where_it_is_needed() -> None:
    with_figures = page(report_samples.records(), title="t")
    assert len(re.findall(r"plotly\.js v\d", with_figures)) == 1
    without = page([Record(name="a", title="A", values={"x_GPa": 1.0})], title="t")
    assert len(without) < 60_000


def test_no_text_of_a_record_becomes_markup() -> None:
    evil = Record(
        name=EVIL,
        title=EVIL,
        values={EVIL: EVIL, "list": [EVIL], "map": {EVIL: EVIL}},
        notes=(EVIL,),
        verdict="fail",
        tables=(Table(title=EVIL, columns=(EVIL,), rows=((EVIL,),)),),
        references=(EVIL,),
        provenance={EVIL: EVIL},
        figures=(Figure(title=EVIL, x_label=EVIL, y_label=EVIL, curves=(Curve.of(EVIL, [1], [2]),)),),
        scenes=(Scene(title=EVIL, numbers=(1,), frames=(((0.0, 0.0, 0.0),),), frame_labels=(EVIL,)),),
    )
    tame = Record(
        name="a",
        title="a",
        values={"a": "a", "list": ["a"], "map": {"a": "a"}},
        notes=("a",),
        verdict="fail",
        tables=(Table(title="a", columns=("a",), rows=(("a",),)),),
        references=("a",),
        provenance={"a": "a"},
        figures=(Figure(title="a", x_label="a", y_label="a", curves=(Curve.of("a", [1], [2]),)),),
        scenes=(Scene(title="a", numbers=(1,), frames=(((0.0, 0.0, 0.0),),), frame_labels=("a",)),),
    )
    bad = Tags(page([evil], title=EVIL, subtitle=EVIL, sections={EVIL: ["*"]}))
    good = Tags(page([tame], title="a", subtitle="a", sections={"a": ["*"]}))
    assert [t for t, _ in bad.seen] == [t for t, _ in good.seen]
    assert all(
        set(a) - {"class"} == set(b) - {"class"} for (_, a), (_, b) in zip(bad.seen, good.seen, strict=True)
    )
    assert not any(k.startswith("on") for _, a in bad.seen for k in a)
    with pytest.raises(AssertionError):
        Tags(page([tame], title="a").replace("<h3", f"{EVIL}<h3"))


def test_sections_order_the_records() -> None:
    names = ["b", "vibrations-1", "a", "vibrations-2"]
    assert arrange(names, None) == [("", [0, 1, 2, 3])]
    groups = arrange(names, {"First": ["a"], "Empty": ["elastic*"], "Spectra": ["vibrations*"]})
    assert groups == [("First", [2]), ("Spectra", [1, 3]), (REST, [0])]
    with pytest.raises(ValueError, match="'c', which is not there; there are b, vibrations-1"):
        arrange(names, {"First": ["c"]})


def test_repeated_names_have_their_own_places() -> None:
    tags = Tags(page([Record(name=n, title=n) for n in ("a", "a", "summary", "sources")], title="t"))
    ids = [a["id"] for t, a in tags.seen if t == "article" and "id" in a]
    assert ids == ["a", "a-2", "summary", "sources"]
    every = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(every) == len(set(every))


def test_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one Record"):
        write_page([], tmp_path / "x.html", title="t")
