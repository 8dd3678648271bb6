"""YAML, which only some formats need: PyYAML is loaded when one of them is read."""

from typing import Any


def parse(text: str, extra: str) -> Any:
    """The data in a text. Raises ImportError that names rikiba's `extra` where PyYAML is not installed."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"Reading YAML needs PyYAML: pip install rikiba[{extra}]") from error
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
