"""From unit-suffixed keys and bare numbers to what a reader wants to see: names, units, rounded values."""

import math
import re
from collections.abc import Sequence
from typing import Any

_AS_WRITTEN = (
    "eV meV keV J kJ kcal mol Ry nm bohr m cm THz GHz Hz fs ps ns ms s min h K GPa MPa kPa Pa mPa bar "
    "kbar atm u g kg e me D V W S rad atom atoms step steps frame frames pair day MiB GiB MB kB ppm "
)
UNITS: dict[str, str] = {u: u for u in _AS_WRITTEN.split()} | {
    "hartree": "Hartree",
    "Ha": "Eₕ",
    "A": "Å",
    "A2": "Å²",
    "A3": "Å³",
    "A6": "Å⁶",
    "m2": "m²",
    "m3": "m³",
    "cm2": "cm²",
    "cm3": "cm³",
    "cm1": "cm⁻¹",
    "us": "µs",
    "K2": "K²",
    "muB": "μB",
    "degree": "°",
    "degrees": "°",
    "deg": "°",
    "percent": "%",
}
"""Last words of a key that are units, and how each is printed."""

IN_RATIOS = frozenset("atom atoms step steps frame frames pair min h day m g S W".split())
"""Words that are units only beside 'per': `meV_per_atom` has a unit, `n_atoms` and `energy_min` have none."""

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def split_key(key: str) -> tuple[str, str]:
    """Name and unit of a unit-suffixed key: `C11_GPa` → ('C₁₁', 'GPa').

    The longest run of unit words at the end is the unit, as long as one word stays for the name:
    `friction_per_ps` → ('friction', 'ps⁻¹').
    """
    words = key.split("_")
    for start in range(1, len(words)):
        unit = _unit(words[start:])
        if unit is not None:
            return _name(words[:start]), unit
    return _name(words), ""


def _unit(words: list[str]) -> str | None:
    """The printed unit, or None if these words are not one: a per b per c, products of unit words."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "per":
            groups.append([])
        elif word in UNITS:
            groups[-1].append(word)
        else:
            return None
    over, under = groups[0], groups[1:]
    if (
        any(not g for g in under)
        or (not over and not under)
        or (not under and any(w in IN_RATIOS for w in over))
    ):
        return None
    below = [UNITS[w] for g in under for w in g]
    if over:
        denominator = "/".join(below) if len(below) == len(under) else "(" + "·".join(below) + ")"
        return "·".join(UNITS[w] for w in over) + ("/" + denominator if below else "")
    return "·".join(_inverse(u) for u in below)


def _inverse(unit: str) -> str:
    """Å³ → Å⁻³, ps → ps⁻¹, cm⁻¹ → cm."""
    if unit.endswith("⁻¹"):
        return unit[:-2]
    return unit[:-1] + "⁻" + unit[-1] if unit[-1] in "²³⁶" else unit + "⁻¹"


def _name(words: list[str]) -> str:
    text = " ".join(w for w in words if w)
    text = re.sub(r"^n (?=\w)", "number of ", text)
    text = re.sub(r"\bR2\b", "R²", text)
    return re.sub(r"\b([A-Z])(\d{1,2})\b", lambda m: m[1] + m[2].translate(SUBSCRIPT), text)


def number_text(value: float, spread: float | None = None) -> str:
    """A number as a reader wants it: rounded to two digits of its spread, or to five digits without one."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and spread is None:
        return f"{value:,}".replace(",", "\u2009") if abs(value) >= 10_000 else str(value).replace("-", "−")
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "∞", "-inf": "−∞"}[str(float(value))]
    if spread is not None and math.isfinite(spread) and spread > 0:
        return _with_spread(float(value), float(spread))
    text = _rounded(float(value))
    return text if spread is None else f"{text} ± {number_text(float(spread))}"


def _rounded(value: float) -> str:
    text = f"{value:.5g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return text.replace("-", "−")


def _with_spread(value: float, spread: float) -> str:
    power = math.floor(math.log10(max(abs(value), spread)))
    if not -3 <= power < 6:
        scale = 10.0**power
        return f"({_with_spread(value / scale, spread / scale)})×10{str(power).translate(SUPERSCRIPT)}"
    digits = 1 - math.floor(math.log10(spread))
    if digits > 12:
        return f"{_rounded(value)} ± {_rounded(spread)}"
    shown = max(digits, 0)
    return f"{round(value, digits):.{shown}f} ± {round(spread, digits):.{shown}f}".replace("-", "−")


def column_text(values: Sequence[Any]) -> list[str]:
    """Numbers of one column, with equal decimals where that adds no more than four.

    Where none is below 1, no more decimals than the largest has with five digits, but at least two.
    """
    texts = [value_text(v) for v in values]
    floats = [k for k, v in enumerate(values) if isinstance(v, float) and math.isfinite(v)]
    decimals = max((len(texts[k].partition(".")[2]) for k in floats), default=0)
    if decimals > 4 or any("×" in texts[k] for k in floats):
        return texts
    sizes = [abs(values[k]) for k in floats if values[k]]
    if sizes and min(sizes) >= 1.0:
        decimals = min(decimals, max(2, 4 - math.floor(math.log10(max(sizes)))))
    for k in floats:
        texts[k] = f"{values[k]:.{decimals}f}".replace("-", "−")
    return texts


def value_text(value: Any, spread: Any = None) -> str:
    """Any value of a Record as one line of plain text."""
    if value is None:
        return "—"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hasattr(spread, "tolist"):
        spread = spread.tolist()
    if isinstance(value, (int, float)):
        return number_text(value, None if spread is None else float(spread))
    if isinstance(value, (list, tuple)):
        spreads = (
            spread if isinstance(spread, (list, tuple)) and len(spread) == len(value) else [None] * len(value)
        )
        return "[" + ", ".join(value_text(v, s) for v, s in zip(value, spreads, strict=True)) + "]"
    if hasattr(value, "items"):
        return ", ".join(f"{k}: {value_text(v)}" for k, v in value.items())
    return str(value)
