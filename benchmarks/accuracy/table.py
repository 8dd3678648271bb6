"""The section on accuracy of docs/benchmarks.md: our rows and published ones, by error of the forces."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MACE_PAPER = "arXiv:2206.07697"
ZUO = "doi:10.1021/acs.jpca.9b08723"
COEFFICIENTS = "published coefficients, re-measured"
PUBLISHED: dict[str, list[tuple[str, int, float, float | None, str]]] = {
    "rmd17-ethanol": [
        ("MACE", 50, 6.7, 32.6, MACE_PAPER),
        ("NequIP", 50, 8.7, 40.2, MACE_PAPER),
        ("linear ACE", 50, 8.6, 43.0, MACE_PAPER),
        ("MACE", 1000, 0.4, 2.1, MACE_PAPER),
        ("Allegro", 1000, 0.4, 2.1, MACE_PAPER),
        ("NequIP", 1000, 0.4, 2.8, MACE_PAPER),
        ("linear ACE", 1000, 1.2, 7.3, MACE_PAPER),
        ("PaiNN", 1000, 2.7, 10.0, MACE_PAPER),
        ("ANI", 1000, 2.5, 13.4, MACE_PAPER),
        ("GAP", 1000, 3.5, 18.1, MACE_PAPER),
    ],
    "rmd17-aspirin": [
        ("MACE", 50, 17.0, 43.9, MACE_PAPER),
        ("NequIP", 50, 19.5, 52.0, MACE_PAPER),
        ("linear ACE", 50, 26.2, 63.8, MACE_PAPER),
        ("MACE", 1000, 2.2, 6.6, MACE_PAPER),
        ("Allegro", 1000, 2.3, 7.3, MACE_PAPER),
        ("NequIP", 1000, 2.3, 8.2, MACE_PAPER),
        ("PaiNN", 1000, 6.9, 16.1, MACE_PAPER),
        ("linear ACE", 1000, 6.1, 17.9, MACE_PAPER),
        ("ANI", 1000, 16.6, 40.6, MACE_PAPER),
        ("GAP", 1000, 17.7, 44.9, MACE_PAPER),
    ],
    "mlearn-Si": [
        ("MTP", 214, 2.21, 60.0, ZUO),
        ("ACE (large)", 214, 2.49, None, "doi:10.1063/5.0158783"),
        ("GAP", 214, 2.91, 70.0, ZUO),
        ("qSNAP", 214, 3.81, 116.0, COEFFICIENTS),
        ("SNAP", 214, 6.44, 133.0, COEFFICIENTS),
    ],
    "mlearn-Mo": [
        ("GAP", 194, 2.24, 90.0, ZUO),
        ("ACE (small)", 194, 2.60, None, "doi:10.1063/5.0158783"),
        ("qSNAP", 194, 2.77, 184.0, COEFFICIENTS),
        ("MTP", 194, 2.83, 90.0, ZUO),
        ("SNAP", 194, 5.49, 207.0, COEFFICIENTS),
    ],
}
"""(name, training frames, energy, forces, source). Mean absolute errors: energy in meV (whole molecule for
rMD17, per atom for mlearn), forces in meV/Å."""

TEXT = (
    "Mean absolute errors on the published test frames, by rising error of the forces; rows in italics are "
    "published figures. One thread; processor and wall time of the training on a machine with other work, – "
    "where it was not noted. Rows of 90 s are small potentials of every family with equal loss, batches and "
    "time (`benchmarks/accuracy/short.toml`): an order of what is quick to learn, not of what is best in the "
    "end. What is solved for (SNAP, ACE, GAP, MTP) takes the time that it takes. Made by "
    "`python benchmarks/accuracy/families.py` and the commands of the rows, in `benchmarks/accuracy`."
)


def accuracy() -> list[str]:
    """One table a data set and number of training frames."""
    rows = [json.loads(f.read_text()) for f in sorted(RESULTS.glob("*.json"))]
    out = ["## Accuracy", "", TEXT]
    for data, n in sorted({(r["data"], frames(r)) for r in rows}):
        ours = [ours_as_row(r) for r in rows if (r["data"], frames(r)) == (data, n)]
        others = [published_as_row(*p) for p in PUBLISHED.get(data, []) if p[1] == n]
        unit = "meV" if is_molecule(data) else "meV/atom"
        heads = ["potential", "parameters", f"E MAE ({unit})", "F MAE (meV/Å)", "stress MAE (GPa)"]
        heads += ["processor (s)", "wall (s)", "source"]
        kept = [k for k, head in enumerate(heads) if not (head.startswith("stress") and is_molecule(data))]
        out += ["", f"### {data}, {n} training frames", ""]
        out += ["| " + " | ".join(heads[k] for k in kept) + " |", "|---" * len(kept) + "|"]
        for _, cells in sorted([*ours, *others], key=lambda row: row[0]):
            out.append("| " + " | ".join(cells[k] for k in kept) + " |")
    return out


def is_molecule(data: str) -> bool:
    """Whether energies are told of the whole system."""
    return data.startswith("rmd17")


def frames(r: dict[str, Any]) -> int:
    """All that were at hand for training."""
    return int(r["training_frames"] + r["validation_frames"])


def ours_as_row(r: dict[str, Any]) -> tuple[float, list[str]]:
    """(error of the forces, cells)."""
    forces = r["test"]["forces_mae_meV_per_A"]
    energy = r["test"]["energy_mae_meV_per_atom"] * (r["atoms_per_frame"] if is_molecule(r["data"]) else 1)
    stress, processor = r["test"].get("stress_mae_GPa"), r.get("training_processor_s")
    cells = [
        r["potential"],
        f"{r['parameters']:,}",
        f"{energy:.2f}",
        f"{forces:.1f}",
        "–" if stress is None else f"{stress:.2f}",
        "–" if processor is None else f"{processor:.0f}",
        f"{r['training_wall_s']:.0f}",
        f"`{command(r)}`",
    ]
    return forces, cells


def published_as_row(
    name: str, n: int, energy: float, forces: float | None, source: str
) -> tuple[float, list[str]]:
    """(error of the forces, cells); what has none stands last."""
    shown = "–" if forces is None else f"{forces:.1f}"
    cells = [f"*{name}, published*", "–", f"{energy:.2f}", shown, "–", "–", "–", source]
    return float("inf") if forces is None else forces, cells


def command(r: dict[str, Any]) -> str:
    """What makes the row."""
    words = ["learn.py", r["data"]]
    if r["data"].startswith("rmd17"):
        words += ["--frames", str(frames(r))]
    words += ["--potential", r["potential"]]
    limit = r.get("seconds", r["training_wall_s"])  # older files hold the time that it took
    if limit is not None:
        words += ["--seconds", f"{limit:.0f}"]
    if r["validation_frames"]:
        words.append("--validation")
    return " ".join(words)
