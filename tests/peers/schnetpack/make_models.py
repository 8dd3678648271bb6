"""Save two of the peer's models whole, as its training does (`best_model`), compressed.

    OMP_NUM_THREADS=1 .venvs/schnetpack/bin/python tests/peers/schnetpack/make_models.py

The models are those of make_reference.py, whose npz holds what they answer.
"""

import io
import lzma
from pathlib import Path

import torch
from make_reference import CASES, build

FOLDER = Path(__file__).parent / "reference"


def main() -> None:
    """Write `reference/CASE.model.xz`."""
    for case in ("schnet_shared", "painn_shared_filters"):
        stream = io.BytesIO()
        torch.save(build(case, CASES[case]), stream)
        path = FOLDER / f"{case}.model.xz"
        path.write_bytes(lzma.compress(stream.getvalue(), preset=9))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
