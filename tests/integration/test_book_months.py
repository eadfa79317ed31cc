"""The book by month: statements equal the plain sum of all entries, whatever was carried and when."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import store
from tracker import cli
from tracker.domain.statement import Balance, ManualKind, Party
from tracker.settings import Settings
from tracker.store.books import months, statements
from tracker.store.books.statements import StatementRequest
from tracker.store.catalogue.demo import load_demo
from tracker.store.db import Connection, connect, open_pool
from tracker.store.time_span import Span
from workers import housekeeping

pytestmark = pytest.mark.anyio

START = datetime(2024, 8, 1, tzinfo=UTC)
HOURS = 150 * 24
PARTIES = {Party.AFFILIATE: (513, 514, 515), Party.ADVERTISER: (1, 2)}
CURRENCIES = ("EUR", "JPY")
_BOOK = """
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT id, $1, $2, $3, offer_id, $4, $5, $6, $7, $8, $9 FROM conversion
"""
_BY_HAND = """
INSERT INTO manual_entry
    (affiliate_id, advertiser_id, kind, amount, currency, change, booked_at, reason, author)
VALUES ($1, $2, $3, abs($4::numeric), $5, $4, $6, 'r', 'ann')
"""
_ALL = """
SELECT {party}_id, {side}_currency, CASE WHEN is_adjustment THEN 'adjustments' ELSE 'booked' END, booked_at,
    {side}
FROM conversion_entry WHERE {side} <> 0
UNION ALL SELECT {party}_id, currency, kind, booked_at, change FROM manual_entry WHERE {party}_id IS NOT NULL
"""
Balances = dict[tuple[int, str], Balance]


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    """A book without an entry, and a conversion that entries may be of."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    click = a_row()
    await store(database, [click])
    await store_conversions(database, [a_conversion(click, goal_id=3)])
    connection = await connect(database.postgres_dsn)
    yield connection
    await connection.close()


async def book(connection: Connection, draw: Random) -> None:
    """An entry at any time, also long ago."""
    time = START + timedelta(minutes=draw.randrange(HOURS * 60))
    amounts = [Decimal(draw.choice((0, draw.randint(-(10**8), 10**8)))).scaleb(-6) for _ in range(2)]
    if draw.random() < 0.7:
        kind = draw.choice(("approval", "reversal", "correction"))
        who = (draw.choice(PARTIES[Party.ADVERTISER]), draw.choice(PARTIES[Party.AFFILIATE]))
        money = (amounts[0], draw.choice(CURRENCIES), amounts[1], draw.choice(CURRENCIES))
        await connection.execute(_BOOK, time, kind, draw.random() < 0.3, *who, *money)
    else:
        party = draw.choice(list(Party))
        ids = [draw.choice(PARTIES[each]) if each is party else None for each in Party]
        kind, amount = draw.choice(list(ManualKind)), amounts[0] or Decimal(1)
        await connection.execute(_BY_HAND, *ids, kind, amount, draw.choice(CURRENCIES), time)


async def plain(connection: Connection, asked: StatementRequest) -> Balances:
    """The statements by a sum of all entries."""
    sums: defaultdict[tuple[int, str], dict[str, Decimal]] = defaultdict(Balance()._asdict)
    seen = set()
    low, high = (datetime.fromtimestamp(bound / 1000, UTC) for bound in asked.span)
    rows = await connection.fetch(_ALL.format(party=asked.party, side=asked.party.side))
    for party_id, currency, line, booked_at, amount in rows:
        if booked_at < high and party_id in (asked.party_ids or (party_id,)):
            sums[party_id, currency]["opening" if booked_at < low else line] += amount
            if booked_at >= low:
                seen.add((party_id, currency))
    return {key: Balance(**lines) for key, lines in sums.items() if lines["opening"] or key in seen}


def a_request(draw: Random) -> StatementRequest:
    party = draw.choice(list(Party))
    unit, most = draw.choice(((1, HOURS), (24, HOURS // 24), (24 * 30, HOURS // 24 // 30)))
    low, high = sorted(draw.sample(range(most + 1), 2))
    first = START - timedelta(hours=draw.choice((0, 0, 2, -8)))
    span = Span(*(int((first + timedelta(hours=unit * n)).timestamp()) * 1000 for n in (low, high)))
    ids = draw.choice((None, None, (draw.choice(PARTIES[party]),), PARTIES[party][:2]))
    return StatementRequest(party, draw.choice((span, Span(0, 253_370_764_800_000))), ids)


@pytest.mark.parametrize("seed", range(3))
async def test_statements_equal_the_plain_sum(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(months, "MOST", 7)
    draw = Random(seed)
    async with await open_pool(database.postgres_dsn or "", size=1) as pool:
        for _ in range(15):
            for _ in range(draw.randrange(20)):
                await book(connection, draw)
            if draw.random() < 0.5:
                await months.carry(connection)
            for _ in range(6):
                asked = a_request(draw)
                found = (await statements.read(pool, asked)).statements
                balances = {(each.party_id, each.currency): each.balance for each in found}
                assert balances == await plain(connection, asked), asked
                assert await statements.owed(pool, asked) == [
                    each._replace(adjusted=(), groups=()) for each in found
                ]
    assert sum(await months.carried(connection)) > 50
    for month in await months.days(connection, START.date(), (START + timedelta(hours=HOURS)).date()):
        assert [wrong async for wrong in months.differences(connection, month)] == []


async def test_entries_that_may_still_be_committed_are_not_passed(
    database: Settings, connection: Connection
) -> None:
    """A later id is there first. The earlier one must not be left behind."""
    draw, slow = Random(5), await connect(database.postgres_dsn or "")
    transaction = slow.transaction()
    await transaction.start()
    await book(slow, draw)
    for _ in range(5):
        await book(connection, draw)
    await months.carry(connection)
    assert await months.carried(connection) == (0, 0)
    assert await connection.fetchval("SELECT count(*) FROM book_month") == 0
    await transaction.commit()
    await slow.close()
    await housekeeping.once(database)
    assert sum(await months.carried(connection)) == 6


async def test_several_that_carry_at_once_carry_each_entry_once(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months, "MOST", 3)
    draw = Random(6)
    for _ in range(40):
        await book(connection, draw)
    others = [await connect(database.postgres_dsn or "") for _ in range(3)]
    await asyncio.gather(*(months.carry(other) for other in others))
    for other in others:
        await other.close()
    sums = await connection.fetchrow("SELECT sum(entries)::int, sum(amount) FROM book_month")
    every = [
        row for party in Party for row in await connection.fetch(_ALL.format(party=party, side=party.side))
    ]
    assert tuple(sums) == (len(every), sum(row[4] for row in every))


DAMAGES = [
    ("none", "SELECT", False),
    ("an amount", "UPDATE book_month SET amount = amount + 1 WHERE month = '2024-09-01'", True),
    ("a number", "UPDATE book_month SET entries = entries + 1 WHERE month = '2024-09-01'", True),
    ("a row too few", "DELETE FROM book_month WHERE month = '2024-10-01'", True),
    (
        "a row too many",
        "INSERT INTO book_month VALUES ('affiliate', 9, 'EUR', '2020-02-01', 'booked', 1, 5)",
        True,
    ),
    ("all rows", "TRUNCATE book_month", True),
    ("what is carried", "UPDATE book_carried SET conversion_entry = 0, manual_entry = 0", True),
]


@pytest.mark.parametrize(
    ("damage", "is_wrong"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES]
)
async def test_rebuild_stats_finds_and_corrects_wrong_months(
    database: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    is_wrong: bool,
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def rebuild(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, ["rebuild-stats", *words, "--json"])
        return code, capsys.readouterr().out

    draw = Random(7)
    for _ in range(40):
        await book(connection, draw)
    await months.carry(connection)
    kept: list[Any] = await connection.fetch("SELECT * FROM book_month ORDER BY 1, 2, 3, 4, 5")
    await connection.execute(damage)
    code, said = await rebuild("--check")
    assert (code, bool(said)) == (int(is_wrong), is_wrong)
    code, corrected = await rebuild()
    assert (code, json.loads(corrected)["mended"]) == (0, len(said.splitlines()))
    await months.carry(connection)
    assert await connection.fetch("SELECT * FROM book_month ORDER BY 1, 2, 3, 4, 5") == kept
    assert await rebuild("--check") == (0, "")


async def test_look_at_the_last_id_ends_with_its_statement(
    database: Settings, connection: Connection
) -> None:
    """Bookings never wait for a worker that is frozen."""
    await connection.fetchrow("SELECT * FROM last_entries()")
    async with asyncio.timeout(10):
        await book(connection, Random(8))
    locks = (
        "SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND relation = 'conversion_entry'::regclass"
    )
    assert await connection.fetchval(locks) == 0
    assert await connection.fetchval("SHOW lock_timeout") == "0"
