"""The ledger on real engines: counts of the stream server against those of Postgres."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import hash_at, store
from tests.integration.ledger_entries import Streams, set_stored, streams_of
from tracker.ops import ledger
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

MINUTE = 29_833_333  # the middle of 2026-09
MILLIS = MINUTE * 60_000
SHOWN = range(MINUTE - 30, MINUTE + 30)

Case = Callable[[Settings, Streams], Awaitable[None]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_PAUSE", 0.0)


def a_hash(n: int = 0) -> str:
    return hash_at(MILLIS + n)


async def stored(settings: Settings, streams: Streams) -> None:
    for id_ in await streams.record(a_hash(), a_hash()):
        await streams.take_off(id_, a_hash(), "x")
    await streams.count(MILLIS, "n", 2)
    await set_stored(settings, MINUTE, 2)


async def lost(settings: Settings, streams: Streams) -> None:
    await stored(settings, streams)
    await set_stored(settings, MINUTE, 1)


async def doubled(settings: Settings, streams: Streams) -> None:
    await stored(settings, streams)
    await set_stored(settings, MINUTE, 3)


async def failed_over(settings: Settings, streams: Streams) -> None:
    """Another server was behind by two calls. The edge told it of the answers afterwards."""
    await stored(settings, streams)
    ids = await streams.record(a_hash(1), a_hash(2))
    for id_ in ids:
        await streams.lose(id_)
        await streams.count(MILLIS, "r", -1)
    await streams.count(MILLIS, "n", 2)


async def in_flight(_: Settings, streams: Streams) -> None:
    await streams.record(a_hash(), a_hash(1))


async def committed_and_not_taken_off(settings: Settings, streams: Streams) -> None:
    await in_flight(settings, streams)
    await set_stored(settings, MINUTE, 1)


async def lost_from_the_stream(_: Settings, streams: Streams) -> None:
    first, _ = await streams.record(a_hash(), a_hash(1))
    await streams.lose(first)


async def dead(_: Settings, streams: Streams) -> None:
    (id_,) = await streams.record(a_hash())
    await streams.take_off(id_, a_hash(), "d")


async def given_up(_: Settings, streams: Streams) -> None:
    await streams.count(MILLIS, "r")
    await streams.count(MILLIS, "g")


async def a_duplicate(settings: Settings, streams: Streams) -> None:
    await stored(settings, streams)
    (id_,) = await streams.record(a_hash(), late=True)
    await streams.take_off(id_, a_hash(), "u")


async def spooled(_: Settings, streams: Streams) -> None:
    await streams.say("0", MILLIS, spooled={MINUTE: 2})
    await streams.say("7", MILLIS + 9, spooled={MINUTE: 1, MINUTE + 1: 5})


async def of_an_unknown_minute(_: Settings, streams: Streams) -> None:
    await streams.dead_letter(b"1[\xff\xff")


async def uncounted(settings: Settings, streams: Streams) -> None:
    await streams.say("0", MILLIS)
    await set_stored(settings, MINUTE, 4)


_COLUMNS = (
    "recorded",
    "answered",
    "late",
    "stored",
    "in_flight",
    "spooled",
    "dead",
    "given_up",
    "duplicates",
    "lost_answered",
)


@pytest.mark.parametrize(
    ("case", "minute", "counts", "difference", "state"),
    [
        (stored, MINUTE, (2, 2, 0, 2, 0, 0, 0, 0, 0, 0), 0, "balanced"),
        (lost, MINUTE, (2, 2, 0, 1, 0, 0, 0, 0, 0, 0), 1, "unbalanced"),
        (doubled, MINUTE, (2, 2, 0, 3, 0, 0, 0, 0, 0, 0), -1, "unbalanced"),
        (in_flight, MINUTE, (2, 0, 0, 0, 2, 0, 0, 0, 0, 0), 0, "balanced"),
        (committed_and_not_taken_off, MINUTE, (2, 0, 0, 1, 2, 0, 0, 0, 0, 0), -1, "settling"),
        (lost_from_the_stream, MINUTE, (2, 0, 0, 0, 1, 0, 0, 0, 0, 0), 1, "unbalanced"),
        (dead, MINUTE, (1, 0, 0, 0, 0, 0, 1, 0, 0, 0), 0, "balanced"),
        (given_up, MINUTE, (1, 0, 0, 0, 0, 0, 0, 1, 0, 0), 0, "balanced"),
        (a_duplicate, MINUTE, (3, 2, 1, 2, 0, 0, 0, 0, 1, 0), 0, "balanced"),
        (spooled, MINUTE, (3, 0, 0, 0, 0, 3, 0, 0, 0, 0), 0, "balanced"),
        (failed_over, MINUTE, (2, 4, 0, 2, 0, 0, 0, 0, 0, 2), 0, "unbalanced"),
        (of_an_unknown_minute, 0, (1, 0, 0, 0, 0, 0, 1, 0, 0, 0), 0, "balanced"),
        (uncounted, MINUTE, (0, 0, 0, 4, 0, 0, 0, 0, 0, 0), -4, "uncounted"),
    ],
)
async def test_clicks_of_a_minute_are_located(
    database: Settings, case: Case, minute: int, counts: tuple[int, ...], difference: int, state: str
) -> None:
    async with streams_of(database) as streams:
        await case(database, streams)
    told, _ = await ledger.ask(database, SHOWN)
    shown = next(shown for shown in told.minutes if shown.number == minute)
    assert tuple(getattr(shown, name) for name in _COLUMNS) == counts
    assert (shown.difference, shown.state) == (difference, state)
    assert told.is_cross_checked
    assert told.unbalanced == ([shown] if state == "unbalanced" else [])


async def test_partitions_are_added_up_and_hours_before_and_after_are_left_out(database: Settings) -> None:
    for partition in (0, 5):
        async with streams_of(database, partition) as streams:
            await streams.record(*(hash_at((MINUTE + n) * 60_000) for n in (-31, -30, 0, 29, 30)))
    told, _ = await ledger.ask(database, SHOWN)
    assert {minute.number: minute.recorded for minute in told.minutes} == {
        MINUTE - 30: 2,
        MINUTE: 2,
        MINUTE + 29: 2,
    }
    assert all(minute.state == "balanced" for minute in told.minutes)


@pytest.mark.parametrize(
    ("until", "ago", "spooled", "lost"),
    [
        pytest.param(1, 0, 0, 2, id="on the stream, says the running edge"),
        pytest.param(0, 0, 0, 0, id="perhaps in the spool of an edge that starts"),
        pytest.param(0, 60, 0, 2, id="last word of a dead edge without a spool"),
        pytest.param(0, 60, 1, 1, id="last word of a dead edge with one of them in its spool"),
        pytest.param(1, 0, 2, 0, id="spooled"),
    ],
)
async def test_answered_click_may_be_in_a_spool(
    database: Settings, until: int, ago: int, spooled: int, lost: int
) -> None:
    async with streams_of(database) as streams:
        await failed_over(database, streams)
        said = int(time.time() - ago) * 1000
        await streams.say("0", MILLIS + until * 60_000, spooled={MINUTE: spooled}, said=said)
    told, _ = await ledger.ask(database, SHOWN)
    assert [minute.lost_answered for minute in told.minutes] == [lost]
    assert len(told.unbalanced) == (lost > 0)


async def test_lost_clicks_of_a_partition_are_not_hidden_by_unconfirmed_ones_of_another(
    database: Settings,
) -> None:
    async with streams_of(database) as streams, streams_of(database, 5) as others:
        await failed_over(database, streams)
        await others.record(*(a_hash(n) for n in range(10)))
    told, _ = await ledger.ask(database, SHOWN)
    assert [(minute.lost_answered, minute.state) for minute in told.minutes] == [(2, "unbalanced")]


async def test_count_beyond_the_limit_is_reported_as_such(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_RECOUNTED", 1)
    async with streams_of(database) as streams:
        await lost_from_the_stream(database, streams)
        await streams.record(a_hash(2))
    told, _ = await ledger.ask(database, SHOWN)
    assert (told.is_cross_checked, told.unbalanced) == (False, [])


@pytest.mark.parametrize(("rows", "unbalanced"), [(2, []), (1, [MINUTE]), (3, [MINUTE])])
async def test_table_is_counted_on_demand(database: Settings, rows: int, unbalanced: list[int]) -> None:
    async with streams_of(database) as streams:
        await stored(database, streams)
    await store(database, [a_row(hash=hash_at(MILLIS, n)) for n in range(rows)])
    await set_stored(database, MINUTE, 2)
    told, _ = await ledger.ask(database, SHOWN)
    assert (told.unbalanced, told.minutes[0].rows) == ([], None)
    told, _ = await ledger.ask(database, SHOWN, verify=True)
    assert [minute.number for minute in told.unbalanced] == unbalanced
    assert told.minutes[0].rows == rows


@pytest.mark.parametrize(
    ("slot", "ago", "why"),
    [("3", 3600, ""), ("3", 1, "edge 3 is running"), ("4", 3600, "edge 4 is not known")],
)
async def test_stopped_edge_can_be_forgotten(database: Settings, slot: str, ago: float, why: str) -> None:
    said = int((time.time() - ago) * 1000)
    for partition in (0, 2):
        async with streams_of(database, partition) as streams:
            await streams.say("3", said, spooled={MINUTE: 2})
    if why:
        with pytest.raises(LookupError, match=why):
            await ledger.forget_edge(database, slot)
        return
    assert await ledger.forget_edge(database, slot) == 4
    told, complete_until = await ledger.ask(database, SHOWN)
    assert (told.heartbeats, complete_until) == ([], None)


async def test_heartbeats_of_removed_partitions_are_forgotten(
    database: Settings,
) -> None:
    now = int(time.time() * 1000)
    async with streams_of(database, 0) as kept, streams_of(database, 2) as given_up:
        await kept.say("3", now)
        await given_up.say("3", now - 3_600_000, spooled={MINUTE: 2})
    assert await ledger.forget_edge(database, "3") == 2
    told, complete_until = await ledger.ask(database, SHOWN)
    assert ([word.partition for word in told.heartbeats], complete_until) == ([0], now)


@pytest.mark.parametrize(
    ("ago", "behind", "spooled", "leaves_nothing"),
    [(0, 0, 0, True), (0, 0, 1, False), (0, 7200, 0, False), (60, 0, 0, False)],
    ids=["up to date", "spooling", "behind the lost word", "silent too"],
)
async def test_word_of_a_running_edge_says_that_a_given_up_partition_left_nothing(
    database: Settings, ago: int, behind: int, spooled: int, leaves_nothing: bool
) -> None:
    now = int(time.time()) * 1000
    async with streams_of(database, 0) as kept, streams_of(database, 2) as given_up:
        word = {MINUTE: spooled} if spooled else {}
        await kept.say("3", now - behind * 1000, spooled=word, said=now - ago * 1000)
        await given_up.say("3", now - 3_600_000)
    silent = await ledger.silent_edge(database, "3")
    assert (silent.leaves_nothing, silent.said_at) == (
        leaves_nothing,
        now - ago * 1000 if ago else now - 3_600_000,
    )


async def test_stream_server_that_is_away_gives_no_balance(database: Settings) -> None:
    with pytest.raises(Exception, match="No such file"):
        await ledger.ask(replace(database, redis_url="unix:///nowhere.sock"), SHOWN)
