"""Retention: days of clicks go, and what their counts cover stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

import asyncpg
import pytest

from tests.factories.clicks import a_click, a_row
from tests.factories.clicks import store as store_rows
from tests.integration.api_client import api_of
from tests.integration.kept_days import A_DAY, FIRST, day_at, drop_before, store_days
from tests.integration.metrics_client import metrics_of
from tests.integration.stream_client import append, dead_letters, hash_at
from tests.integration.writer_client import connect_writer
from tracker import cli
from tracker.ops import ledger
from tracker.ops.doctor import retention as doctor
from tracker.settings import Settings
from tracker.store import alerts, locks, retention
from tracker.store.clicks import deltas, kept, partitions, recount
from tracker.store.db import Connection, connect
from tracker.store.reports import rollup_check, rollups
from workers import click_writer, housekeeping

pytestmark = pytest.mark.anyio

_NO_STREAM = OSError()  # retention needs none
_ROWS = "SELECT count(*) FROM click"
_COUNTED = "SELECT sum(clicks)::bigint FROM click_count_part WHERE dimension = 'all_day'"
_ALL_COUNTS = (
    "SELECT dimension, key, slot, sum(clicks) FROM click_count_part GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    "SELECT minute, sum(stored) FROM click_minute_part GROUP BY 1 ORDER BY 1",
    """SELECT quarters, dimension, key, slot, sum(gross) FROM report_count_part
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""",
    "SELECT * FROM offer_affiliate_day ORDER BY offer_affiliate_day",
)


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    connection = await connect_writer(database)
    yield connection
    await connection.close()


async def counts(connection: Connection) -> list[Any]:
    return [await connection.fetch(statement) for statement in _ALL_COUNTS]


async def test_days_are_dropped_from_the_oldest_on_and_their_counts_stay(connection: Connection) -> None:
    await store_days(connection, 4)
    await rollups.build_missing(connection)
    before = await counts(connection)
    trial = await drop_before(connection, day_at(2), is_trial=True)
    assert await connection.fetchval(_ROWS) == 4 * A_DAY
    steps = await drop_before(connection, day_at(2))
    assert steps == trial
    assert [(step.name, step.clicks, step.why) for step in steps] == [
        ("click_20260301", A_DAY, ""),
        ("click_20260302", A_DAY, ""),
    ]
    assert await connection.fetchval(_ROWS) == 2 * A_DAY
    assert await counts(connection) == before
    assert await kept.first_day(connection) == day_at(2)
    assert (await retention.dropped(connection)).days == 2
    audit = await connection.fetch(
        "SELECT path, after->>'clicks' FROM audit WHERE resource = 'dropped_partition'"
    )
    assert [tuple(row) for row in audit] == [
        ("dropped-days/2026-03-01", "24"),
        ("dropped-days/2026-03-02", "24"),
    ]
    assert await drop_before(connection, day_at(2)) == []


async def test_counts_of_dropped_days_are_neither_compared_nor_corrected(connection: Connection) -> None:
    await store_days(connection, 3)
    await drop_before(connection, day_at(2))
    before = await counts(connection)
    for of in retention.OF_ROWS:
        for number in range(3):
            assert [wrong async for wrong in of.differences(connection, day_at(number))] == []
            assert await of.correct(connection, day_at(number)) == 0
    assert await counts(connection) == before
    assert await recount.days(connection) == [day_at(2)]
    assert await rollup_check.days(connection, FIRST, day_at(2)) == [day_at(n) for n in range(3)]
    await connection.execute("DELETE FROM rolled_up_day")
    assert await rollups.build_missing(connection) == 1  # the kept day alone


WRONG = {
    "a count": "UPDATE click_count SET clicks = clicks + 1 WHERE dimension = 'offer_day' AND slot = {slot}",
    "a minute": "DELETE FROM click_minute WHERE minute = {slot} * 15",
    "a report": "UPDATE report_count SET uniques = uniques + 1 WHERE dimension = 'country' AND slot = {slot}",
    "a rollup": "UPDATE offer_affiliate_day SET clicks = clicks + 1 WHERE day = {slot} / 96",
    "a lost row": "DELETE FROM click WHERE hash = '{hash}'",
}


@pytest.mark.parametrize("damage", WRONG.values(), ids=WRONG.keys())
async def test_day_whose_counts_differ_stays_and_holds_back_later_ones(
    connection: Connection, damage: str
) -> None:
    hashes = await store_days(connection, 3)
    await rollups.build_missing(connection)
    slot = kept.millis_at(day_at(1)) // 900_000
    await connection.execute(damage.format(slot=slot, hash=hashes[A_DAY]))
    steps = await drop_before(connection, day_at(3))
    assert [(step.first_day, step.is_wrong) for step in steps] == [(FIRST, False), (day_at(1), True)]
    why = steps[1].why
    assert "counts differ from its clicks: tracker rebuild-stats --from 2026-03-02 --to 2026-03-02" in why
    assert await retention.held(connection) == (day_at(1), why, True, True)
    for of in retention.OF_ROWS:
        await of.correct(connection, day_at(1))
    assert [step.why for step in await drop_before(connection, day_at(3))] == ["", ""]
    assert await retention.held(connection) is None


async def test_click_of_a_dropped_day_cannot_be_stored_nor_counted(connection: Connection) -> None:
    await store_days(connection, 2)
    await drop_before(connection, day_at(1))
    before = await counts(connection)
    for late in (hash_at(kept.millis_at(FIRST), 0), hash_at(kept.millis_at(FIRST) - 1, 7)):
        with pytest.raises(asyncpg.CheckViolationError, match=kept.CONSTRAINT):
            await store_rows(connection, [a_row(hash=late)])
    assert await counts(connection) == before
    await store_rows(connection, [a_row(hash=hash_at(kept.millis_at(day_at(1)), 999))])
    assert await connection.fetchval(_ROWS) == A_DAY + 1
    await partitions.create_ahead(connection)
    assert len(await partitions.all_of(connection)) == len(await partitions.days(connection))


USERS = {
    "a reader": ("BEGIN; SELECT count(*) FROM click", "others read or write clicks without a pause"),
    "a backup": (f"SELECT pg_advisory_lock({locks.Lock.PARTITIONS:d})", "a backup, a rebuild"),
    "a maker of rollups": (
        f"SELECT pg_advisory_lock({locks.Lock.ROLLUPS:d})",
        "sums of reports are being made",
    ),
    "a maker of pieces": (
        f"SELECT pg_advisory_lock({locks.Lock.SUB_IDS:d})",
        "sums of reports are being made",
    ),
}


@pytest.mark.parametrize(("statement", "why"), USERS.values(), ids=USERS.keys())
async def test_days_in_use_are_left_for_the_next_round(
    database: Settings, connection: Connection, statement: str, why: str
) -> None:
    await store_days(connection, 2)
    await rollups.build_missing(connection)
    assert database.postgres_dsn
    other = await connect(database.postgres_dsn)
    await other.execute(statement)
    (step,) = await drop_before(connection, day_at(2))
    assert step.why.startswith(why)
    held = await retention.held(connection)
    assert held is not None
    assert (held.day, held.needs_operator, held.is_waiting) == (FIRST, False, False)
    await store_rows(connection, [a_row(hash=hash_at(kept.millis_at(FIRST), 999))])  # nobody holds the table
    await other.close()
    await deltas.add_up(connection)
    assert [step.why for step in await drop_before(connection, day_at(2))] == ["", ""]


async def test_kill_in_the_middle_leaves_a_whole_day_or_none(
    database: Settings, connection: Connection
) -> None:
    """The server process ends at each lock of the drop, in turn."""
    await store_days(connection, 1)
    await rollups.build_missing(connection)
    assert database.postgres_dsn
    for lock in ("TABLE ONLY kept_days IN SHARE MODE", "TABLE ONLY dropped_partition IN SHARE MODE"):
        other, dropping = await connect(database.postgres_dsn), await connect(database.postgres_dsn)
        await other.execute(f"BEGIN; LOCK {lock}")
        victim = dropping.get_server_pid()

        async def ended() -> None:
            await drop_before(dropping, day_at(1))  # noqa: B023

        task = asyncio.create_task(ended())
        while not await other.fetchval(
            "SELECT $1 = ANY (SELECT pid FROM pg_locks WHERE NOT granted)", victim
        ):
            await asyncio.sleep(0.001)
        await other.execute("SELECT pg_terminate_backend($1)", victim)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await task
        await other.close()
        assert await connection.fetchval(_ROWS) == A_DAY
        assert await kept.first_day(connection) is None
    assert [step.why for step in await drop_before(connection, day_at(1))] == [""]
    assert await connection.fetchval(_ROWS) == 0


async def test_days_are_dropped_while_writers_store_and_none_of_their_clicks_is_lost(
    database: Settings, connection: Connection
) -> None:
    await store_days(connection, 6)
    await rollups.build_missing(connection)
    is_over = asyncio.Event()

    async def write(number: int) -> int:
        writer, stored = await connect_writer(database), 0
        while not is_over.is_set():
            at = kept.millis_at(day_at(6)) + stored * 1000
            await store_rows(writer, [a_row(hash=hash_at(at, 1000 * number + n)) for n in range(20)])
            stored += 20
        await writer.close()
        return stored

    writers = asyncio.gather(*(write(number) for number in (1, 2)))
    steps = [step async for step in retention.steps(connection, day_at(6))]
    is_over.set()
    stored = sum(await writers)
    assert [step.why for step in steps] == [""] * 6
    assert await connection.fetchval(_ROWS) == stored > 0
    assert await connection.fetchval(_COUNTED) == 6 * A_DAY + stored


async def test_ledger_compares_the_rows_of_kept_days_alone(
    database: Settings, connection: Connection
) -> None:
    await store_days(connection, 2)
    await drop_before(connection, day_at(1))
    minutes = range(kept.millis_at(FIRST) // 60_000, kept.millis_at(day_at(2)) // 60_000)
    found, _ = await ledger.ask(database, minutes, verify=True)
    assert [minute.rows for minute in found.minutes if minute.stored] == [None] * A_DAY + [1] * A_DAY
    assert not found.unbalanced
    lines = ledger.in_words(found, UTC, None).splitlines()
    assert sum("not kept" in line for line in lines) == A_DAY
    await connection.execute("DELETE FROM click WHERE hash >= $1", kept.hash_at(day_at(1)))
    found, _ = await ledger.ask(database, minutes, verify=True)
    assert len(found.unbalanced) == A_DAY


@pytest.fixture
def command(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs the command with all days before yesterday's first too old. Returns its exit code and output."""

    async def run(*words: str, days: int = 35) -> tuple[int, list[str], str]:
        monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")
        monkeypatch.setenv("TRACKER_KEEP_DAYS", str(days))
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, ["retention", *words])
        told = capsys.readouterr()
        return code, told.out.splitlines(), told.err

    return run


async def test_command_shows_days_then_drops_them(
    connection: Connection, command: Callable[..., Any]
) -> None:
    await store_days(connection, 3)
    code, lines, told = await command("--dry-run")
    assert code == 0
    assert [line.split("  ")[0] for line in lines] == [str(day_at(number)) for number in range(3)]
    assert all(line.endswith("its counts agree") for line in lines)
    assert "3 days with 72 clicks would be dropped" in told
    assert await connection.fetchval(_ROWS) == 3 * A_DAY
    await connection.execute(
        "UPDATE click_minute SET stored = 9 WHERE minute = $1", kept.millis_at(day_at(1)) // 60_000
    )
    code, lines, _ = await command("--dry-run", "--json")
    assert (code, [bool(json.loads(line)["stays"]) for line in lines]) == (1, [False, True, False])
    code, lines, told = await command()
    assert (code, [line.split("  ")[-1][:7] for line in lines]) == (1, ["dropped", "stays: "])
    assert "1 days with 24 clicks were dropped" in told
    assert await connection.fetchval(_ROWS) == 2 * A_DAY
    author = await connection.fetchval("SELECT token_name FROM audit WHERE resource = 'dropped_partition'")
    assert author.startswith("command line: ")
    assert (await command(days=0))[::2] == (1, "tracker: TRACKER_KEEP_DAYS is not set: all days are kept\n")


async def test_housekeeping_drops_some_days_a_round_and_tells_what_stays(
    database: Settings, connection: Connection
) -> None:
    keeping = replace(database, keep_days=35)
    await store_days(connection, 10)
    await housekeeping.once(database)
    assert await connection.fetchval(_ROWS) == 10 * A_DAY
    await housekeeping.once(keeping)
    assert await connection.fetchval(_ROWS) == (10 - retention.MOST_A_ROUND) * A_DAY
    slot = kept.millis_at(day_at(9)) // 900_000
    await connection.execute(WRONG["a count"].format(slot=slot))
    await housekeeping.once(keeping)
    assert await connection.fetchval(_ROWS) == A_DAY
    text = "2026-03-10 and later days stay: 2 of its counts differ"
    findings = await doctor.check(keeping, _NO_STREAM)
    assert [(one.level, one.text.startswith(text)) for one in findings] == [("ok", False), ("warn", True)]
    assert "clicks from 2026-03-10 on are kept one by one, 35 days are wanted" in findings[0].text
    assert [alert.subject for alert in await alerts.find(connection)] == ["dropped-days/2026-03-10"]
    async with api_of(database, scopes=("admin",)):
        told = (await metrics_of(database)).splitlines()
    since = kept.millis_at(day_at(9)) // 1000
    assert {
        "tracker_retention_dropped 9",
        "tracker_retention_held 1",
        f"tracker_kept_since_seconds {since}",
    } <= {*told}
    await connection.execute(WRONG["a count"].replace("+ 1", "- 1").format(slot=slot))
    await housekeeping.once(keeping)  # it is looked at again a day later
    assert await connection.fetchval(_ROWS) == A_DAY
    await connection.execute("UPDATE kept_days SET held_until = now()")
    await housekeeping.once(keeping)
    assert await connection.fetchval(_ROWS) == 0
    assert [one.level for one in await doctor.check(keeping, _NO_STREAM)] == ["ok"]


async def test_entry_of_a_dropped_day_becomes_a_dead_letter_and_others_are_stored(
    database: Settings, connection: Connection
) -> None:
    hashes = await store_days(connection, 2)
    await drop_before(connection, day_at(1))
    known = a_click(hash=hashes[0])
    late = a_click(hash=hash_at(kept.millis_at(FIRST) - 5, 7))
    new = a_click(hash=hash_at(kept.millis_at(day_at(1)), 0xFFF))
    await append(database, known, new, late)
    await click_writer.run(database, burst=True)
    assert await connection.fetchval(_ROWS) == A_DAY + 1
    assert await connection.fetchval(_COUNTED) == 2 * A_DAY + 1
    reasons = [letter.reason for letter in await dead_letters(database)]
    assert len(reasons) == 2
    assert all(kept.CONSTRAINT in reason for reason in reasons)
