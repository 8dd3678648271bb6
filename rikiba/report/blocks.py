"""The parts of a page: one Record as an article of badges, values, figures, scenes, tables and provenance."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..core.record import Figure, Record, Scene, Table
from .figures import caption, describe, to_plotly
from .formatting import column_text, number_text, split_key, value_text
from .scenes import encode

BADGES: dict[str, tuple[str, str]] = {
    "pass": ("✓", "passed"),
    "fail": ("✕", "failed"),
    "undecided": ("?", "undecided"),
}
"""Verdict → mark and word: never by colour alone."""

LONG_LIST = 60
"""Lists with more entries are folded away."""
MOST_CARDS = 12
"""Numbers of a record beyond these are folded away."""
LONG_TABLE = 30
"""Tables with more rows are folded away."""


def article(record: Record, anchor: str) -> str:
    """One record, everything it has, HTML-escaped."""
    mark = badge(record.verdict) if record.verdict else ""
    parts = [
        f'<article id="{anchor}" class="{record.verdict or "none"}" aria-labelledby="{anchor}:title"><header>'
        f'<h3 id="{anchor}:title">{escape(record.title)}</h3>'
        f'{mark}<span class="name">{escape(record.name)}</span></header>',
        notes(record.notes),
        values(record),
        figures(record.figures, record.title),
        *(scene(s) for s in record.scenes),
        *(table(t, record.title) for t in record.tables),
        references(record.references),
        provenance(record.provenance),
        "</article>\n",
    ]
    return "".join(parts)


def badge(verdict: str | None) -> str:
    """A verdict as mark, word and colour."""
    if verdict is None:
        return '<span class="badge none">no verdict</span>'
    mark, word = BADGES[verdict]
    return f'<span class="badge {verdict}"><span aria-hidden="true">{mark}</span>{word}</span>'


def headline(record: Record, most: int = 3) -> str:
    """The record's own `finding` and its first few numbers, or its first note where it has neither."""
    finding = record.values.get("finding")
    said = [finding] if isinstance(finding, str) else []
    for key, value in record.values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and len(said) < most:
            name, unit = split_key(key)
            said.append(f"{name} {value_text(value, record.spread.get(key))}{_spaced(unit)}")
    return "; ".join(said) or (record.notes[0] if record.notes else "")


def notes(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    items = "".join(f"<li>{escape(t)}</li>" for t in texts)
    return f'<div class="notes" role="note" aria-label="Notes"><ul>{items}</ul></div>'


def values(record: Record) -> str:
    """Scalars as cards, lists below them."""
    cards, lists = [], []
    for key, value in record.values.items():
        plain = value.tolist() if hasattr(value, "tolist") else value
        given: Any = record.spread.get(key)
        spread = given.tolist() if hasattr(given, "tolist") else given
        if isinstance(plain, (list, tuple, Mapping)):
            lists.append(_list(key, plain, spread))
        else:
            cards.append(_card(key, plain, spread))
    shown, folded = cards[:MOST_CARDS], cards[MOST_CARDS:]
    out = f'<dl class="values">{"".join(shown)}</dl>' if shown else ""
    if folded:
        inside = f'<dl class="values">{"".join(folded)}</dl>'
        out += (
            f"<details><summary>{len(folded)} more value{'s' * (len(folded) > 1)}</summary>{inside}</details>"
        )
    return out + (f'<dl class="lists">{"".join(lists)}</dl>' if lists else "")


def _card(key: str, value: Any, spread: Any) -> str:
    name, unit = split_key(key)
    if isinstance(value, (int, float)):
        text, _, error = number_text(value, None if spread is None else float(spread)).partition(" ± ")
        shown = escape(text) + (f'<span class="spread"> ± {escape(error)}</span>' if error else "")
        shown += f' <span class="unit">{escape(unit)}</span>' if unit else ""
        return f"<div><dt>{escape(name)}</dt><dd>{shown}</dd></div>"
    text = escape(value_text(value)) + (f' <span class="unit">{escape(unit)}</span>' if unit else "")
    return f'<div><dt>{escape(name)}</dt><dd class="text">{text}</dd></div>'


def _list(key: str, value: Any, spread: Any) -> str:
    name, unit = split_key(key)
    heading = f"{name} ({unit})" if unit else name
    head = f"<div><dt>{escape(heading)}</dt>"
    if isinstance(value, Mapping):
        items = "".join(
            f"<li>{escape(split_key(str(k))[0])}: {escape(value_text(v))}</li>" for k, v in value.items()
        )
        return f'{head}<dd><ul class="run">{items}</ul></dd></div>'
    if value and all(isinstance(row, (list, tuple)) for row in value):
        errors = _matching(spread, len(value))
        rows = "".join(
            "<tr>" + "".join(f'<td class="number">{escape(t)}</td>' for t in _cells(row, e)) + "</tr>"
            for row, e in zip(value, errors, strict=True)
        )
        inside = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    else:
        items = "".join(f"<li>{escape(t)}</li>" for t in _cells(value, spread))
        inside = f'<ul class="run">{items}</ul>'
    if len(value) > LONG_LIST:
        inside = f"<details><summary>{len(value)} entries</summary>{inside}</details>"
    return f"{head}<dd>{inside}</dd></div>"


def _cells(row: Sequence[Any], spread: Any) -> list[str]:
    return [value_text(v, e) for v, e in zip(row, _matching(spread, len(row)), strict=True)]


def _matching(spread: Any, n: int) -> Sequence[Any]:
    """A spread for each of n entries: the given ones, or none."""
    return spread if isinstance(spread, (list, tuple)) and len(spread) == n else [None] * n


def figures(drawn: Sequence[Figure], heading: str = "") -> str:
    """Figures side by side; a title that the heading already says is not printed again."""
    if not drawn:
        return ""
    one = " one" if len(drawn) == 1 else ""
    return f'<div class="figures{one}">{"".join(_figure(f, heading) for f in drawn)}</div>'


def _figure(figure: Figure, heading: str) -> str:
    said = caption(figure)
    square = " square" if figure.diagonal else ""
    return (
        f"<figure><figcaption{_unseen(figure.title, heading)}>{escape(figure.title)}</figcaption>"
        f'<div class="plot{square}" role="img" aria-label="{escape(describe(figure))}">'
        f"{embed(to_plotly(figure))}</div>"
        + (f'<p class="caption">{escape(said)}</p>' if said else "")
        + "</figure>"
    )


def scene(shown: Scene) -> str:
    return (
        f'<figure class="viewer"><figcaption>{escape(shown.title)}</figcaption>'
        f"{embed(encode(shown))}</figure>"
        '<p class="caption">Drag to turn, shift-drag to move, scroll after a click or pinch to zoom, '
        "double-click to reset; space plays, comma and full stop step.</p>"
    )


def _unseen(title: str, heading: str) -> str:
    """The class of a title that repeats the heading: for screen readers only."""
    return ' class="unseen"' if heading == title or heading.startswith((f"{title}:", f"{title},")) else ""


def table(shown: Table, heading: str = "") -> str:
    """A table under its title, folded where it is long; nothing for one without rows."""
    if not shown.rows:
        return ""
    numeric = [
        bool(shown.rows) and all(_is_number(row[k]) or row[k] is None for row in shown.rows)
        for k in range(len(shown.columns))
    ]
    heads = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{escape(c)}</th>'
        for c, right in zip(shown.columns, numeric, strict=True)
    )
    columns = [
        column_text([row[k] for row in shown.rows]) if right else [value_text(row[k]) for row in shown.rows]
        for k, right in enumerate(numeric)
    ]
    rows = "".join(
        f"<tr>{_row(row, [c[n] for c in columns], numeric)}</tr>" for n, row in enumerate(shown.rows)
    )
    long = len(shown.rows) > LONG_TABLE
    unseen = ' class="unseen"' if long else _unseen(shown.title, heading)
    drawn = (
        f'<div class="table scroll"><table><caption{unseen}>{escape(shown.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    if not long:
        return drawn
    return f"<details><summary>{escape(shown.title)}: {len(shown.rows)} rows</summary>{drawn}</details>"


def _row(row: Sequence[Any], texts: Sequence[str], numeric: Sequence[bool]) -> str:
    cells = []
    for cell, plain, right in zip(row, texts, numeric, strict=True):
        kind = "number" if right else "wide" if len(plain) > 24 else ""
        text = badge(cell) if isinstance(cell, str) and cell in BADGES else escape(plain)
        cells.append(f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>")
    return "".join(cells)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def references(dois: Sequence[str]) -> str:
    if not dois:
        return ""
    return f'<p class="caption">Methods: {", ".join(link(d) for d in dois)}</p>'


def link(doi: str) -> str:
    """A DOI as a link; anything else as text."""
    if not doi.startswith("10."):
        return escape(doi)
    return f'<a href="https://doi.org/{escape(doi)}" rel="noreferrer">doi:{escape(doi)}</a>'


def provenance(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(value_text(v))}</dd>" for k, v in facts.items())
    return f"<details><summary>Provenance</summary><dl>{rows}</dl></details>"


def _spaced(unit: str) -> str:
    return unit if unit in ("°", "%") else f" {unit}" if unit else ""


def embed(data: object) -> str:
    """JSON that is safe inside an HTML script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for bad, good in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(bad, good)
    return f'<script type="application/json">{text}</script>'
