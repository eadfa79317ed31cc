"""The recorder's own promises: bounded waiting, and a time for each click of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.clicks import a_click, outcomes_of
from tracker.clickhash import Mint
from tracker.edge.recorder import NotRecorded, Recorder
from tracker.settings import Settings
from tracker.stream.record import Entry, encode

pytestmark = pytest.mark.anyio

mint = Mint()


def an_entry(visitor_key: int = 1) -> Entry:
    click = a_click(hash=mint.hash(), visitor_key=visitor_key)
    return encode(click, outcomes_of(click))


async def test_clicks_that_arrive_together_are_answered_each_with_its_own(database: Settings) -> None:
    recorder = Recorder(database)
    recorder.start()
    outcomes = await asyncio.gather(*(recorder.record(an_entry(n // 2)) for n in range(1200)))
    assert outcomes == [0, 1] * 600
    await recorder.stop()


async def test_no_more_wait_than_may_and_none_longer_than_it_may(database: Settings) -> None:
    away = replace(database, redis_url="unix:///nonexistent/valkey.sock", max_waiting=3, append_timeout=0.2)
    recorder = Recorder(away)
    recorder.start()
    waiting = [recorder.record(an_entry()) for _ in range(3)]
    with pytest.raises(NotRecorded, match="3 clicks are waiting"):
        recorder.record(an_entry())
    for refused in waiting:
        with pytest.raises(NotRecorded):
            await refused
    await recorder.stop()


async def test_what_waits_at_the_end_is_still_recorded(database: Settings) -> None:
    recorder = Recorder(database)
    recorder.start()
    waiting = [recorder.record(an_entry(n)) for n in range(700)]
    await recorder.stop()
    assert [future.result() for future in waiting] == [0] * 700
