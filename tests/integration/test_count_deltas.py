"""What writers add to the counts: added up by a worker, and read right at any moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import asyncpg
import pytest

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, count_sub_ids_now
from tests.integration.engines import PATIENCE
from tests.integration.metrics_client import metrics_of
from tests.integration.stream_client import DAY, NOON, hash_at
from tests.integration.writer_client import connect_writer
from tracker.domain.model import ClickRow
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store import adding_up
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import deltas, recount
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.db import UNREACHABLE, Connection
from workers import count_adder

pytestmark = pytest.mark.anyio

TABLES = (
    ("click_count", "dimension, key, slot", ("clicks",)),
    ("click_minute", "minute", ("stored", "imported")),
    ("report_count", "quarters, dimension, key, slot", ("gross", "clicks", "uniques")),
)
TABLES_OF_DELTAS = ("quarter_delta", "minute_delta", "conversion_delta")
DELTAS = f"SELECT {' + '.join(f'(SELECT count(*) FROM {table})' for table in TABLES_OF_DELTAS)}"

# The statement of version 0.2.0, which counts its clicks itself.
EARLIER = f"""
WITH inserted AS (
    INSERT INTO click ({", ".join(ClickRow._fields)}) SELECT {", ".join(ClickRow._fields)} FROM incoming
    RETURNING {click_counts.COUNTED}
), quarter AS ({click_counts.quarters_of("inserted")}), {
    deltas.adding(
        click_counts.counts_of("quarter"),
        f"SELECT minute, stored, 0 AS imported FROM ({click_counts.minutes_of('inserted')}) AS each",
        click_counts.reports_of("quarter"),
    )
} SELECT
"""

numbers = count(1)


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    connection = await connect_writer(database)
    yield connection
    await connection.close()


def some_rows(number: int, seed: int = 1) -> list[ClickRow]:
    """Clicks of two days and of all kinds."""
    draw = random.Random(seed)
    rows = []
    for _ in range(number):
        hash_ = hash_at(NOON + draw.choice((0, DAY)) + draw.randrange(3_600_000), next(numbers))
        rows.append(
            a_row(
                hash=hash_,
                offer_id=draw.randrange(3),
                affiliate_id=draw.randrange(5),
                country_code=draw.choice((None, "NL", "DE")),
                is_test=draw.random() < 0.2,
                is_bot=draw.random() < 0.2,
                is_unique=draw.random() < 0.5,
                status=draw.choice(("accepted", "rejected")),
            )
        )
    return rows


async def counts(connection: Connection, ending: str = "") -> list[Any]:
    """All counts, without rows of zeros. `ending`: "_part" for those that readers see."""
    found = []
    for table, keys, measures in TABLES:
        sums = ", ".join(f"sum({measure})::integer AS {measure}" for measure in measures)
        some = " OR ".join(f"sum({measure}) <> 0" for measure in measures)
        found.append(
            await connection.fetch(
                f"SELECT {keys}, {sums} FROM {table}{ending} GROUP BY {keys} HAVING {some} ORDER BY {keys}"
            )
        )
    return found


async def check_counts(connection: Connection) -> None:
    for day in await recount.days(connection):
        assert [wrong async for wrong in recount.differences(connection, day)] == []


async def test_counts_are_the_same_before_and_after_they_are_added_up(connection: Connection) -> None:
    for seed in range(3):
        await store_rows(connection, some_rows(100, seed))
        await check_counts(connection)
        before = await counts(connection, "_part")
        assert await counts(connection) != before
        await deltas.add_up(connection)
        assert await counts(connection) == await counts(connection, "_part") == before
        assert await connection.fetchval(DELTAS) == 0
    await check_counts(connection)


async def test_writers_wait_for_nobody_who_holds_counts(database: Settings, connection: Connection) -> None:
    await store_rows(connection, [a_row(hash=hash_at(NOON, next(numbers)))])
    await deltas.add_up(connection)
    other = await connect_writer(database)
    async with other.transaction():
        for table, *_ in TABLES:
            await other.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        await store_rows(connection, [a_row(hash=hash_at(NOON, next(numbers)))])
    await other.close()
    await check_counts(connection)


async def test_clicks_taken_back_leave_no_rows_of_zeros(connection: Connection) -> None:
    hash_ = hash_at(NOON, next(numbers))
    row = a_row(hash=hash_, group_hash=hash_, offer_id=4, redirected_link="https://y.test/")
    await clicks.store(connection, Writer(0, 0), [Arrival(1, row)])
    await deltas.add_up(connection)
    late = a_row(hash=hash_, group_hash=hash_, verdict_late=True)
    await clicks.store(connection, Writer(0, 0), [Arrival(2, late)])
    await check_counts(connection)
    await deltas.add_up(connection)
    await check_counts(connection)
    assert await connection.fetchval("SELECT count(*) FROM click_count WHERE clicks = 0") == 0
    offers = "SELECT key, gross::integer FROM report_count WHERE quarters = 1 AND dimension = 'offer'"
    assert await connection.fetch(offers) == [("3", 1)]


async def killed(victim: Connection, adding: asyncio.Task[None], killer: Connection) -> None:
    await killer.execute("SELECT pg_terminate_backend($1)", victim.get_server_pid())
    with pytest.raises(UNREACHABLE):
        await adding


async def cancelled(victim: Connection, adding: asyncio.Task[None], killer: Connection) -> None:
    await killer.execute("SELECT pg_cancel_backend($1)", victim.get_server_pid())
    with pytest.raises(asyncpg.QueryCanceledError):
        await adding


@pytest.mark.parametrize("end", [killed, cancelled], ids=lambda end: end.__name__)
@pytest.mark.parametrize("table", [table for table, *_ in TABLES])
async def test_adding_up_that_is_cut_off_loses_and_doubles_nothing(
    database: Settings, connection: Connection, table: str, end: Any
) -> None:
    await store_rows(connection, some_rows(50))
    await deltas.add_up(connection)
    await store_rows(connection, some_rows(50))
    before = await counts(connection, "_part")
    victim = await connect_writer(database)
    pid = victim.get_server_pid()
    waits = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
    async with connection.transaction():
        await connection.execute(f"SELECT FROM {table} FOR UPDATE")
        adding = asyncio.create_task(deltas.add_up(victim))
        while not await connection.fetchval(waits, pid):
            await asyncio.sleep(0.01)
        await end(victim, adding, connection)
    assert await counts(connection, "_part") == before
    await deltas.add_up(connection)
    assert await counts(connection) == before
    await victim.close()


async def test_only_one_adds_up_at_a_time(database: Settings, connection: Connection) -> None:
    await store_rows(connection, some_rows(10))
    other = await connect_writer(database)
    async with other.transaction():
        await deltas.add_up(other)
        await deltas.add_up(connection)
        assert await connection.fetchval(DELTAS) > 0
    assert await connection.fetchval(DELTAS) == 0
    await check_counts(connection)
    await other.close()


@pytest.mark.parametrize("turn", [adding_up.turn, adding_up.correcting], ids=lambda turn: turn.__name__)
async def test_frozen_process_does_not_keep_others_from_adding_up(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, turn: Any
) -> None:
    await store_rows(connection, some_rows(10))
    frozen = await connect_writer(database)
    monkeypatch.setattr(adding_up, "FROZEN_SECONDS", 0.1)

    async def freeze() -> None:
        async with asyncio.timeout(PATIENCE), turn(frozen):
            while await connection.fetchval(DELTAS):
                await deltas.add_up(connection)
                await asyncio.sleep(0.01)

    with pytest.raises(UNREACHABLE):
        await freeze()
    assert await connection.fetchval(DELTAS) == 0
    await check_counts(connection)


async def test_long_queue_is_added_up_in_parts(connection: Connection) -> None:
    await connection.execute(
        """INSERT INTO quarter_delta (dimension, keys, slots, stored, gross, clicks, uniques)
        SELECT 'offer', '{3}', '{0}', '{1}', '{1}', '{1}', '{0}' FROM generate_series(1, 10001)"""
    )
    before = await counts(connection, "_part")
    for left in (1, 0):
        await deltas.add_up(connection)
        assert await connection.fetchval(DELTAS) == left
        assert await counts(connection, "_part") == before


async def test_counts_stay_right_beside_an_earlier_version(
    database: Settings, connection: Connection
) -> None:
    """Writers of both versions, late corrections, recounts and adding up, all at once."""

    async def write(rows: Sequence[ClickRow], *, is_earlier: bool) -> None:
        writer = await connect_writer(database)
        for place in range(0, len(rows), 20):
            batch = rows[place : place + 20]
            if not is_earlier:
                await store_rows(writer, batch)
                await store_rows(
                    writer,
                    [row._replace(verdict_late=True, redirected_link="https://l.test/") for row in batch[:3]],
                )
                continue
            async with writer.transaction():
                await clicks.stage(writer, batch)
                await writer.execute(EARLIER)
        await writer.close()

    writing = asyncio.gather(*(write(some_rows(400, n), is_earlier=n < 2) for n in range(4)))
    while not writing.done():
        await deltas.add_up(connection)
        await check_counts(connection)
    await writing
    await deltas.add_up(connection)
    assert await counts(connection) == await counts(connection, "_part")
    await check_counts(connection)
    assert await connection.fetchval("SELECT count(*) FROM click") == 1_600


@asynccontextmanager
async def adding_up_all(database: Settings) -> AsyncIterator[None]:
    adding = asyncio.create_task(count_adder.run(database))
    yield
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)


@pytest.mark.parametrize(
    ("what", "table"), [("clicks", "quarter_delta"), ("conversions", "conversion_delta")]
)
async def test_deltas_that_wait_are_reported(
    database: Settings, connection: Connection, what: str, table: str
) -> None:
    await store_rows(connection, some_rows(10))
    await store_conversions(database, [a_conversion(a_row()) for _ in range(3)])
    await count_sub_ids_now(database)
    (finding,) = await report.examine(database, "ledger")
    assert finding.level == "ok"
    await connection.execute(f"UPDATE {table} SET made_at = made_at - interval '2 hours'")
    rows = await connection.fetchval(f"SELECT count(*) FROM {table}")
    (finding,) = await report.examine(database, "ledger")
    text = f"deltas of {what} that wait to be added up: {rows}, for 72"
    assert (finding.level, finding.text.startswith(text)) == ("warn", True)
    assert "does a worker run?" in finding.advice
    async with api_of(database):
        assert "tracker_count_delta_seconds 72" in await metrics_of(database)
    async with adding_up_all(database):
        while await connection.fetchval(DELTAS):
            await asyncio.sleep(0.01)
    async with api_of(database):
        assert "tracker_count_delta_seconds 0\n" in await metrics_of(database)


FAILING = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'made to fail';
END $$;
CREATE TRIGGER failing BEFORE INSERT ON {} FOR EACH STATEMENT EXECUTE FUNCTION fail()
"""


@asynccontextmanager
async def failing(connection: Connection, table: str) -> AsyncIterator[None]:
    await connection.execute(FAILING.format(table))
    yield
    await connection.execute("DROP FUNCTION fail CASCADE")


@asynccontextmanager
async def blocked(connection: Connection, table: str) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN SHARE MODE")
        yield


@pytest.mark.parametrize("trouble", [failing, blocked], ids=lambda trouble: trouble.__name__)
@pytest.mark.parametrize(
    ("what", "table", "other"),
    [
        ("clicks", "click_count", "conversion_delta"),
        ("conversions", "conversion_count", "quarter_delta"),
    ],
)
async def test_one_kind_of_deltas_is_added_up_while_another_cannot_be(
    database: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Any,
    what: str,
    table: str,
    other: str,
) -> None:
    monkeypatch.setattr(adding_up, "BLOCKED_SECONDS", 0.2)
    monkeypatch.setattr(count_adder, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(count_adder, "_RETRY_SECONDS", 0.1)
    await store_rows(connection, some_rows(3))
    await store_conversions(database, [a_conversion(a_row())])
    async with trouble(connection, table), adding_up_all(database), asyncio.timeout(PATIENCE):
        while await connection.fetchval(f"SELECT count(*) FROM {other}"):
            await asyncio.sleep(0.01)
        while f"deltas of {what} cannot be added up" not in caplog.text:
            await asyncio.sleep(0.01)
    async with adding_up_all(database), asyncio.timeout(PATIENCE):
        while await connection.fetchval(DELTAS):
            await asyncio.sleep(0.01)
    await check_counts(connection)
