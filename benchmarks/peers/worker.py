"""One side of a comparison: answers requests, one JSON object a line, until its input ends.

    python worker.py mace 1

The first argument names the side (module `<side>_side.py`), the second the number of threads. `compare.py`
starts one worker of each side in its own environment. A reply is `{"reply": ...}` or `{"error": text}`.

    {"do": "build", "settings": {...}, "structure": file, "weights": file, "motion": false, "about": {...}}
    {"do": "check", "structure": file, "dtype": "float64", "to": file}          numbers into a file
    {"do": "ready", "structure": file}                                        float32, to be timed
    {"do": "turn", "calls": 5, "variant": "", "clock": "wall"}                seconds of each call

`side.py` says what a side has to do.
"""

import importlib
import json
import os
import sys
import time
import traceback
import warnings
from importlib.metadata import version
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def turn(side: Any, calls: int, clock: str) -> list[float]:
    """Seconds of each call; for dynamics the seconds of a step, once, as the mean of that many steps."""
    now = CLOCKS[clock]
    if side.motion:
        return [side.steps(calls)]
    found = []
    for _ in range(calls):
        start = now()
        side.call()
        found.append(now() - start)
    return found


def answer(side: Any, request: dict[str, Any]) -> Any:
    """Reply to one request."""
    do = request.pop("do")
    if do == "turn":
        side.variant = request["variant"]
        return turn(side, request["calls"], request["clock"])
    if do == "versions":
        return {name: version(name) for name in request["packages"]}
    start = time.perf_counter()
    found = getattr(side, do)(**request)
    return {"seconds": time.perf_counter() - start} | (found or {})


def main() -> None:
    """Serve until the input ends; what a library prints goes to stderr."""
    name, threads = sys.argv[1], int(sys.argv[2])
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    side = importlib.import_module(f"{name}_side").Side(threads)
    for line in sys.stdin:
        try:
            reply = {"reply": answer(side, json.loads(line))}
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
