"""Clicks by sub id: the pieces that a worker makes, with the clicks between them, are always a recount."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tests.integration.metrics_client import metrics_of
from tests.integration.stream_client import hash_at
from tests.integration.writer_client import connect_writer
from tracker import cli
from tracker.api.http.auth import VIEWS
from tracker.api.reports import PATH as REPORTS
from tracker.domain.click_id import millis_of
from tracker.domain.model import ClickRow
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store import locks
from tracker.store.clicks import deltas, partitions
from tracker.store.clicks.list import ClickFilter
from tracker.store.conditions import Among
from tracker.store.db import Connection, connect
from tracker.store.locks import Lock
from tracker.store.reports import sources, sub_ids
from tracker.store.reports import sub_id_pieces as pieces
from tracker.store.reports.sources import Wanted
from tracker.store.reports.sub_ids import DAY, HOUR, Piece
from tracker.store.time_span import SLOT_MILLIS, Span
from tracker.store.tokens import create_token
from workers import sub_id_counter

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

A_DAY, AN_HOUR = 86_400_000, 3_600_000
FIRST = int(datetime(2024, 10, 10, tzinfo=UTC).timestamp()) * 1000
DAYS = [date(2024, 10, 10), date(2024, 10, 11), date(2024, 10, 12)]
FIELDS = ("aff_sub", "aff_sub2", "aff_sub20", "affiliate_source")
AFFILIATES = (1, 2)

Sums = dict[str | None, tuple[int, int, int]]


@pytest.fixture
async def connection(database: Settings) -> AsyncIterator[Connection]:
    connection = await connect_writer(database)
    await pieces.begin(connection)
    await connection.execute("SET synchronous_commit = on")
    yield connection
    await connection.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are worth it from a few clicks, and keep a few values."""
    monkeypatch.setattr(pieces, "LEAST_CLICKS", 4)
    monkeypatch.setattr(pieces, "MOST_KEYS", 3)


class History:
    """A random history of clicks: those in the table, and what happens to them."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._connection, self._draw = connection, random.Random(seed)
        self.rows: dict[str, ClickRow] = {}
        self._number = 0

    def _row(self) -> ClickRow:
        draw = self._draw
        self._number += 1
        hour = draw.choice((0, 1, 23, 24, 30, 47, 48))
        return a_row(
            hash=hash_at(FIRST + hour * AN_HOUR + draw.randrange(AN_HOUR), self._number),
            affiliate_id=draw.choice(AFFILIATES),
            aff_sub=draw.choice(("", "a", "b", "c", "d", "é" * 500)),
            aff_sub2=f"click-{self._number}",
            affiliate_source=draw.choice(("", "fb")),
            is_unique=draw.random() < 0.5,
            is_bot=draw.random() < 0.2,
            is_test=draw.random() < 0.2,
            status=draw.choice(("accepted", "accepted", "rejected")),
        )

    def some(self, most: int) -> list[ClickRow]:
        return self._draw.sample(sorted(self.rows.values()), min(most, len(self.rows)))

    async def come(self) -> None:
        rows = [self._row() for _ in range(self._draw.choice((1, 40, 40)))]
        await store_rows(self._connection, rows)
        self.rows.update((row.hash, row) for row in rows)

    async def come_late_in_another_form(self) -> None:
        """The stream decided otherwise than these visitors were answered: a writer takes the rows back."""
        rows = [
            row._replace(verdict_late=True, is_unique=not row.is_unique)
            for row in self.some(3)
            if not row.verdict_late
        ]
        if rows:
            await store_rows(self._connection, rows)
            self.rows.update((row.hash, row) for row in rows)

    async def go(self) -> None:
        gone = [row.hash for row in self.some(2)]
        statement = "DELETE FROM click WHERE hash = ANY ($1::uuid[])"
        await self._connection.execute(statement, gone)
        for hash_ in gone:
            del self.rows[hash_]

    async def change(self) -> None:
        changed = [row._replace(aff_sub="changed") for row in self.some(2)]
        statement = "UPDATE click SET aff_sub = 'changed' WHERE hash = ANY ($1::uuid[])"
        await self._connection.execute(statement, [row.hash for row in changed])
        self.rows.update((row.hash, row) for row in changed)

    async def add_up(self) -> None:
        await deltas.add_up(self._connection)

    async def move(self) -> None:
        await partitions.create_ahead(self._connection)

    async def forget_changed(self) -> None:
        await pieces.forget_changed(self._connection)

    async def make_some(self) -> None:
        for day in DAYS:
            for due in (await pieces.due(self._connection, day, 0))[: self._draw.choice((1, 3, 100))]:
                await pieces.make(self._connection, due)

    async def step(self) -> None:
        steps = (self.come, self.come_late_in_another_form, self.go, self.change, self.add_up, self.move)
        making = (self.forget_changed, self.make_some, self.make_some)
        await self._draw.choice((*steps, *making))()

    async def check(self) -> None:
        """Every number of some spans, by every field."""
        ends = sorted(
            self._draw.choice((0, 1, 30, 60, 1440, 2880, 4320, self._draw.randrange(4320))) for _ in "ab"
        )
        spans = (Span(0, FIRST + 9 * A_DAY), Span(*(FIRST + end * 60_000 for end in ends)))
        for affiliate_id in AFFILIATES:
            for span in spans:
                for field in FIELDS:
                    await self._check(affiliate_id, span, field)

    async def _check(self, affiliate_id: int, span: Span, field: str) -> None:
        wanted = [row for row in self.rows.values() if row.affiliate_id == affiliate_id]
        found = await read(self._connection, affiliate_id, span, field, wanted)
        expected = recount(wanted, field, span)
        total = tuple(map(sum, zip((0, 0, 0), *expected.values(), strict=True)))
        assert tuple(map(sum, zip((0, 0, 0), *found.values(), strict=True))) == total
        if None not in found:
            assert found == expected
        for key in found.keys() - {None}:
            assert all(some <= all_ for some, all_ in zip(found[key], expected[key], strict=True))


def recount(rows: Collection[ClickRow], field: str, span: Span) -> Sums:
    sums: dict[str, Counter[int]] = {}
    for row in rows:
        if row.is_test or not span.low <= millis_of(row.hash) < span.high:
            continue
        is_click = row.status == "accepted" and not row.is_bot
        of = sums.setdefault(getattr(row, field), Counter())
        of.update({0: 1, 1: int(is_click), 2: int(is_click and row.is_unique)})
    return {key: (of[0], of[1], of[2]) for key, of in sums.items()}


async def read(
    connection: Connection, affiliate_id: int, span: Span, field: str, rows: Collection[ClickRow]
) -> Sums:
    """The pieces of a span, and `rows` in its gaps."""
    async with connection.transaction(isolation="repeatable_read"):
        covered = await sub_ids.cover(connection, affiliate_id, span)
        statement = f"""
        SELECT key, sum(gross)::int, sum(clicks)::int, sum(uniques)::int
        FROM ({sub_ids.part(affiliate_id, [field], covered.pieces)}) AS part GROUP BY key"""
        sums: dict[str | None, list[int]] = {key: of for key, *of in await connection.fetch(statement)}
    for gap in covered.gaps:
        for key, more in recount(rows, field, gap).items():
            sums[key] = [old + new for old, new in zip(sums.get(key, (0, 0, 0)), more, strict=True)]
    return {key: (of[0], of[1], of[2]) for key, of in sums.items()}


async def make_all(connection: Connection) -> int:
    number = 0
    await pieces.forget_changed(connection)
    for day in await pieces.days(connection):
        for due in await pieces.due(connection, day, 0):
            await pieces.make(connection, due)
            number += 1
    return number


@pytest.mark.parametrize("seed", range(6))
async def test_sums_of_a_random_history_are_a_recount(connection: Connection, small: None, seed: int) -> None:
    history = History(connection, seed)
    for number in range(25):
        await history.step()
        if number % 5 == 0:
            await make_all(connection)
        await history.check()
    await history.come()
    await make_all(connection)
    await history.check()
    assert await make_all(connection) == 0
    for day in DAYS:
        assert [wrong async for wrong in pieces.differences(connection, day)] == []


async def test_many_values_are_exact_and_those_beyond_are_added_up(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values if they are few enough. Otherwise those with the most clicks, and never those with one."""
    monkeypatch.setattr(pieces, "LEAST_CLICKS", 10)
    numbers = {"a": 5, "b": 4, "": 3, "c": 2, "d": 2, "e": 1, "f": 1}
    values = [value for value, number in numbers.items() for _ in range(number)]
    rows = [
        a_row(hash=hash_at(FIRST + n * 1000, n), affiliate_id=1, aff_sub=value, aff_sub2=f"click-{n}")
        for n, value in enumerate(values)
    ]
    await store_rows(connection, rows)
    for most, kept in ((7, "a b c d e f"), (6, "a b c d"), (4, "a b c"), (1, "a")):
        monkeypatch.setattr(pieces, "MOST_KEYS", most)
        await connection.execute("DELETE FROM sub_id_piece")
        assert await make_all(connection) == 2  # an hour, and the day
        for hours in (HOUR, DAY):
            fields = dict(
                await connection.fetch("SELECT field, keys FROM sub_id_count WHERE hours = $1", hours)
            )
            assert [key for key in fields["aff_sub"] if key] == kept.split()
            assert (None in fields["aff_sub"]) == (most < 7)
            assert fields["aff_sub2"] == [None]  # one click each
            assert fields.keys() == {"aff_sub", "aff_sub2"}
        sums = await read(connection, 1, Span(FIRST, FIRST + A_DAY), "aff_sub", rows)
        assert sums.pop(None, (0, 0, 0))[0] == len(rows) - sum(of[0] for of in sums.values())
        assert {key: of[0] for key, of in sums.items()}.items() <= numbers.items()


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ((0, 2880), ([Piece(0, DAY), Piece(96, DAY)], [])),
        ((60, 1440), ([Piece(4, HOUR)], [(120, 1440)])),
        ((30, 2880), ([Piece(4, HOUR), Piece(96, DAY)], [(30, 60), (120, 1440)])),
        ((0, 60), ([Piece(0, HOUR)], [])),
        ((61, 62), ([], [(61, 62)])),
        ((2880, 2880), ([], [])),
    ],
)
async def test_days_and_hours_cover_a_span(
    connection: Connection, small: None, minutes: tuple[int, int], expected: Any
) -> None:
    """Two hours of a day and one of the next have clicks."""
    times = [*range(5), *range(60, 65), *range(1440, 1445), 130]
    rows = [a_row(hash=hash_at(FIRST + 60_000 * n, n), affiliate_id=1) for n in times]
    await store_rows(connection, rows)
    await make_all(connection)
    low, high = (FIRST + minute * 60_000 for minute in minutes)
    covered = await sub_ids.cover(connection, 1, Span(low, high))
    first = FIRST // SLOT_MILLIS
    assert [piece._replace(slot=piece.slot - first) for piece in covered.pieces] == expected[0]
    gaps = [tuple((end - FIRST) // 60_000 for end in gap) for gap in covered.gaps]
    assert gaps == expected[1]


async def test_pieces_of_hours_that_go_on_are_not_made(connection: Connection, small: None) -> None:
    now = int(datetime.now(UTC).timestamp() * 1000)
    rows = [a_row(hash=hash_at(now - n, n), affiliate_id=1) for n in range(9)]
    await store_rows(
        connection, [*rows, *(row._replace(hash=hash_at(now + A_DAY, n)) for n, row in enumerate(rows))]
    )
    assert await make_all(connection) == 0


async def test_late_clicks_have_a_piece_made_again_after_a_while(connection: Connection, small: None) -> None:
    rows = [a_row(hash=hash_at(FIRST + n, n), affiliate_id=1) for n in range(6)]
    await store_rows(connection, rows[:5])
    await make_all(connection)
    span = Span(FIRST, FIRST + A_DAY)
    assert (await sub_ids.cover(connection, 1, span)).gaps == []
    await store_rows(connection, rows[5:])
    assert (await sub_ids.cover(connection, 1, span)).gaps == [span]
    assert await pieces.due(connection, DAYS[0]) == []
    await connection.execute("UPDATE sub_id_piece SET made_at = made_at - interval '11 minutes'")
    assert len(await pieces.due(connection, DAYS[0])) == 2


async def test_change_during_the_making_of_a_piece_is_not_missed(
    database: Settings, connection: Connection, small: None
) -> None:
    """The change comes after the snapshot of the piece, and before its commit."""
    rows = [a_row(hash=hash_at(FIRST + n, n), affiliate_id=1, aff_sub="old") for n in range(5)]
    await store_rows(connection, rows)
    (hour, *_) = await pieces.due(connection, DAYS[0])
    other = await connect(database.postgres_dsn or "")
    async with connection.transaction(isolation="repeatable_read"):
        assert await connection.fetchval("SELECT count(*) FROM click") == 5
        await other.execute("UPDATE click SET aff_sub = 'new'")
        await pieces.make(connection, hour)
    assert await connection.fetchval("SELECT keys FROM sub_id_count") == ["old"]
    assert (await sub_ids.cover(connection, 1, Span(FIRST, FIRST + AN_HOUR))).pieces == []
    await make_all(connection)
    assert await connection.fetchval("SELECT keys FROM sub_id_count LIMIT 1") == ["new"]
    await other.close()


async def test_worker_that_is_cut_off_goes_on_where_it_was(
    database: Settings, connection: Connection, small: None
) -> None:
    assert database.postgres_dsn
    history = History(connection, 7)
    for _ in range(6):
        await history.come()
    wanted = {due for day in DAYS for due in await pieces.due(connection, day)}
    cuts = 0
    older: deque[date] = deque()
    while {due for day in DAYS for due in await pieces.due(connection, day)}:
        round_ = asyncio.create_task(sub_id_counter.once(database.postgres_dsn, older))
        await asyncio.wait([round_], timeout=0.05 + 0.02 * cuts)
        cuts += not round_.done()
        round_.cancel()
        with suppress(asyncio.CancelledError):
            await round_
        await history.check()
    assert cuts > 0
    made = await connection.fetch("SELECT affiliate_id, slot, hours FROM sub_id_piece")
    assert {(due.affiliate_id, *due.piece) for due in wanted} == {tuple(row) for row in made}


async def test_one_process_makes_pieces_at_a_time(
    database: Settings, connection: Connection, small: None
) -> None:
    assert database.postgres_dsn
    await store_rows(connection, [a_row(hash=hash_at(FIRST + n, n), affiliate_id=1) for n in range(5)])
    await locks.take(connection, Lock.SUB_IDS)
    await sub_id_counter.once(database.postgres_dsn, deque())
    assert await connection.fetchval("SELECT count(*) FROM sub_id_piece") == 0
    await locks.release(connection, Lock.SUB_IDS)
    await sub_id_counter.once(database.postgres_dsn, deque())
    assert await connection.fetchval("SELECT count(*) FROM sub_id_piece") == 2


async def test_rounds_that_stay_away_are_reported(database: Settings, connection: Connection) -> None:
    assert database.postgres_dsn
    await connection.execute("UPDATE sub_id_round SET ended_at = ended_at - interval '2 hours'")
    (finding,) = await report.examine(database, "ledger")
    assert (finding.level, "by sub id" in finding.text) == ("warn", True)
    assert float(finding.text.split()[-3]) >= 7_200
    async with api_of(database):
        (line,) = re.findall(r"^tracker_sub_id_seconds (.+)$", await metrics_of(database), flags=re.MULTILINE)
    assert float(line) >= 7_200
    await sub_id_counter.once(database.postgres_dsn, deque())
    (finding,) = await report.examine(database, "ledger")
    assert finding.level == "ok"


DAMAGES = [
    ("none", "SELECT", 0),
    ("a value's sums", "UPDATE sub_id_count SET gross[1] = gross[1] + 1 WHERE field = 'aff_sub'", 4),
    ("a value lost", "UPDATE sub_id_count SET keys[1] = 'x' WHERE field = 'aff_sub' AND hours = 1", 6),
    ("a field lost", "DELETE FROM sub_id_count WHERE field = 'aff_sub' AND hours = 24", 9),
    ("all clicks", "UPDATE sub_id_piece SET uniques = uniques - 1 WHERE hours = 1", None),
    ("other values", "UPDATE sub_id_count SET clicks[1] = clicks[1] - 1 WHERE field = 'aff_sub2'", 2),
]


@pytest.mark.parametrize(("damage", "wrong"), [case[1:] for case in DAMAGES], ids=[c[0] for c in DAMAGES])
async def test_wrong_pieces_are_found_and_made_again(
    database: Settings,
    connection: Connection,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    wrong: int | None,
) -> None:
    rows = [
        a_row(hash=hash_at(FIRST + n, n), affiliate_id=1, aff_sub="ab"[n % 2], aff_sub2=f"click-{n}")
        for n in range(6)
    ]
    await store_rows(connection, rows)
    await make_all(connection)
    await connection.execute(damage)
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def rebuild_stats(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.main, ["rebuild-stats", *words])
        return code, capsys.readouterr()[0]

    code, out = await rebuild_stats("--check", "--json")
    differing = [json.loads(line) for line in out.splitlines()]
    assert code == int(wrong != 0)
    assert len(differing) == wrong if wrong is not None else differing
    assert all("of affiliate 1, a" in each["dimension"] for each in differing)
    code, out = await rebuild_stats("--json")
    assert (code, json.loads(out)["mended"]) == (0, len(differing))
    assert (await rebuild_stats("--check"))[0] == 0
    assert (await sub_ids.cover(connection, 1, Span(FIRST, FIRST + A_DAY))).gaps == []


ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
GROUPS = ("aff_sub", "affiliate_source", "aff_sub,day", "hour,aff_sub", "affiliate,aff_sub2", "aff_sub7")


def row_of(row: ClickRow, groups: str, zone: ZoneInfo) -> tuple[Any, ...]:
    local = datetime.fromtimestamp(millis_of(row.hash) // 1000, zone)
    texts = {
        "day": local.date().isoformat(),
        "hour": local.replace(minute=0, second=0).isoformat(),
        "affiliate": row.affiliate_id,
    }
    return tuple(texts.get(group) or getattr(row, group, "") for group in groups.split(","))


@pytest.mark.parametrize("most_keys", [3, 1_000])
async def test_reports_by_sub_id_are_a_recount(
    database: Settings, connection: Connection, small: None, monkeypatch: pytest.MonkeyPatch, most_keys: int
) -> None:
    monkeypatch.setattr(pieces, "MOST_KEYS", most_keys)
    history = History(connection, 5)
    draw = random.Random(6)
    were_approximate = 0
    async with api_of(database, scopes=("reports:read",)) as client:
        for number in range(15):
            for _ in range(4):
                await history.step()
            if number % 3 == 0:
                await make_all(connection)
            for groups in GROUPS:
                zone = ZoneInfo(draw.choice(ZONES))
                days = sorted(date(2024, 10, draw.randint(8, 14)) for _ in "ab")
                affiliates = draw.choice(((1,), (1, 2), (2, 7)))
                query = {
                    "group_by": groups,
                    "affiliate_id": ",".join(map(str, affiliates)),
                    "tz": zone.key,
                    **dict(zip(("created_from", "created_to"), map(str, days), strict=True)),
                }
                answer = await client.get(REPORTS, params=query)
                assert answer.status_code == 200, answer.text
                wanted = [
                    row
                    for row in history.rows.values()
                    if row.affiliate_id in affiliates
                    and days[0] <= datetime.fromtimestamp(millis_of(row.hash) // 1000, zone).date() <= days[1]
                ]
                were_approximate += check_report(answer.json(), wanted, groups, zone)
    assert bool(were_approximate) == (most_keys == 3)


async def test_each_affiliate_of_a_report_is_read_from_its_pieces(
    connection: Connection, small: None
) -> None:
    """The affiliates without pieces are read together, click by click."""
    rows = [a_row(hash=hash_at(FIRST + n, n), affiliate_id=1 + n % 4, aff_sub="a") for n in range(24)]
    await store_rows(connection, [row for row in rows if row.affiliate_id < 3])
    await make_all(connection)
    await store_rows(connection, [row for row in rows if row.affiliate_id > 2])
    clicks = ClickFilter(Span(FIRST, FIRST + A_DAY), further=(Among("affiliate_id", (4, 2, 1, 3)),))
    plan = await sources.plan(connection, Wanted(clicks, ["aff_sub"]))
    assert [(one.clicks.only, bool(its.pieces), list(its.rest)) for one, its in plan.each] == [
        (Among("affiliate_id", (1,)), True, []),
        (Among("affiliate_id", (2,)), True, []),
        (Among("affiliate_id", (3, 4)), False, [clicks.span]),
    ]
    assert not plan.rest


def check_report(body: dict[str, Any], wanted: list[ClickRow], groups: str, zone: ZoneInfo) -> bool:
    """Compare a report with a recount. Returns whether it is approximate."""
    keyed: dict[tuple[Any, ...], list[ClickRow]] = {}
    for row in wanted:
        keyed.setdefault(row_of(row, groups, zone), []).append(row)
    every = Span(0, FIRST + 99 * A_DAY)
    expected = {
        key: of
        for key, rows in keyed.items()
        for of in recount([row._replace(aff_sub="") for row in rows], "aff_sub", every).values()
    }
    names = [{"affiliate": "affiliate_id"}.get(group, group) for group in groups.split(",")]
    found = {
        tuple(row[name] or "" for name in names): (row["gross"], row["clicks"], row["uniques"])
        for row in body["data"]
    }
    other = [body["other"]] if body["other"] else []
    for name, place in (("gross", 0), ("clicks", 1), ("uniques", 2)):
        total = sum(of[place] for of in expected.values())
        assert body["totals"][name] == total
        assert sum(row[name] for row in (*body["data"], *other)) == total
    if not body.get("approximate"):
        assert found == expected
        assert not other
        return False
    for key, sums in found.items():
        assert all(some <= all_ for some, all_ in zip(sums, expected[key], strict=True))
    return True


async def test_approximate_report_says_so(
    database: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, importer: Importer
) -> None:
    """In JSON, in a header of CSV, and in a line of the command. Other affiliates' pieces are not in it."""
    assert database.postgres_dsn
    monkeypatch.setattr(pieces, "LEAST_CLICKS", 4)
    monkeypatch.setattr(pieces, "MOST_KEYS", 2)
    await connection.execute("INSERT INTO affiliate (id, name) VALUES (1, 'Own'), (2, 'Other')")
    rows = [
        a_row(hash=hash_at(FIRST + n, n), affiliate_id=1 + n // 6, aff_sub=f"{'aabbcd'[n % 6]}{n // 6}")
        for n in range(12)
    ]
    await store_rows(connection, rows)
    await make_all(connection)
    token = await create_token(database.postgres_dsn, ["reports:read"], affiliate_id=1)
    async with api_of(database) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        path = f"{VIEWS['affiliate']}/reports"
        body = (await client.get(path, params={"group_by": "aff_sub"})).json()
        assert [(row["aff_sub"], row["clicks"]) for row in body["data"]] == [("a0", 2), ("b0", 2)]
        assert (body["other"]["clicks"], body["totals"]["clicks"], body["approximate"]) == (2, 6, True)
        assert "approximate" not in (await client.get(path, params={"group_by": "offer"})).json()
        file = await client.get(path, params={"group_by": "aff_sub", "format": "csv"})
        assert file.headers["Approximate"] == "true"
        assert file.text.splitlines()[-1].startswith('"(other)",2,')
    for groups, start in (("aff_sub", "tracker: approximate: "), ("offer", "")):
        done = await importer.command("reports", "--group-by", groups, "affiliate_id=1")
        assert (done.code, done.err[: len("tracker: approximate: ")]) == (0, start)
