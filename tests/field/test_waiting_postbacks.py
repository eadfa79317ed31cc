"""Clicks became dead letters and were replayed. Their postbacks had been rejected for good meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from time import time
from typing import Any

import pytest

from tests.factories.clicks import a_click
from tests.factories.postbacks import a_postback
from tests.field.money_stories import (
    A_BROWSER,
    A_STRANGER,
    AN_HOUR,
    BY_API,
    COMING,
    COMING_TOO,
    HASH,
    Book,
    connection,
    dsn,
)
from tests.integration.api_client import api_of, run_sql
from tests.integration.ledger_entries import streams_of
from tests.integration.stream_client import append, dead_letters
from tests.integration.test_conversion_writer import append as append_postbacks
from tests.integration.test_conversion_writer import connected, of_click
from tracker import cli
from tracker.domain.click_id import Mint, millis_of, minute_of
from tracker.domain.postback import Postback, read_postback
from tracker.domain.unstored import Unstored
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.conversions import missing_clicks
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import take
from tracker.store.conversions.missing_clicks import MAY_BE_DEAD, NOT_STORED
from tracker.store.db import Connection
from tracker.stream.dead_letters import DeadLetters
from tracker.stream.ledger import StreamLedger
from workers import click_writer, conversion_writer, housekeeping

__all__ = ["connection", "dsn"]

pytestmark = pytest.mark.anyio

MINUTE = minute_of(COMING)
WAITING = ("waiting", MAY_BE_DEAD)
PARKED = ("parked", NOT_STORED)
UNKNOWN = ("rejected", "unknown click")
DAY = 24 * AN_HOUR
KNOWN = "192.0.2.77"


async def decided(
    connection: Connection, *said: dict[str, Any], dead: set[int], in_flight: set[int]
) -> list[tuple[str, str]]:
    """The results of postbacks after Complete-Until has passed their clicks."""
    asked = []

    async def ask(minutes: Any) -> Unstored:
        asked.append(minutes)
        return Unstored(in_flight, dead)

    postbacks = [a_postback(**{"n": n, "click_id": COMING, **one}) for n, one in enumerate(said)]
    async with connection.transaction():
        done = await take(connection, postbacks, millis_of(COMING) + DAY, ask)
    assert len(asked) <= 1
    return [(one.result, one.reason) for one in done]


DEAD, NOTHING_DEAD = {MINUTE}, {MINUTE - 1, MINUTE + 1}
FATES: dict[str, tuple[dict[str, Any], set[int], set[int], tuple[str, str]]] = {
    "with a secret": ({}, DEAD, set(), WAITING),
    "from a known address": ({**A_STRANGER, "ip": KNOWN}, DEAD, set(), WAITING),
    "from a known network": ({**A_STRANGER, "ip": "203.0.113.9"}, DEAD, set(), WAITING),
    "over the API": (BY_API, DEAD, set(), WAITING),
    "unproven": (A_STRANGER, DEAD, set(), UNKNOWN),
    "from a browser at a known address": ({**A_BROWSER, "ip": KNOWN}, DEAD, set(), UNKNOWN),
    "of a minute without dead letters": ({}, NOTHING_DEAD, set(), UNKNOWN),
    "after a replay": ({}, set(), DEAD, PARKED),
    "after a replay of some": ({}, DEAD, DEAD, PARKED),
    "unproven, after a replay": (A_STRANGER, set(), DEAD, UNKNOWN),
    "of no hash": ({"click_id": "10278c6ea8b2b8"}, DEAD, set(), UNKNOWN),
    "of a click that is stored": ({"click_id": HASH}, DEAD, set(), ("stored", "")),
    "within the window": ({"after": 30 * DAY - 1}, DEAD, set(), WAITING),
    "after the window": ({"after": 30 * DAY + 1000}, DEAD, set(), ("rejected", "after the goal's window")),
    "within a longer window": ({"after": 60 * DAY, "goal_id": "31"}, DEAD, set(), WAITING),
    "of a goal without a window": ({"after": 89 * DAY, "goal_id": "32"}, DEAD, set(), WAITING),
    "after any window": (
        {"after": 91 * DAY, "goal": "a name"},
        DEAD,
        set(),
        ("rejected", "after the goal's window"),
    ),
}


@pytest.mark.parametrize("fate", FATES)
async def test_postback_waits_for_dead_letters_if_its_sender_is_known(
    connection: Connection, fate: str
) -> None:
    said, dead, in_flight, expected = FATES[fate]
    await connection.execute(
        "UPDATE advertiser SET postback_addresses = $1 WHERE id = 2", [KNOWN, "203.0.113.0/24", "nonsense"]
    )
    await connection.execute("UPDATE goal SET click_window = $1 WHERE id = 31", 60 * 86_400)
    await connection.execute("UPDATE goal SET click_window = NULL WHERE id = 32")
    assert await decided(connection, said, dead=dead, in_flight=in_flight) == [expected]


async def test_postbacks_beyond_the_bound_are_rejected(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_clicks, "MOST_WAITING", 3)
    full = ("rejected", "too many postbacks wait for dead letters")
    assert await decided(connection, {"n": 1}, {"n": 2}, dead=DEAD, in_flight=set()) == [WAITING] * 2
    more = [{"n": 3}, {"n": 4}, {"n": 5, **A_STRANGER}]
    assert await decided(connection, *more, dead=DEAD, in_flight=set()) == [WAITING, full, UNKNOWN]
    assert await postback_log.count_waiting(connection) == 3
    assert await postback_log.count_too_many(connection, 0) == 1


async def test_waiting_ends_with_the_window(connection: Connection) -> None:
    await decided(connection, {"goal_id": "30"}, dead=DEAD, in_flight=set())
    until = await connection.fetchval("SELECT waits_until FROM postback")
    assert until.timestamp() == a_postback().millis / 1000 + timedelta(days=30).total_seconds()
    await connection.execute("UPDATE postback SET waits_until = now() + interval '1 hour'")
    await postback_log.end_waiting(connection)
    assert await Book(connection).log() == [WAITING]
    await connection.execute("UPDATE postback SET waits_until = now() - interval '1 second'")
    await postback_log.end_waiting(connection)
    assert await Book(connection).log() == [("rejected", "after the goal's window")]


async def test_waiting_postback_comes_first_once_its_click_is_stored(connection: Connection) -> None:
    book = Book(connection)
    first = {"order_id": "q", "sale_amount": "100", "currency": "EUR", "status": "pending"}
    assert await decided(connection, first, dead=DEAD, in_flight=set()) == [WAITING]
    await book.click(COMING)
    assert await book.tell({"click_id": COMING, "order_id": "q", "status": "approved", "n": 7}) == [
        ("updated", "")
    ]
    assert await book.log() == [("stored", ""), ("updated", "")]
    assert await book.shown("status", "sale_amount") == [("approved", Decimal(100))]


async def test_waiting_postback_blocks_no_order_of_another_click(connection: Connection) -> None:
    book = Book(connection)
    assert await decided(connection, {"order_id": "q"}, dead=DEAD, in_flight=set()) == [WAITING]
    await book.click(COMING_TOO)
    assert await book.tell({"click_id": COMING_TOO, "order_id": "q", "n": 7}) == [("stored", "")]


async def test_repeat_of_a_waiting_postback_goes_on_waiting(connection: Connection) -> None:
    for _ in range(2):
        assert await decided(connection, {}, dead=DEAD, in_flight=set()) == [WAITING]
    assert await decided(connection, {}, dead=set(), in_flight=set()) == [WAITING]
    assert await Book(connection).log() == [WAITING]


async def test_minutes_with_clicks_outside_the_table(database: Settings) -> None:
    minutes = set(range(MINUTE - 3, MINUTE + 4))
    assert database.redis_url
    async with StreamLedger(database.redis_url) as books:
        assert await books.unstored(minutes) == (set(), set())
        for partition, offset, counts in (
            (0, -2, "rd"),
            (5, 1, "r"),
            (5, 2, "rx"),
            (5, 3, "rg"),
            (0, 4, "rd"),
        ):
            async with streams_of(database, partition) as streams:
                for kind in counts:
                    await streams.count((MINUTE + offset) * 60_000, kind)
        assert await books.unstored(minutes) == ({MINUTE + 1}, {MINUTE - 2})


class Field:
    """A tracker with a click that its table does not take."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self.settings = settings
        self.connection = connection
        self._mint = Mint()
        self.click = self._mint.hash()
        self.other = self._mint.hash()

    async def prepare(self) -> None:
        await self.connection.execute(
            "UPDATE goal_price SET payout = 2.35, revenue = 3.10, valid_from = '2024-01-01'"
        )
        await self.connection.execute(
            "UPDATE advertiser SET postback_addresses = $1 WHERE id = 1", ["192.0.2.0/24"]
        )
        await self.connection.execute("ALTER TABLE click ADD CONSTRAINT broken CHECK (language <> 'en')")
        await append(self.settings, *(click_of(hash_) for hash_ in (self.click, self.other)))
        await click_writer.run(self.settings, burst=True)
        assert len(await dead_letters(self.settings)) == 2
        async with streams_of(self.settings) as streams:
            await streams.say("0", int(time() * 1000) + DAY)

    async def repair(self) -> None:
        await self.connection.execute("ALTER TABLE click DROP CONSTRAINT broken")

    async def tell(self, *postbacks: Postback) -> list[tuple[str, str]]:
        await append_postbacks(self.settings, *postbacks)
        return await self.work()

    async def work(self) -> list[tuple[str, str]]:
        """Two rounds: in the first one the time of the writer's clicks is not known yet."""
        for _ in range(2):
            await conversion_writer.run(self.settings, burst=True)
        return await Book(self.connection).log()

    async def booked(self) -> list[tuple[str, Decimal, Decimal]]:
        rows = await self.connection.fetch(
            "SELECT encode(uuid_send(click_hash), 'hex'), payout, revenue FROM conversion ORDER BY id"
        )
        return [tuple(row) for row in rows]

    def postbacks(self) -> list[Postback]:
        """One with a secret, one from a known address, one without either."""
        secret = of_click(self.click)
        known = secret._replace(advertiser_id=None, ip="192.0.2.77")
        strange = secret._replace(advertiser_id=None)
        said = {"click_id": self.other}
        return [
            secret,
            read_postback(self._mint.hash(), known.source, known.ip, None, said),
            read_postback(self._mint.hash(), strange.source, strange.ip, None, said),
        ]


def click_of(hash_: str) -> Any:
    return a_click(hash=hash_, visitor_key=int(hash_[-8:], 16))


@pytest.fixture
async def field(database: Settings) -> Any:
    connection = await connected(database)
    field = Field(database, connection)
    await field.prepare()
    yield field
    await connection.close()


@pytest.fixture
def tracker(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command, and returns its exit code and stdout."""
    monkeypatch.setenv("TRACKER_REDIS_URL", database.redis_url or "")
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, words)
        return code, capsys.readouterr().out

    return run


async def test_replay_books_the_postbacks_of_dead_letters(field: Field, tracker: Any) -> None:
    assert await field.tell(*field.postbacks()) == [WAITING, WAITING, UNKNOWN]
    assert await field.work() == [WAITING, WAITING, UNKNOWN], "the timer does not try them"
    await field.repair()
    _, said = await tracker("dead-letters", "replay", "--all")
    assert said == "replayed 2\npostbacks that waited for dead letters and are tried again: 2\n"
    assert await field.work() == [PARKED, PARKED, UNKNOWN], "the clicks are on their way"
    await click_writer.run(field.settings, burst=True)
    assert await field.work() == [("stored", ""), ("stored", ""), UNKNOWN]
    price = Decimal("2.35"), Decimal("3.10")
    assert await field.booked() == [(field.click, *price), (field.other, *price)]


async def test_drop_rejects_the_postbacks_of_dead_letters(field: Field, tracker: Any) -> None:
    assert await field.tell(*field.postbacks()) == [WAITING, WAITING, UNKNOWN]
    first, second = [letter.id for letter in await dead_letters(field.settings)]
    _, said = await tracker("dead-letters", "drop", first, "--yes", "--json")
    assert json.loads(said) == {"dropped": [first], "postbacks_tried_again": 1}
    assert await field.work() == [WAITING, WAITING, UNKNOWN], "its minute has a dead letter"
    await tracker("dead-letters", "drop", second, "--yes")
    assert await field.work() == [UNKNOWN] * 3
    assert await field.booked() == []


async def test_replay_that_was_killed_is_completed_by_the_next(field: Field, tracker: Any) -> None:
    assert await field.tell(*field.postbacks()) == [WAITING, WAITING, UNKNOWN]
    await field.repair()
    assert field.settings.redis_url
    async with DeadLetters(field.settings.redis_url) as letters:  # as far as a killed command came
        for letter in await dead_letters(field.settings):
            await letters.replay(letter)
    await click_writer.run(field.settings, burst=True)
    assert await field.work() == [WAITING, WAITING, UNKNOWN]
    _, said = await tracker("dead-letters", "replay", "--all", "--json")
    assert json.loads(said) == {"replayed": [], "postbacks_tried_again": 2}
    assert await field.work() == [("stored", ""), ("stored", ""), UNKNOWN]


async def test_click_that_dies_again_is_waited_for_again(field: Field, tracker: Any) -> None:
    assert await field.tell(*field.postbacks()) == [WAITING, WAITING, UNKNOWN]
    await tracker("dead-letters", "replay", "--all")
    await click_writer.run(field.settings, burst=True)
    assert await field.work() == [WAITING, WAITING, UNKNOWN]


async def test_waiting_postbacks_are_shown(field: Field, tracker: Any) -> None:
    await field.tell(*field.postbacks())
    _, said = await tracker("postbacks", "--result", "waiting")
    assert said.count(f"waiting: {MAY_BE_DEAD}") == 2
    found = [(one.level, one.text) for one in await report.examine(field.settings, "postbacks")]
    assert ("warn", "postbacks that wait for dead letters: 2 of at most 10000") in found
    async with api_of(field.settings, scopes=("conversions:read", "conversions:write")) as client:
        listed = (
            await client.get("/backend/open-api/v1/users/postbacks", params={"result": "waiting"})
        ).json()
        assert [row["result"] for row in listed["data"]] == ["waiting"] * 2
        answer = await client.post(
            "/backend/open-api/v1/users/conversions", json={"click_id": field.click, "order_id": "q"}
        )
        assert (answer.json()["result"], answer.json()["reason"]) == WAITING


async def test_bound_that_was_hit_is_shown(
    field: Field, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(missing_clicks, "MOST_WAITING", 1)
    await field.tell(*field.postbacks())
    assert "1 postbacks are rejected: 10000 wait for dead letters already" in caplog.text
    found = [one.text for one in await report.examine(field.settings, "postbacks")]
    assert "rejected within a day, because 10000 others waited for dead letters: 1" in found


async def test_housekeeping_ends_the_waiting(field: Field) -> None:
    await field.tell(*field.postbacks())
    await run_sql(field.settings, "UPDATE postback SET waits_until = now() WHERE advertiser_id = 1")
    await housekeeping.once(field.settings)
    late = ("rejected", "after the goal's window")
    assert await Book(field.connection).log() == [late, WAITING, UNKNOWN]
