"""The table of stalls, and the pauses that processes note."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from loadtests import tails
from loadtests.constant_rate import Stall, stalls
from loadtests.subjects import HERE
from loadtests.tails import Look, Note

BLOCKING = """
import gc, time, uvloop

async def block():
    time.sleep(0.05)
    gc.collect()

uvloop.run(block())
"""


@pytest.mark.parametrize(
    ("slow", "found"),
    [
        ([], []),
        ([(1.0, 1.5, True)], [(1.0, 1.5, 1, 0.5, 1)]),
        ([(2.0, 2.25, True), (1.0, 1.5, False), (1.25, 2.0, True)], [(1.0, 2.25, 3, 0.75, 2)]),
        (
            [(1.0, 3.0, False), (1.5, 2.0, False), (4.0, 4.5, True)],
            [(1.0, 3.0, 2, 2.0, 0), (4.0, 4.5, 1, 0.5, 1)],
        ),
    ],
)
def test_slow_requests_that_overlap_are_one_stall(
    slow: list[tuple[float, float, bool]], found: list[tuple[float, float, int, float, int]]
) -> None:
    assert stalls(slow) == found


def cpu(**seconds: float) -> dict[str, float]:
    named = ("edge", "Valkey", "worker", "PostgreSQL", "generator", "all", "stolen")
    return dict.fromkeys((*named, tails._EDGE_WAITS, tails._VALKEY_WAITS), 0.0) | seconds


def test_stalls_are_reported_with_what_was_noted_in_them() -> None:
    looks = [Look(100.0, cpu()), Look(101.0, cpu(edge=0.5, all=1.25)), Look(110.0, cpu(edge=5.0, all=11.0))]
    notes = [
        Note("worker transaction", 100.2, 100.6, ""),
        Note("worker transaction", 100.5, 100.55, ""),
        Note("edge collector", 107.0, 107.01, "generation 2"),
        Note("Valkey aof-fsync-always", 100.0, 101.0, "in this second", 0.03),
        Note("worker transaction", 90.0, 91.0, ""),
    ]
    said = tails.report([Stall(100.5, 100.7, 70, 0.15, 3)], notes, looks, 100.0, 10.0)
    first, rest = said.split("all the time: ")
    assert first.splitlines() == [
        "1 stalls; 70 clicks waited in them",
        "",
        "at   0.50 s for 200 ms: 70 clicks waited, the longest 150 ms; 3 on new connections",
        "    cores: edge 0.50, Valkey 0.00, worker 0.00, PostgreSQL 0.00, generator 0.00, stolen 0.00, "
        "edge waits 0.00, Valkey waits 0.00, others 0.75",
        "    worker transaction: 400 ms from -300 ms on",
        "    Valkey aof-fsync-always: 30 ms in this second",
        "",
    ]
    counted = [line.split() for line in rest.splitlines()[3:]]
    assert counted == [
        ["Valkey", "aof-fsync-always", "1", "30", "0.3%", "1"],
        ["edge", "collector", "1", "10", "0.1%", "0"],
        ["worker", "transaction", "2", "400", "4.5%", "1"],
    ]


def test_process_notes_the_pauses_of_its_loop(tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(BLOCKING)
    argv = [sys.executable, "-m", "loadtests.observed", str(tmp_path), "blocking"]
    begun = perf_counter()
    subprocess.run(argv, check=True, cwd=HERE.parent, env={"PYTHONPATH": str(tmp_path)}, timeout=60)
    notes = [note for note in tails.read_notes(tmp_path) if note.what == "blocking loop"]
    assert notes
    assert max(note.length for note in notes) >= 0.04
    assert all(begun <= note.since < note.until <= perf_counter() for note in notes)
