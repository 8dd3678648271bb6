"""Propagation of Nosé–Hoover chains by a Suzuki–Yoshida product."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation
from .local_motion import kinetic_energy

SUZUKI_YOSHIDA: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    3: (1.3512071919596578, -1.7024143839193153, 1.3512071919596578),
    5: (0.4144907717943757, 0.4144907717943757, -0.6579630871775028, 0.4144907717943757, 0.4144907717943757),
    7: (
        0.784513610477560,
        0.235573213359357,
        -1.17767998417887,
        1.315186320683906,
        -1.17767998417887,
        0.235573213359357,
        0.784513610477560,
    ),
}
"""Number of factors → their shares of the time: of order 2, 4, 4 and 6.

Suzuki, doi:10.1016/0375-9601(90)90962-N; Yoshida, doi:10.1016/0375-9601(90)90092-3, solution A.
"""


@operation
def nose_hoover_chain(
    positions: Float[Tensor, "systems links"],
    velocities: Float[Tensor, "systems links"],
    masses: Float[Tensor, "systems links"],
    twice_kinetic: Float[Tensor, "systems"],
    dof: Float[Tensor, "systems"],
    thermal_energy: Float[Tensor, "systems"],
    dt: Float[Tensor, "systems"],
    factors: Float[Tensor, "shares"],
) -> tuple[Float[Tensor, "systems links"], Float[Tensor, "systems links"], Float[Tensor, "systems"]]:
    """Chain positions and velocities after a time dt, and the factor on the velocities that they thermostat.

    dv₁/dt = (2K − N_f k_B T)/Q₁ − v₁v₂,  dv_k/dt = (Q_{k−1}v²_{k−1} − k_B T)/Q_k − v_k v_{k+1},  dp/dt = −v₁p
    (Martyna, Klein & Tuckerman, doi:10.1063/1.463940), advanced as in Martyna, Tuckerman, Tobias & Klein,
    doi:10.1080/00268979600100761. `factors` are the shares of dt, e.g. of SUZUKI_YOSHIDA; energies in eV,
    masses Q in eV times internal time squared.
    """
    x, v, q = list(positions.unbind(1)), list(velocities.unbind(1)), masses.unbind(1)
    last, kinetic, scale = len(x) - 1, twice_kinetic, torch.ones_like(dt)

    def force(k: int) -> Tensor:
        driving = kinetic - dof * thermal_energy if k == 0 else q[k - 1] * v[k - 1] ** 2 - thermal_energy
        return driving / q[k]

    def dragged(k: int, h: Tensor) -> Tensor:
        drag = torch.exp(-0.25 * h * v[k + 1])
        return drag * (drag * v[k] + 0.5 * h * force(k))

    for share in factors.tolist():
        h = share * dt
        v[last] = v[last] + 0.5 * h * force(last)
        for k in reversed(range(last)):
            v[k] = dragged(k, h)
        factor = torch.exp(-h * v[0])
        scale, kinetic = scale * factor, kinetic * factor**2
        x = [a + h * b for a, b in zip(x, v, strict=True)]
        for k in range(last):
            v[k] = dragged(k, h)
        v[last] = v[last] + 0.5 * h * force(last)
    return torch.stack(x, 1), torch.stack(v, 1), scale


@operation
def nose_hoover_velocities(
    positions: Float[Tensor, "systems links"],
    velocities: Float[Tensor, "systems links"],
    masses: Float[Tensor, "systems links"],
    dof: Float[Tensor, "systems"],
    thermal_energy: Float[Tensor, "systems"],
    dt: Float[Tensor, "systems"],
    factors: Float[Tensor, "shares"],
    atoms: Float[Tensor, "atoms 3"],
    atom_masses: Float[Tensor, "atoms"],
    system_index: Int[Tensor, "atoms"],
) -> tuple[Float[Tensor, "systems links"], Float[Tensor, "systems links"], Float[Tensor, "atoms 3"]]:
    """The chains of `nose_hoover_chain` and the velocities of the atoms that they thermostat, in one pass.

    `atoms` are velocities, `atom_masses` in u; the kinetic energy is summed in the atoms' order.
    """
    twice = 2.0 * kinetic_energy.definition(atom_masses, atoms, system_index, len(dt))
    x, v, scale = nose_hoover_chain.definition(
        positions, velocities, masses, twice, dof, thermal_energy, dt, factors
    )
    return x, v, atoms * scale[system_index][:, None]
