"""What to cite: each method names its DOIs; a run writes the BibTeX of those it used."""

import re
from collections.abc import Iterable
from importlib.resources import files


def bibliography() -> dict[str, str]:
    """DOI (lower case) → BibTeX entry of every work in the package's `references.bib`."""
    text = files("rikiba.core").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"@\w+\{.*?\n\}", text, flags=re.S)
    found: dict[str, str] = {}
    for entry in entries:
        doi = re.search(r"doi\s*=\s*\{([^}]+)\}", entry)
        if doi:
            found[doi.group(1).lower()] = entry
    return found


def bibtex(dois: Iterable[str]) -> str:
    """BibTeX for the given DOIs, sorted and without repeats; one that is not shipped becomes a @misc."""
    known = bibliography()
    out = []
    for doi in sorted({d.lower() for d in dois}):
        key = re.sub(r"[^a-z0-9]+", "_", doi)
        out.append(
            known.get(doi, f"@misc{{{key},\n  doi = {{{doi}}},\n  url = {{https://doi.org/{doi}}},\n}}")
        )
    return "\n\n".join(out) + ("\n" if out else "")
