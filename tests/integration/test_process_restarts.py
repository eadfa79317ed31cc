"""Parts whose end stops `tracker up`, and parts that are restarted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tracker.errors import CannotStartError
from tracker.processes.children import Child, Claim, spawn
from tracker.processes.up import Part

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("script", "line", "starts"),
    [
        (f"exit {os.EX_CONFIG}", "the part refuses its settings, see above", 1),
        ("exit 3", "the part cannot start: ended with code 3 4 times, see above", 4),
        ("kill -9 $$", "the part cannot start: was ended by SIGKILL 4 times, see above", 4),
    ],
)
async def test_part_that_cannot_start_is_abandoned(
    tmp_path: Path, script: str, line: str, starts: int
) -> None:
    claim = await Claim.take(tmp_path)
    part = Part("the part", _running(f"echo up; {script}", claim))
    await part.start()
    with pytest.raises(CannotStartError, match=f"^{line}$"):
        await part.keep()
    await claim.release()
    assert (tmp_path / "log").read_text() == "up\n" * starts


async def test_part_that_was_up_is_always_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.processes.up._LONGEST_PAUSE", 0.01)
    claim = await Claim.take(tmp_path)
    part = Part("the part", _running("echo up; exit 3", claim))
    part.all_up = True
    await part.start()
    keeping = asyncio.create_task(part.keep())
    while len((tmp_path / "log").read_text()) < 10 * len("up\n"):
        await asyncio.wait({keeping}, timeout=0.01)
        assert not keeping.done()
    keeping.cancel()
    await asyncio.wait({keeping})
    await claim.release()


def _running(script: str, claim: Claim) -> Callable[[], Awaitable[Child]]:
    async def start() -> Child:
        process = await spawn(["/bin/sh", "-c", script], claim, signal.SIGTERM, log=claim.data_dir / "log")
        return Child("part", process, signal.SIGTERM, 5)

    return start
