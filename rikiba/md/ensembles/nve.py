"""Constant energy."""

from typing import ClassVar, Literal

from ..splitting import Splitting, position_verlet, velocity_verlet
from ..verlet import Leapfrog, Stormer


class NVE:
    """Newton's equations by Verlet's method; number, volume and energy are constant.

    Four forms of it. From the same start velocity_verlet, leapfrog and stormer give the same positions, to
    rounding, and differ in what they remember between steps; position_verlet evaluates the forces half a
    step away, so its trajectory is another of the same order.

    Args:
        integrator: velocity_verlet (kick–drift–kick), position_verlet (drift–kick–drift), leapfrog
            (half-step velocities) or stormer (positions alone).
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.442716",)

    def __init__(
        self,
        *,
        integrator: Literal["velocity_verlet", "position_verlet", "leapfrog", "stormer"] = "velocity_verlet",
    ) -> None:
        known = {
            "velocity_verlet": velocity_verlet,
            "position_verlet": position_verlet,
            "leapfrog": lambda: Splitting("L", {"L": Leapfrog()}),
            "stormer": lambda: Splitting("S", {"S": Stormer()}),
        }
        if integrator not in known:
            raise ValueError(f"integrator must be one of {', '.join(known)}; given '{integrator}'.")
        self.integrator = integrator
        self._build = known[integrator]

    def splitting(self) -> Splitting:
        return self._build()
