"""Constant energy."""

from typing import ClassVar, Literal

from ..splitting import Splitting, position_verlet, velocity_verlet


class NVE:
    """Newton's equations by Verlet's method; number, volume and energy are constant.

    Args:
        integrator: velocity_verlet (kick–drift–kick) or position_verlet (drift–kick–drift).
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.442716",)

    def __init__(
        self, *, integrator: Literal["velocity_verlet", "position_verlet"] = "velocity_verlet"
    ) -> None:
        known = {"velocity_verlet": velocity_verlet, "position_verlet": position_verlet}
        if integrator not in known:
            raise ValueError(f"integrator must be one of {', '.join(known)}; given '{integrator}'.")
        self.integrator = integrator
        self._build = known[integrator]

    def splitting(self) -> Splitting:
        return self._build()
