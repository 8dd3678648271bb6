"""Time rikiba against other programs: same structures, same weights, both sides in turns in one run.

    python benchmarks/peers/install_peers.py mace
    python benchmarks/peers/compare.py --only mace --threads 1
    python benchmarks/tables.py

For every model of `cases.py` one process of the peer, in the environment that `install_peers.py` made, and
one of rikiba answer requests over pipes (`worker.py`). The peer makes a model (random weights of a fixed
seed, or a published checkpoint), rikiba imports it. Before anything is timed energies, forces and stress of
both must be equal: in float64 on the smallest structure of the same elements, in float32 on the timed
structure itself (limits: `LIMITS`); where they are not, the case stops, and the others go on.

A call starts from new positions and ends with energy, forces and, where the structure is periodic, stress in
arrays; the neighbour list is searched at every call on both sides. `kept` is rikiba with the skin that it has
by default, as in molecular dynamics. The sides take turns of about a tenth of a second, at least one call
each, and a call under 0.2 s that opens a turn is not counted (the other side has emptied the caches). Written
down are medians and quartiles of the calls, and of the ratio of the medians of each pair of turns.

Results go to results/<peer>.json; rows measured before are kept unless measured again. With more than one
thread a row counts only where other work leaves that many cores free: threads that wait for one another while
one of them waits for a core tell nothing about a program, and a ratio of such times is not written down.
With one thread on a machine whose cores are taken by other work, `--clock processor` counts the processor
time of each call instead: a long call is interrupted, a short one is not, which wall times show as a ratio.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, PACKAGES, Case
from install_peers import environment, interpreter
from structures import GROUPS, NAMES, structure

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
LIMITS = {
    "float64": {
        "energy_eV_per_atom": 1e-6,
        "forces_eV_per_A": 1e-5,
        "stress_eV_per_A3": 1e-6,
        "positions_A": 1e-8,
    },
    "float32": {"energy_eV_per_atom": 2e-5, "forces_of_rms": 1e-3, "positions_A": 1e-6},
}
"""Largest differences allowed. Forces are scaled to a root mean square of 1 eV/Å where weights are random;
the motion is of ten steps. Energies in float32 may differ by 2e-6 of their magnitude where that is more."""
TURN_S, COUNT_FIRST_FROM_S, MOST_CALLS, PAUSE_S = 0.1, 0.2, 100, 0.01


class Worker:
    """One side's process."""

    def __init__(self, name: str, python: Path, threads: int, log: Path, clock: str) -> None:
        self.name, self.log, self.clock = name, log, clock
        self._said = log.open("a")
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        libraries = os.pathsep.join(
            p for p in (str(python.parents[1] / "lib"), os.environ.get("LD_LIBRARY_PATH", "")) if p
        )
        here = {"PYTHONPATH": str(HERE.parents[1])} if name == "rikiba" else {}
        extra = {"LD_LIBRARY_PATH": libraries} if name == "lammps" else here
        self.process = subprocess.Popen(
            [python, HERE / "worker.py", name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | dict.fromkeys(variables, str(threads)) | extra,
        )

    def ask(self, **request: Any) -> Any:
        """The reply; raises RuntimeError with what the worker said where it failed."""
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.name}: the process ended.\n{self.log.read_text()[-3000:]}")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"{self.name}: {found['error']}")
        return found["reply"]

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._said.close()


@contextmanager
def workers(peer: str, threads: int, folder: Path, clock: str) -> Iterator[tuple[Worker, Worker]]:
    """The peer's process and ours."""
    theirs = Worker(peer, interpreter(peer), threads, folder / "peer.log", clock)
    ours = Worker("rikiba", Path(sys.executable), threads, folder / "rikiba.log", clock)
    try:
        yield theirs, ours
    finally:
        theirs.close()
        ours.close()


def compare_numbers(
    case: str, structure_name: str, dtype: str, peer: Path, ours: Path, n_atoms: int
) -> dict[str, float]:
    """Largest differences between two files of answers; raises ValueError where they are not equal."""
    with np.load(peer) as a, np.load(ours) as b:
        there, here = ({k: np.asarray(v, np.float64) for k, v in f.items()} for f in (a, b))
    energy = float(np.abs(there["energy"].ravel() - here["energy"].ravel()).max()) / n_atoms
    found = {"energy_eV_per_atom": energy}
    if "positions" in there:
        found["positions_A"] = float(np.abs(there["positions"] - here["positions"]).max())
    else:
        error = float(np.abs(there["forces"] - here["forces"]).max())
        rms = float(np.sqrt((there["forces"] ** 2).mean()))
        found |= {"forces_eV_per_A": error, "forces_of_rms": error / rms, "forces_rms_eV_per_A": rms}
    if "stress" in there:
        found["stress_eV_per_A3"] = float(np.abs(there["stress"].reshape(3, 3) - here["stress"]).max())
    limits = dict(LIMITS[dtype])
    if dtype == "float32":
        size = float(np.abs(there["energy"]).max()) / n_atoms
        limits["energy_eV_per_atom"] = max(limits["energy_eV_per_atom"], 2e-6 * size)
    wrong = {k: found[k] for k, most in limits.items() if k in found and not found[k] <= most}
    if wrong:
        raise ValueError(f"{case}, {structure_name}, {dtype}: the sides are not equal: {wrong}; not timed.")
    return found


def quartiles(values: list[float], factor: float = 1.0) -> tuple[float, float, float]:
    """First quartile, median, third; of one value that value."""
    if len(values) == 1:
        return (factor * values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return factor * low, factor * middle, factor * high


def turn(side: Worker, variant: str, calls: int) -> list[float]:
    """Seconds of each call; of molecular dynamics those of a step, once."""
    return side.ask(do="turn", variant=variant, calls=calls, clock=side.clock)  # type: ignore[no-any-return]


def in_turns(
    theirs: Worker, ours: Worker, *, motion: bool, seconds: float, rounds: int, threads: int
) -> dict[str, Any]:
    """Both sides alternately until the time is over, three rounds or more, at most `rounds`."""
    sides = {"peer": (theirs, ""), "rikiba": (ours, "")} | ({} if motion else {"kept": (ours, "kept")})
    times: dict[str, list[float]] = {name: [] for name in sides}
    once = {name: min(turn(*side, 2)) for name, side in sides.items()}
    calls = {name: max(1, min(MOST_CALLS, int(TURN_S / t))) for name, t in once.items()}
    ratios: list[float] = []
    start = time.perf_counter()
    while len(ratios) < 3 or (time.perf_counter() - start < seconds and len(ratios) < rounds):
        medians = {}
        for name, side in sides.items():
            if threads > 1:
                time.sleep(PAUSE_S)  # the other side's threads may still spin
            uncounted = 0 if motion or once[name] >= COUNT_FIRST_FROM_S else 1
            found = turn(*side, calls[name] + uncounted)[uncounted:]
            times[name] += found
            medians[name] = statistics.median(found)
        ratios.append(medians["peer"] / medians["rikiba"])
    low, middle, high = quartiles(ratios)
    row: dict[str, Any] = {"rounds": len(ratios), "ratio": middle, "ratio_quartiles": [low, high]}
    for name, values in times.items():
        low, middle, high = quartiles(values, 1e3)
        row[name] = {"median_ms": middle, "quartiles_ms": [low, high], "least_ms": 1e3 * min(values)}
        row[name]["calls"] = len(values) * (calls[name] if motion else 1)
    return row


def cpu_seconds(pids: tuple[int, ...]) -> tuple[float, float] | None:
    """CPU time of the whole machine and of these processes so far; None where /proc does not tell."""
    try:
        ticks = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        fields = [Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split() for p in pids]
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    busy = sum(ticks) - ticks[3] - ticks[4]
    return busy / tick, sum(int(f[11]) + int(f[12]) for f in fields) / tick


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    known = [fields.get(k) for k in ("model name", "cpu family", "model")]
    return ", ".join(f"{k} {v}" if k else v for k, v in zip(("", "family", "model"), known, strict=True) if v)


def measure(
    name: str,
    case: Case,
    structure_name: str,
    sides: tuple[Worker, Worker],
    folder: Path,
    options: argparse.Namespace,
    threads: int,
) -> dict[str, Any]:
    """One row: equal numbers in float32, then the times."""
    theirs, ours = sides
    found = structure(structure_name)
    file = folder / f"{structure_name}.npz"
    found.write(file)
    row: dict[str, Any] = {
        "case": name,
        "structure": structure_name,
        "atoms": len(found.numbers),
        "threads": threads,
        "clock": options.clock,
        "dtype": "float32" if case.equal else "float32 (rikiba), float64 (peer)",
    }
    if case.equal:
        row |= checked(name, structure_name, "float32", sides, file, folder, len(found.numbers))
    first = [side.ask(do="ready", structure=str(file))["seconds"] for side in sides]
    row["first_call_s"] = {"peer": first[0], "rikiba": first[1]}
    load, before, start = os.getloadavg()[0], cpu_seconds(pids_of(sides)), time.perf_counter()
    row |= in_turns(
        theirs, ours, motion=case.motion, seconds=options.seconds, rounds=options.rounds, threads=threads
    )
    after, wall = cpu_seconds(pids_of(sides)), time.perf_counter() - start
    row["load_average"] = load
    if before is not None and after is not None:
        row["busy_with_others"] = max(0.0, (after[0] - before[0] - (after[1] - before[1])) / wall)
    return row


def crowded(row: dict[str, Any]) -> bool:
    """Whether several threads had fewer cores than they are; a fifth of a core is let pass."""
    cores = os.cpu_count() or 1
    return row["threads"] > 1 and row["threads"] + row.get("busy_with_others", 0.0) > cores + 0.2


def pids_of(sides: tuple[Worker, Worker]) -> tuple[int, ...]:
    """Processes whose work is not other work."""
    return (*(s.process.pid for s in sides), os.getpid())


def checked(
    name: str,
    structure_name: str,
    dtype: str,
    sides: tuple[Worker, Worker],
    file: Path,
    folder: Path,
    n_atoms: int,
) -> dict[str, Any]:
    """Both sides' numbers compared; raises ValueError where they differ, in number of pairs too."""
    answers = [folder / "peer.npz", folder / "rikiba.npz"]
    pairs = [
        side.ask(do="check", structure=str(file), dtype=dtype, to=str(to))["pairs"]
        for side, to in zip(sides, answers, strict=True)
    ]
    if None not in pairs and pairs[0] != pairs[1] and dtype == "float64":
        raise ValueError(f"{name}, {structure_name}: {pairs[0]} pairs there, {pairs[1]} here.")
    differences = compare_numbers(name, structure_name, dtype, answers[0], answers[1], n_atoms)
    return {"pairs": pairs[1], f"differences_{dtype}": differences}


def build(
    name: str, case: Case, group: tuple[str, ...], sides: tuple[Worker, Worker], folder: Path
) -> dict[str, Any]:
    """Both sides' models for the elements of a group, equal in float64 on its smallest structure."""
    theirs, ours = sides
    found = structure(group[0])
    file, weights = folder / f"{group[0]}.npz", folder / "weights.npz"
    found.write(file)
    common = {"do": "build", "structure": str(file), "weights": str(weights), "motion": case.motion}
    there = theirs.ask(**common, settings=case.settings, about={})
    about = there | ({"imports": case.peer} if case.equal else {})
    here = ours.ask(**common, settings=case.ours, about=about)
    row = {"build_s": {"peer": there["seconds"], "rikiba": here["seconds"]}}
    row |= {k: there[k] for k in ("compile_s",) if k in there}
    row |= {"parameters": here["parameters"]}
    if case.equal:
        row |= checked(name, group[0], "float64", sides, file, folder, len(found.numbers))
    return row


def rows_of(name: str, threads: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of one case."""
    case = CASES[name]
    if case.motion and options.clock != "wall":
        raise ValueError(f"{name}: steps of dynamics are timed by the wall clock only.")
    wanted = [s for s in case.structures if s in options.systems]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with workers(case.peer, threads, folder, options.clock) as sides:
            about = {
                "processor": cpu_name(),
                "cores": os.cpu_count(),
                "peer": sides[0].ask(do="versions", packages=PACKAGES[case.peer]),
                "rikiba": sides[1].ask(do="versions", packages=PACKAGES["rikiba"]),
                "command": command(name, threads, options),
            }
            for group in GROUPS:
                members = [s for s in group if s in wanted]
                if not members:
                    continue
                built = build(name, case, group, sides, folder)
                for member in members:
                    row = built | measure(name, case, member, sides, folder, options, threads)
                    yield row | {"label": case.label, "target": case.target, "about": about}


def command(name: str, threads: int, options: argparse.Namespace) -> str:
    """What to type for these rows."""
    systems = "" if set(options.systems) == set(NAMES) else f" --systems {' '.join(options.systems)}"
    return (
        f"python benchmarks/peers/compare.py --only {name}{systems} --threads {threads} "
        f"--seconds {options.seconds:g}{'' if options.clock == 'wall' else ' --clock processor'}"
    )


def write(peer: str, row: dict[str, Any], folder: Path) -> None:
    """Put a row into the peer's file in place of one of the same case, structure and threads."""
    path = folder / f"{peer}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []

    def key(r: dict[str, Any]) -> tuple[int, int, int]:
        return list(CASES).index(r["case"]), NAMES.index(r["structure"]), r["threads"]

    rows = sorted([r for r in rows if r["case"] in CASES and key(r) != key(row)] + [row], key=key)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"peer": peer, "rows": rounded(rows)}, indent=1, ensure_ascii=False) + "\n")


def rounded(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def line(row: dict[str, Any]) -> str:
    there, here = row["peer"]["median_ms"], row["rikiba"]["median_ms"]
    low, high = row["ratio_quartiles"]
    return (
        f"{row['label']}, {row['structure']}, {row['threads']} thread(s): {there:.4g} ms there, "
        f"{here:.4g} ms here, {row['ratio']:.3g} times ({low:.3g} to {high:.3g}; {row['rounds']} rounds)"
    )


def chosen(only: list[str]) -> list[str]:
    """Cases by their name, or by that of a peer; raises ValueError for other names."""
    found = [n for n, c in CASES.items() if not only or n in only or c.peer in only]
    unknown = set(only) - set(CASES) - {c.peer for c in CASES.values()}
    if unknown:
        raise ValueError(f"There is no case {sorted(unknown)}; there are {', '.join(CASES)}, and the peers.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help=f"cases or peers: {', '.join(CASES)}")
    parser.add_argument("--systems", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--seconds", type=float, default=20.0, help="a row; three rounds at least")
    parser.add_argument("--rounds", type=int, default=100, help="at most")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.clock == "processor" and set(options.threads) != {1}:
        parser.error("--clock processor needs --threads 1: processor time adds the threads up.")
    failed = []
    for name in chosen(options.only):
        peer = CASES[name].peer
        if not environment(peer).exists():
            failed.append(f"{name}: not installed; python benchmarks/peers/install_peers.py {peer}")
            continue
        for threads in options.threads:
            try:
                for row in rows_of(name, threads, options):
                    print(line(row), flush=True)
                    if crowded(row):
                        busy = row["busy_with_others"]
                        failed.append(f"{line(row)}: not written, {busy:.2g} cores were busy with other work")
                    else:
                        write(peer, row, options.out)
            except (RuntimeError, ValueError) as error:
                failed.append(f"{name}, {threads} thread(s): {error}")
    for text in failed:
        print(text, file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
