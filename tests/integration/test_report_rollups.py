"""Rollups of reports: they answer for the days that are theirs, and for no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from itertools import product
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import api_of, hash_at, store
from tracker import cli
from tracker.api.reports import PATH as REPORTS
from tracker.domain.model import ClickRow
from tracker.settings import Settings
from tracker.store.clicks import deltas
from tracker.store.db import Connection, connect
from tracker.store.reports import rollups

pytestmark = pytest.mark.anyio

NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000
FIRST = NOON // DAY
GROUPS = (
    *("offer,affiliate", "requested_offer,status", "advertiser", "brand,affiliate_group,reason", "affiliate"),
    *("offer,affiliate,day", "week,affiliate,offer"),
    *("day,country,device_type", "offer,country", "device_type,affiliate"),
)


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    yield connection
    await connection.close()


def random_row(draw: random.Random) -> ClickRow:
    status = draw.choice(("accepted", "accepted", "forwarded"))
    return a_row(
        hash=hash_at(NOON + draw.randrange(-2, 2) * DAY + draw.randrange(DAY // 2), draw.randrange(4096)),
        status=status,
        reason=10 if status == "forwarded" else 0,
        offer_id=draw.randint(1, 2),
        requested_offer_id=draw.randint(1, 2),
        advertiser_id=draw.randint(1, 2),
        brand_id=draw.choice((None, 7)),
        affiliate_id=draw.randint(1, 3),
        aff_group_id=draw.choice((None, 5)),
        country_code=draw.choice((None, "DE", "NL")),
        device_type=draw.choice(("", "mobile")),
        is_unique=draw.random() < 0.5,
        is_bot=draw.random() < 0.2,
        is_test=draw.random() < 0.2,
    )


SPANS: tuple[dict[str, Any], ...] = (
    {},
    {"affiliate_id": 2},
    {"created_from": "2024-10-09 05:00:00", "tz": "Asia/Kolkata"},
)


async def answers(database: Settings, *groups: str) -> list[Any]:
    async with api_of(database, scopes=("reports:read",)) as client:
        found = []
        for group, query in product(groups, SPANS):
            answer = await client.get(REPORTS, params={"group_by": group, **query})
            assert answer.status_code == 200, answer.text
            found.append(answer.json())
        return found


async def settle(connection: Connection) -> None:
    while await connection.fetchval("SELECT EXISTS (SELECT FROM quarter_delta)"):
        await deltas.add_up(connection)


async def built(connection: Connection) -> set[int]:
    rows = await connection.fetch("SELECT day FROM rolled_up_day WHERE is_built")
    return {row["day"] - FIRST for row in rows}


@pytest.mark.parametrize("seed", range(3))
async def test_answers_are_those_of_the_clicks_after_any_history(
    database: Settings, connection: Connection, seed: int
) -> None:
    draw = random.Random(seed)
    stored: list[ClickRow] = []
    for _ in range(8):
        rows = {row.hash: row for row in (random_row(draw) for _ in range(draw.randint(1, 30)))}
        late = [
            row._replace(verdict_late=True, offer_id=3 - row.offer_id, status="forwarded", reason=17)
            for row in draw.sample(stored, min(len(stored), draw.randint(0, 4)))
        ]
        stored += rows.values()
        await store(database, [*rows.values(), *late])
        if draw.random() < 0.7:
            await settle(connection)
        if draw.random() < 0.8:
            await rollups.build_missing(connection)
        group = draw.choice(GROUPS)
        found = await answers(database, group)
        await connection.execute("UPDATE rolled_up_day SET is_built = false")
        assert await answers(database, group) == found
        await settle(connection)
        await rollups.build_missing(connection)
        assert await built(connection) == {row["day"] - FIRST for row in await connection.fetch(DAYS)}
        assert await answers(database, group) == found


DAYS = "SELECT DISTINCT slot / 96 AS day FROM report_count WHERE dimension = 'all'"


async def test_rollup_answers_for_finished_days_only(database: Settings, connection: Connection) -> None:
    await store(database, [a_row(hash=hash_at(NOON + n * DAY)) for n in range(3)])
    assert await rollups.build_missing(connection, date(2024, 10, 12)) == 0  # deltas are not added up
    await settle(connection)
    assert await rollups.build_missing(connection, date(2024, 10, 12)) == 2
    assert await built(connection) == {0, 1}
    for rollup in rollups.ROLLUPS:
        await connection.execute(f"UPDATE {rollup.table} SET gross = 100, clicks = 100 WHERE day = $1", FIRST)
    async with api_of(database, scopes=("reports:read",)) as client:
        pairs = ("offer,affiliate", "country,device_type", "country,offer", "device_type,affiliate")
        for group in (*pairs, "requested_offer", "affiliate_group", "advertiser,status"):
            body = (await client.get(REPORTS, params={"group_by": group})).json()
            assert body["totals"]["clicks"] == 102, group


async def test_changed_day_is_read_from_its_clicks(database: Settings, connection: Connection) -> None:
    await store(database, [a_row(hash=hash_at(NOON))])
    await settle(connection)
    await rollups.build_missing(connection)
    assert await built(connection) == {0}
    await store(database, [a_row(hash=hash_at(NOON, 1))])
    assert await built(connection) == {0}  # the delta alone keeps readers from it
    assert (await answers(database, "offer,affiliate"))[0]["totals"]["clicks"] == 2
    await settle(connection)
    assert await built(connection) == set()
    assert (await answers(database, "offer,affiliate"))[0]["totals"]["clicks"] == 2


@pytest.mark.parametrize("is_added_up", [True, False])
async def test_day_that_changes_while_it_is_built_is_not_built(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, is_added_up: bool
) -> None:
    await store(database, [a_row(hash=hash_at(NOON))])
    await settle(connection)
    insert = rollups._insert
    assert database.postgres_dsn
    other = await connect(database.postgres_dsn)

    async def insert_late(*values: Any) -> None:
        await insert(*values)
        if values[1].table == "offer_affiliate_day":
            await store(database, [a_row(hash=hash_at(NOON, 1))])
            if is_added_up:
                await settle(other)

    monkeypatch.setattr(rollups, "_insert", insert_late)
    assert await rollups.build(connection, FIRST) is not is_added_up
    assert (await answers(database, "offer,affiliate"))[0]["totals"]["clicks"] == 2
    await settle(other)
    assert await built(connection) == set()
    await other.close()


async def test_day_that_a_former_release_built_is_built_again(
    database: Settings, connection: Connection
) -> None:
    await store(database, [a_row(hash=hash_at(NOON))])
    await settle(connection)
    await rollups.build_missing(connection)
    await connection.execute("DELETE FROM visitor_day; UPDATE rolled_up_day SET has_visitors = false")
    assert (await answers(database, "country,device_type"))[0]["totals"]["clicks"] == 1
    assert await rollups.build_missing(connection) == 1
    await connection.execute("UPDATE visitor_day SET gross = 100, clicks = 100")
    assert (await answers(database, "country,device_type"))[0]["totals"]["clicks"] == 100


async def test_one_process_builds_at_a_time(database: Settings, connection: Connection) -> None:
    await store(database, [a_row(hash=hash_at(NOON))])
    await settle(connection)
    assert database.postgres_dsn
    other = await connect(database.postgres_dsn)
    await other.execute(f"SELECT pg_advisory_lock({rollups.Lock.ROLLUPS})")
    assert await rollups.build_missing(connection) == 0
    await other.close()
    assert await rollups.build_missing(connection) == 1


DAMAGES = [
    ("none", "SELECT", 0),
    ("a sum", "UPDATE offer_affiliate_day SET clicks = clicks + 1", 1),
    ("a key", "UPDATE affiliate_day SET affiliate_id = 9", 6),
    ("all rows", "DELETE FROM offer_day", 3),
    ("a country", "UPDATE visitor_day SET country_code = 'XX'", 6),
    ("rows of a former release", "DELETE FROM visitor_day; UPDATE rolled_up_day SET has_visitors = false", 0),
    ("rows of a day that is not built", "DELETE FROM offer_day; DELETE FROM rolled_up_day", 0),
]


@pytest.mark.parametrize(("damage", "found"), [case[1:] for case in DAMAGES], ids=[c[0] for c in DAMAGES])
async def test_wrong_rollups_are_found_and_built_again(
    database: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    found: int,
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")
    await store(database, [a_row(hash=hash_at(NOON))])
    await settle(connection)
    await rollups.build_missing(connection)
    right = await answers(database, *GROUPS)

    async def run(*words: str) -> tuple[int, list[str]]:
        code = await asyncio.to_thread(cli.main, ["rebuild-stats", *words])
        return code, capsys.readouterr().out.splitlines()

    await connection.execute(damage)
    code, lines = await run("--check")
    assert (code, len(lines)) == (int(found > 0), found + 1)
    code, lines = await run()
    assert lines[-1].endswith(f", {found} wrong counts are corrected")
    code, lines = await run("--check")
    assert (code, lines[0].endswith(" days agree")) == (0, True)
    assert await answers(database, *GROUPS) == right
