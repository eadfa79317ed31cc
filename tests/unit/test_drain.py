"""What a drain knows of the segments in its directory."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tracker.edge.drain import Drain
from tracker.edge.spool import Segment

pytestmark = pytest.mark.anyio

NOWHERE = "redis://127.0.0.1:1"
MILLIS = 1_800_000_000_000


def an_empty_segment(directory: Path, millis: int = MILLIS) -> Segment:
    return Segment.create(directory, slot=7, partition=0, first_millis=millis)


async def test_an_edge_does_not_wait_until_a_large_spool_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_empty_segment(tmp_path).close()
    is_read, adopt = threading.Event(), Segment.adopt

    def slowly(path: Path) -> Segment | None:
        is_read.wait()
        return adopt(path)

    monkeypatch.setattr(Segment, "adopt", slowly)
    drain = Drain(NOWHERE, tmp_path)
    await drain.start()
    assert drain.first_millis() == MILLIS
    is_read.set()
    while drain.first_millis() is not None:
        await asyncio.sleep(0.01)
    await drain.stop()


async def test_what_is_drained_holds_nothing_back(tmp_path: Path) -> None:
    drain, written_to = Drain(NOWHERE, tmp_path), an_empty_segment(tmp_path)
    await drain._look()
    assert drain.first_millis() == MILLIS
    drain.take(written_to)
    await drain._drain_all()
    assert drain.first_millis() is None
    await drain.stop()
