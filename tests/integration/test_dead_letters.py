"""Entries leaving the stream: stored, dead-lettered, replayed or dropped, and counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.factories.clicks import outcomes_of
from tests.integration.stream_client import NOON, append, append_entries, click_at
from tracker import cli
from tracker.domain.model import Click
from tracker.settings import Settings
from tracker.stream.client import open_client
from tracker.stream.dead_letters import DeadLetters
from tracker.stream.reader import Delivery, Reader
from tracker.stream.record import Entry, encode
from workers import click_writer

pytestmark = pytest.mark.anyio

MINUTE = 60_000
HOUR = NOON // 3_600_000
DAY = 24 * 3600


@pytest.fixture
async def server(database: Settings) -> AsyncIterator[Any]:
    assert database.redis_url
    async with open_client(database.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def tracker(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command, and returns its exit code, stdout and stderr."""
    monkeypatch.setenv("TRACKER_REDIS_URL", database.redis_url or "")
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")

    async def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, words)
        return (code, *capsys.readouterr())

    return run


def damaged(click: Click) -> Entry:
    """Its hash can be read, the rest cannot."""
    control, record = encode(click, outcomes_of(click))
    return control, record[:60]


async def with_dead_letters(settings: Settings, *entries: Entry, partition: int = 0) -> list[str]:
    """Let a writer dead-letter these entries. Returns the ids of all dead letters."""
    await append_entries(settings, list(entries))
    await click_writer.run(settings, burst=True)
    return await ids(settings)


async def ids(settings: Settings) -> list[str]:
    assert settings.redis_url
    async with DeadLetters(settings.redis_url) as letters:
        return [letter.id async for letter in letters.all()]


async def deliveries(reader: Reader) -> list[Delivery]:
    await reader.create_group()
    return await reader.new(100, None)


async def moved(server: Any, hour: int = HOUR) -> dict[str, str]:
    """The counts of the writer's scripts in an hour."""
    counts: dict[str, str] = await server.hgetall(f"ledger:{{0}}:{hour}")
    return {field: count for field, count in counts.items() if field[-1] in "xudg"}


async def test_entries_leaving_the_stream_are_counted_by_minute_and_kind(
    database: Settings, server: Any
) -> None:
    await append(database, *(click_at(NOON + n // 2 * MINUTE, n, visitor_key=n) for n in range(6)))
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        batch = await deliveries(reader)
        await reader.acknowledge(batch[:5], {batch[1].number, batch[4].number})
        counted = {"0:x": "1", "0:u": "1", "1:x": "2", "2:u": "1"}
        assert await moved(server) == counted
        assert await reader.waiting() == 1
        await reader.acknowledge(batch[:5])
        assert await moved(server) == counted, "what has left already counts once"
        await reader.acknowledge(batch)
        assert await moved(server) == counted | {"2:x": "1"}
    assert 39 * DAY < await server.ttl(f"ledger:{{0}}:{HOUR}") <= 40 * DAY


async def test_dead_letters_move_in_several_commands(database: Settings, server: Any) -> None:
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        await append(database, *(click_at(NOON, n, visitor_key=n) for n in range(2500)))
        await reader.create_group()
        await reader.acknowledge(await reader.new(5000, None))
        assert await moved(server) == {"0:x": "2500"}
        assert await reader.waiting() == 0


async def test_dead_letter_moves_once(database: Settings, server: Any) -> None:
    await append_entries(database, [damaged(click_at(NOON))])
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        (delivery,) = await deliveries(reader)
        for _ in range(2):
            await reader.dead_letter(delivery, "broken")
        assert await server.xlen("dead:{0}") == 1
        assert await reader.backlog(10) == []
    assert await moved(server) == {"0:d": "1"}


@pytest.mark.parametrize(
    ("record", "hour", "field"),
    [(b"\x01{}", 0, "0:d"), (b"", 0, "0:d"), (b'\x01["' + b"f" * 32, 0, "0:d")],
)
async def test_entry_without_a_hash_belongs_to_no_minute(
    database: Settings, server: Any, record: bytes, hour: int, field: str
) -> None:
    await with_dead_letters(database, (encode(click_at(NOON), outcomes_of(click_at(NOON)))[0], record))
    assert await moved(server, hour) == {field: "1"}


async def test_replay_stores_storable_entries_and_keeps_the_rest(
    database: Settings, server: Any, tracker: Any
) -> None:
    click = click_at(NOON, 1)
    first, second = await with_dead_letters(database, damaged(click), damaged(click_at(NOON + MINUTE, 2)))
    place = first.partition(":")[2]
    await server.xdel("dead:{0}", place)
    sound = {"id": "1-1", "reason": "mended", "a": "0" + "x" * 16, "r": encode(click, outcomes_of(click))[1]}
    await server.xadd("dead:{0}", sound)
    assert len(await ids(database)) == 2

    assert await tracker("dead-letters", "replay", "--all") == (0, "replayed 2\n", "")
    assert await ids(database) == []
    assert await moved(server) == {"0:d": "0", "1:d": "0"}
    await click_writer.run(database, burst=True)
    assert await moved(server) == {"0:d": "0", "0:x": "1", "1:d": "1"}
    (again,) = await ids(database)
    assert again not in (first, second)


async def test_dead_letter_list_and_detail(database: Settings, tracker: Any) -> None:
    assert await tracker("dead-letters", "list") == (0, "no dead letters\n", "")
    assert await tracker("dead-letters", "list", "--json") == (0, "", "")
    click = click_at(NOON, 1)
    unreadable = (encode(click, outcomes_of(click))[0], b"\x63\xff later")
    too_large = click_at(NOON, 3, affiliate_id=1 << 63)
    first, second, third = await with_dead_letters(
        database, damaged(click), unreadable, encode(too_large, outcomes_of(too_large))
    )
    _, listed, _ = await tracker("dead-letters", "list")
    lines = listed.splitlines()
    assert f"{click.hash}  2027-01-15 12:00  JSONDecodeError" in lines[0]
    assert "hash unknown" in lines[1]
    assert "minute unknown" in lines[1]
    _, listed, _ = await tracker("dead-letters", "list", "--json")
    told = [json.loads(line) for line in listed.splitlines()]
    assert [(letter["id"], letter["hash"]) for letter in told] == [
        (first, click.hash),
        (second, None),
        (third, too_large.hash),
    ]

    _, shown, _ = await tracker("dead-letters", "show", third)
    assert f'"affiliate_id": {1 << 63}' in shown
    assert "OverflowError" in shown
    _, shown, _ = await tracker("dead-letters", "show", second, "--json")
    told = json.loads(shown)
    assert (told["version"], told["record"]) == (0x63, "\\xff later")
    assert told["answer"]["first_hash"] == click.hash


async def test_drop_lists_first_and_drops_only_with_yes(
    database: Settings, server: Any, tracker: Any
) -> None:
    first, second = await with_dead_letters(database, damaged(click_at(NOON, 1)), damaged(click_at(NOON, 2)))
    code, said, _ = await tracker("dead-letters", "drop", "--all")
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()] == [first, second, "nothing"]
    _, said, _ = await tracker("dead-letters", "drop", first, "--json")
    assert json.loads(said) == {"dropped": [], "would_drop": [first]}
    assert await ids(database) == [first, second]
    assert await tracker("dead-letters", "drop", first, "--yes") == (0, "dropped 1\n", "")
    assert await ids(database) == [second]
    assert await moved(server) == {"0:d": "1", "0:g": "1"}
    _, said, _ = await tracker("dead-letters", "drop", "--all", "--yes", "--json")
    assert json.loads(said) == {"dropped": [second], "postbacks_tried_again": 0}


@pytest.mark.parametrize("words", [["show"], ["replay"], ["drop", "--yes"]])
@pytest.mark.parametrize(
    ("id_", "complaint"),
    [
        ("0:1-1", "there is no dead letter 0:1-1: "),
        ("99:1-1", "there is no dead letter 99:1-1: "),
        ("0:99999999999999999999-1", "there is no dead letter"),
        ("1764086401234-0", "'1764086401234-0' is not the id of a dead letter, such as 0:1764086401234-0"),
    ],
)
async def test_unknown_id_is_named_and_changes_nothing(
    database: Settings, tracker: Any, words: list[str], id_: str, complaint: str
) -> None:
    (known,) = await with_dead_letters(database, damaged(click_at(NOON)))
    named = [id_] if words == ["show"] else [known, id_]
    code, out, err = await tracker("dead-letters", words[0], *named, *words[1:])
    assert (code, out) == (1, "")
    assert err.startswith(f"tracker: {complaint}")
    assert await ids(database) == [known]


@pytest.mark.parametrize("words", [["replay"], ["drop", "--yes"], ["replay", "0:1-1", "--all"], []])
async def test_dead_letters_command_needs_a_selection(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["dead-letters", *words])


async def test_letters_of_all_partitions(database: Settings, tracker: Any) -> None:
    for partition in (0, 5, 63):
        async with open_client(str(database.redis_url), partition) as client:
            await client.xadd(f"dead:{{{partition}}}", {"id": "1-1", "reason": "x", "r": "y"}, id="7-1")
    assert await ids(database) == ["0:7-1", "5:7-1", "63:7-1"]
    assert await tracker("dead-letters", "replay", "5:7-1") == (0, "replayed 1\n", "")
    async with open_client(str(database.redis_url), 5, decode_responses=True) as client:
        ((_, fields),) = await client.xrange("clicks:{5}")
    assert fields == {"r": "y"}


async def test_stream_server_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKER_REDIS_URL", "redis://127.0.0.1:1")
    assert await asyncio.to_thread(cli.main, ["dead-letters", "list"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tracker: the stream server cannot be reached (")
    assert said.count("\n") == 1


TAKE_OVERS = [  # sufficient idle seconds if the slot is free and otherwise, is it held, asking slot, taken
    (0, 60, False, 1, 2),
    (0, 60, True, 1, 0),
    (60, 60, False, 1, 0),
    (60, 0, True, 1, 2),
    (0, 60, True, 0, 0),
    (60, 0, True, 0, 2),
]


@pytest.mark.parametrize(("free", "any_", "is_held", "asks", "taken"), TAKE_OVERS)
async def test_entries_are_taken_over_from_a_free_slot_soon_and_from_others_in_the_end(
    database: Settings, free: float, any_: float, is_held: bool, asks: int, taken: int
) -> None:
    await append(database, click_at(NOON, 1), click_at(NOON, 2))
    assert database.redis_url
    async with Reader(database.redis_url, 0) as owner, Reader(database.redis_url, asks) as heir:
        delivered = await deliveries(owner)
        if is_held:
            assert await owner.hold_slot(60)
        first = await heir.abandoned(1, free, any_)
        assert len(first) == min(taken, 1)
        got = {delivery.id: delivery for delivery in first + await heir.abandoned(10, free, any_)}
        assert sorted(got.values()) == delivered[:taken]
