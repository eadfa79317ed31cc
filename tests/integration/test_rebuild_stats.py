"""`tracker rebuild-stats`: counts rebuilt from clicks equal those of the writers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.stream_client import DAY, NOON, hash_at
from tracker import cli
from tracker.settings import Settings
from tracker.store import adding_up
from tracker.store.clicks import deltas, recount
from tracker.store.clicks import insert as clicks
from tracker.store.db import Connection, connect
from tracker.store.reports import conversion_counts
from workers import housekeeping

pytestmark = pytest.mark.anyio

_ALL = (
    """SELECT dimension, key, slot, sum(clicks)::int FROM click_count_part
    GROUP BY 1, 2, 3 HAVING sum(clicks) <> 0 ORDER BY 1, 2, 3""",
    "SELECT minute, sum(stored)::int FROM click_minute_part GROUP BY 1 HAVING sum(stored) <> 0 ORDER BY 1",
    """SELECT quarters, dimension, key, slot, sum(gross)::int, sum(clicks)::int, sum(uniques)::int
    FROM report_count_part GROUP BY 1, 2, 3, 4 HAVING sum(gross) <> 0 ORDER BY 1, 2, 3, 4""",
)
FIRST, SECOND = date(2027, 1, 15), date(2027, 1, 16)


@pytest.fixture
def tracker(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs the command, and returns its exit code, stdout and stderr."""
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, ["rebuild-stats", *words])
        return (code, *capsys.readouterr())

    return run


async def a_writer(settings: Settings) -> Connection:
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    await clicks.prepare(connection)
    return connection


async def filled(settings: Settings) -> Connection:
    """Two days of clicks of two offers and two affiliates, and one of 1970. The counts are added up."""
    connection = await a_writer(settings)
    times = [*range(0, 7_200_000, 400_000), *range(DAY, DAY + 3_600_000, 500_000)]
    rows = [
        a_row(hash=hash_at(NOON + time, n), offer_id=3 + n % 2, affiliate_id=513 + n % 3)
        for n, time in enumerate(times)
    ]
    await store_rows(connection, [*rows, a_row(hash=hash_at(1))])
    await deltas.add_up(connection)
    return connection


async def counts(connection: Connection) -> list[Any]:
    return [await connection.fetch(statement) for statement in _ALL]


DAMAGES = [
    ("none", "SELECT", 0),
    ("a count", "UPDATE click_count SET clicks = clicks + 5 WHERE dimension = 'all' AND slot > 0", 12),
    ("a row too many", "INSERT INTO click_count VALUES ('offer', 9, 2000000, 7)", 1),
    ("an empty row", "INSERT INTO click_count VALUES ('offer', 9, 2000000, 0)", 0),
    ("negative", "UPDATE click_minute SET stored = -stored WHERE minute = 0", 1),
    ("a minute too many", "INSERT INTO click_minute VALUES (30000000, 1)", 1),
    ("a whole table", "TRUNCATE click_minute", None),
    ("a delta lost", "INSERT INTO minute_delta VALUES ('{0}', '{-1}', '{0}')", 1),
    (
        "a delta doubled",
        """INSERT INTO quarter_delta (dimension, keys, slots, stored, gross, clicks, uniques)
        VALUES ('offer', '{3}', '{0}', '{1}', '{1}', '{0}', '{0}')""",
        4,
    ),
    ("both tables", "TRUNCATE click_minute; TRUNCATE click_count", None),
]


@pytest.mark.parametrize(("damage", "wrong"), [case[1:] for case in DAMAGES], ids=[c[0] for c in DAMAGES])
async def test_rebuilt_counts_are_those_that_were_kept(
    database: Settings, tracker: Any, damage: str, wrong: int | None
) -> None:
    connection = await filled(database)
    kept = await counts(connection)
    await connection.execute(damage)
    code, said, _ = await tracker("--check", "--json")
    differing = said.splitlines()
    assert code == int(wrong != 0)
    assert len(differing) == wrong if wrong is not None else len(differing) > 20
    code, said, progress = await tracker("--json")
    assert (code, json.loads(said)["mended"]) == (0, len(differing))
    assert "2027-01-15  " in progress
    assert await counts(connection) == kept
    assert (await tracker("--check"))[0] == 0
    await connection.close()


@pytest.mark.parametrize("words", [("--check",), ()], ids=str)
async def test_long_queue_of_deltas_is_added_up_before_the_days_are_compared(
    database: Settings, tracker: Any, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]
) -> None:
    connection = await filled(database)
    for n in range(7):
        await store_rows(connection, [a_row(hash=hash_at(NOON + n * 1000, 100 + n))])
    await store_conversions(database, [a_conversion(a_row()) for _ in range(7)])
    kept = await counts(connection)
    monkeypatch.setattr(adding_up, "MOST", 3)
    assert (await tracker(*words))[0] == 0
    for of in (deltas, conversion_counts):
        assert (await of.waiting(connection)).rows == 0
    assert await counts(connection) == kept
    await connection.close()


async def test_check_names_differences_and_writes_nothing(database: Settings, tracker: Any) -> None:
    connection = await filled(database)
    await connection.execute("UPDATE click_count SET clicks = 9 WHERE dimension = 'offer' AND slot = 0")
    await connection.execute("DELETE FROM click_minute WHERE minute = 0")
    damaged = await counts(connection)
    code, said, progress = await tracker("--check")
    assert (code, said.splitlines()) == (
        1,
        [
            "1970-01-01 00:00  minute: no count, 1 clicks",
            "1970-01-01 00:00  offer 3: count 9, 1 clicks",
            "2 counts of 3 days differ",
        ],
    )
    assert progress.startswith("1970-01-01  2 counts differ\n")
    assert "2027-01-15  counts agree\n" in progress
    _, said, _ = await tracker("--check", "--json")
    assert json.loads(said.splitlines()[1]) == {
        "dimension": "offer",
        "key": 3,
        "from": "1970-01-01 00:00",
        "count": 9,
        "clicks": 1,
    }
    assert await counts(connection) == damaged
    await connection.close()


@pytest.mark.parametrize(
    ("words", "mended"),
    [
        ([], {FIRST, SECOND}),
        (["--from", "2027-01-16"], {SECOND}),
        (["--from", "2027-01-15", "--to", "2027-01-15"], {FIRST}),
        (["--to", "2027-01-14"], set()),
    ],
)
async def test_rebuild_may_choose_days(
    database: Settings, tracker: Any, words: list[str], mended: set[date]
) -> None:
    connection = await filled(database)
    await connection.execute("UPDATE click_count SET clicks = clicks * 2 WHERE slot > 0")
    assert (await tracker(*words))[0] == 0
    wrong = {FIRST, SECOND} - mended
    for day in (FIRST, SECOND):
        assert bool([d async for d in recount.differences(connection, day)]) == (day in wrong)
    await connection.close()


async def test_counts_are_repaired_while_clicks_are_stored(database: Settings) -> None:
    """Clicks stored at the same time are neither lost nor doubled, without deadlocks."""
    mending = await filled(database)
    await mending.execute("UPDATE click_count SET clicks = clicks + 7; TRUNCATE click_minute")
    await recount.begin(mending)
    numbers = iter(range(1000, 9000))

    async def write() -> None:
        connection = await a_writer(database)
        for _ in range(30):
            times = [NOON + n * 200_000 % 7_200_000 for n in range(20)]
            await store_rows(connection, [a_row(hash=hash_at(t, next(numbers))) for t in times])
        await connection.close()

    writers = asyncio.gather(*(write() for _ in range(3)))
    wrong = 0
    while not writers.done():
        wrong += sum([await recount.correct(mending, day) for day in await recount.days(mending)])
        await deltas.add_up(mending)
        await mending.execute("UPDATE click_minute SET stored = stored - 1 WHERE minute = 0")
        await asyncio.sleep(0)
    await writers
    assert wrong > 20
    for day in await recount.days(mending):
        await recount.correct(mending, day)
        assert [difference async for difference in recount.differences(mending, day)] == []
    total = "SELECT sum(clicks)::int FROM click_count_part WHERE dimension = 'all'"
    assert await mending.fetchval(total) == await mending.fetchval("SELECT count(*) FROM click") > 1800
    await mending.close()


async def test_rows_stay_where_they_are_while_they_are_counted(database: Settings) -> None:
    connection = await filled(database)
    await recount.begin(connection)
    moving = asyncio.create_task(housekeeping.once(database))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    while not await connection.fetchval(waiting):
        await asyncio.sleep(0.01)
    assert await connection.fetchval("SELECT count(*) FROM click_default") > 20
    await connection.close()
    assert {"click_19700101", "click_20270115"} <= set(await moving)


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--to", "2027-13-01"]])
def test_invalid_day_is_named(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["rebuild-stats", *words])
    assert "is not a day such as 2026-12-24" in capsys.readouterr().err
