"""A Scene as compact data for the viewer: 16-bit positions, colours and radii."""

import base64
from typing import Any

import numpy as np

from ..core.record import Scene


def encode(scene: Scene) -> dict[str, Any]:
    """What viewer.js reads.

    Positions become unsigned 16-bit steps between the smallest and the largest coordinate of each axis over
    all frames (little endian, base64): x = low + step·q, an error of at most step/2 = (high − low)/131070.

    Raises:
        ValueError: no atoms or frames, frames of unequal length, or a coordinate that is not finite.
    """
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    n = len(scene.numbers)
    if n == 0 or not scene.frames:
        raise ValueError(
            f"Scene '{scene.title}' has {n} atoms and {len(scene.frames)} frames; both must be at least 1."
        )
    uneven = [k for k, frame in enumerate(scene.frames) if len(frame) != n]
    if uneven:
        raise ValueError(f"Scene '{scene.title}': frame {uneven[0]} has not {n} atoms, as `numbers` says.")
    if scene.frame_labels is not None and len(scene.frame_labels) != len(scene.frames):
        raise ValueError(
            f"Scene '{scene.title}': {len(scene.frame_labels)} frame labels for {len(scene.frames)} frames."
        )
    x = np.asarray(scene.frames, dtype=np.float64)
    if not np.isfinite(x).all():
        frame = int(np.argwhere(~np.isfinite(x))[0, 0])
        raise ValueError(f"Scene '{scene.title}': frame {frame} has a coordinate that is not finite.")
    low, high = x.min((0, 1)), x.max((0, 1))
    step = np.where(high > low, (high - low) / 65535.0, 1.0)
    quantised = np.rint((x - low) / step).astype("<u2")
    kinds = sorted(set(scene.numbers))
    cell = None if scene.cell is None or not np.any(scene.cell) else np.asarray(scene.cell, float).tolist()
    return {
        "title": scene.title,
        "atoms": n,
        "frames": len(scene.frames),
        "kinds": [
            {
                "symbol": chemical_symbols[z],
                "color": "#" + "".join(f"{round(255 * float(c)):02x}" for c in jmol_colors[z]),
                "radius": round(float(covalent_radii[z]), 3),
            }
            for z in kinds
        ],
        "kind": [kinds.index(z) for z in scene.numbers],
        "low": low.tolist(),
        "step": step.tolist(),
        "positions": base64.b64encode(quantised.tobytes()).decode("ascii"),
        "cell": cell,
        "labels": list(scene.frame_labels) if scene.frame_labels is not None else None,
    }


def decode(data: dict[str, Any]) -> np.ndarray:
    """Positions [frames, atoms, 3] in Å of an encoded scene: what the viewer draws."""
    q = np.frombuffer(base64.b64decode(data["positions"]), dtype="<u2").reshape(
        data["frames"], data["atoms"], 3
    )
    return np.asarray(data["low"]) + q * np.asarray(data["step"])
