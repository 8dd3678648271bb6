"""DimeNet++: DimeNet with cheaper interactions.

Gasteiger, Giri, Margraf & Günnemann, NeurIPS workshop 2020, arXiv:2011.14115. With form = 'code' equal to
PyTorch Geometric's DimeNet++ on the same weights (tests/peers/pyg).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rikiba.nn.directional import AtomOutput, HadamardInteraction

from .base import check_positive, seeded
from .directional import DirectionalNetwork, Form, Sizes


class DimeNetPlusPlus(DirectionalNetwork):
    """E = Σ_i [E0(Z_i) + shift + scale·Σ_t (O_t(i) − O_t(alone))], O_t reads the messages after layer t.

    As `DimeNet`, but with products in a shorter space in place of the bilinear form, and longer outputs:
    m_ji ← R(m_ji, f(A Σ_{k ∈ N_j∖i} S a_SBF(d_kj, ∠kji) ∘ f(D (V e(d_kj) ∘ f(U m_kj + b)))))
    O_t(i) = w · f(… f(W_1 B Σ_j V_t e(d_ji) ∘ m_ji + b_1) …).

    Departures from the papers: subtracting O_t(alone), the output without neighbours, gives an isolated atom
    E0 + shift; a neighbour's periodic images are atoms of their own.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: c, Å.
        channels: length of messages.
        n_layers: interactions.
        n_radial: radial functions, of e and of every degree of a_SBF.
        n_spherical: degrees l = 0 … of a_SBF.
        down_channels: length of the products.
        basis_channels: length of the bases between their two matrices.
        output_channels: length behind B.
        n_before_skip: residual networks in R before its skip connection.
        n_after_skip: and behind it.
        n_dense_output: hidden layers of O.
        envelope_power: power of the envelope u.
        form: paper; or code, as the authors published it (for their weights): π less the angle, u(x)/x in
            a_SBF, and a layer of its own for e in the first message.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or form, or sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2011.14115", "10.48550/arXiv.2003.03123")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 4,
        n_radial: int = 6,
        n_spherical: int = 7,
        down_channels: int = 64,
        basis_channels: int = 8,
        output_channels: int = 256,
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
        check_positive(n_spherical=n_spherical, down_channels=down_channels)
        check_positive(basis_channels=basis_channels, output_channels=output_channels)
        if form == "code":
            self.angle = "supplement"
        with seeded(seed):
            interactions = [
                HadamardInteraction(
                    channels=channels,
                    n_radial=n_radial,
                    n_angular=n_radial * n_spherical,
                    down=down_channels,
                    basis=basis_channels,
                    n_before=n_before_skip,
                    n_after=n_after_skip,
                )
                for _ in range(n_layers)
            ]
            outputs = [
                AtomOutput(channels=channels, n_radial=n_radial, up=output_channels, n_dense=n_dense_output)
                for _ in range(n_layers + 1)
            ]
            self._build(sizes, interactions, outputs)

    @classmethod
    def examples(cls) -> "list[DimeNetPlusPlus]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 3.5, "channels": 6, "n_layers": 2}
        small |= {"n_radial": 3, "n_spherical": 3, "down_channels": 4, "basis_channels": 3}
        small |= {"output_channels": 5, "n_dense_output": 1, "n_after_skip": 1}
        return [cls(**small, atomic_energies={"O": -2.0, "Si": -3.5}, scale=0.8, shift=0.1)]
