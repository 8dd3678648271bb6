"""What comes first on a page, what is folded, and what is said once."""

import re

from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.report.blocks import LONG_TABLE, MOST_CARDS, article, headline
from rikiba.report.figures import MOST_ALIKE, to_plotly
from rikiba.report.page import page


def rows(n: int) -> Table:
    return Table(title="Settings", columns=("key", "value"), rows=tuple((f"k{k}", k) for k in range(n)))


def test_failures_come_first_and_the_unjudged_are_folded() -> None:
    records = [
        Record(name="plain", title="A plain result"),
        Record(name="good", title="A good one", verdict="pass"),
        Record(name="bad", title="A bad one", verdict="fail"),
        Record(name="open", title="An open one", verdict="undecided"),
    ]
    text = page(records, title="t")
    summary = text[text.index('<article class="summary">') :].split("</article>")[0]
    order = re.findall(r'href="#(\w+)"', summary)
    assert order == ["bad", "open", "good", "plain"]
    assert summary.index("<details>") < summary.index('href="#plain"')
    # nothing judged: nothing folded
    text = page(records[:1], title="t")
    assert "<details>" not in text[text.index('<article class="summary">') :].split("</article>")[0]


def test_a_section_called_summary_has_no_second_heading() -> None:
    records = [Record(name="errors", title="Errors"), Record(name="rest", title="Rest")]
    text = page(records, title="t", sections={"Summary": ["errors"], "Other": ["rest"]})
    assert len(re.findall(r'<h2 class="section"[^>]*>Summary</h2>', text)) == 1
    assert text.index('id="errors"') < text.index(">Other</h2>") < text.index('id="rest"')


def test_long_tables_are_folded_and_short_ones_are_not() -> None:
    short, long = (
        article(Record(name="r", title="R", tables=(rows(n),)), "r") for n in (LONG_TABLE, LONG_TABLE + 1)
    )
    assert "<details>" not in short and f"Settings: {LONG_TABLE + 1} rows" in long
    assert f"k{LONG_TABLE}" in long
    assert "<table" not in article(Record(name="r", title="R", tables=(rows(0),)), "r")


def test_values_beyond_a_dozen_are_folded_with_the_first_in_sight() -> None:
    values = {f"x{k:02d}_eV": float(k) for k in range(MOST_CARDS + 3)}
    text = article(Record(name="r", title="R", values=values), "r")
    seen, folded = text.split("<details>")
    assert "x00" in seen and f"x{MOST_CARDS:02d}" not in seen and f"x{MOST_CARDS:02d}" in folded
    assert "3 more values" in folded


def test_a_title_is_read_once() -> None:
    curve = Curve.of("a", [0, 1], [0, 1])
    made = lambda heading: article(  # noqa: E731
        Record(
            name="r",
            title=heading,
            figures=(Figure(title="Torsion", x_label="x", y_label="y", curves=(curve,)),),
        ),
        "r",
    )
    assert '<figcaption class="unseen">Torsion' in made("Torsion: mace")
    assert "<figcaption>Torsion" in made("Dynamics: mace")


def test_the_finding_is_the_headline() -> None:
    judged = Record(
        name="d",
        title="Drift",
        values={"drift_meV": 2.0, "finding": "too short to tell"},
        verdict="undecided",
    )
    assert headline(judged).startswith("too short to tell") and "meV" in headline(judged)
    failed = Record(name="t", title="Torsion", verdict="fail", notes=("No answer: not converged",))
    assert headline(failed) == "No answer: not converged"


def test_many_replicas_share_one_entry_of_the_legend() -> None:
    def legend(n: int) -> list[str]:
        curves = tuple(Curve.of(f"replica {k}", [0, 1], [k, k]) for k in range(n))
        fit = Curve.of("fitted line", [0, 1], [0, 0])
        figure = Figure(title="f", x_label="x", y_label="y", curves=(*curves, fit))
        return [t["name"] for t in to_plotly(figure)["data"] if t.get("showlegend", True)]

    assert legend(MOST_ALIKE + 1) == [f"replica 0 … {MOST_ALIKE}", "fitted line"]
    assert len(legend(MOST_ALIKE)) == MOST_ALIKE + 1
