"""Models of matgl as the comparisons need them."""

from pathlib import Path

import numpy as np
import torch


def public_model(folder: Path) -> torch.nn.Module:
    """A public potential; TensorNets saved before version 2 get their element matrix in the present order.

    Until then the embedding summed over the other end of the edges, so that the neighbour's element came
    first; the program itself only warns and answers wrongly (README.md).
    """
    from matgl.apps.pes import Potential

    potential = Potential.load(str(folder)).double().eval()
    settings = torch.load(folder / "model.pt", weights_only=True)["model"]
    if settings["@class"] == "TensorNet" and settings["@model_version"] < 2:
        weight = potential.model.tensor_embedding.emb2.weight
        weight.data = torch.cat([w.clone() for w in weight.data.chunk(2, 1)[::-1]], 1)
    return potential  # type: ignore[no-any-return]


def with_exact_constants(potential: torch.nn.Module) -> torch.nn.Module:
    """The same zeros of Bessel functions in float64; the program keeps them rounded to float32."""
    import matgl.utils.maths as maths
    from matgl.layers._basis import SphericalBesselFunction

    zeros = torch.from_numpy(np.load(Path(maths.__file__).parent / "sb_roots.npy")).double()
    for module in potential.modules():
        if isinstance(module, SphericalBesselFunction) and not module.smooth:
            exact = zeros[: module.max_l, : module.max_n]
            torch.testing.assert_close(module.roots_slice, exact, rtol=1e-6, atol=1e-6)
            factor = (2.0 / float(module.cutoff) ** 3) ** 0.5
            module.roots_slice = exact.clone()
            module.inv_norm = torch.stack(
                [factor / module.funcs[k + 1](row).abs() for k, row in enumerate(exact)]
            )
    return potential
