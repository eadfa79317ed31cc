"""Every part is killed under load, in an order drawn by lot: no answered click is lost, none is doubled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.load import Load
from tests.e2e.running import PATIENCE, Up, up
from tracker.embedded import resolve
from tracker.settings import Settings
from tracker.stream.reader import Reader

SEED = 20
_LINK = "/offer/3?affiliate_id=513"
_VICTIMS = ["tracker edge", "tracker worker", "valkey-server", "postgres"]  # by their command lines

_RECOUNT = """
SELECT dimension, key, slot, sum(clicks)::bigint FROM (
    SELECT 'all' AS dimension, 0::bigint AS key, click_slot(hash) AS slot, 1 AS clicks FROM click
    UNION ALL SELECT 'offer', offer_id, click_slot(hash), 1 FROM click
    UNION ALL SELECT 'affiliate', affiliate_id, click_slot(hash), 1 FROM click
) AS each GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_COUNTS = "SELECT dimension, key, slot, clicks FROM click_count ORDER BY 1, 2, 3"
_INCONSISTENT = "SELECT count(*) FROM click WHERE is_unique IS DISTINCT FROM (group_hash = hash)"


@pytest.mark.timeout(120)
def test_a_kill_of_any_part_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with up(tmp_path / "var") as tracker:
        asyncio.run(_check(tracker))


async def _check(tracker: Up) -> None:
    settings = resolve(Settings(data_dir=tracker.data_dir))
    load = await _kill_everything(tracker, random.Random(SEED))
    assert settings.postgres_dsn
    await _drained(settings)
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        rows = await connection.fetch("SELECT aff_sub, redirected_link FROM click")
        stored = {row["aff_sub"]: row["redirected_link"] for row in rows}
        assert load.unexpected == []
        assert [sub for sub, times in Counter(row["aff_sub"] for row in rows).items() if times > 1] == []
        assert {sub: stored.get(sub) for sub in load.locations} == load.locations
        assert await connection.fetch(_COUNTS) == await connection.fetch(_RECOUNT)
        assert await connection.fetchval(_INCONSISTENT) == 0
    finally:
        await connection.close()


async def _kill_everything(tracker: Up, lot: random.Random) -> Load:
    """One part after the other, each while clicks flow; the next once they flow again."""
    victims = lot.sample(_VICTIMS, len(_VICTIMS))
    async with asyncio.timeout(PATIENCE), Load(tracker.port, _LINK) as load:
        for victim in victims:
            await load.answers(lot.randint(100, 600))
            os.kill(tracker.child(victim), signal.SIGKILL)
            await asyncio.sleep(lot.uniform(0, 0.5))
        await load.answers(500)
    return load


async def _drained(settings: Settings) -> None:
    """Everything recorded is stored, and nothing was given up."""
    assert settings.redis_url
    async with asyncio.timeout(PATIENCE), Reader(settings.redis_url, slot=9) as reader:
        while await reader.waiting():
            await asyncio.sleep(0.05)
        assert await reader.dead() == []
