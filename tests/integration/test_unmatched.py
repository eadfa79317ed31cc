"""Unmatched hits: logged within a limit, without delaying other hits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from tests.factories.clicks import a_click
from tracker.domain.model import Link, Visitor
from tracker.edge.catalogue.advertiser_secrets import AdvertiserSecrets
from tracker.edge.record import later_log
from tracker.edge.record.later_log import MAX_WAITING
from tracker.edge.unmatched import MAX_TEXT, OrphanLog
from tracker.settings import Settings
from tracker.stream.client import open_client
from tracker.stream.unmatched import KEPT, Orphan, OrphanStream, read

pytestmark = pytest.mark.anyio

LINK, VISITOR = a_click().link, a_click().visitor
NO_SECRETS = AdvertiserSecrets()
AWAY = "unix:///nonexistent/valkey.sock"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later_log, "_PAUSE_SECONDS", 0.001)


@asynccontextmanager
async def running(log: OrphanLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.run())
    await asyncio.sleep(0)  # a task that never began has nothing to finish
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def logged(settings: Settings, count: int = 100) -> list[Orphan]:
    assert settings.redis_url
    return await read(settings.redis_url, count)


@pytest.mark.parametrize(
    ("link", "is_offer_known", "why"),
    [
        (LINK._replace(offer_id=99), False, "unknown offer"),
        (LINK._replace(affiliate_id=99), True, "unknown affiliate"),
        (LINK._replace(affiliate_id=0), True, "unknown affiliate"),
        (LINK._replace(offer_id=0), False, "unknown link"),
    ],
)
async def test_orphan_names_its_reason(
    database: Settings, link: Link, is_offer_known: bool, why: str
) -> None:
    log = OrphanLog(database)
    async with running(log):
        log.note(link, VISITOR, NO_SECRETS, is_offer_known=is_offer_known)
    (orphan,) = await logged(database)
    assert orphan.why == why
    assert orphan.requested_link == VISITOR.requested_link
    assert (orphan.ip, orphan.user_agent, orphan.referrer) == (VISITOR.ip, VISITOR.user_agent, "")


async def test_newest_are_read_first(database: Settings) -> None:
    log = OrphanLog(database)
    async with running(log):
        for n in range(250):
            log.note(LINK, VISITOR._replace(referrer=f"https://r.test/{n}"), NO_SECRETS, is_offer_known=False)
            if n == 100:
                await asyncio.sleep(0.01)
    assert [orphan.referrer for orphan in await logged(database, 2)] == [
        "https://r.test/249",
        "https://r.test/248",
    ]
    assert len(await logged(database, 1000)) == 250


@pytest.mark.parametrize("text", ["ä😀", "\ud800 half a pair", "\x00\r\n*3", "x" * 9000])
async def test_log_takes_any_text(database: Settings, text: str) -> None:
    hostile = Visitor(*[text] * len(Visitor._fields))
    log = OrphanLog(database)
    async with running(log):
        log.note(LINK, hostile, NO_SECRETS, is_offer_known=False)
    (orphan,) = await logged(database)
    assert orphan.user_agent == text[:MAX_TEXT].replace("\ud800", "?")


async def test_flood_waits_bounded_and_the_rest_is_counted(database: Settings) -> None:
    log = OrphanLog(database)
    for _ in range(MAX_WAITING + 7):
        log.note(LINK, VISITOR, NO_SECRETS, is_offer_known=False)
    assert log.dropped == 7
    async with running(log):
        pass
    assert len(await logged(database, 2 * MAX_WAITING)) == MAX_WAITING


async def test_log_on_the_stream_is_bounded(database: Settings) -> None:
    assert database.redis_url
    stream = OrphanStream(database.redis_url)
    for _ in range(KEPT // 1000 + 2):
        await stream.append([Orphan(1, "unknown offer", "", "", "", "")] * 1000)
    await stream.close()
    assert KEPT <= len(await logged(database, 2 * KEPT)) < KEPT + 1000


async def test_orphans_during_an_outage_are_dropped_with_one_line(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    log = OrphanLog(replace(database, redis_url=AWAY))
    with caplog.at_level(logging.WARNING):
        async with running(log):
            for n in range(1, 4):
                log.note(LINK, VISITOR, NO_SECRETS, is_offer_known=False)
                while log.dropped < n:
                    await asyncio.sleep(0.001)
    assert [record.name for record in caplog.records] == ["tracker.edge.record.later_log"]


async def test_log_goes_on_after_a_refusal(database: Settings) -> None:
    assert database.redis_url
    log = OrphanLog(database)
    async with open_client(database.redis_url) as client, running(log):
        await client.set("orphans:{0}", "in the way")
        log.note(LINK, VISITOR, NO_SECRETS, is_offer_known=False)
        while not log.dropped:
            await asyncio.sleep(0.001)
        await client.delete("orphans:{0}")
        log.note(LINK, VISITOR, NO_SECRETS, is_offer_known=True)
    assert [orphan.why for orphan in await logged(database)] == ["unknown affiliate"]
