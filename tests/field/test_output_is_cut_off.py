"""`tracker … | head -1`: a command with a closed output ends as any Unix program does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running import Up
from tests.e2e.test_commands import running

__all__ = ["running"]

PRINTING = [
    ["--help"],
    ["postbacks", "--count", "500"],
    ["ledger", "--json"],
    ["doctor"],
    ["token", "create", "--scope", "clicks:read"],
    ["dead-letters", "list"],
    ["rebuild-stats", "--check"],
    ["import", "clicks", "--dry-run", "{file}"],
    ["affiliates", "list", "--json"],
    ["export", "catalogue"],
    ["export", "clicks", "--format", "csv"],
]
"""Commands. Some print nothing here."""


def _environment(running: Up) -> dict[str, str]:
    ours = ("TRACKER_", "PYTHONUNBUFFERED")  # unbuffered, argparse passes over what it cannot print
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return clean | {"TRACKER_DATA_DIR": str(running.data_dir)}


def _run(running: Up, words: list[str], *, with_errors: bool) -> tuple[int, str]:
    """The exit code and stderr of a command with a closed output."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tracker", *words],
            env=_environment(running),
            stdout=writing,
            stderr=writing if with_errors else subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    return done.returncode, "" if with_errors else done.stderr.decode()


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_command_with_closed_output_ends_silently(running: Up, tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("legacy_id,offer_id,affiliate_id,created_at\n")
    words = [word.format(file=path) for word in words]
    env = _environment(running)
    uncut = subprocess.run(
        [sys.executable, "-m", "tracker", *words], env=env, capture_output=True, timeout=60, check=False
    )
    code, said = _run(running, words, with_errors=False)
    assert said == uncut.stderr.decode()
    assert (code == -signal.SIGPIPE) == (uncut.stdout != b"")


@pytest.mark.parametrize(
    "words", [["offers", "list", "--nonsense"], ["import", "clicks", "/nowhere"]], ids=" ".join
)
def test_command_with_closed_errors_ends_silently(running: Up, words: list[str]) -> None:
    assert _run(running, words, with_errors=True)[0] == -signal.SIGPIPE


def test_head_gets_its_line(running: Up) -> None:
    command = f"{sys.executable} -m tracker import catalogue --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=_environment(running), capture_output=True, text=True, check=False
    )
    line, code = done.stdout.splitlines()
    assert (line.split(":")[0], done.stderr) == ("usage", "")
    assert int(code) in (0, 128 + signal.SIGPIPE)  # 0 if all was written before head had read its line


def test_full_disk_is_reported(running: Up) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tracker", "token", "list", "--json"],
            env=_environment(running),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "tracker: cannot write: No space left on device\n",
    )
