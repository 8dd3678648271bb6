"""A Figure as plotly's JSON (for the page) and as a PNG, SVG or PDF file (by matplotlib)."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..core.record import Curve, Figure

MOST_POINTS = 4000
"""Points of one curve drawn on a page; all of them are in the Record."""

MOST_ALIKE = 8
"""More numbered curves than these share one entry of the legend."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A")
"""Okabe and Ito's colours, told apart with any colour vision (https://jfly.uni-koeln.de/color/)."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "triangle-down")


def to_plotly(figure: Figure) -> dict[str, Any]:
    """Traces and layout without colours, which the page adds for light, dark or paper.

    Every trace has `meta.index`, the place of its curve in the palette. Text is escaped, since
    plotly reads tags in it.
    """
    traces: list[dict[str, Any]] = []
    alike = many_alike([c.label for c in figure.curves])
    for index, curve in enumerate(figure.curves):
        made = _traces(figure, curve, alike.get(index, (index, ""))[0])
        if index in alike:
            _thin(made, alike[index][1], first=alike[index][0] == index)
        traces += made
    if figure.diagonal:
        traces.insert(0, _diagonal(figure))
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": escape(figure.x_label)}, "type": "log" if figure.log_x else "linear"},
        "yaxis": {"title": {"text": escape(figure.y_label)}, "type": "log" if figure.log_y else "linear"},
        "showlegend": len(figure.curves) > 1,
    }
    for log, axis, values in (
        (figure.log_x, "xaxis", [c.x for c in figure.curves]),
        (figure.log_y, "yaxis", [c.y for c in figure.curves]),
    ):
        if log:
            layout[axis]["dtick"] = _log_ticks(values)
    if figure.diagonal:
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
        layout["xaxis"] |= {"constrain": "domain"}
    return {"data": traces, "layout": layout}


def many_alike(labels: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Curves that differ by a number only ('replica 0' … 'replica 15'), where there are more than eight.

    Index → index of the first of them, and a label for all; a legend names them once.
    """
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        stem, _, number = label.rpartition(" ")
        if stem and number.isdigit():
            groups.setdefault(stem, []).append(index)
    return {
        k: (members[0], f"{labels[members[0]]} … {labels[members[-1]].rpartition(' ')[2]}")
        for members in groups.values()
        if len(members) > MOST_ALIKE
        for k in members
    }


def named_beside(figure: Figure, curve: Curve) -> bool:
    """True for lone points in such numbers that a legend's colours and symbols would repeat."""
    lone = [c for c in figure.curves if c.style == "points" and len(c.x) == 1]
    return len(lone) > len(SYMBOLS) and any(c is curve for c in lone)


def _thin(traces: list[dict[str, Any]], label: str, *, first: bool) -> None:
    """One of many alike: a thin solid line, in the legend only for the first."""
    for trace in traces:
        trace["opacity"] = 0.5
        if trace["meta"]["role"] == "line":
            trace["line"] |= {"dash": "solid", "width": 1}
            trace |= {"text": trace["name"], "name": escape(label), "showlegend": first}


def _traces(figure: Figure, curve: Curve, index: int) -> list[dict[str, Any]]:
    keep = drawn(figure, curve)
    x, y = np.asarray(curve.x, float)[keep], np.asarray(curve.y, float)[keep]
    error = None if curve.error is None else np.asarray(curve.error, float)[keep]
    points = curve.style == "points"
    alone = len(figure.curves) == 1
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": escape(curve.label),
        "legendgroup": str(index),
        "x": _finite(x),
        "y": _finite(y),
        "mode": "markers" if points else "lines",
        "meta": {"index": index, "role": "points" if points else "line"},
    }
    if points:
        trace["marker"] = {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 6 if len(x) < 300 else 4}
        trace["marker"]["opacity"] = 0.85 if len(x) < 300 else 0.55
        if named_beside(figure, curve):
            trace |= {"mode": "markers+text", "text": [escape(curve.label)], "textposition": "top center"}
            trace["showlegend"] = False
        if error is not None:
            trace["error_y"] = {
                "type": "data",
                "array": _finite(error),
                "visible": True,
                "thickness": 1.2,
                "width": 3,
            }
        return [trace]
    trace["line"] = {"dash": "solid" if alone else DASHES[index % len(DASHES)], "width": 2}
    trace["line"]["shape"] = "hvh" if curve.style == "step" else "linear"
    if error is None:
        return [trace]
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(error)
    band = {
        "type": "scatter",
        "name": escape(curve.label) + " ± 1σ",
        "legendgroup": str(index),
        "x": _finite(np.concatenate([x[good], x[good][::-1]])),
        "y": _finite(np.concatenate([(y + error)[good], (y - error)[good][::-1]])),
        "mode": "lines",
        "line": {"width": 0, "shape": "hvh" if curve.style == "step" else "linear"},
        "fill": "toself",
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"index": index, "role": "band"},
    }
    return [band, trace]


def drawn(figure: Figure, curve: Curve) -> np.ndarray:
    """Indices of the points that a page draws: all, or MOST_POINTS of a large cloud, outliers included.

    Lines are drawn whole up to ten times as many points, then by the extremes of equal stretches.
    """
    n = len(curve.x)
    limit = MOST_POINTS if curve.style == "points" else 10 * MOST_POINTS
    if n <= limit:
        return np.arange(n)
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    if curve.style != "points":
        edges = np.linspace(0, n, limit // 2 + 1).astype(int)
        filled = np.where(np.isfinite(y), y, 0.0)
        pairs = [(a + filled[a:b].argmin(), a + filled[a:b].argmax()) for a, b in pairwise(edges)]
        return np.unique(np.asarray(pairs))
    centre = x if figure.diagonal else np.nanmedian(y)
    off = np.nan_to_num(np.abs(y - centre), nan=np.inf)
    outliers = np.argsort(-off, kind="stable")[: limit // 10]
    rest = np.setdiff1d(np.arange(n), outliers)
    even = rest[np.linspace(0, len(rest) - 1, limit - len(outliers)).astype(int)]
    return np.sort(np.concatenate([outliers, even]))


def caption(figure: Figure) -> str:
    """What a page does not draw of a figure; empty where it draws everything."""
    said = []
    for curve in figure.curves:
        n, shown = len(curve.x), len(drawn(figure, curve))
        if shown < n:
            said.append(f"{curve.label}: {shown:,} of {n:,} points drawn, the farthest off among them.")
        bad = int(np.sum(~(np.isfinite(curve.x) & np.isfinite(curve.y))))
        if bad:
            said.append(f"{curve.label}: {bad:,} of {n:,} points are not finite.")
        for log, values, axis in ((figure.log_x, curve.x, "horizontal"), (figure.log_y, curve.y, "vertical")):
            hidden = int(np.sum(np.asarray(values, float) <= 0)) if log else 0
            if hidden:
                said.append(
                    f"{curve.label}: {hidden:,} points at or below zero have no place on the {axis} log axis."
                )
    return " ".join(said)


def describe(figure: Figure) -> str:
    """One sentence for readers who do not see the figure."""
    x, y = _range([c.x for c in figure.curves]), _range([c.y for c in figure.curves])
    labels = ", ".join(c.label for c in figure.curves)
    return f"{figure.title}. {figure.y_label}{y} against {figure.x_label}{x}. Curves: {labels}."


def draw(figure: Figure, path: str | Path) -> Path:
    """The figure as an image file; the ending (.png, .svg, .pdf) says which kind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.2, 5.2 if figure.diagonal else 3.6), layout="constrained", dpi=200)
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    if figure.diagonal:
        ends = _diagonal(figure)["x"]
        axes.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
        axes.set_aspect("equal")
    for index, curve in enumerate(figure.curves):
        color, x, y = PALETTE[index % len(PALETTE)], np.asarray(curve.x), np.asarray(curve.y)
        if curve.style == "points":
            axes.errorbar(
                x,
                y,
                yerr=curve.error,
                fmt="o",
                markersize=3,
                color=color,
                label=None if named_beside(figure, curve) else curve.label,
                alpha=0.7,
            )
            if named_beside(figure, curve):
                axes.annotate(
                    curve.label, (x[0], y[0]), xytext=(0, 4), textcoords="offset points", ha="center", size=6
                )
            continue
        axes.plot(
            x,
            y,
            color=color,
            label=curve.label,
            drawstyle="steps-mid" if curve.style == "step" else "default",
        )
        if curve.error is not None:
            e = np.asarray(curve.error)
            axes.fill_between(x, y - e, y + e, color=color, alpha=0.2, linewidth=0)
    axes.set(title=figure.title, xlabel=figure.x_label, ylabel=figure.y_label)
    axes.set_xscale("log" if figure.log_x else "linear")
    axes.set_yscale("log" if figure.log_y else "linear")
    if len(figure.curves) > 1:
        axes.legend(frameon=False)
    canvas.savefig(path)
    return Path(path)


def escape(text: str) -> str:
    """Plotly shows `<` only when it is escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _diagonal(figure: Figure) -> dict[str, Any]:
    values = np.concatenate(
        [np.asarray(v, float) for c in figure.curves for v in (c.x, c.y)] or [np.zeros(0)]
    )
    values = values[np.isfinite(values)]
    if figure.log_x or figure.log_y:
        values = values[values > 0]
    ends = [float(values.min()), float(values.max())] if len(values) else [0.0, 1.0]
    return {
        "type": "scatter",
        "name": "y = x",
        "x": ends,
        "y": ends,
        "mode": "lines",
        "line": {"width": 1, "dash": "dot"},
        "showlegend": False,
        "hoverinfo": "skip",
        "meta": {"index": -1, "role": "guide"},
    }


def _log_ticks(values: list[tuple[float, ...]]) -> str | int:
    """Ticks at 1, 2, 5 below two decades, at powers of ten above."""
    flat = [v for row in values for v in row if math.isfinite(v) and v > 0]
    return "D2" if flat and max(flat) < 100 * min(flat) else 1


def _range(values: list[tuple[float, ...]]) -> str:
    flat = [v for row in values for v in row if math.isfinite(v)]
    return f" from {min(flat):.4g} to {max(flat):.4g}" if flat else ""


def _finite(values: np.ndarray) -> list[float | None]:
    """Seven digits, None where not finite (a gap in the line)."""
    return [float(f"{v:.7g}") if math.isfinite(v) else None for v in values]
