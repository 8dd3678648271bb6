"""A training step here and in other programs, in turns, on the same weights and structures.

    python benchmarks/training_step/compare.py [--rounds 5] [case ...]

One step is energies, forces, the loss of both, its gradient and Adam with AMSGrad; float32, one thread, pairs
at hand. Four rattled cells of 64 silicon atoms in a batch; or five ethanol molecules. Forces of both sides
are compared first. Milliseconds of processor time: the least of all steps and the median. Writes
results.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from cases import CASES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ENVIRONMENT = os.environ | dict.fromkeys(THREADS, "1")


class Side:
    """A process that makes training steps on request."""

    def __init__(self, interpreter: str, script: str, case: str, folder: Path) -> None:
        command = [interpreter, str(HERE / script), case, str(folder)]
        environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)} if script == "ours.py" else ENVIRONMENT
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
        )
        self.about: dict[str, Any] = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout and self.process.stderr
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read())
        return json.loads(line)

    def steps(self, n: int) -> list[float]:
        assert self.process.stdin
        print(n, file=self.process.stdin, flush=True)
        found: list[float] = self._answer()
        return found

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Times of one case."""
    peer = ROOT / ".venvs" / CASES[name]["peer"] / "bin" / "python"
    if not peer.exists():
        raise SystemExit(f"Not there: {peer}; see benchmarks/peers/install_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        theirs = Side(str(peer), "peers.py", name, Path(folder))
        (Path(folder) / "about.json").write_text(json.dumps(theirs.about))
        ours = Side(sys.executable, "ours.py", name, Path(folder))
    once = max(min(side.steps(3)) for side in (theirs, ours))
    n = max(1, min(20, int(1.0 / once)))
    here: list[float] = []
    there: list[float] = []
    for _ in range(rounds):
        there += theirs.steps(n)
        here += ours.steps(n)
    theirs.close()
    ours.close()
    return {
        "case": name,
        "structure": CASES[name]["structure"],
        "peer": f"{CASES[name]['peer']} {theirs.about['version']}, torch {theirs.about['torch']}",
        **{k: ours.about[k] for k in ("atoms", "pairs", "parameters", "force_difference")},
        "peer_parameters": theirs.about["parameters"],
        "peer_ms": 1e3 * min(there),
        "peer_median_ms": 1e3 * statistics.median(there),
        "rikiba_ms": 1e3 * min(here),
        "rikiba_median_ms": 1e3 * statistics.median(here),
        "ratio": min(there) / min(here),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name in options.cases:
        rows.append(measure(name, options.rounds))
        print("{case}: {peer_ms:.1f} ms there, {rikiba_ms:.1f} here: {ratio:.1f}".format(**rows[-1]))
    about = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "dtype": "float32",
        "rounds": options.rounds,
    }
    if list(options.cases) == list(CASES):
        (HERE / "results.json").write_text(json.dumps({"about": about, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
