"""What is compared with whom: one entry a model of a peer."""

from dataclasses import dataclass, field
from typing import Any

from structures import NAMES

MACE: dict[str, Any] = {"l_max": 3, "correlation": 3, "n_layers": 2, "cutoff": 5.0}
NEQUIP: dict[str, Any] = {
    "r_max": 5.0,
    "num_layers": 4,
    "num_features": 64,
    "parity": False,
    "radial_mlp_width": 128,
}
ALLEGRO: dict[str, Any] = {
    "r_max": 5.0,
    "radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed"},
    "num_layers": 2,
    "num_scalar_features": 64,
    "num_tensor_features": 16,
}
DEEPMD: dict[str, Any] = {
    "descriptor": {
        "type": "se_e2_a",
        "rcut": 6.0,
        "rcut_smth": 0.5,
        "neuron": [25, 50, 100],
        "axis_neuron": 16,
        "type_one_side": True,
    },
    "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True},
}
SCHNETPACK: dict[str, Any] = {"cutoff": 5.0, "channels": 128, "n_layers": 3, "n_radial": 20}
PACEMAKER: dict[str, Any] = {
    "embedding": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1.0, 1.0], "ndensity": 1},
    "bond": {
        "radbase": "SBessel",
        "radparameters": [5.25],
        "rcut": 6.0,
        "dcut": 0.01,
        "NameOfCutoffFunction": "cos",
        "core-repulsion": [100.0, 3.0],
        "r_in": 0.0,
        "delta_in": 0.0,
        "inner_cutoff_type": "density",
    },
    "functions": {"nradmax_by_orders": [15, 3, 2, 2, 1], "lmax_by_orders": [0, 2, 2, 1, 1]},
}


@dataclass(frozen=True)
class Case:
    """One model.

    `peer` names the environment (install_peers.py) and the module `<peer>_side.py`; `target` is the ratio
    that the project set itself; `motion` is for steps of molecular dynamics instead of single calls; `equal`
    is False where the peer's model is another one, so that there are no equal numbers to check.
    """

    peer: str
    label: str
    settings: dict[str, Any]
    target: float | None = None
    structures: tuple[str, ...] = NAMES
    motion: bool = False
    equal: bool = True
    ours: dict[str, Any] = field(default_factory=dict)
    """Settings of the model on our side where it is another one."""


FEW = ("ethanol", "Si-64", "Si-216", "water-192")
"""For models that compile for minutes for every set of elements."""
PERIODIC = tuple(n for n in NAMES if n not in ("ethanol", "aspirin"))
MACE_64 = {**MACE, "channels": 64, "max_L": 0}
CASES: dict[str, Case] = {
    "mace-128x0e": Case("mace", "MACE 128x0e", {**MACE, "channels": 128, "max_L": 0}, 20),
    "mace-128x0e+128x1o": Case("mace", "MACE 128x0e+128x1o", {**MACE, "channels": 128, "max_L": 1}, 20),
    "mace-64x0e": Case("mace", "MACE 64x0e", MACE_64),
    "mace-64x0e-md": Case("mace", "MACE 64x0e, MD step", MACE_64, 20, ("Si-216",), motion=True),
    "nequip-l1": Case("nequip", "NequIP l=1, eager", {**NEQUIP, "l_max": 1}, 12),
    "nequip-l2": Case("nequip", "NequIP l=2, eager", {**NEQUIP, "l_max": 2}, 12),
    "nequip-l1-aoti": Case(
        "nequip", "NequIP l=1, AOTInductor", {**NEQUIP, "l_max": 1, "aoti": True}, 10, FEW
    ),
    "nequip-l2-aoti": Case(
        "nequip", "NequIP l=2, AOTInductor", {**NEQUIP, "l_max": 2, "aoti": True}, 10, FEW
    ),
    "allegro-l1": Case("allegro", "Allegro l=1, eager", {**ALLEGRO, "l_max": 1}, 12),
    "allegro-l2": Case("allegro", "Allegro l=2, eager", {**ALLEGRO, "l_max": 2}, 12),
    "sevennet-0": Case(
        "sevennet", "SevenNet-0", {"file": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"}, 20
    ),
    "chgnet-0.3.0": Case("chgnet", "CHGNet 0.3.0", {"model": "0.3.0"}, 12, PERIODIC),
    "schnet": Case("schnetpack", "SchNet, 128 channels", {**SCHNETPACK, "model": "SchNet"}, 10),
    "painn": Case("schnetpack", "PaiNN, 128 channels", {**SCHNETPACK, "model": "PaiNN"}, 10),
    "tensornet-matpes": Case(
        "matgl",
        "TensorNet-MatPES",
        {"folder": "TensorNet-MatPES-PBE-v2025.1-PES", "messages_to": None},
        12,
    ),
    "m3gnet-mp": Case(
        "matgl", "M3GNet-MP", {"folder": "M3GNet-MP-2021.2.8-PES", "messages_to": "centre"}, 12
    ),
    "deepmd": Case("deepmd", "Deep Potential se_e2_a", DEEPMD, 5, (*FEW, "Cu-256")),
    "ani": Case("torchani", "ANI, one network", {}, 5),
    "mtp-16": Case("motep", "MTP level 16", {"level": 16, "cutoff": 5.0}),
    "pace": Case("pacemaker", "ACE of pacemaker", PACEMAKER, 1),
    "pace-copper": Case(
        "pacemaker", "Published ACE of copper", {"file": "Cu-PBE-core-rep.ace"}, 1, ("Cu-256", "Cu-864")
    ),
    "reaxff": Case(
        "lammps",
        "ReaxFF against MACE 64x0e, MD step",
        {"style": "reaxff"},
        1,
        ("water-192",),
        motion=True,
        equal=False,
        ours=MACE_64,
    ),
    "snap": Case(
        "lammps",
        "SNAP against MACE 64x0e, MD step",
        {"style": "snap"},
        None,
        ("Si-216",),
        motion=True,
        equal=False,
        ours=MACE_64,
    ),
    "tersoff": Case(
        "lammps",
        "Tersoff against MACE 64x0e, MD step",
        {"style": "tersoff"},
        None,
        ("Si-216",),
        motion=True,
        equal=False,
        ours=MACE_64,
    ),
}

PACKAGES = {
    "mace": ("mace-torch", "torch", "e3nn"),
    "nequip": ("nequip", "torch", "e3nn"),
    "allegro": ("nequip-allegro", "nequip", "torch", "e3nn"),
    "sevennet": ("sevenn", "torch", "e3nn"),
    "schnetpack": ("schnetpack", "torch"),
    "matgl": ("matgl", "torch"),
    "deepmd": ("deepmd-kit", "torch"),
    "torchani": ("torchani", "torch"),
    "chgnet": ("chgnet", "torch", "pymatgen"),
    "lammps": ("lammps",),
    "motep": ("motep", "numpy"),
    "pacemaker": ("python-ace", "numpy"),
    "rikiba": ("torch", "numba", "numpy"),
}
"""Whose versions are written down."""
