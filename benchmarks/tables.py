"""The page docs/benchmarks.md and its plot from the results that stand beside the benchmarks.

    python benchmarks/tables.py

Every number on the page comes from a results file, and each table names the command that made it.
"""

import io
import json
from pathlib import Path
from typing import Any

from accuracy.table import accuracy

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
PLOT = PAGE.with_name("benchmarks-peers.svg")
SCALING_PLOT = PAGE.with_name("benchmarks-scaling.svg")


def snap() -> list[str]:
    """Time beside LAMMPS."""
    return _beside("SNAP", "LAMMPS", "snap_inference", "the same published coefficients", "least of 7 rounds")


def gap() -> list[str]:
    """Time beside QUIP."""
    return _beside(
        "GAP", "quippy", "gap_inference", "the same file of gap_fit", "processor time, least of 5 rounds"
    )


def _beside(family: str, peer: str, folder: str, same: str, least: str) -> list[str]:
    """Time of energies and forces by us and by a peer in turns."""
    found = json.loads((HERE / folder / "results.json").read_text())
    cases = {k: v for k, v in found.items() if isinstance(v, dict)}
    out = [
        f"## {family} beside {peer}",
        "",
        f"Energy and forces with {same} (forces equal to "
        f"{max(c['largest_force_difference_eV_per_A'] for c in cases.values()):.0e} eV/Å), one thread, in "
        f"turns (`python benchmarks/{folder}/compare.py`), at a load of {found['load']:.1f}; {least}, and "
        "the median of the ratios of neighbouring rounds.",
        "",
        f"| potential | atoms | rikiba (µs/atom) | {peer} (µs/atom) | ratio of least | median ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, c in cases.items():
        ours, theirs = c["ours_us_per_atom"]["least"], c[f"{peer.lower()}_us_per_atom"]["least"]
        ratios = f"{c['ratio_of_least']:.1f} | {c['median_ratio']:.1f}"
        out.append(f"| {name} | {c['atoms']} | {ours:.0f} | {theirs:.0f} | {ratios} |")
    return out


def _headed(title: str, text: str, *columns: str) -> list[str]:
    """A section's title and text, and the head of its table."""
    return [f"## {title}", "", text, "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def overhead() -> list[str]:
    """Microseconds a step beyond the forces."""
    found = json.loads((HERE / "md_overhead" / "results.json").read_text())
    text = (
        "Microseconds beyond the force call, one thread, all programs in turns in one run "
        "(`python benchmarks/md_overhead/compare.py`); the least of "
        f"{found['about']['rounds']} rounds at a load of {found['about']['load_average']:.1f}."
    )
    out = _headed("Overhead of a molecular-dynamics step", text, "program and integrator", "µs per step")
    return out + [f"| {r['name']} | {r['step_us']:.0f} |" for r in found["results"]]


def classical() -> list[str]:
    """Classical potentials beside LAMMPS and torch-sim."""
    found = json.loads((HERE / "classical" / "results.json").read_text())
    about = found["about"]
    text = (
        "Microseconds of processor time an atom and step of velocity Verlet, one thread, float64, neighbour "
        f"lists included, in turns in one run (`python benchmarks/classical/compare.py`); {about['rounds']} "
        f"rounds, load {about['load_average']:.1f}. LAMMPS may be {about['limit']:g} times as quick."
    )
    columns = ("potential", "atoms", "rikiba", "LAMMPS", "torch-sim", "rikiba/LAMMPS")
    out = _headed("Classical potentials beside LAMMPS and torch-sim", text, *columns)
    for r in found["results"]:
        us = r["us_per_atom_step"]
        other = f"{us['torch_sim']:.2f}" if "torch_sim" in us else "–"
        out.append(
            f"| {r['case'].replace('_', ' ')} | {r['atoms']:,} | {us['rikiba']:.2f} | {us['lammps']:.2f} "
            f"| {other} | {1.0 / r['of_rikiba']['lammps']:.2f} |"
        )
    return out


def long_nve() -> list[str]:
    """A million steps."""
    found = json.loads((HERE / "long_nve" / "results.json").read_text())
    text = (
        "64 atoms (`python benchmarks/long_nve/run.py NAME`): drift of the energy with its interval, in "
        "meV/atom/ns."
    )
    columns = ("potential", "steps", "timestep (fs)", "T (K)", "drift", "verdict", "alarms", "ms per step")
    out = _headed("A million steps at constant energy", text, *columns)
    for name, r in found.items():
        drift, low, high = (r[f"drift_{end}meV_per_atom_per_ns"] for end in ("", "low_", "high_"))
        out.append(
            f"| {name.replace('_', ' ')} | {r['steps']:,} | {r['timestep_fs']:g} "
            f"| {r['mean_temperature_K']:.0f} | {drift:.1e} ({low:.1e} to {high:.1e}) | {r['verdict']} "
            f"| {len(r['alarms'])} | {r['milliseconds_per_step_of_this_part']:.2f} |"
        )
    return out


def peer_rows() -> dict[str, list[dict[str, Any]]]:
    """All comparisons with other programs, by peer; rows in the order of their file."""
    files = sorted((HERE / "peers" / "results").glob("*.json"))
    return {f.stem: json.loads(f.read_text())["rows"] for f in files}


def by_model(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each model."""
    return {
        label: [r for r in rows if r["label"] == label] for label in dict.fromkeys(r["label"] for r in rows)
    }


def peers() -> list[str]:
    """Ratios of all models in one table and one plot, then the times of each peer."""
    found = peer_rows()
    rows = [r for part in found.values() for r in part]
    out = [
        "## Against other programs",
        "",
        "How many times the time of rikiba the other program takes for the same numbers: the median over the",
        "rounds of each structure, of which here the least and the greatest. Under 1 the other is quicker.",
        "",
        "| model | 1 thread | 2 threads | aim at least |",
        "|---|---|---|---|",
    ]
    for label, part in by_model(rows).items():
        target = part[0]["target"]
        cells = [_range([r["ratio"] for r in part if r["threads"] == n]) for n in (1, 2)]
        out.append(f"| {label} | {cells[0]} | {cells[1]} | {'–' if target is None else f'{target:g}'} |")
    out += ["", f"![Ratio of every model and structure]({PLOT.name})"]
    for name, part in found.items():
        out += ["", *_of_peer(name, part)]
    return out


def _range(values: list[float]) -> str:
    if not values:
        return "not measured"
    low, high = _digits(min(values)), _digits(max(values))
    return low if low == high else f"{low} to {high}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _of_peer(name: str, rows: list[dict[str, Any]]) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in rows[-1]["about"]["peer"].items())
    loads = [r["load_average"] for r in rows]
    others = [r["busy_with_others"] for r in rows if "busy_with_others" in r]
    busy = f", {_range(others)} cores busy with other work" if others else ""
    out = [
        f"### {name}",
        "",
        f"{versions}; {rows[-1]['about']['processor']}, {rows[-1]['about']['cores']} cores; load average "
        f"{_range(loads)}{busy}. Milliseconds a call (of MD: a step), medians with quartiles; *kept*: rikiba "
        "with the neighbour list kept within the skin. Errors are the largest difference of a force, as a "
        "share of the root of their mean square, in float64 and float32 (of MD: of a position after ten "
        "steps, Å).",
        "",
        "| model | structure | threads | peer, ms | rikiba, ms | kept, ms | ratio | error | rounds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        kept = f"{r['kept']['median_ms']:.3g}" if "kept" in r else "–"
        low, high = r["ratio_quartiles"]
        mark = " (processor time)" if r["about"].get("clock", r.get("clock")) == "processor" else ""
        out.append(
            f"| {r['label']} | {r['structure']}{mark} | {r['threads']} | {_time(r['peer'])} | "
            f"{_time(r['rikiba'])} | {kept} | {_digits(r['ratio'])} ({_digits(low)} to {_digits(high)}) | "
            f"{_error(r)} | {r['rounds']} |"
        )
    commands = dict.fromkeys(r["about"]["command"] for r in rows)
    return [*out, "", "Made by:", "", *(f"    {c}" for c in commands)]


def _time(side: dict[str, Any]) -> str:
    low, high = side["quartiles_ms"]
    return f"{_digits(side['median_ms'])} ({_digits(low)} to {_digits(high)})"


def _error(row: dict[str, Any]) -> str:
    found = [row.get(f"differences_{dtype}") for dtype in ("float64", "float32")]
    if None in found:
        return "another model"
    return ", ".join(f"{d.get('forces_of_rms', d.get('positions_A')):.0e}" for d in found if d is not None)


def plot() -> str:
    """A dot for every structure, a bar at the aim, on a logarithmic axis of ratios; SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    models = by_model([r for part in peer_rows().values() for r in part])
    with mpl.rc_context({"svg.hashsalt": "rikiba", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(models)), layout="constrained")
        axes = figure.subplots()
        for k, rows in enumerate(models.values()):
            for threads, marker, shift in ((1, "o", -0.12), (2, "s", 0.12)):
                ratios = [r["ratio"] for r in rows if r["threads"] == threads]
                axes.plot(ratios, [k + shift] * len(ratios), marker, ms=4, alpha=0.7, color=f"C{threads - 1}")
            if rows[0]["target"] is not None:
                axes.plot([rows[0]["target"]] * 2, [k - 0.35, k + 0.35], color="0.4", lw=1.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.axvline(1.0, color="0.7", lw=0.8, zorder=0)
        axes.set_yticks(range(len(models)), list(models))
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_xlabel(
            "time of the other program / time of rikiba (● 1 thread, ■ 2 threads, | aim at least)"
        )
        axes.grid(axis="x", which="both", alpha=0.2)
        return _svg(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def roofline() -> list[str]:
    """What the parts of MACE's compiled program reach of the core's limits."""
    found = json.loads((HERE / "mace_inference" / "roofline.json").read_text())
    best = found["limits"]
    out = [
        "## MACE inference against the limits of a core",
        "",
        "Silicon, float32, one thread (`python benchmarks/mace_inference/roofline.py`). Limits measured on "
        f"it: {best['multiply_add_GFLOPs']:.0f} GFLOP/s of multiply-adds on registers, "
        f"{best['matrix_product_GFLOPs']:.0f} in matrix products of cache size, {best['cache_GBs']:.0f} GB/s "
        f"from the second-level cache, {best['memory_GBs']:.0f} from memory. Operations are those that the "
        "algorithm asks for; bytes are those that must come from beyond the first-level cache.",
    ]
    for r in found["results"]:
        out += [
            "",
            f"### {r['model']}: {r['us_per_atom']:.0f} µs an atom, {r['GFLOPs']:.0f} GFLOP/s in all",
            "",
            "| part | µs an atom | share of time | GFLOP/s | of the arithmetic | GB/s | of the bandwidth |",
            "|---|---|---|---|---|---|---|",
        ]
        for p in r["parts"]:
            out.append(
                f"| {p['part'].replace('_', ' ')} | {p['us_per_atom']:.1f} | {100 * p['share']:.0f} % | "
                f"{p['GFLOPs']:.0f} | {100 * p['of_arithmetic']:.0f} % | {p['GBs']:.0f} | "
                f"{100 * p['of_cache_bandwidth']:.0f} % |"
            )
        out.append(
            f"| pair list, geometry, read-outs, calls | | {100 * r['share_of_the_rest']:.0f} % | | | | |"
        )
    return out


def pme() -> list[str]:
    """Milliseconds of Coulomb forces beside LAMMPS at equal error."""
    found = json.loads((HERE / "pme" / "results.json").read_text())
    text = (
        f"Coulomb forces of {found['atoms']:,} ions at the density of rock salt, root-mean-square force "
        f"error at most {found['target']:.0e} of the force on both sides, of each the quickest setting; "
        "one thread, in turns (`python benchmarks/pme/compare.py`), at a load of "
        f"{found['load']:.1f}; least of 9 rounds, and the median of the ratios of neighbouring rounds."
    )
    columns = ("program", "cutoff (Å)", "order", "error", "ms")
    out = _headed("Particle-mesh Ewald beside LAMMPS PPPM", text, *columns)
    for name, side in (("rikiba", "ours"), (f"LAMMPS {found['lammps']}", "pppm")):
        r = found[side]
        out.append(f"| {name} | {r['cutoff']} | {r['order']} | {r['error']:.1e} | {r['least_ms']:.0f} |")
    return [*out, "", f"Median ratio, ours to LAMMPS's: {found['median_ratio']:.2f}."]


def scaling_rows() -> list[dict[str, Any]]:
    """Growth of cost, additivity and locality of every family; none before the first run."""
    file = HERE / "scaling" / "results.json"
    return list(json.loads(file.read_text())["families"].values()) if file.exists() else []


def scaling() -> list[str]:
    """How cost grows with size, and how far an atom sees, a row a family."""
    rows = scaling_rows()
    if not rows:
        return []
    loads = [r["load"] for r in rows]
    out = [
        "## Cost against size, additivity and locality",
        "",
        "Every family at a modest size with untrained weights (`python benchmarks/scaling/run.py`, which "
        f"holds the settings); energy and forces, one thread, processor time, load {_range(loads)}; the "
        "neighbour list is searched at every call. *N^p*: exponent p of t = t₀ + c N^p through the sizes, ± "
        "its standard error, which passes within 0.9 to 1.1. *In it*: atoms in the receptive field; *halo*: "
        "atoms that a cubic domain of 1,000 needs from its neighbours. *Adds to*: |E(A + B) − E(A) − E(B)| "
        "of fragments beyond reach. One atom moves: *Δε beyond* is the largest change of an atom's energy "
        "outside the receptive field, or of a force outside twice of it (a force is made of all energies "
        "that its atom enters), which must be exactly zero; *Δε within*, the largest inside, must not; "
        "*hops*: steps from neighbour to neighbour over which energies changed.",
        "",
        "| potential | cutoff (Å) | receptive field (Å) | in it | halo | atoms up to | µs/atom | N^p "
        "| adds to (eV/atom) | Δε beyond | Δε within (eV) | hops | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    left = [f"{r['family']} {t['atoms']}" for r in rows for t in r.get("left_out", [])]
    out += [_scaling_row(r) for r in rows]
    if left:
        out += ["", f"Left out, for they would take too long: {', '.join(left)} atoms."]
    return [*out, "", f"![Time per atom against the number of atoms]({SCALING_PLOT.name})"]


def _scaling_row(r: dict[str, Any]) -> str:
    fit = r.get("exponent")
    growth = "–" if fit is None else f"{fit['value']:.2f} ± {fit['error']:.2f}"
    size = f"{r['times'][-1]['atoms']:,} | {_digits(r['us_per_atom'])}" if "times" in r else "– | –"
    start = f"| {r['family']} | {r['cutoff_A']:.3g} |"
    if r["exempt"]:
        return f"{start} – | – | – | {size} | {growth} | – | – | – | – | exempt: {r['exempt']} |"
    local, added = r["locality"], r["additivity"]
    beyond = max(local["energy_beyond_eV"], local["forces_beyond_twice_eV_per_A"])
    verdicts = {"cost": fit["verdict"] if fit else "one size", "additivity": added["verdict"]}
    verdicts["locality"] = local["verdict"]
    wrong = ", ".join(f"{k}: {v}" for k, v in verdicts.items() if v != "pass")
    return (
        f"{start} {r['receptive_field_A']:.3g} | {r['atoms_in_receptive_field']:.0f} | "
        f"{r['halo_of_1000_atoms']:,.0f} | {size} | {growth} | {_zero(added['energy_eV_per_atom'])} | "
        f"{_zero(beyond)} | {local['energy_within_eV']:.0e} | {local['hops_reached']} | {wrong or 'pass'} |"
    )


def _zero(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def species() -> list[str]:
    """What elements cost each learned family; none before the first run."""
    file = HERE / "species" / "results.json"
    rows = list(json.loads(file.read_text())["families"].values()) if file.exists() else []
    if not rows:
        return []
    text = (
        "Parameters and constants of a family's small example, and its energy and forces of 128 atoms that "
        "hold all elements, as it is asked to know more of them, up to the 96 until curium (`python "
        f"benchmarks/species/run.py`); one thread, processor time, load {_range([r['load'] for r in rows])}. "
        "*n^p*: growth of the numbers between the last two. Families that embed elements grow linearly at "
        "most; those with a function, a network or a coefficient for each combination of elements do not, "
        "and stop where they would pass 20 million numbers. Allegro's tables are made for the elements at "
        "hand; structures of more than eight go through its two-body network, compiled."
    )
    columns = ("potential", "elements", "numbers", "MB", "n^p", "ms with 2", "ms with all")
    out = _headed("Cost against the number of elements", text, *columns)
    for r in rows:
        first, last = r["sizes"][0], r["sizes"][-1]
        out.append(
            f"| {r['family']} | {last['elements']} | {last['numbers']:,} | {last['megabytes']:.2g} | "
            f"{r['growth']:.1f} | {_digits(first['call_ms'])} | {_digits(last['call_ms'])} |"
        )
    return out


def scaling_plot() -> str:
    """Time per atom against the number of atoms: networks that pass messages, and the exempt; SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [r for r in scaling_rows() if "times" in r]
    shown = [r for r in rows if r["exempt"] or r["receptive_field_A"] > r["cutoff_A"]]
    with mpl.rc_context({"svg.hashsalt": "rikiba", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, r in enumerate(shown):
            n = [t["atoms"] for t in r["times"]]
            each = [1e6 * t["seconds"] / t["atoms"] for t in r["times"]]
            style = "--" if r["exempt"] else "-"
            axes.plot(n, each, f"o{style}", ms=3, lw=1, color=mpl.colormaps["tab20"](k), label=r["family"])
        axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="µs per atom (dashed: long-range)")
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.grid(which="both", alpha=0.2)
        return _svg(figure)


INTRODUCTION = """# Benchmarks

Every number here stands in a results file under `benchmarks/` and was put on this page by
`python benchmarks/tables.py`; published numbers are quoted with their sources. Times are of a 2-core machine
that had other work to do (each table says how much) and vary by tens of per cent: compare within one row.

To get the numbers of your own machine, in the folder of the source:

    make benchmarks-peers                        # all programs of the next section: hours
    make benchmarks                              # the sections after it: half an hour

or one program at a time. The first line makes an environment of its own for it under `.venvs/` (pinned
versions; your own environment stays as it is), the second measures, the third writes this page anew:

    python benchmarks/peers/install_peers.py mace
    python benchmarks/peers/compare.py --only mace
    python benchmarks/tables.py

`--only` takes models (`mace-128x0e`) and programs (`mace`, `nequip`, `sevennet`, `schnetpack`, `lammps`),
`--systems` structures (`Si-64 ethanol`), `--threads` 1, 2 or both, `--seconds` the time for each row. For a
first look add `--systems ethanol Si-64 --threads 1 --seconds 3`: a few minutes.

What is compared. The other program makes a model (random weights, forces scaled to 1 eV/Å; or its
published checkpoint), rikiba imports it. Before anything is timed both must give equal numbers: in
float64 energies within 1e-6 eV/atom, forces within 1e-5 eV/Å and stress within 1e-6 eV/Å³; in float32, on
the structure that is timed, energies within 2e-5 eV/atom (or 2e-6 of their magnitude) and forces within
1e-3 of the root of their mean square. Otherwise nothing is timed. A call begins with new positions and
ends with energy, forces and, where there is a cell, stress; the neighbour list is searched at every call
on both sides. The other programs run as they do by default, mace-torch, SevenNet and SchNetPack in eager
mode; NequIP also compiled ahead of time by its own script. Both run in float32 with the same number of
threads, each in a process of its own, and take turns of about a tenth of a second in one run, so that
whatever else the machine does meets both. Each side has called once to compile and twice to settle before
counting begins, and the first call of a turn is not counted where it takes under 0.2 s. Structures are
rattled by 0.05 Å and move by 0.02 Å between calls. With several threads a row is kept only if that many
cores were free. LAMMPS runs other models, in float64: there a step of molecular dynamics with its own
neighbour lists is set against one of rikiba.
"""


def training() -> list[str]:
    """Milliseconds of a training step, ours and others'."""
    found = json.loads((HERE / "training_step" / "results.json").read_text())
    out = [
        "## A training step",
        "",
        "Energies, forces, loss, gradient and Adam of one batch on the same weights; float32, one thread, "
        "processor time, pairs at hand, both programs in turns "
        "(`python benchmarks/training_step/compare.py`); the least of all steps in "
        f"{found['about']['rounds']} rounds.",
        "",
        "| potential | batch | peer | its ms | rikiba ms | ratio | load |",
        "|---|---|---|---|---|---|---|",
    ]
    return out + [
        f"| {r['case'].split(', e')[0]} | {r['structure']} | {r['peer'].split(',')[0]} "
        f"| {r['peer_ms']:.0f} | {r['rikiba_ms']:.1f} | {r['ratio']:.1f} | {r['load_average']:.1f} |"
        for r in found["results"]
    ]


def page() -> str:
    """The whole page."""
    parts = (
        peers(), training(), accuracy(), scaling(), species(), snap(), gap(), classical(), pme(), overhead(),
        long_nve(), roofline(),
    )  # fmt: skip
    return "\n".join([INTRODUCTION, *(line for part in parts if part for line in (*part, ""))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PLOT.write_text(plot(), encoding="utf-8")
    if scaling_rows():
        SCALING_PLOT.write_text(scaling_plot(), encoding="utf-8")
    print(f"Written: {PAGE} and {PLOT}")
