"""DimeNet: messages between directed pairs, with the angles between them.

Gasteiger, Groß & Günnemann, ICLR 2020, arXiv:2003.03123. With form = 'code' equal to PyTorch Geometric's
DimeNet on the same weights (tests/peers/pyg).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rikiba.nn.directional import AtomOutput, BilinearInteraction

from .base import check_positive, seeded
from .directional import DirectionalNetwork, Form, Sizes


class DimeNet(DirectionalNetwork):
    """E = Σ_i [E0(Z_i) + shift + scale·Σ_t (O_t(i) − O_t(alone))], O_t reads the messages after layer t.

    m_ji = f([h_j ‖ h_i ‖ e(d_ji)] W + b), and in every layer, ∠ the angle at j between i and k,
    m_ji ← R(m_ji, Σ_{k ∈ N_j∖i} aᵀ W (V e(d_ji) ∘ f(U m_kj + b))),  a = S a_SBF(d_kj, ∠kji)
    O_t(i) = w · f(… f(W_1 Σ_j V_t e(d_ji) ∘ m_ji + b_1) …),  R residual networks, f SiLU.
    e_n = u(d) √(2/c) sin(nπd/c)/d;  a_ln = u(d) √(2/(c³ j²_(l+1)(z_ln))) j_l(z_ln d/c) Y_l0(∠), as in
    arXiv:2003.03123, eqs. 6–8; e's frequencies are trained, which leaves the energy C2 at the cutoff.

    Departures from the paper: subtracting O_t(alone), the output without neighbours, gives an isolated atom
    E0 + shift; a neighbour's periodic images are atoms of their own.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: c, Å.
        channels: length of messages.
        n_layers: interactions.
        n_radial: radial functions, of e and of every degree of a_SBF.
        n_spherical: degrees l = 0 … of a_SBF.
        bilinear: length of a.
        n_before_skip: residual networks in R before its skip connection.
        n_after_skip: and behind it.
        n_dense_output: hidden layers of O.
        envelope_power: power of the envelope u.
        form: paper; or code, as the authors published it (for their weights): the angle at i between j and k,
            u(x)/x in a_SBF, e(d_kj) in place of e(d_ji), and a layer of its own for e in the first message.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or form, or sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2003.03123",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 6,
        n_radial: int = 6,
        n_spherical: int = 7,
        bilinear: int = 8,
        n_before_skip: int = 1,
        n_after_skip: int = 2,
        n_dense_output: int = 3,
        envelope_power: int = 6,
        form: Form = "paper",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        sizes = Sizes(
            elements, cutoff, channels, n_layers, n_radial, n_spherical, envelope_power, form,
            atomic_energies, scale, shift, isolated_limit,
        )  # fmt: skip
        super().__init__(sizes)
        check_positive(bilinear=bilinear, n_spherical=n_spherical)
        if form == "code":
            self.angle = "centre"
        with seeded(seed):
            interactions = [
                BilinearInteraction(
                    channels=channels,
                    n_radial=n_radial,
                    n_angular=n_radial * n_spherical,
                    bilinear=bilinear,
                    n_before=n_before_skip,
                    n_after=n_after_skip,
                    sender_distance=form == "code",
                )
                for _ in range(n_layers)
            ]
            outputs = [
                AtomOutput(channels=channels, n_radial=n_radial, up=None, n_dense=n_dense_output)
                for _ in range(n_layers + 1)
            ]
            self._build(sizes, interactions, outputs)

    @classmethod
    def examples(cls) -> "list[DimeNet]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 3.5, "channels": 6, "n_layers": 2}
        small |= {"n_radial": 3, "n_spherical": 3, "bilinear": 2, "n_dense_output": 1, "n_after_skip": 1}
        return [cls(**small, atomic_energies={"O": -2.0, "Si": -3.5}, scale=0.8, shift=0.1)]
