"""Evaluate small, randomly initialised models of the nequip-allegro package and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/allegro/bin/python tests/peers/allegro/make_allegro_reference.py [case ...]

One compressed npz per case is written to ``reference/``, in the layout of those in ``../nequip``.
"""

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mace"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nequip"))
from make_reference import BY_TYPE, ELEMENTS, SEED, ZBL, evaluate
from structures import all_structures

HERE = Path(__file__).resolve().parent
BESSEL: dict[str, Any] = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 5}
SPLINE = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": 6, "spline_span": 4}
BASE: dict[str, Any] = {
    "r_max": 4.0,
    "type_names": ELEMENTS,
    "l_max": 2,
    "radial_chemical_embed": BESSEL,
    "num_layers": 2,
    "num_scalar_features": 6,
    "num_tensor_features": 3,
    "scalar_embed_mlp_hidden_layers_width": 8,
    "allegro_mlp_hidden_layers_width": 8,
    "readout_mlp_hidden_layers_width": 4,
    "avg_num_neighbors": 12.0,
    "per_type_energy_scales": 4.0,
    "per_type_energy_shifts": BY_TYPE,
}
CASES: dict[str, dict[str, Any]] = {
    "two_layers_l2": {"per_type_energy_scales": {"H": 0.5, "C": 0.75, "O": 1.25, "Si": 0.25, "Cu": 1.5}},
    "three_layers_l2_parity": {
        "num_layers": 3,
        "radial_chemical_embed": BESSEL | {"bessel_trainable": True, "polynomial_cutoff_p": 8},
        "avg_num_neighbors": {"H": 3.0, "C": 4.0, "O": 6.0, "Si": 16.0, "Cu": 30.0},
    },
    "three_layers_l1_natural": {"num_layers": 3, "l_max": 1, "parity": False, "num_tensor_features": 4},
    "one_layer_l3_shared": {
        "num_layers": 1,
        "l_max": 3,
        "tp_path_channel_coupling": False,
        "radial_chemical_embed_dim": 8,
        "scalar_embed_mlp_hidden_layers_depth": 2,
        "allegro_mlp_hidden_layers_depth": 2,
        **{f"{k}_mlp_nonlinearity": "gelu" for k in ("scalar_embed", "allegro", "readout")},
    },
    "spline_zbl": {
        "l_max": 1,
        "radial_chemical_embed": SPLINE,
        "pair_potential": ZBL,
        "readout_mlp_hidden_layers_depth": 0,
    },
}


def build(settings: dict[str, Any]) -> torch.nn.Module:
    """The peer's model, parameters rounded to 2⁻¹² so that the files are small."""
    from allegro.model import AllegroModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = AllegroModel(seed=SEED, model_dtype="float64", **settings)
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if name.endswith("bessel_weights"):
            noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += 0.3 * (noise - 0.5)
        parameter.data = torch.round(parameter.data * 4096) / 4096
    return model  # type: ignore[no-any-return]


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    settings = BASE | CASES[case]
    model = build(settings)
    kept = {name for name, _ in model.named_parameters()}
    kept |= {n for n, _ in model.named_buffers() if n.endswith((".scales", ".shifts"))}
    arrays = {f"state/{n}": t.numpy() for n, t in model.state_dict().items() if n in kept and t.numel()}
    structures = all_structures()
    for name, atoms in structures.items():
        given = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array}
        given |= {"pbc": atoms.pbc} | evaluate(model, atoms, settings)
        for key, value in given.items():
            arrays[f"structures/{name}/{key}"] = np.asarray(value)
    packages = ("nequip-allegro", "nequip", "e3nn", "torch", "numpy", "ase")
    about = {
        "case": case,
        "settings": settings,
        "structures": list(structures),
        "seed": SEED,
        "versions": {name: version(name) for name in packages},
        "command": ".venvs/allegro/bin/python tests/peers/allegro/make_allegro_reference.py " + case,
    }
    arrays["about"] = np.array(json.dumps(about))
    path = HERE / "reference" / f"{case}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        print(case, write(case).stat().st_size, flush=True)
