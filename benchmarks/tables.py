"""The page docs/benchmarks.md from the results that stand beside the benchmarks.

    python benchmarks/tables.py

Every number on the page comes from a results file, and each table names the command that made it.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

PUBLISHED: dict[str, list[tuple[str, int, float | None, float | None, str]]] = {
    "rmd17-ethanol": [
        ("MACE", 50, 6.7, 32.6, "arXiv:2206.07697, table 2"),
        ("NequIP", 50, 8.7, 40.2, "arXiv:2206.07697, table 2"),
        ("linear ACE", 50, 8.6, 43.0, "arXiv:2206.07697, table 2"),
    ],
    "mlearn-Si": [
        ("MTP", 214, 2.21, 60.0, "doi:10.1021/acs.jpca.9b08723"),
        ("ACE (large)", 214, 2.49, None, "doi:10.1063/5.0158783"),
        ("GAP", 214, 2.91, 70.0, "doi:10.1021/acs.jpca.9b08723"),
        ("qSNAP", 214, 3.81, 116.0, "published coefficients, re-measured"),
        ("SNAP", 214, 6.44, 133.0, "published coefficients, re-measured"),
    ],
    "mlearn-Mo": [
        ("GAP", 194, 2.24, 90.0, "doi:10.1021/acs.jpca.9b08723"),
        ("ACE (small)", 194, 2.60, None, "doi:10.1063/5.0158783"),
        ("qSNAP", 194, 2.77, 184.0, "published coefficients, re-measured"),
        ("MTP", 194, 2.83, 90.0, "doi:10.1021/acs.jpca.9b08723"),
        ("SNAP", 194, 5.49, 207.0, "published coefficients, re-measured"),
    ],
}
"""Mean absolute errors: energy in meV (whole molecule for rMD17, per atom for mlearn), forces in meV/Å."""


def accuracy() -> list[str]:
    """One table a data set."""
    rows = [json.loads(f.read_text()) for f in sorted((HERE / "accuracy" / "results").glob("*.json"))]
    out = [
        "## Accuracy",
        "",
        "Mean absolute errors on the published test frames; one thread; wall time of the training.",
    ]
    for data in sorted({r["data"] for r in rows}):
        whole = data.startswith("rmd17")
        unit = "meV" if whole else "meV/atom"
        out += [
            "",
            f"### {data}",
            "",
            f"| potential | training frames | E MAE ({unit}) | F MAE (meV/Å) | stress MAE (GPa) "
            "| wall time (s) | source |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in [r for r in rows if r["data"] == data]:
            n = r["training_frames"] + r["validation_frames"]
            energy = r["test"]["energy_mae_meV_per_atom"] * (r["atoms_per_frame"] if whole else 1)
            stress = r["test"].get("stress_mae_GPa")
            out.append(
                f"| {r['potential']}, {r['parameters']} parameters | {n} | {energy:.2f} | "
                f"{r['test']['forces_mae_meV_per_A']:.1f} | {'–' if stress is None else f'{stress:.2f}'} | "
                f"{r['training_wall_s']:.0f} | `{_command(r, n)}` |"
            )
        for name, n, energy, forces, source in PUBLISHED.get(data, []):
            shown = "–" if forces is None else f"{forces:.1f}"
            out.append(f"| *{name}, published* | {n} | {energy:.2f} | {shown} | – | – | {source} |")
    return out


def _command(r: dict[str, Any], n: int) -> str:
    frames = f" --frames {n}" if r["data"].startswith("rmd17") else ""
    seconds = "" if r["seconds"] is None else f" --seconds {r['seconds']:.0f}"
    return f"python benchmarks/accuracy/learn.py {r['data']}{frames} --potential {r['potential']}{seconds}"


def snap() -> list[str]:
    """Time beside LAMMPS."""
    found = json.loads((HERE / "snap_inference" / "results.json").read_text())
    cases = {k: v for k, v in found.items() if isinstance(v, dict)}
    out = [
        "## SNAP beside LAMMPS",
        "",
        "Energy and forces with the same published coefficients (forces equal to "
        f"{max(c['largest_force_difference_eV_per_A'] for c in cases.values()):.0e} eV/Å), one thread, in "
        f"turns (`python benchmarks/snap_inference/compare.py`), at a load of {found['load']:.1f}; least of "
        "7 rounds, and the median of the ratios of neighbouring rounds.",
        "",
        "| potential | atoms | rikiba (µs/atom) | LAMMPS (µs/atom) | ratio of least | median ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, c in cases.items():
        ours, theirs = c["ours_us_per_atom"]["least"], c["lammps_us_per_atom"]["least"]
        ratios = f"{c['ratio_of_least']:.1f} | {c['median_ratio']:.1f}"
        out.append(f"| {name} | {c['atoms']} | {ours:.0f} | {theirs:.0f} | {ratios} |")
    return out


def overhead() -> list[str]:
    """Microseconds a step beyond the forces."""
    found = json.loads((HERE / "md_overhead" / "results.json").read_text())
    out = [
        "## Overhead of a molecular-dynamics step",
        "",
        "Microseconds beyond the force call, one thread, all programs in turns in one run "
        "(`python benchmarks/md_overhead/compare.py`); the least of "
        f"{found['about']['rounds']} rounds at a load of {found['about']['load_average']:.1f}.",
        "",
        "| program and integrator | µs per step |",
        "|---|---|",
    ]
    return out + [f"| {r['name']} | {r['step_us']:.0f} |" for r in found["results"]]


def page() -> str:
    """The whole page."""
    head = [
        "# Benchmarks",
        "",
        "Made by `python benchmarks/tables.py` from the results files under `benchmarks/`. Published",
        "numbers are quoted from their sources. Times are of a 2-core machine with other work on it and vary",
        "by tens of per cent; compare within one table.",
        "",
    ]
    return "\n".join([*head, *accuracy(), "", *snap(), "", *overhead(), ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Written: {PAGE}")
