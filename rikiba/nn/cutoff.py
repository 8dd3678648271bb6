"""Envelopes that bring an interaction to zero at the cutoff, and transforms of distance.

Each envelope is a function of x = r/r_c, 1 at x = 0 unless its docstring says otherwise, exactly 0 for x ≥ 1.
The class Cn in each docstring counts continuous derivatives at x = 1: forces need C1, Hessians C2.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def _inside(x: Tensor, value: Tensor) -> Tensor:
    return torch.where(x < 1.0, value, torch.zeros_like(value))


def cosine(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """f = ½(1 + cos πx), C1. Behler & Parrinello, doi:10.1103/PhysRevLett.98.146401, eq. 4."""
    return _inside(x, 0.5 * (1.0 + torch.cos(torch.pi * x)))


def polynomial(x: Float[Tensor, "*n"], power: int = 6) -> Float[Tensor, "*n"]:
    """f = 1 − (p+1)(p+2)/2·x^p + p(p+2)·x^(p+1) − p(p+1)/2·x^(p+2), C2.

    Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 8. Raises ValueError for a power below 2.
    """
    if power < 2:
        raise ValueError(f"The polynomial envelope needs a power of at least 2; given {power}.")
    p = float(power)
    inner = (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * x + p * (p + 1.0) / 2.0 * x * x
    return _inside(x, 1.0 - inner * x**power)


def quintic(x: Float[Tensor, "*n"], start: float = 0.0) -> Float[Tensor, "*n"]:
    """f = 1 − 10u³ + 15u⁴ − 6u⁵ with u = (x − start)/(1 − start), 1 up to `start`; C2 at both ends.

    The switch of deepmd-kit, doi:10.1063/5.0155600. Raises ValueError unless 0 ≤ start < 1.
    """
    if not 0.0 <= start < 1.0:
        raise ValueError(f"The switch must start inside the cutoff, 0 ≤ start < 1; given {start}.")
    u = ((x - start) / (1.0 - start)).clamp(min=0.0)
    return _inside(x, 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u * u))


def tanh_cubed(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """f = tanh³(1 − x), C2; f(0) = tanh³ 1 ≈ 0.4417. Behler, doi:10.1063/1.3553717, eq. 6."""
    return _inside(x, torch.tanh(1.0 - x) ** 3)


def mollifier(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """f = exp(1 − 1/(1 − x²)), C∞."""
    safe = torch.where(x < 1.0, x, torch.zeros_like(x))
    return _inside(x, torch.exp(1.0 - 1.0 / (1.0 - safe * safe)))


def smoothstep(x: Float[Tensor, "*n"], order: int = 2, start: float = 0.0) -> Float[Tensor, "*n"]:
    """Polynomial of degree 2n+1 in u = (x − start)/(1 − start), n vanishing derivatives at both ends, Cn.

    n = 1 … 4 are the functions POLY1 … POLY4 of n2p2. Raises ValueError for another order or start.
    """
    coefficients = {1: (3, -2), 2: (10, -15, 6), 3: (35, -84, 70, -20), 4: (126, -420, 540, -315, 70)}
    if order not in coefficients or not 0.0 <= start < 1.0:
        raise ValueError(f"order must be 1 to 4 and 0 ≤ start < 1; given {order} and {start}.")
    u = ((x - start) / (1.0 - start)).clamp(min=0.0)
    total = torch.zeros_like(u)
    for c in reversed(coefficients[order]):
        total = total * u + c
    return _inside(x, 1.0 - total * u ** (order + 1))


def xplor(x: Float[Tensor, "*n"], start: float) -> Float[Tensor, "*n"]:
    """f = (1 − x²)²(1 + 2x² − 3s²)/(1 − s²)³ beyond s = `start`, 1 before; C1 at both ends.

    Brooks et al., doi:10.1002/jcc.540040211. Raises ValueError unless 0 ≤ start < 1.
    """
    if not 0.0 <= start < 1.0:
        raise ValueError(f"The switch must start inside the cutoff, 0 ≤ start < 1; given {start}.")
    x2, s2 = x * x, start * start
    switched = (1.0 - x2) ** 2 * (1.0 + 2.0 * x2 - 3.0 * s2) / (1.0 - s2) ** 3
    return _inside(x, torch.where(x > start, switched, torch.ones_like(x)))


def power_law(x: Float[Tensor, "*n"], exponent: int = 2) -> Float[Tensor, "*n"]:
    """f = (1 − x)^n, C(n−1); n = 2 is the form of moment tensor potentials, doi:10.1137/15M1054183."""
    if exponent < 1:
        raise ValueError(f"The exponent must be at least 1; given {exponent}.")
    return _inside(x, (1.0 - x) ** exponent)


def even_power(x: Float[Tensor, "*n"], exponent: int = 3) -> Float[Tensor, "*n"]:
    """f = (1 − x²)^n, C(n−1): n = 2 biweight, n = 3 triweight."""
    if exponent < 1:
        raise ValueError(f"The exponent must be at least 1; given {exponent}.")
    return _inside(x, (1.0 - x * x) ** exponent)


def agnesi(
    r: Float[Tensor, "*n"],
    r0: Float[Tensor, "*n"],
    *,
    q: float = 0.9183,
    p: float = 4.5791,
    a: float = 1.0805,
) -> Float[Tensor, "*n"]:
    """y = 1/(1 + a (r/r₀)^q / (1 + (r/r₀)^(q−p))), 1 at r = 0, falling to 0, steepest around r₀.

    Witt et al., doi:10.1063/5.0158783, eq. 12; the defaults are those of MACE, where r₀ is half the sum of
    the covalent radii (Batatia et al., arXiv:2401.00096). r and r₀ in Å.
    """
    x = r / r0
    return 1.0 / (1.0 + a * x**q / (1.0 + x ** (q - p)))
