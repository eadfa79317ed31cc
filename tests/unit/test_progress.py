"""How far an import is: a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

import os
import pty
import sys
import time

import pytest

from tracker.importing import progress
from tracker.importing.progress import Progress


def work(rows: int) -> None:
    """Two parts of a work that takes a while."""
    shown = Progress("clicks.csv", "stored", lambda: shown.number / rows)
    for _ in range(2):
        time.sleep(progress._BAR_SECONDS)
        shown.add(rows // 2)
    shown.end()


def _read_line(terminal: int) -> str:
    """What a terminal shows up to the end of its line. The kernel hands it over in pieces."""
    shown = ""
    while not shown.endswith("\n"):
        shown += os.read(terminal, 4096).decode()
    return shown


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = pty.openpty()
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        work(1_000)
        shown = _read_line(ours)
    os.close(ours)
    first, second = shown.split("\r\x1b[K")[1:]
    assert first.startswith("[###############...............] clicks.csv: 500 rows stored, ")
    assert second.startswith(f"[{'#' * 30}] clicks.csv: 1,000 rows stored, ")
    assert second.endswith("0 s left\r\n"), "what is printed next begins a line"


def test_progress_is_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SHOW_SECONDS", progress._BAR_SECONDS)
    work(1_000)
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "clicks.csv: 500 rows stored",
        "clicks.csv: 1",
    ]


def test_short_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("clicks.csv", "stored", lambda: 1.0)
    shown.add(10)
    shown.end()
    assert capsys.readouterr().err == ""
