"""Records → one web page that needs nothing but itself: no network, no files beside it."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from ..core.citations import bibliography
from ..core.record import Record
from .blocks import BADGES, article, badge, headline, link
from .store import unique_slugs

REST = "More results"
SUMMARY = "Summary"


def write_page(
    records: Sequence[Record],
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    sections: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Writes records as one self-contained HTML page: verdicts, values, figures, 3D views, sources.

    A content security policy in the page forbids every network request and every script but its own.

    Args:
        records: what to show; their order is kept.
        path: the .html file; its folder is made.
        title: heading of the page.
        subtitle: one sentence below it.
        sections: heading → names of records (or patterns such as 'vibrations*'), in order. Records that
            no section names come last under 'More results'. Without sections the page has one list. The
            records of a section 'Summary' follow the list of verdicts at the top.

    Raises:
        ValueError: no records, or a section names a record that is not there.
    """
    if not records:
        raise ValueError("A report needs at least one Record; none was given.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(records, title=title, subtitle=subtitle, sections=sections), encoding="utf-8")
    return path


def page(
    records: Sequence[Record],
    *,
    title: str,
    subtitle: str = "",
    sections: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The text of the page that `write_page` writes."""
    anchors = unique_slugs(records)
    groups = arrange([r.name for r in records], sections)
    order = [k for _, members in groups for k in members]
    body = [_summary(records, anchors, order)]
    contents = ['<li><a href="#page:summary"><span class="dot" aria-hidden="true">≡</span>Summary</a></li>']
    for number, (heading, members) in enumerate(groups):
        top = heading == SUMMARY and number == 0
        if heading and not top:
            body.append(f'<h2 class="section" id="page:section-{number}">{escape(heading)}</h2>')
            contents.append(f'<li><span class="group">{escape(heading)}</span></li>')
        body += [article(records[k], anchors[k]) for k in members]
        contents += [_entry(records[k], anchors[k]) for k in members]
    sources = _sources(records)
    if sources:
        body.append(sources)
        contents.append(
            '<li><a href="#page:sources"><span class="dot" aria-hidden="true">§</span>Sources</a></li>'
        )
    scripts = _scripts(any(r.figures for r in records))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{asset("page.css")}</style>
</head>
<body data-state="loading">
<a class="skip" href="#page:content">Skip to the results</a>
<header class="top">
<h1>{escape(title)}</h1>
{f"<p>{escape(subtitle)}</p>" if subtitle else ""}
{_counts(records)}
</header>
<div class="layout">
<nav class="toc" aria-label="Contents"><h2>Contents</h2><ol>
{"".join(contents)}
</ol></nav>
<main id="page:content">
{"".join(body)}
</main>
</div>
<footer>Written by rikiba. This page is complete in itself and makes no network request.</footer>
{"".join(f"<script>{s}</script>" for s in scripts)}
</body>
</html>
"""


def arrange(
    names: Sequence[str], sections: Mapping[str, Sequence[str]] | None
) -> list[tuple[str, list[int]]]:
    """Heading and members (indices into names) of each section that has any; each record is in one."""
    if sections is None:
        return [("", list(range(len(names))))]
    left = list(range(len(names)))
    groups: list[tuple[str, list[int]]] = []
    for heading, patterns in sections.items():
        members: list[int] = []
        for pattern in patterns:
            found = [k for k in left if fnmatchcase(names[k], pattern)]
            exact = not any(mark in pattern for mark in "*?[")
            if exact and pattern not in names:
                raise ValueError(
                    f"Section '{heading}' names the record '{pattern}', which is not there; there are "
                    f"{', '.join(names)}. Use a pattern ('{pattern}*') for records that may be absent."
                )
            members += found
            left = [k for k in left if k not in found]
        if members:
            groups.append((heading, members))
    return [*groups, (REST, left)] if left else groups


def asset(name: str) -> str:
    """Text of a file in report/assets."""
    return files("rikiba.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _closed(get_plotlyjs())


def _closed(script: str) -> str:
    """A script that cannot end its own element: '</script' and '<!--' are in strings, where \\x3c is '<'."""
    return script.replace("</script", "\\x3c/script").replace("<!--", "\\x3c!--")


def _scripts(figures: bool) -> list[str]:
    own = [_closed(asset("viewer.js")), _closed(asset("page.js"))]
    return [_plotly(), *own] if figures else own


def _policy(scripts: Iterable[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )


def _counts(records: Sequence[Record]) -> str:
    items = []
    for verdict, (mark, word) in BADGES.items():
        n = sum(r.verdict == verdict for r in records)
        if n:
            items.append(f'<li class="badge {verdict}"><span aria-hidden="true">{mark}</span>{n} {word}</li>')
    plain = sum(r.verdict is None for r in records)
    if plain:
        items.append(f'<li class="badge none">{plain} without a verdict</li>')
    return f'<ul class="counts" aria-label="Verdicts">{"".join(items)}</ul>'


def _summary(records: Sequence[Record], anchors: Sequence[str], order: Sequence[int]) -> str:
    """What was judged, failures first; the rest folded below, or all where nothing was judged."""
    judged = [k for verdict in ("fail", "undecided", "pass") for k in order if records[k].verdict == verdict]
    rest = [k for k in order if records[k].verdict is None]

    def listed(members: Sequence[int]) -> str:
        rows = "".join(
            f'<tr><td>{badge(records[k].verdict)}</td><td class="wide"><a href="#{anchors[k]}">'
            f'{escape(records[k].title)}</a></td><td class="wide">{escape(headline(records[k]))}</td></tr>'
            for k in members
        )
        return (
            '<div class="scroll"><table><thead><tr><th scope="col">Verdict</th><th scope="col">Result</th>'
            f'<th scope="col">In short</th></tr></thead><tbody>{rows}</tbody></table></div>'
        )

    inside = listed(judged or rest)
    if judged and rest:
        inside += f"<details><summary>{len(rest)} results without a verdict</summary>{listed(rest)}</details>"
    return f'<h2 class="section" id="page:summary">Summary</h2><article class="summary">{inside}</article>'


def _entry(record: Record, anchor: str) -> str:
    mark = BADGES[record.verdict][0] if record.verdict else "·"
    kind = record.verdict or "none"
    return (
        f'<li><a href="#{anchor}"><span class="dot {kind}" aria-hidden="true">{mark}</span>'
        f"{escape(record.title)}</a></li>"
    )


def _sources(records: Sequence[Record]) -> str:
    """Every DOI of the page once, with the shipped citation where there is one."""
    known = bibliography()
    dois = list(dict.fromkeys(d for r in records for d in r.references))
    if not dois:
        return ""
    items = []
    for doi in dois:
        entry = known.get(doi.lower(), "")
        if entry:
            entry = f"<details><summary>BibTeX</summary><pre>{escape(entry)}</pre></details>"
        items.append(f"<li>{link(doi)}{entry}</li>")
    return (
        '<h2 class="section" id="page:sources">Sources</h2><article>'
        f'<ul class="sources">{"".join(items)}</ul></article>'
    )
