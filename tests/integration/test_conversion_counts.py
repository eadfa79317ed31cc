"""The sums of conversions that reports read: always those of the conversions, added up or not."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import hash_at, store
from tracker import cli
from tracker.settings import Settings
from tracker.store import adding_up
from tracker.store.db import Connection, connect
from tracker.store.locks import Lock
from tracker.store.reports import conversion_counts as counts

pytestmark = pytest.mark.anyio

NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000
COLUMNS = {
    "offer": "offer_id",
    "offer_url": "offer_url_id",
    "affiliate": "affiliate_id",
    "country": "country_code",
    "device_type": "device_type",
    "os": "device_os",
    "browser": "browser",
}
ALL = "SELECT * FROM conversion_count ORDER BY " + ", ".join(str(n) for n in range(1, 9))

Key = tuple[str, int, str, int, str, str, str, str]


@pytest.fixture
async def connection(database: Settings) -> Any:
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    yield connection
    await connection.close()


def random_conversion(draw: random.Random) -> dict[str, Any]:
    millis = NOON + draw.choice((0, 1, 5)) * DAY + draw.randrange(40_000_000, 45_000_000)
    click = a_row(
        hash=hash_at(millis, draw.randrange(4096)),
        offer_id=draw.randint(1, 2),
        offer_url_id=draw.choice((None, 31)),
        affiliate_id=draw.randint(1, 2),
        country_code=draw.choice((None, "NL")),
        device_type=draw.choice(("", "phone")),
        browser=draw.choice(("", "Chrome")),
        is_test=draw.random() < 0.1,
    )
    return a_conversion(click, millis=millis + draw.randrange(DAY), **random_change(draw))


def random_change(draw: random.Random) -> dict[str, Any]:
    return {
        "status": draw.choice(("approved", "pending", "hold", "rejected")),
        "is_over_cap": draw.random() < 0.3,
        "payout": f"{draw.randrange(3)}.{draw.randrange(10**6):06}",
        "payout_currency": draw.choice(("USD", "EUR")),
        "revenue": f"{draw.randrange(3)}.00",
    }


async def change_at_random(database: Settings, connection: Connection, draw: random.Random) -> None:
    """One step of a history: rows come, change or go, of one statement each, or deltas are added up."""
    some = "id IN (SELECT id FROM conversion ORDER BY md5(id::text || $1) LIMIT 3)"
    match draw.choice(("come", "come", "change", "change nothing", "move", "go", "add up", "undo")):
        case "come":
            await store_conversions(database, [random_conversion(draw) for _ in range(draw.randint(1, 5))])
        case "change":
            change = random_change(draw)
            sets = ", ".join(f"{name} = ${n}::text::{_type(name)}" for n, name in enumerate(change, 2))
            texts = (str(value).lower() if isinstance(value, bool) else value for value in change.values())
            await connection.execute(f"UPDATE conversion SET {sets} WHERE {some}", str(draw.random()), *texts)
        case "change nothing":
            await connection.execute(
                f"UPDATE conversion SET sale_status = 'x' WHERE {some}", str(draw.random())
            )
        case "move":
            await connection.execute(
                "UPDATE conversion SET offer_id = 3 - offer_id, is_test = NOT is_test,"
                f" created_at = created_at + interval '1 hour' WHERE {some}",
                str(draw.random()),
            )
        case "go":
            await connection.execute(f"DELETE FROM conversion WHERE {some}", str(draw.random()))
        case "add up":
            await counts.add_up(connection)
        case "undo":
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("DELETE FROM conversion")
            await transaction.rollback()


def _type(name: str) -> str:
    return {"payout": "numeric", "revenue": "numeric", "is_over_cap": "boolean"}.get(name, "text")


async def recounted(connection: Connection) -> dict[Key, tuple[int, int, Decimal, Decimal]]:
    """The rows that conversion_count must have, counted in Python."""
    sums: dict[Key, list[Any]] = defaultdict(lambda: [0, 0, Decimal(0), Decimal(0)])
    for row in await connection.fetch("SELECT * FROM conversion WHERE NOT is_test"):
        own = int(row["created_at"].timestamp()) // 900
        places = [(1, "all", ""), (96, "all", "")]
        for name, column in COLUMNS.items():
            places.append((96, name, "" if row[column] is None else str(row[column])))
        for basis, quarter in (("click", row["click_second"] // 900), ("conversion", own)):
            for quarters, name, key in places:
                slot = quarter // quarters * quarters
                by = (row["status"], row["payout_currency"], row["revenue_currency"])
                of = sums[basis, quarters, name, slot, key, *by]
                for n, more in enumerate((1, row["is_over_cap"], row["payout"], row["revenue"])):
                    of[n] += more
    return {key: (of[0], of[1], of[2], of[3]) for key, of in sums.items()}


async def stored(connection: Connection) -> dict[Key, tuple[int, int, Decimal, Decimal]]:
    rows = [tuple(row) for row in await connection.fetch(ALL)]
    return {row[:8]: row[8:] for row in rows}  # type: ignore[misc]


async def added_up(connection: Connection) -> None:
    while await connection.fetchval("SELECT EXISTS (SELECT FROM conversion_delta)"):
        await counts.add_up(connection)


async def wrong(connection: Connection) -> list[Any]:
    days = await counts.days(connection, date.min, date.max)
    return [found for day in days async for found in counts.differences(connection, day)]


@pytest.mark.parametrize("seed", range(4))
async def test_counts_equal_a_recount_after_any_history(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(adding_up, "MOST", 3)  # deltas are added up in parts, which cut updates apart
    for _ in range(40):
        await change_at_random(database, connection, draw)
        assert await wrong(connection) == []
    await added_up(connection)
    assert await stored(connection) == await recounted(connection) != {}
    await connection.execute("DELETE FROM conversion")
    await added_up(connection)
    assert await stored(connection) == {}


async def test_migration_counts_the_conversions_that_are_there(
    database: Settings, connection: Connection
) -> None:
    draw = random.Random(5)
    await store_conversions(database, [random_conversion(draw) for _ in range(60)])
    await connection.execute(
        "DROP TABLE conversion_count, conversion_delta; DROP FUNCTION note_conversions CASCADE"
    )
    migration = files("tracker.store") / "migrations" / "0041_conversion_counts.sql"
    await connection.execute(migration.read_text())
    assert await stored(connection) == await recounted(connection) != {}


async def test_migration_gives_conversions_the_values_of_their_clicks(
    database: Settings, connection: Connection
) -> None:
    texts = {"aff_sub": "a,b", "aff_sub20": "t", "external_id": "x", "region_code": "NH", "ip": "192.0.2.1"}
    click = a_row(hash=hash_at(NOON), requested_offer_id=9, brand_id=2, **texts)
    await store(database, [click])
    gone = a_row(hash=hash_at(NOON, 1))
    await store_conversions(database, [a_conversion(one) for one in (click, click, gone)])
    await added_up(connection)
    rows = "SELECT * FROM conversion ORDER BY id"
    before = [dict(row) | {"version": 0} for row in await connection.fetch(rows)]
    script = (files("tracker.store") / "migrations" / "0049_conversion_clicks.sql").read_text()
    columns = re.findall(r"\bADD (\w+)", script)
    await connection.execute(
        f"ALTER TABLE conversion {', '.join(f'DROP {column} CASCADE' for column in columns)}"
    )
    await connection.execute(script)
    after = [dict(row) | {"version": 0} for row in await connection.fetch(rows)]
    assert after[:2] == before[:2]
    assert {after[2][column] for column in columns} == {"", None}
    assert {**before[2], **after[2]} == after[2]
    assert await connection.fetchval("SELECT count(*) FROM conversion_delta") == 0
    await connection.execute("UPDATE conversion SET status = 'hold'")
    await added_up(connection)
    assert await stored(connection) == await recounted(connection) != {}


async def test_writers_of_one_day_wait_for_nobody(database: Settings, connection: Connection) -> None:
    assert database.postgres_dsn
    others = [await connect(database.postgres_dsn) for _ in range(2)]
    click = a_row(hash=hash_at(NOON))
    await store_conversions(database, [a_conversion(click) for _ in range(4)])
    rows = "id % 2 = {}"
    for number, other in enumerate(others):
        await other.execute("BEGIN; SET LOCAL lock_timeout = '5s'")
        await other.execute(f"UPDATE conversion SET status = 'hold' WHERE {rows.format(number)}")
    await connection.execute("SET lock_timeout = '5s'")
    await counts.add_up(connection)
    for number, other in enumerate(others):
        await other.execute(f"UPDATE conversion SET payout = payout + 1 WHERE {rows.format(number)}; COMMIT")
        await other.close()
    assert await wrong(connection) == []
    await added_up(connection)
    assert await stored(connection) == await recounted(connection)


async def test_deltas_are_added_up_by_one_process_at_a_time(
    database: Settings, connection: Connection
) -> None:
    assert database.postgres_dsn
    await store_conversions(database, [a_conversion(a_row(hash=hash_at(NOON)))])
    other = await connect(database.postgres_dsn)
    await other.execute(f"BEGIN; SELECT pg_advisory_xact_lock({Lock.ADDING_UP})")
    await counts.add_up(connection)
    assert await stored(connection) == {}
    await other.close()
    await added_up(connection)
    assert await stored(connection) == await recounted(connection)


DAMAGES = [
    ("none", "SELECT", 0),
    ("an amount", "UPDATE conversion_count SET payout = payout + 0.000001 WHERE quarters = 1", None),
    ("a count", "UPDATE conversion_count SET over_cap = over_cap + 1 WHERE dimension = 'os'", None),
    (
        "a row too many",
        "INSERT INTO conversion_count VALUES"
        " ('click', 96, 'offer', 2001024, '9', 'approved', 'USD', 'USD', 1, 0, 2.5, 0)",
        2,
    ),
    ("negative", "UPDATE conversion_count SET conversions = -conversions", None),
    ("deltas", "TRUNCATE conversion_delta", None),
    ("all", "TRUNCATE conversion_count", None),
]


@pytest.mark.parametrize(("damage", "found"), [case[1:] for case in DAMAGES], ids=[c[0] for c in DAMAGES])
async def test_rebuilt_counts_are_those_of_the_conversions(
    database: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    found: int | None,
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def run(*words: str) -> tuple[int, list[str]]:
        code = await asyncio.to_thread(cli.main, ["rebuild-stats", *words])
        return code, capsys.readouterr().out.splitlines()

    draw = random.Random(3)
    await store_conversions(database, [random_conversion(draw) for _ in range(30)])
    await added_up(connection)
    await store_conversions(database, [random_conversion(draw) for _ in range(5)])
    await connection.execute(damage)
    code, said = await run("--check", "--json")
    assert code == int(found != 0)
    assert len(said) == found if found is not None else len(said) > 5
    assert (await run("--json"))[0] == 0
    assert (await run("--check"))[0] == 0
    await added_up(connection)
    assert await stored(connection) == await recounted(connection)


async def test_check_names_sums_that_differ(
    database: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")
    await store_conversions(database, [a_conversion(a_row(hash=hash_at(NOON)))])
    await added_up(connection)
    damage = "UPDATE conversion_count SET conversions = 7, payout = 2 WHERE basis = 'click'"
    await connection.execute(f"{damage} AND dimension = 'offer'")
    assert await asyncio.to_thread(cli.main, ["rebuild-stats", "--check"]) == 1
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "2024-10-10 00:00  approved conversions by offer at the time of the click, a day 3: count 7, "
        "1 conversions",
        "2024-10-10 00:00  approved payout by offer at the time of the click, a day 3: count 2, 1.500000 USD",
    ]
    assert await asyncio.to_thread(cli.main, ["rebuild-stats", "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[1]) == {
        "dimension": "approved payout by offer at the time of the click, a day",
        "key": "3",
        "from": "2024-10-10 00:00",
        "count": "2",
        "USD": "1.500000",
    }
