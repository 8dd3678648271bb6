"""The stored MACE reference files are complete and agree with themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

FILES = sorted((Path(__file__).parent / "mace" / "reference").glob("*.npz"))


def test_there_are_files_for_every_part_of_the_architecture() -> None:
    found = [json.loads(str(np.load(path)["about"]))["arguments"] for path in FILES]
    assert {a["num_interactions"] for a in found} == {1, 2, 3}
    assert {a["max_ell"] for a in found} == {1, 2, 3}
    assert {1, 2, 3, 4} <= {a["correlation"] for a in found if isinstance(a["correlation"], int)}
    assert {a["hidden_irreps"] for a in found} >= {"4x0e", "4x0e+4x1o", "4x0e+4x1o+4x2e"}
    assert {a["interaction_cls_first"] for a in found} == {
        "RealAgnosticInteractionBlock",
        "RealAgnosticResidualInteractionBlock",
        "RealAgnosticDensityInteractionBlock",
        "RealAgnosticDensityResidualInteractionBlock",
    }
    assert any(
        a.get("pair_repulsion") and a["atomic_inter_scale"] != 1 for a in found if "Scale" in a["model"]
    )
    assert sum(path.stat().st_size for path in FILES) < 3e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_values_agree_with_one_another(path: Path) -> None:
    stored = np.load(path)
    about = json.loads(str(stored["about"]))
    assert about["case"] == path.stem and about["versions"]["mace-torch"] and path.stem in about["command"]
    assert about["share_of_highest_order"] > 1e-3
    for name in about["structures"]:
        values = {k.split("/")[2]: stored[k] for k in stored if k.startswith(f"structures/{name}/")}
        scale = max(1.0, float(np.abs(values["forces"]).max()))
        np.testing.assert_allclose(values["node_energy"].sum(), values["energy"], rtol=1e-12)
        np.testing.assert_allclose(values["forces"].sum(0), 0.0, atol=1e-11 * scale)
        derivative = values["strain_derivative"]
        np.testing.assert_allclose(derivative, derivative.T, atol=1e-11 * scale)
        assert ("stress" in values) == bool(values["pbc"].all())
        if "stress" in values:
            volume = abs(np.linalg.det(values["cell"]))
            np.testing.assert_allclose(values["stress"] * volume, derivative, rtol=1e-9, atol=1e-12)
        if not values["pbc"].any():  # rotation: Σ r × F = 0, and Σ r ⊗ F is minus the strain derivative
            virial = values["positions"].T @ values["forces"]
            np.testing.assert_allclose(-virial, derivative, atol=1e-11 * scale)
