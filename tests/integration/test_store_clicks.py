"""The writer's transaction with new clicks, repeated ones, and corrections of a spool."""

from __future__ import annotations

import asyncio
import io
import random
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import NOT_AS_CLICK, a_conversion, store_conversions
from tests.integration.engines import PATIENCE
from tests.integration.stream_client import NOON, hash_at
from tests.integration.writer_client import connect_writer
from tracker.domain.click_fields import STORED, Filled
from tracker.domain.model import ClickRow
from tracker.settings import Settings
from tracker.store.clicks import deltas, partitions, recount
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.db import UNREACHABLE, Connection
from tracker.store.locks import Lock
from workers import count_adder

pytestmark = pytest.mark.anyio

ONE, OTHER, FAR = Writer(0, 0), Writer(0, 1), Writer(1, 0)


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    connection = await connect_writer(database)
    yield connection
    await connection.close()


def arrival(entry: int, n: int | None = None, **changes: Any) -> Arrival:
    """An entry of click `n`, or of a click of its own."""
    hash_ = hash_at(NOON + (entry if n is None else n))
    return Arrival(entry, a_row(hash=hash_, group_hash=hash_, **changes))


def late(entry: int, n: int, **changes: Any) -> Arrival:
    return arrival(entry, n, verdict_late=True, **changes)


async def check_counts(connection: Connection) -> None:
    for day in await recount.days(connection):
        assert [wrong async for wrong in recount.differences(connection, day)] == []


BATCHES = [
    ("all new", [(ONE, [arrival(1), arrival(2)], set())], 2),
    ("delivered again", [(ONE, [arrival(1), arrival(2)], set()), (ONE, [arrival(1), arrival(2)], set())], 2),
    (
        "delivered again, and again with new ones",
        [(ONE, [arrival(1), arrival(2)], set()), *[(ONE, [arrival(1), arrival(2), arrival(3)], set())] * 2],
        3,
    ),
    (
        "taken over among new ones, and delivered again",
        [
            (ONE, [arrival(1)], set()),
            (OTHER, [arrival(1), arrival(2)], set()),
            (ONE, [arrival(3)], set()),
            (OTHER, [arrival(1), arrival(2)], set()),
        ],
        3,
    ),
    ("taken over", [(ONE, [arrival(1), arrival(2)], set()), (OTHER, [arrival(2)], set())], 2),
    (
        "taken over among new ones",
        [(ONE, [arrival(1), arrival(2)], set()), (OTHER, [arrival(3), arrival(2), arrival(4)], set())],
        4,
    ),
    (
        "delivered again beside a late one",
        [(ONE, [arrival(1)], set()), (ONE, [arrival(1), late(2, 1)], {2})],
        1,
    ),
    ("brought by others", [(ONE, [arrival(1)], set()), (ONE, [arrival(2, 1), arrival(3)], {2})], 2),
    ("brought twice at once", [(ONE, [arrival(1), arrival(2, 1), arrival(3, 1)], {2, 3})], 1),
    ("only duplicates", [(ONE, [arrival(1)], set()), (OTHER, [arrival(2, 1)], {2})], 1),
    (
        "a duplicate delivered again",
        [
            (ONE, [arrival(1)], set()),
            (ONE, [arrival(2, 1), arrival(3)], {2}),
            (ONE, [arrival(2, 1), arrival(3)], {2}),
        ],
        2,
    ),
    (
        "what is only duplicates leaves the note of the last batch",
        [(ONE, [arrival(1)], set()), (ONE, [arrival(2, 1)], {2}), (OTHER, [arrival(1)], set())],
        1,
    ),
    ("entries of partitions", [(ONE, [arrival(1)], set()), (FAR, [arrival(1)], {1})], 1),
]


@pytest.mark.parametrize(("batches", "stored"), [case[1:] for case in BATCHES], ids=[c[0] for c in BATCHES])
async def test_clicks_are_stored_once_and_entries_counted_by_kind(
    connection: Connection, batches: list[tuple[Writer, list[Arrival], set[int]]], stored: int
) -> None:
    for writer, arrivals, duplicates in batches:
        assert await clicks.store(connection, writer, arrivals) == duplicates
    assert await connection.fetchval("SELECT count(*) FROM click") == stored
    assert await connection.fetchval("SELECT sum(stored)::int FROM click_minute_part") == stored
    await check_counts(connection)


async def test_rows_keep_fields_that_other_rows_lack(connection: Connection) -> None:
    texts = {
        "aff_sub": "a",
        "aff_sub20": "t",
        "adv_sub5": "e",
        "gaid": "g",
        "referrer": "r",
    }
    full, bare = arrival(1, **texts), arrival(2, **dict.fromkeys(texts, ""))
    for batch in ([full, bare], [arrival(3, **dict.fromkeys(texts, ""))]):
        await clicks.store(connection, ONE, batch)
    stored = await connection.fetch(f"SELECT {', '.join(texts)} FROM click ORDER BY hash")
    assert [tuple(row) for row in stored] == [tuple(texts.values()), ("",) * 5, ("",) * 5]


async def test_columns_that_most_clicks_lack_are_blank_by_default(connection: Connection) -> None:
    defaults = await connection.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = 'click' AND column_default = $$''::text$$"
    )
    wanted = {field.name for field in STORED if field.blank == "" and field.filled is not Filled.MOSTLY}
    assert wanted <= {row["column_name"] for row in defaults}


CAPPED = {"status": "rejected", "redirected_link": "", "reason": 17}
ELSEWHERE = {"offer_id": 4, "offer_url_id": 140, "redirected_link": "https://y.test/"}
CORRECTIONS = [
    ("late after live", [[arrival(1, **CAPPED)], [late(2, 1)]], "accepted", True),
    ("live after late", [[late(2, 1)], [arrival(1, **CAPPED)]], "accepted", False),
    ("late beside live", [[arrival(1, **CAPPED), late(2, 1)]], "accepted", False),
    ("live beside late", [[late(2, 1), arrival(1, **CAPPED)]], "accepted", False),
    ("another offer", [[arrival(1, **ELSEWHERE), arrival(3)], [late(2, 1), arrival(4)]], "accepted", True),
    ("delivered again", [[arrival(1, **CAPPED)], [late(2, 1)], [late(2, 1)]], "accepted", True),
    ("another late one", [[arrival(1, **CAPPED)], [late(2, 1)], [late(3, 1, **CAPPED)]], "accepted", True),
    ("nothing to correct", [[arrival(1)], [late(2, 1)]], "accepted", False),
    ("uniqueness", [[arrival(1, is_unique=False)], [late(2, 1)]], "accepted", True),
]


@pytest.mark.parametrize(
    ("batches", "status", "is_new"), [case[1:] for case in CORRECTIONS], ids=[c[0] for c in CORRECTIONS]
)
async def test_outcome_of_the_visitor_wins(
    connection: Connection, batches: list[list[Arrival]], status: str, is_new: bool
) -> None:
    entries, duplicates = {a.entry for batch in batches for a in batch}, set()
    ids = []
    for batch in batches:
        duplicates |= await clicks.store(connection, ONE, batch)
        row = await connection.fetchrow("SELECT * FROM click WHERE hash = $1", hash_at(NOON + 1))
        ids.append(row["id"])
    assert (row["status"], row["offer_id"], row["is_unique"]) == (status, 3, True)
    assert (ids[-1] > ids[0]) == is_new, "the feed shows a corrected row again"
    stored = await connection.fetchval("SELECT count(*) FROM click")
    assert len(entries - duplicates) == stored
    await check_counts(connection)
    assert await connection.fetchval("SELECT count(*) FROM click_count WHERE clicks = 0") == 0


@pytest.mark.parametrize("first", [{"status": "forwarded"}, {"is_unique": False}], ids=str)
async def test_conversion_is_found_as_its_corrected_click(
    database: Settings, connection: Connection, first: dict[str, Any]
) -> None:
    await clicks.store(connection, ONE, [arrival(1, **first), arrival(2, **first)])
    for n in (1, 2):
        id_ = await connection.fetchval("SELECT id FROM click WHERE hash = $1", hash_at(NOON + n))
        await store_conversions(database, [a_conversion(arrival(n, **first).row, click_id=id_)])
    assert await connection.fetchval(NOT_AS_CLICK) == 0
    await clicks.store(connection, ONE, [late(3, 1)])
    assert await connection.fetchval(NOT_AS_CLICK) == 0
    found = await connection.fetch("SELECT click_status, is_unique FROM conversion ORDER BY click_hash")
    assert [tuple(row) for row in found] == [
        ("accepted", True),
        (first.get("status", "accepted"), first.get("is_unique", True)),
    ]


@pytest.mark.parametrize("seed", [1, 2])
async def test_writers_with_overlapping_batches_agree_on_every_entry(database: Settings, seed: int) -> None:
    """Entries in any order, some delivered twice or late, and clicks of several entries."""
    lot = random.Random(seed)
    entries = [an_entry(lot, number) for number in range(1, 1500)]
    waiting, seen = {a.entry for a in entries}, {"x": 0, "u": 0}

    async def write(slot: int) -> None:
        connection = await connect_writer(database)
        mine = lot.sample(entries, 900)
        for at in range(0, len(mine), 60):
            batch = mine[at : at + 60]
            duplicates = await clicks.store(connection, Writer(0, slot), batch)
            for entry in {a.entry for a in batch} & waiting:  # the acknowledgement
                waiting.discard(entry)
                seen["u" if entry in duplicates else "x"] += 1
            await clicks.open_gate(connection)
        await connection.close()

    await asyncio.gather(*map(write, range(4)))
    connection = await connect_writer(database)
    assert seen["x"] == await connection.fetchval("SELECT count(*) FROM click")
    assert seen["x"] + seen["u"] + len(waiting) == len(entries)
    await check_counts(connection)
    await connection.close()


def an_entry(lot: random.Random, number: int) -> Arrival:
    click = lot.randrange(1000)
    changes: dict[str, Any] = {"affiliate_id": 500 + click % 7}
    if lot.random() < 0.1:
        return late(number, click, **changes)
    return arrival(number, click, **changes, **lot.choice([{}, {}, CAPPED, ELSEWHERE]))


async def test_backup_waits_for_the_acknowledgement(database: Settings, connection: Connection) -> None:
    backup = await connect_writer(database)
    gate = ("SELECT pg_try_advisory_lock($1)", Lock.BACKUP_GATE)
    await clicks.store(connection, ONE, [arrival(1)])
    assert not await backup.fetchval(*gate)
    await clicks.open_gate(connection)
    assert await backup.fetchval(*gate)

    waiting = asyncio.create_task(clicks.store(connection, ONE, [arrival(2)]))
    while not await backup.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"):
        await asyncio.sleep(0.01)
    assert await backup.fetchval("SELECT count(*) FROM click") == 1
    await backup.close()
    assert await waiting == set()


async def test_writer_that_is_frozen_in_a_copy_is_ended(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, observer = [await connect_writer(database) for _ in range(2)]
    rows = [arrival(n).row for n in range(2000)]  # PostgreSQL inserts a thousand together
    thaws = asyncio.Event()
    freezing = asyncio.create_task(copy_and_freeze(frozen, rows, thaws))
    await becomes_true(observer, "SELECT pg_relation_size('click_default') > 0")
    waits = "SELECT wait_event = $2 FROM pg_stat_activity WHERE pid = $1"
    await becomes_true(observer, waits, frozen.get_server_pid(), "ClientRead")
    waiting = asyncio.create_task(clicks.store(connection, ONE, [arrival(1), arrival(2)]))
    await becomes_true(observer, waits, connection.get_server_pid(), "transactionid")
    assert await clicks.end_frozen(observer) == 0
    monkeypatch.setattr(clicks, "FROZEN_SECONDS", 0)
    adding = asyncio.create_task(count_adder.run(database))
    assert await waiting == set()
    thaws.set()
    with pytest.raises(UNREACHABLE):
        await freezing
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    assert await observer.fetchval("SELECT count(*) FROM click") == 2
    await observer.close()


async def test_writer_that_is_frozen_in_its_deltas_is_ended(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    freezing = asyncio.create_task(asyncio.to_thread(asyncio.run, note_and_freeze(database, thaws)))
    waits = "SELECT wait_event = $1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE $2"
    try:
        await becomes_true(connection, waits, "ClientRead", "%INSERT INTO quarter_delta%")
        assert await clicks.end_frozen(connection) == 0
        monkeypatch.setattr(clicks, "FROZEN_SECONDS", 0)
        async with asyncio.timeout(PATIENCE):
            while not await clicks.end_frozen(connection):
                await asyncio.sleep(0.01)
        assert await clicks.store(connection, ONE, [arrival(1)]) == set()
    finally:
        thaws.set()
    with pytest.raises(UNREACHABLE):
        await freezing


async def note_and_freeze(settings: Settings, thaws: threading.Event) -> None:
    """Store clicks on a connection whose thread stops between two deltas."""
    large = ("all", ["x" * 50_000], [0], [1], [1], [1], [1])

    def quarters() -> Iterator[tuple[object, ...]]:
        yield from [large] * 10  # more than asyncpg sends together
        thaws.wait()

    connection = await connect_writer(settings)
    try:
        async with connection.transaction():
            await clicks._copy(connection, "click", [arrival(1).row])
            await connection.executemany(deltas._NOTE_QUARTERS, quarters())
    finally:
        connection.terminate()


async def test_partitions_are_created_beside_a_writer_of_late_rows(
    database: Settings, connection: Connection
) -> None:
    """Both lock the table, and then its default partition."""
    creator, observer = [await connect_writer(database) for _ in range(2)]
    async with connection.transaction():
        await connection.execute(clicks._KEEP_OTHERS_OUT)
        creating = asyncio.create_task(partitions.create_ahead(creator, date(2026, 1, 1)))
        waits = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
        await becomes_true(observer, waits, creator.get_server_pid())
        await clicks._copy(connection, "click", [arrival(1).row])
    assert "click_20260101" in await creating
    await asyncio.gather(creator.close(), observer.close())


async def becomes_true(observer: Connection, question: str, *values: object) -> None:
    while not await observer.fetchval(question, *values):
        await asyncio.sleep(0.01)


async def copy_and_freeze(connection: Connection, some: list[ClickRow], thaws: asyncio.Event) -> None:
    """Begin a COPY with some rows, and wait before its end."""
    data = io.BytesIO()
    columns = ", ".join(ClickRow._fields)
    async with connection.transaction():
        await clicks.stage(connection, some)
        await connection.copy_from_query(f"SELECT {columns} FROM incoming", output=data, format="binary")
    async with connection.transaction():

        async def rows() -> AsyncIterator[bytes]:
            yield data.getvalue()[:-2]  # without the word that nothing follows
            await thaws.wait()

        await connection.copy_to_table("click", source=rows(), columns=ClickRow._fields, format="binary")


async def test_lax_defaults_of_a_server_are_overridden(database: Settings) -> None:
    connection = await connect_writer(database)
    name = await connection.fetchval("SELECT current_database()")
    for setting in ("synchronous_commit = off", "default_transaction_isolation = serializable"):
        await connection.execute(f"ALTER DATABASE {name} SET {setting}")
    await connection.close()
    connection = await connect_writer(database)
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
    await connection.close()
