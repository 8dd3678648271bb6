"""The command as a user types it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "rikiba"


def rikiba(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["run", "md", "evaluate"])
def test_a_bad_file_is_one_message_and_code_2(verb: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[data\ntrain = 1\n")
    done = rikiba(verb, "bad.toml", folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "not valid TOML" in done.stderr and "line 1" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


def test_a_missing_file(tmp_path: Path) -> None:
    done = rikiba("train", "absent.toml", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "absent.toml" in done.stderr


def test_a_good_one(tmp_path: Path) -> None:
    done = rikiba("explain", "potential", "lennard_jones", folder=tmp_path)
    assert done.returncode == 0 and 'kind = "lennard_jones"' in done.stdout and done.stderr == ""
