"""Records of every kind, made from closed forms: what the tests of the report draw."""

import math

import numpy as np
from ase.build import bulk, molecule

from rikiba.core.record import Curve, Figure, Record, Scene, Table


def ethanol_scene(n_frames: int = 40) -> Scene:
    """Ethanol bending along a smooth displacement."""
    atoms = molecule("CH3CH2OH")
    start = atoms.positions
    shift = np.random.default_rng(0).normal(0, 0.12, start.shape)
    frames = [start + shift * math.sin(2 * math.pi * k / n_frames) for k in range(n_frames)]
    return Scene(
        title="Ethanol, molecular dynamics at 300 K",
        numbers=tuple(int(z) for z in atoms.numbers),
        frames=tuple(tuple(tuple(map(float, x)) for x in f) for f in frames),
        frame_labels=tuple(f"{10 * k} fs" for k in range(n_frames)),
    )


def silicon_scene(n_frames: int = 30, repeat: int = 2) -> Scene:
    """Diamond silicon with thermal displacements, in its cell."""
    atoms = bulk("Si", cubic=True).repeat(repeat)
    rng = np.random.default_rng(1)
    frames = [atoms.positions + rng.normal(0, 0.05, atoms.positions.shape) for _ in range(n_frames)]
    return Scene(
        title="Silicon crystal",
        numbers=tuple(int(z) for z in atoms.numbers),
        frames=tuple(tuple(tuple(map(float, x)) for x in f) for f in frames),
        cell=tuple(tuple(map(float, row)) for row in atoms.cell),
    )


def records() -> list[Record]:
    """Values with and without spread, lists, matrices, all verdicts, curve styles and kinds of scene."""
    rng = np.random.default_rng(2)
    forces = rng.normal(0, 1.2, 6000)
    error = 0.03
    epochs = np.arange(1, 121)
    wavenumber = np.linspace(0, 4000, 500)
    peaks = sum(
        a * np.exp(-(((wavenumber - c) / 35) ** 2)) for a, c in [(1, 430), (2, 1050), (1.6, 1450), (3, 2980)]
    )
    time = np.linspace(0, 5, 200)
    return [
        Record(
            name="labels",
            title="600 frames labelled with GFN2-xTB",
            values={
                "n_frames": 600,
                "n_failures": 3,
                "level_of_theory": "GFN2-xTB",
                "force_max_eV_per_A": 12.031,
                "wall_time_s": 9.4,
            },
            notes=("3 frames had atoms closer than 0.5 Å and became Failures, not data.",),
            provenance={"rikiba": "0.1.0", "seed": 1, "files": ["train.extxyz", "test.extxyz"]},
        ),
        Record(
            name="errors-mace",
            title="Errors on held-out trajectories: MACE",
            verdict="pass",
            values={"energy_MAE_meV_per_atom": 0.412, "force_MAE_meV_per_A": 18.35, "n_test": 100},
            spread={"force_MAE_meV_per_A": 0.62},
            figures=(
                Figure(
                    title="Forces",
                    x_label="reference (eV/Å)",
                    y_label="predicted (eV/Å)",
                    diagonal=True,
                    curves=(
                        Curve.of("held out", forces, forces + rng.normal(0, error, 6000), style="points"),
                    ),
                ),
                Figure(
                    title="Learning curve",
                    x_label="epoch",
                    y_label="force MAE (meV/Å)",
                    log_y=True,
                    curves=(
                        Curve.of("training", epochs, 900 / epochs**0.8 + 8),
                        Curve.of("validation", epochs, 950 / epochs**0.75 + 14, 40 / epochs**0.5),
                    ),
                ),
            ),
            tables=(
                Table(
                    title="By element",
                    columns=("element", "count", "F MAE (meV/Å)", "verdict"),
                    rows=(
                        ("H", 3600, 14.21, "pass"),
                        ("C", 1200, 22.9, "pass"),
                        ("O", 600, 31.04, "undecided"),
                    ),
                ),
            ),
            references=("10.48550/arXiv.2206.07697",),
        ),
        Record(
            name="vibrations",
            title="Harmonic frequencies and vibrational spectrum",
            verdict="undecided",
            notes=("The window of 5 ps resolves 7 cm⁻¹: lines closer than this cannot be told apart.",),
            values={
                "frequencies_cm1": list(np.linspace(212.3, 3712.9, 21)),
                "resolution_cm1": 6.67,
                "zero_point_energy_kJ_per_mol": 208.31,
            },
            spread={"frequencies_cm1": [1.5] * 21},
            figures=(
                Figure(
                    title="Vibrational density of states",
                    x_label="wavenumber (cm⁻¹)",
                    y_label="density (arb. u.)",
                    curves=(
                        Curve.of("reference", wavenumber, peaks),
                        Curve.of("MACE", wavenumber - 6, peaks, 0.1 + 0 * peaks, style="band"),
                        Curve.of("histogram", wavenumber[::25], peaks[::25], style="step"),
                    ),
                ),
            ),
            references=("10.1103/RevModPhys.73.515", "10.1063/1.1697872"),
        ),
        Record(
            name="drift",
            title="Energy drift in NVE",
            verdict="fail",
            notes=("The drift is 40 times the limit: the timestep is too long for O–H bonds.",),
            values={
                "drift_meV_per_atom_per_ps": -4.13,
                "diffusion_cm2_per_s": 2.31e-5,
                "friction_per_ps": 10.0,
                "infinite": math.inf,
                "missing": math.nan,
                "converged": False,
                "ratio": None,
            },
            spread={"drift_meV_per_atom_per_ps": 0.2, "diffusion_cm2_per_s": 3e-7},
            figures=(
                Figure(
                    title="Conserved energy",
                    x_label="time (ps)",
                    y_label="E − E₀ (meV/atom)",
                    curves=(Curve.of("16 replicas", time, -4 * time + np.sin(9 * time), 0.6 + 0 * time),),
                ),
                Figure(
                    title="Mean square displacement",
                    x_label="time (ps)",
                    y_label="MSD (Å²)",
                    curves=(
                        Curve.of("H", time[::10], 0.4 * time[::10], 0.1 + 0.03 * time[::10], style="points"),
                        Curve.of("O", time[::10], 0.2 * time[::10], 0.05 + 0.02 * time[::10], style="points"),
                    ),
                ),
            ),
        ),
        Record(
            name="elastic",
            title="Elastic constants of diamond silicon",
            verdict="pass",
            values={
                "C11_GPa": 153.41,
                "C12_GPa": 57.03,
                "C44_GPa": 74.92,
                "bulk_modulus_GPa": 89.16,
                "lattice_constant_A": 5.4687,
                "elastic_tensor_GPa": [[153.4, 57.0, 57.0], [57.0, 153.4, 57.0], [57.0, 57.0, 153.4]],
            },
            spread={"C11_GPa": 2.31, "C12_GPa": 0.94, "C44_GPa": 1.02, "lattice_constant_A": 0.0011},
            scenes=(silicon_scene(),),
            references=("10.1063/1.4812323",),
        ),
        Record(
            name="trajectory", title="Trajectory", scenes=(ethanol_scene(),), values={"temperature_K": 300.0}
        ),
    ]
