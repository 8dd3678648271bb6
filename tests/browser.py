"""A page seen by headless Chromium: what it says of itself, and every error or request it made."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

INSTALL = "Chromium is absent; install it with: apt-get update && apt-get install -y chromium"


@dataclass(frozen=True)
class Seen:
    """Attributes of the page's <body> after its scripts ran, and the lines of its console that are errors."""

    body: dict[str, str]
    errors: list[str]
    dom: str

    def check(self, *, figures: int, scenes: int) -> None:
        """Raises AssertionError unless the page drew everything without an error."""
        assert not self.errors, self.errors
        assert self.body.get("state") == "ready", self.body
        assert int(self.body["figures"]) == figures, self.body
        assert int(self.body["scenes"]) == scenes, self.body
        pixels = [int(n) for n in self.body["pixels"].split()]
        assert len(pixels) == scenes and all(n > 500 for n in pixels), pixels


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def visit(page: Path, *extra: str, size: str = "1300,2000", script_time_ms: int = 20000) -> Seen:
    """Opens a file and waits until its scripts are done."""
    program = chromium()
    assert program is not None, INSTALL
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                f"--user-data-dir={profile}",
                "--enable-logging=stderr",
                "--v=0",
                f"--virtual-time-budget={script_time_ms}",
                f"--window-size={size}",
                *extra,
                "--dump-dom",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "LANG": "C.UTF-8"},
        )
    body = re.search(r"<body([^>]*)>", done.stdout)
    attributes = dict(re.findall(r'data-([a-z]+)="([^"]*)"', body[1])) if body else {}
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(attributes, console, done.stdout)
