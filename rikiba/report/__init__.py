"""Records → figures, JSON files and one self-contained web page."""

from .formatting import number_text, split_key, value_text
from .page import write_page
from .store import read_records, write_records

__all__ = ["number_text", "read_records", "split_key", "value_text", "write_page", "write_records"]
