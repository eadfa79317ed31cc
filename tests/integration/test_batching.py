"""Batches of hits: each hit gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.factories.rows import affiliate_row, offer_row, url_row
from tests.integration.edge_client import PATIENCE, recorded
from tests.integration.metrics_client import of_edge
from tracker.domain.click_id import Mint
from tracker.domain.model import Click, Rule, Rules
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.http.batching import MAX_TOGETHER, Batching
from tracker.edge.http.request import Request
from tracker.edge.http.response import Response
from tracker.edge.metrics import Metrics
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.edge.redirect import Redirect
from tracker.edge.unmatched import OrphanLog
from tracker.settings import Settings

pytestmark = pytest.mark.anyio


class Hit:
    def __init__(self, query: str, **headers: str) -> None:
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        headers_ = {b"host": b"t", b"user-agent": b"Mozilla/5.0", **named}
        self.request = Request("GET", "http", "127.0.0.1", "/offer/3", b"/offer/3", query.encode(), headers_)
        self.given: list[Response] = []

    def give(self, answer: Response) -> None:
        self.given.append(answer)

    @property
    def sub(self) -> str | None:
        """The sub id that its Location carries."""
        _, is_there, rest = self.given[0].head.partition(b"&sub=")
        return rest.partition(b"\r\n")[0].decode() if is_there else None


@asynccontextmanager
async def redirecting(
    settings: Settings, *, rules: Rules = (), records: bool = True
) -> AsyncIterator[tuple[Redirect, Metrics]]:
    mint, catalogue, metrics = Mint(), Catalogue(), Metrics(0)
    catalogue.visitor_secret = b"x" * 32
    url = "https://ad.test/?c={hash}&sub={aff_sub}"
    catalogue.put("offer", "3", offer_row(urls=[url_row(30, url)]))
    catalogue.offers[3] = catalogue.offers[3]._replace(rules=rules)
    catalogue.put("affiliate", "513", affiliate_row(id=513))
    catalogue.loaded.set()
    recorders = PartitionedRecorder(settings, EdgeId(0, "0" * 16), mint)
    if records:
        await recorders.start()
    yield Redirect(settings, mint, catalogue, GeoReader([]), recorders, OrphanLog(settings), metrics), metrics
    if records:
        await recorders.stop()


async def taken(redirect: Redirect, hits: list[Hit]) -> None:
    batching = Batching(redirect.follow)
    for hit in hits:
        batching.take(hit)
    async with asyncio.timeout(PATIENCE):
        while not all(hit.given for hit in hits):
            await asyncio.sleep(0.01)
    assert all(len(hit.given) == 1 for hit in hits)


def several(number: int) -> list[Hit]:
    return [Hit(f"affiliate_id=513&aff_sub=s{n}") for n in range(number)]


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("number", [1, 2, MAX_TOGETHER, MAX_TOGETHER + 1, 5 * MAX_TOGETHER])
async def test_hits_of_a_batch_get_their_own_answers(
    database: Settings, number: int, partitions: int
) -> None:
    async with redirecting(replace(database, partitions=partitions, append_timeout=PATIENCE)) as (
        redirect,
        _,
    ):
        hits = [Hit(f"affiliate_id=513&aff_sub=s{n}&gaid=device{n}") for n in range(number)]
        await taken(redirect, hits)
    assert [hit.sub for hit in hits] == [f"s{n}" for n in range(number)]
    if partitions == 1:
        assert [row.aff_sub for row in await recorded(database)] == [f"s{n}" for n in range(number)]


async def test_other_requests_are_answered_among_clicks(database: Settings) -> None:
    orphan, prefetch = Hit("affiliate_id=7"), Hit("affiliate_id=513", sec_purpose="prefetch")
    long, first, last = Hit("affiliate_id=513&x=" + "x" * 9000), *several(2)
    async with redirecting(database) as (redirect, metrics):
        await taken(redirect, [first, orphan, prefetch, long, last])
        assert 'tracker_orphans_total{edge="0"} 1\n' in of_edge(metrics)
    statuses = [hit.given[0].status for hit in (first, orphan, prefetch, long, last)]
    assert statuses == [302, 404, 503, 414, 302]
    assert [row.aff_sub for row in await recorded(database)] == ["s0", "s1"]


async def test_batch_without_clicks_records_nothing(database: Settings) -> None:
    async with redirecting(database) as (redirect, _):
        await taken(redirect, [Hit("affiliate_id=7"), Hit("affiliate_id=8")])
        await taken(redirect, [Hit("affiliate_id=513", purpose="prefetch")])
    assert await recorded(database) == []


async def test_unpreparable_hit_does_not_affect_the_others(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(click: Click) -> bool:
        if click.link.aff_subs[0] == "s1":
            raise RuntimeError("it fails")
        return True

    hits = [*several(3), Hit("affiliate_id=7")]
    async with redirecting(database, rules=(Rule("fails", failing),)) as (redirect, metrics):
        await taken(redirect, hits)
        assert 'tracker_orphans_total{edge="0"} 1\n' in of_edge(metrics)
    assert [hit.given[0].status for hit in hits] == [302, 500, 302, 404]
    assert sorted(row.aff_sub for row in await recorded(database)) == ["s0", "s2"]
    assert "it fails" in caplog.text


async def test_unexpected_error_leaves_no_hit_waiting(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    hits = several(3)
    async with redirecting(database, records=False) as (redirect, _):
        await taken(redirect, hits)
    assert "AttributeError" in caplog.text, "recorders that have not been started raise it"
    assert [hit.given[0].status for hit in hits] == [500] * 3


async def test_failing_hit_does_not_affect_the_others(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = several(3)
    give, told = hits[1].give, list[Response]()

    def failing(answer: Response) -> None:
        told.append(answer)
        if len(told) == 1:
            raise RuntimeError("it fails")
        give(answer)

    monkeypatch.setattr(hits[1], "give", failing)
    async with redirecting(database) as (redirect, _):
        await taken(redirect, hits)
    assert [hit.given[0].status for hit in hits] == [302, 500, 302]
    assert [row.aff_sub for row in await recorded(database)] == ["s0", "s1", "s2"]
