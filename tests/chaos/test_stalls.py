"""A stream server that stalls and goes on: its late answers belong to no other click."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.chaos.load import Load
from tests.e2e.running import PATIENCE, Up, up, wait_until

_LINK = "/offer/3?affiliate_id=513&aff_sub="
_STALL_SECONDS = 0.5  # longer than the append timeout


def test_what_is_answered_after_a_stall_is_on_disk(tmp_path: Path) -> None:
    with up(tmp_path / "var") as tracker:
        valkey = _stall(tracker)
        time.sleep(_STALL_SECONDS)  # its late answer arrives
        os.kill(valkey, signal.SIGSTOP)
        status = tracker.get(f"{_LINK}again")[0].status
        os.kill(valkey, signal.SIGKILL)
        assert status == 503, "answered by an answer to another click"
        wait_until(lambda: tracker.get(f"{_LINK}later")[0].status == 302)
        wait_until(lambda: tracker.clicks("aff_sub=later"))


def test_clicks_together_after_a_stall_are_answered(tmp_path: Path) -> None:
    with up(tmp_path / "var") as tracker:
        _stall(tracker)
        asyncio.run(_answered_together(tracker.port))


def _stall(tracker: Up) -> int:
    """Let Valkey stall for longer than one click may wait, and go on; returns its pid."""
    valkey = tracker.child("valkey-server")
    assert tracker.get(f"{_LINK}before")[0].status == 302
    os.kill(valkey, signal.SIGSTOP)
    assert tracker.get(f"{_LINK}stalled")[0].status == 503
    os.kill(valkey, signal.SIGCONT)
    return valkey


async def _answered_together(port: int) -> None:
    """More clicks than the stalled batch had: in one batch, and each answered."""
    async with asyncio.timeout(PATIENCE), Load(port, _LINK.removesuffix("&aff_sub=")) as load:
        await load.answers(1000)
