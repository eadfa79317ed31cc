"""A stream server that stalls and goes on. Its late answers are not taken for others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.chaos.load import Load
from tests.conftest import Furnish
from tests.e2e.running import PATIENCE, Up, clicks_of, up, wait_until

_LINK = "/offer/3?affiliate_id=513&aff_sub="
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_STALL_SECONDS = 0.5  # longer than the append timeout


def test_clicks_answered_in_a_stall_are_stored_as_answered(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as tracker:
        answered = [_follow(tracker, "before")]
        valkey = tracker.child("valkey-server")
        os.kill(valkey, signal.SIGSTOP)
        answered.append(_follow(tracker, "stalled"))
        os.kill(valkey, signal.SIGCONT)
        time.sleep(_STALL_SECONDS)  # its late answer arrives
        os.kill(valkey, signal.SIGSTOP)
        answered.append(_follow(tracker, "again"))
        os.kill(valkey, signal.SIGKILL)
        wait_until(lambda: 'stream_up{edge="0"} 1' in _metrics(tracker))
        answered.append(_follow(tracker, "later"))
        rows = clicks_of(tracker, "", len(answered))
        assert {row["aff_sub"]: row["redirected_link"] for row in rows} == dict(answered)
        assert {row["group_hash"] for row in rows} == {rows[0]["hash"]}


def test_clicks_together_after_a_stall_are_answered(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as tracker:
        valkey = tracker.child("valkey-server")
        os.kill(valkey, signal.SIGSTOP)
        _follow(tracker, "stalled")
        os.kill(valkey, signal.SIGCONT)
        asyncio.run(_answered_together(tracker.port))


def _follow(tracker: Up, aff_sub: str) -> tuple[str, str]:
    response, _ = tracker.get(f"{_LINK}{aff_sub}", **{"User-Agent": _BROWSER})
    assert response.status == 302
    return aff_sub, response.headers["location"]


def _metrics(tracker: Up) -> str:
    return tracker.get("/metrics", tracker.metrics_port)[1].decode()


async def _answered_together(port: int) -> None:
    """More clicks than in the stalled batch are answered in one batch."""
    async with asyncio.timeout(PATIENCE), Load([port], _LINK.removesuffix("&aff_sub=")) as load:
        await load.answers(1000)
