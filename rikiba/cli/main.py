"""`rikiba VERB …`: finds the verb's file, reads its arguments, turns a user's mistake into one message."""

import argparse
import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rikiba.execution.processes import JobError

MISTAKE = 2
"""Exit code where the input cannot be used."""
INTERRUPTED = 130


def verbs() -> dict[str, str]:
    """Verb → one line of help, read from the files beside this one without importing them."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "execute" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
    return found


def parser_for(verb: str | None) -> argparse.ArgumentParser:
    """The parser with every verb's name and the asked verb's arguments."""
    import rikiba

    parser = argparse.ArgumentParser(prog="rikiba", description=rikiba.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"rikiba {rikiba.__version__}")
    choices = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in verbs().items():
        one = choices.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if name == verb:
            module = importlib.import_module(f"rikiba.cli.{name}")
            module.configure(one)
            one.set_defaults(execute=module.execute)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, or 2 where the input cannot be used."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = next((w for w in words if not w.startswith("-")), None)
    try:
        parsed = parser_for(asked).parse_args(words)
    except SystemExit as stop:  # argparse has printed its message
        return stop.code if isinstance(stop.code, int) else MISTAKE
    try:
        parsed.execute(parsed)
    except KeyboardInterrupt:
        print("rikiba: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ArithmeticError, ImportError, JobError) as error:
        if parsed.debug or _is_our_bug(error):
            raise
        print(f"rikiba {parsed.verb}: {message(error)}", file=sys.stderr)
        return MISTAKE
    return 0


def _is_our_bug(error: BaseException) -> bool:
    """True where a part of rikiba itself cannot be imported."""
    return isinstance(error, ImportError) and (error.name or "").split(".")[0] == "rikiba"


def message(error: BaseException) -> str:
    """What a person needs to know of an error, without its traceback."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"There is no file '{error.filename}'."
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"'{error.filename}': {error.strerror}."
    if isinstance(error, ImportError) and error.name and "pip install" not in str(error):
        return f"The package '{error.name}' is missing: {error}. Try: pip install {error.name}"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
