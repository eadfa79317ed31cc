"""A click is synced to disk before it is answered, by the system calls of edge and stream server.

A SIGKILL alone would not show it: the kernel keeps the writes of a killed process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Furnish
from tests.e2e.running import Up, up

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")

_CALLS = "write,pwrite64,writev,sendto,sendmsg,fsync,fdatasync"
_CLICKS = 20
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("durability") / "var")) as tracker:
        yield tracker


def test_stream_syncs_a_click_before_it_answers(tracker: Up, tmp_path: Path) -> None:
    with traced(tracker.child("valkey-server"), tmp_path / "trace") as trace:
        tags = follow(tracker, "streamed")
    check(trace.read_text(), tags, answer=r'"\$23\\r\\n')


def test_edge_syncs_a_spooled_click_before_it_answers(tracker: Up, tmp_path: Path) -> None:
    valkey = tracker.child("valkey-server")
    os.kill(valkey, signal.SIGSTOP)
    try:
        with traced(tracker.child("tracker edge"), tmp_path / "trace") as trace:
            tags = follow(tracker, "spooled")
    finally:
        os.kill(valkey, signal.SIGCONT)
    check(trace.read_text(), tags, answer='"HTTP/1.1 302')


@contextmanager
def traced(pid: int, output: Path) -> Iterator[Path]:
    strace = subprocess.Popen(
        ["strace", "-f", "-s", "20000", "-e", f"trace={_CALLS}", "-o", output, "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr
    said = strace.stderr.readline()
    if "attached" not in said:
        strace.wait()
        strace.stderr.close()
        pytest.skip(f"this machine lets nobody trace: {said.strip()}")
    try:
        yield output
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait()
        strace.stderr.close()


def follow(tracker: Up, name: str) -> list[str]:
    """Click one by one. The tag of a click first appears in its record."""
    tags = [f"{name}-{n}-" for n in range(_CLICKS)]
    for tag in tags:
        response, _ = tracker.get(f"/offer/3?affiliate_id=513&aff_sub={tag}", **{"User-Agent": _BROWSER})
        assert response.status == 302
    return tags


def check(trace: str, tags: list[str], answer: str) -> None:
    """Check that the file of a click is synced before any answer."""
    lines = finished(trace)
    for tag in tags:
        at, file = next(
            (n, found[1])
            for n, line in enumerate(lines)
            if (found := re.match(r"p?write(?:64)?\((\d+), ", line))
            and tag in line
            and "HTTP/1.1" not in line
        )
        synced = next(n for n in range(at, len(lines)) if re.match(rf"f(data)?sync\({file}\) += 0", lines[n]))
        answered = next(n for n in range(at, len(lines)) if re.search(answer, lines[n]))
        assert at < synced < answered, lines[at : answered + 1]


def finished(trace: str) -> list[str]:
    """One line a call: a sync when it returned, others when they begin."""
    syncs: dict[str, str] = {}  # calls under way, by thread
    lines = []
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        is_begun, call = call.endswith("<unfinished ...>"), call.removesuffix("<unfinished ...>").rstrip()
        if is_begun and call.startswith(("fsync", "fdatasync")):
            syncs[thread] = call
        elif resumed := re.match(r"<\.\.\. f\w+ resumed>(.*)", call):
            lines.append(syncs.pop(thread) + resumed[1].strip())
        else:
            lines.append(call)
    return lines
