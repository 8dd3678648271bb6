"""Types of the public names, which `__init__.py` imports when they are first used."""

from rikiba.calculators.ase import FromASE as FromASE
from rikiba.calculators.ase import as_ase as as_ase
from rikiba.calculators.autograd import PotentialCalculator as PotentialCalculator
from rikiba.calculators.base import Calculator as Calculator
from rikiba.calculators.committee import Committee as Committee
from rikiba.core.pairs import PairFinder as PairFinder
from rikiba.core.pairs import Pairs as Pairs
from rikiba.core.record import Record as Record
from rikiba.core.results import Results as Results
from rikiba.core.system import System as System
from rikiba.data.dataset import Dataset as Dataset
from rikiba.data.dataset import Labelled as Labelled
from rikiba.data.formats import read as read
from rikiba.md.simulation import Simulation as Simulation
from rikiba.md.state import State as State
from rikiba.md.state import maxwell_boltzmann as maxwell_boltzmann
from rikiba.pipeline.run import run_pipeline as run_pipeline
from rikiba.potentials.base import Potential as Potential
from rikiba.report.page import write_page as write_page
from rikiba.training.checkpoint import load_potential as load_potential
from rikiba.training.checkpoint import save_potential as save_potential
from rikiba.training.trainer import Trainer as Trainer
from rikiba.validation.battery import physics_battery as physics_battery

__version__: str
__all__: list[str]
