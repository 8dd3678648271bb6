"""The nequip-allegro package through nequip's ASE calculator, eager."""

from typing import Any

from nequip_side import Side as NequIPSide
from side import freeze


class Side(NequIPSide):
    """An AllegroModel with random weights."""

    def _model(self, dtype: str) -> Any:
        from allegro.model import AllegroModel

        model = freeze(AllegroModel(seed=0, model_dtype=dtype, **self.settings))
        if dtype == "float32":
            model.load_state_dict(self.model.state_dict())
        return model
