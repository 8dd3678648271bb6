"""Say which family of potentials suits a task, best first, by the numbers of a measured comparison."""

import argparse
from pathlib import Path

from rikiba.config import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--atoms", type=int, required=True, help="number of atoms")
    parser.add_argument("--molecule", action="store_true", help="nothing repeats (otherwise periodic)")
    parser.add_argument("--charges", action="store_true", help="charges act beyond a cutoff")
    parser.add_argument("--reactive", action="store_true", help="bonds break and form")
    parser.add_argument("--purpose", choices=("dynamics", "energies"), default="dynamics")
    parser.add_argument("--steps", type=int, default=1_000_000, help="MD steps (default 1,000,000)")
    parser.add_argument("--hours", type=float, default=24.0, help="wall time for all steps (default 24)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="of your hardware over one thread of the table's (default 1)"
    )
    parser.add_argument("--show", type=int, default=5, help="families to print (default 5)")
    parser.add_argument(
        "--table", type=Path, help="folder of a run with [comparison], or its comparison.json (default ours)"
    )
    parser.add_argument("--out", type=Path, help="folder for the advice as a record and a page")


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.core.record import Record
    from rikiba.report import write_page, write_records
    from rikiba.validation.recommendation import MEASURED, Task, as_record, recommend

    file = MEASURED if arguments.table is None else arguments.table
    file = file / "records" / "comparison.json" if file.is_dir() else file
    if not file.is_file():
        raise ConfigError(f"There is no file '{file}'; a run with a table [comparison] writes it.")
    measured = Record.load(file)
    task = Task(
        atoms=arguments.atoms,
        periodic=not arguments.molecule,
        charges=arguments.charges,
        reactive=arguments.reactive,
        purpose=arguments.purpose,
        steps=arguments.steps,
        hours=arguments.hours,
        speed=arguments.speed,
    )
    advice = recommend(task, measured)
    print(f"{task.ms_per_step:.3g} ms for each of {task.steps:,} steps of {task.atoms:,} atoms.")
    for place, one in enumerate(advice[: arguments.show], 1):
        print(f"{place}. {one.name}" + ("" if one.fits else " (does not fit into the time)"))
        print("".join(f"   - {reason}\n" for reason in one.reasons), end="")
    record = as_record(task, measured, advice)
    print("\n".join(f"Note: {note}" for note in record.notes))
    if arguments.out is not None:
        write_records([record, measured], arguments.out / "records")
        print(f"Written: {write_page([record, measured], arguments.out / 'report.html', title=record.title)}")
