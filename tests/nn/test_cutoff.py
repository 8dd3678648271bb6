"""Envelopes: value, smoothness class, monotony; the Agnesi transform."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rikiba.nn import cutoff
from rikiba.nn.radial import Bessel

Envelope = Callable[[Tensor], Tensor]

CLASSES: dict[str, tuple[Envelope, int]] = {
    "cosine": (cutoff.cosine, 1),
    "polynomial 3": (lambda x: cutoff.polynomial(x, 3), 2),
    "polynomial 5": (lambda x: cutoff.polynomial(x, 5), 2),
    "polynomial 6": (lambda x: cutoff.polynomial(x, 6), 2),
    "polynomial 8": (lambda x: cutoff.polynomial(x, 8), 2),
    "quintic": (lambda x: cutoff.quintic(x, 0.3), 2),
    "tanh_cubed": (cutoff.tanh_cubed, 2),
    "smoothstep 1": (lambda x: cutoff.smoothstep(x, 1), 1),
    "smoothstep 2": (lambda x: cutoff.smoothstep(x, 2, 0.2), 2),
    "smoothstep 3": (lambda x: cutoff.smoothstep(x, 3), 3),
    "smoothstep 4": (lambda x: cutoff.smoothstep(x, 4, 0.1), 4),
    "xplor": (lambda x: cutoff.xplor(x, 0.6), 1),
    "power_law 2": (cutoff.power_law, 1),
    "power_law 3": (lambda x: cutoff.power_law(x, 3), 2),
    "biweight": (lambda x: cutoff.even_power(x, 2), 1),
    "triweight": (cutoff.even_power, 2),
}


def derivatives(f: Envelope, at: float, n: int) -> list[float]:
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    value, found = f(x), []
    for _ in range(n + 1):
        found.append(float(value.detach()))
        if not value.requires_grad:
            value = torch.zeros_like(x)
            continue
        (slope,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
        value = torch.zeros_like(x) if slope is None else slope
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_smoothness_class_at_the_cutoff(name: str) -> None:
    """Just inside, derivatives up to the class vanish and the next one does not."""
    f, smooth = CLASSES[name]
    found = derivatives(f, 1.0 - 1e-8, smooth + 1)
    assert all(abs(d) < 1e-3 for d in found[: smooth + 1])
    assert abs(found[smooth + 1]) > 0.5
    assert all(d == 0.0 for d in derivatives(f, 1.0, 2)) and float(f(torch.tensor(1.7))) == 0.0


@pytest.mark.parametrize("name", CLASSES)
def test_falls_from_its_start_to_zero(name: str) -> None:
    f, _ = CLASSES[name]
    x = torch.linspace(0.0, 1.2, 500, dtype=torch.float64)
    y = f(x)
    assert bool((y.diff() <= 1e-14).all()) and bool((y >= 0).all())
    start = torch.tanh(torch.tensor(1.0)) ** 3 if name == "tanh_cubed" else torch.tensor(1.0)
    assert float(y[0]) == pytest.approx(float(start), abs=1e-7)


@pytest.mark.parametrize(("f", "start"), [(cutoff.quintic, 0.4), (cutoff.xplor, 0.4)])
def test_switches_are_one_before_their_start(f: Callable[[Tensor, float], Tensor], start: float) -> None:
    assert torch.equal(f(torch.tensor([0.0, 0.2, start]), start), torch.ones(3))
    smooth = 2 if f is cutoff.quintic else 1
    inside = derivatives(lambda x: f(x, start), start + 1e-7, smooth)
    assert all(abs(d) < 1e-3 for d in inside[1:])


def test_mollifier_is_flat_to_all_orders() -> None:
    found = derivatives(cutoff.mollifier, 0.998, 5)
    assert all(abs(d) < 1e-80 for d in found)
    at_end = derivatives(cutoff.mollifier, 1.0, 3)
    assert at_end == [0.0] * 4
    assert float(cutoff.mollifier(torch.tensor(0.0))) == 1.0


def test_bessel_functions_add_one_order_unless_trained() -> None:
    """A zero of the basis at the cutoff makes polynomial × Bessel C3; shifted frequencies give C2."""
    basis = Bessel(n=3, cutoff=1.0)
    shifted = Bessel(n=3, cutoff=1.0)
    shifted.frequencies = shifted.frequencies * 1.1

    def product(b: Bessel) -> Envelope:
        return lambda x: cutoff.polynomial(x, 6) * b(x[None])[0].sum()

    standard, trained = (derivatives(product(b), 1.0 - 1e-7, 4) for b in (basis, shifted))
    assert all(abs(d) < 1e-2 for d in standard[:4]) and abs(standard[4]) > 1.0
    assert all(abs(d) < 1e-2 for d in trained[:3]) and abs(trained[3]) > 1.0


def test_polynomial_equals_its_published_form() -> None:
    """arXiv:2003.03123, eq. 8, with p = 6: 1 − 28 x⁶ + 48 x⁷ − 21 x⁸."""
    x = torch.linspace(0, 1, 7, dtype=torch.float64)[:-1]
    torch.testing.assert_close(cutoff.polynomial(x, 6), 1 - 28 * x**6 + 48 * x**7 - 21 * x**8)


def test_agnesi_transform() -> None:
    """Between 1 at contact and 0 far away, decreasing; 1/(1 + a/2) at r₀."""
    r = torch.linspace(1e-6, 12, 400, dtype=torch.float64)
    y = cutoff.agnesi(r, torch.full_like(r, 1.2))
    assert bool((y.diff() < 0).all()) and float(y[0]) == pytest.approx(1.0, abs=1e-4)
    at_r0 = cutoff.agnesi(torch.tensor(1.2), torch.tensor(1.2))
    assert float(at_r0) == pytest.approx(1.0 / (1.0 + 1.0805 / 2.0))


def test_bad_parameters_are_refused() -> None:
    x = torch.tensor(0.5)
    for call in (
        lambda: cutoff.polynomial(x, 1),
        lambda: cutoff.quintic(x, 1.0),
        lambda: cutoff.xplor(x, -0.1),
        lambda: cutoff.smoothstep(x, 5),
        lambda: cutoff.power_law(x, 0),
        lambda: cutoff.even_power(x, 0),
    ):
        with pytest.raises(ValueError, match=r"must|needs"):
            call()
