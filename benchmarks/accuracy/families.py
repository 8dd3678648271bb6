"""Every family of short.toml on rMD17 ethanol and aspirin, from 50 and from 1,000 configurations.

    python benchmarks/accuracy/families.py                    # all, one after another: two hours of one core
    python benchmarks/accuracy/families.py --only mace gap --seconds 60

Each is one run of learn.py in a process of its own with one thread. What has its results file is not run
again, so that the whole goes on after a break; one that fails is told of at the end and does not stop the
others.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rikiba import config

HERE = Path(__file__).resolve().parent
MOLECULES = ("rmd17-ethanol", "rmd17-aspirin")
FRAMES = (50, 1000)


def run(data: str, frames: int, name: str, seconds: float) -> bool:
    """Whether there are results, from before or now."""
    stem = f"{data}_{name}_{frames}_{seconds:.0f}s"
    if (HERE / "results" / f"{stem}.json").exists():
        return True
    words = [data, "--frames", str(frames), "--potential", name, "--seconds", f"{seconds:g}"]
    began = time.time()
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    )
    done = subprocess.run(
        [sys.executable, str(HERE / "learn.py"), *words],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    said = "" if done.returncode == 0 else f"\n{done.stderr[-2000:]}"
    print(f"{stem}: status {done.returncode} after {time.time() - began:.0f} s{said}", flush=True)
    return done.returncode == 0


def main() -> None:
    names = list(config.read(HERE / "short.toml")["rmd17"])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--data", nargs="+", choices=MOLECULES, default=MOLECULES)
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES)
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time for each training")
    options = parser.parse_args()
    cases = [(d, n, name) for d in options.data for n in options.frames for name in options.only]
    failed = [" ".join(map(str, case)) for case in cases if not run(*case, options.seconds)]
    if failed:
        raise SystemExit(f"Without results: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
