"""Overhead of a step, ours and others', measured in turns in one run.

    python benchmarks/md_overhead/compare.py [--rounds 3]

Runs `ours.py` and `peers.py` alternately and keeps, for each integrator, the least of all rounds: the machine
was the same for all of them. Writes results.json beside this file. torch-sim takes part where its environment
exists (benchmarks/peers/install_peers.py torch_sim).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENT = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run(*arguments: str) -> dict[str, Any]:
    """One script's JSON; `ours.py` exits with 1 where a limit is missed, which the numbers show as well."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    if not done.stdout.strip():
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    peers = ["ase"]
    if (HERE.parents[1] / ".venvs" / "torch_sim").exists():
        peers.append("torch_sim")
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        ours, others = run(str(HERE / "ours.py")), run(str(HERE / "peers.py"), *peers)
        for row in [{"peer": "rikiba", **r} for r in ours["results"]] + others["results"]:
            key = f"{row['peer']}: {row['integrator']}, {row['atoms']} atoms"
            if key not in best or row["step_us"] < best[key]["step_us"]:
                best[key] = {"name": key, "step_us": row["step_us"], "atoms": row["atoms"]}
    answer = {"about": ours["about"] | {"rounds": rounds}, "results": list(best.values())}
    (HERE / "results.json").write_text(json.dumps(answer, indent=1) + "\n")
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
