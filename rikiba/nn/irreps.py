"""Notation of O(3) representations, as in "128x0e + 128x1o": how many, which degree, even or odd."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TERM = re.compile(r"^(?:(\d+)\s*x\s*)?(\d+)\s*([eo])$")


@dataclass(frozen=True, slots=True, order=True)
class Irrep:
    """One irreducible representation: degree l and parity p (+1 even, −1 odd under inversion)."""

    l: int
    p: int

    @property
    def dim(self) -> int:
        return 2 * self.l + 1

    @property
    def natural(self) -> bool:
        """True where the parity is that of the spherical harmonics, (−1)^l."""
        return self.p == (-1) ** self.l

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    def __mul__(self, other: "Irrep") -> Iterator["Irrep"]:
        """The representations in a product, by rising degree."""
        p = self.p * other.p
        return (Irrep(l, p) for l in range(abs(self.l - other.l), self.l + other.l + 1))


@dataclass(frozen=True, slots=True)
class Irreps:
    """An ordered direct sum of representations with multiplicities."""

    terms: tuple[tuple[int, Irrep], ...]

    @staticmethod
    def parse(text: str) -> "Irreps":
        """Read "128x0e + 128x1o"; a multiplicity of 1 may be left out.

        Raises ValueError for anything else.
        """
        terms = []
        for part in text.split("+"):
            match = _TERM.match(part.strip())
            if match is None:
                raise ValueError(
                    f"'{part.strip()}' in '{text}' is not a representation; write terms like 16x0e or 16x1o."
                )
            count, l, p = match.groups()
            terms.append((int(count or 1), Irrep(int(l), 1 if p == "e" else -1)))
        return Irreps(tuple(terms))

    @staticmethod
    def natural(channels: int, l_max: int) -> "Irreps":
        """The same number of channels of every degree 0 … l_max, parity (−1)^l."""
        return Irreps(tuple((channels, Irrep(l, (-1) ** l)) for l in range(l_max + 1)))

    @property
    def dim(self) -> int:
        return sum(n * ir.dim for n, ir in self.terms)

    @property
    def l_max(self) -> int:
        return max(ir.l for _, ir in self.terms)

    def channels(self) -> int:
        """The common multiplicity; raises ValueError where terms differ in it."""
        counts = {n for n, _ in self.terms}
        if len(counts) != 1:
            raise ValueError(f"'{self}' has unequal multiplicities; the same number of each is needed.")
        return counts.pop()

    def __str__(self) -> str:
        return " + ".join(f"{n}x{ir}" for n, ir in self.terms)
