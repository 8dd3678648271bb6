"""Imported once by the process that all killed runs are forked from: what is lazy is done here."""

import tempfile
from pathlib import Path

import torch
from killed_runs import finish, without_waiting_for_the_disk

torch.set_num_threads(1)
without_waiting_for_the_disk()
with tempfile.TemporaryDirectory() as folder:
    finish(Path(folder), "langevin")
