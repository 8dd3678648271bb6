"""CHGNet with the weights of its wheel, its graph made for every structure; periodic structures only."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side import Arrays, atoms_of, freeze
from side import Side as Base

sys.path.append(str(Path(__file__).parents[2] / "tests" / "peers" / "chgnet"))
GPA = 160.21766208


class Side(Base):
    """A published model."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def build(
        self, settings: dict[str, Any], structure: str, weights: str, motion: bool, about: dict[str, Any]
    ) -> dict[str, Any]:
        import chgnet
        from chgnet.model import CHGNet

        self.name = settings["model"]
        self.model = freeze(CHGNet.load(model_name=self.name, use_device="cpu", verbose=False))
        folder = Path(chgnet.__file__).parent / "pretrained" / self.name
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"file": str(next(folder.glob("*.pth.tar"))), "parameters": parameters}

    def load(self, dtype: str) -> None:
        import chgnet.graph.converter as converter
        import chgnet.graph.crystalgraph as crystal
        import chgnet.model.model as network
        from peer import chgnet_in_double

        if not hasattr(self, "converted"):
            chgnet_in_double()  # the composition in float64; the rest as follows
            self.converted = True
        wanted = getattr(torch, dtype)
        torch.set_default_dtype(wanted)
        for module in (converter, crystal, network):
            module.TORCH_DTYPE = wanted  # type: ignore[attr-defined]
        self.model.to(wanted)
        self.model.composition_model.double()
        self.atoms = atoms_of(self.structure)

    def evaluate(self, positions: np.ndarray) -> Arrays:
        from peer import graph_of

        self.atoms.positions = positions
        graph = graph_of(self.model, self.atoms)
        self.pairs = len(graph.atom_graph)
        found = self.model.predict_graph(graph, task="efs")
        energy = np.asarray(found["e"], dtype=np.float64).reshape(1) * len(self.atoms)
        return {"energy": energy, "forces": found["f"], "stress": found["s"] / GPA}
