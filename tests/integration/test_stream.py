"""The append script and the writer's end, on a real Valkey."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.clicks import outcomes_of
from tests.integration.stream_client import NOON, SECOND, append, click_at, stored
from tracker.domain.model import Affiliate, Counter, Outcomes, Reason, Status
from tracker.settings import Settings
from tracker.stream import reader as stream_reader
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.reader import Reader
from tracker.stream.record import Decision, Entry, Undecodable, decode, encode
from tracker.stream.server_info import ask

pytestmark = pytest.mark.anyio


async def test_bots_test_and_refused_clicks_are_not_unique_but_see_the_first(database: Settings) -> None:
    human = click_at(NOON, 9)
    test = click_at(NOON, 1, is_test=True)
    bot = click_at(NOON, 2, bot_reason="list")
    refused = click_at(NOON, 3)
    outcome = outcomes_of(refused).unique._replace(status=Status.REJECTED, reason=Reason.OFFER_PAUSED)
    entries = [encode(c, outcomes_of(c)) for c in (test, bot)]
    entries.append(encode(refused, Outcomes(outcome, outcome, outcome)))
    entries.append(encode(human, outcomes_of(human)))
    entries.append(encode(click_at(NOON, 4, is_test=True), outcomes_of(human)))
    assert database.redis_url
    appender = Appender(database.redis_url)
    answers = (await appender.append(Lane(), entries, SECOND)).answers
    await appender.close()
    assert answers == [Decision(0, None)] * 3 + [Decision(0, human.hash), Decision(0, human.hash)]
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [row.is_unique for row in rows] == [False, False, False, True, False]
    assert [row.group_hash for row in rows] == [None, None, None, human.hash, human.hash]


async def test_repeated_call_changes_nothing(database: Settings) -> None:
    lane = Lane()
    clicks = [click_at(NOON, 1), click_at(NOON, 2)]
    first = await append(database, *clicks, lane=lane)
    assert await append(database, *clicks, lane=lane) == first
    assert len(await stored(database)) == 2
    lane.next()
    assert [answer.outcome for answer in await append(database, click_at(NOON, 3), lane=lane)] == [1]
    lane.sequence = 1
    with pytest.raises(AppendError, match="STALE"):
        await append(database, *clicks, lane=lane)
    assert len(await stored(database)) == 3


LIMIT = Counter("3:all:clicks:total:0", False, 1, 0)
# Of one visitor except the last: unique, refused duplicate, capped, bot, counted duplicate.
VISITS = [
    (click_at(NOON, 1, counters=(LIMIT,)), "accepted"),
    (click_at(NOON, 2, counters=(LIMIT,)), "rejected"),
    (click_at(NOON, 3, counters=(LIMIT,), visitor_key=9), "accepted"),
    (click_at(NOON, 4, bot_reason="list"), "accepted"),
]


def visits() -> list[Entry]:
    """An entry with this outcome for duplicates. A capped click is refused."""
    sent = outcomes_of(VISITS[0][0]).unique
    refused = sent._replace(status=Status.REJECTED, reason=Reason.CAPPED, location="")
    duplicates = [sent if status == "accepted" else refused for _, status in VISITS]
    prepared = [Outcomes(sent, duplicate, refused) for duplicate in duplicates]
    return [encode(click, outcomes) for (click, _), outcomes in zip(VISITS, prepared, strict=True)]


async def test_spooled_click_is_marked_late_and_keeps_its_answer(database: Settings) -> None:
    assert database.redis_url
    appender = Appender(database.redis_url)
    for _ in range(2):
        await appender.append_late(b"a spool", 1, visits(), SECOND, is_uncertain=False)
    assert await appender.counts([LIMIT.name], SECOND) == [3]
    await appender.close()
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    first = VISITS[0][0].hash
    assert [(row.status, row.verdict_late, row.group_hash) for row in rows] == [
        ("accepted", True, first),
        ("accepted", True, first),
        ("accepted", True, VISITS[2][0].hash),
        ("accepted", True, first),
    ]


@pytest.mark.parametrize("was_done", [True, False])
async def test_uncertain_call_is_corrected_once(database: Settings, was_done: bool) -> None:
    assert database.redis_url
    appender, lane = Appender(database.redis_url), Lane()
    if was_done:
        done = await appender.append(lane, visits(), SECOND)
        assert done.outcomes == [0, 1, 2, 0]
    for _ in range(2):
        await appender.append_late(lane.id, lane.sequence + 1, visits(), SECOND, is_uncertain=True)
    assert await appender.counts([LIMIT.name], SECOND) == [3]
    with pytest.raises(AppendError, match="STALE"):
        await appender.append(lane, visits(), SECOND)
    await appender.close()
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    late = [row.hash for row in rows if row.verdict_late]
    hashes = [click.hash for click, _ in VISITS]
    assert late == (hashes[1:3] if was_done else hashes)
    assert len(rows) == (6 if was_done else 4)
    (capped,) = [row for row in rows if row.hash == hashes[2] and row.verdict_late]
    assert (capped.status, capped.is_unique) == ("accepted", True)


async def test_spool_read_again_from_its_beginning_changes_nothing(database: Settings) -> None:
    assert database.redis_url
    appender = Appender(database.redis_url)
    entries = visits()
    for sequence in (1, 2, 3, 1, 2, 3, 4):
        await appender.append_late(
            b"a spool", sequence, entries[sequence - 1 : sequence], SECOND, is_uncertain=False
        )
    await appender.close()
    assert len(await stored(database)) == 4


async def test_stored_outcome_is_the_one_answered(database: Settings) -> None:
    clicks = [click_at(NOON, 1), click_at(NOON, 2)]
    unique = outcomes_of(clicks[0], "https://x.test/unique").unique
    duplicate = unique._replace(status=Status.REJECTED, location="")
    assert database.redis_url
    appender = Appender(database.redis_url)
    await appender.append(Lane(), [encode(c, Outcomes(unique, duplicate, unique)) for c in clicks], SECOND)
    await appender.close()
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [(row.status, row.redirected_link) for row in rows] == [
        ("accepted", "https://x.test/unique"),
        ("rejected", ""),
    ]


async def test_record_is_read_back_unchanged(database: Settings) -> None:
    click = click_at(
        NOON,
        aff_subs=("ä", "", "😀"),
        visitor_key=(1 << 64) - 1,
        affiliate=Affiliate(513, "J", 7, True, False),
    )
    await append(database, click)
    (delivery,) = await stored(database)
    row = decode(delivery.fields)
    assert (row.hash, row.group_hash, row.is_unique) == (click.hash, click.hash, True)
    assert (row.aff_sub, row.aff_sub2, row.aff_sub3) == ("ä", "", "😀")
    assert (row.visitor_key, row.aff_group_id, row.offer_url_id) == (-1, 7, 132)
    assert (row.ip, row.browser, row.country_code, row.city) == ("192.0.2.7", "Chrome", "NL", "Amsterdam")
    assert row.requested_link == click.visitor.requested_link


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: {}, "KeyError"),
        (lambda fields: fields | {b"r": b"\x09[]"}, "version"),
        (lambda fields: fields | {b"r": fields[b"r"][:-9]}, "JSONDecodeError"),
        (lambda fields: fields | {b"r": b"\x01[1,2]"}, "unpack"),
        (lambda fields: fields | {b"r": fields[b"r"].replace(b"7000", b"4000", 1)}, "no click hash"),
        (lambda fields: fields | {b"a": b""}, "IndexError"),
        (lambda fields: fields | {b"a": b"/" + fields[b"a"][1:]}, "outcome"),
        (lambda fields: fields | {b"a": b"6" + fields[b"a"][1:]}, "outcome"),
    ],
)
async def test_damaged_entry_names_its_damage(database: Settings, change: Any, why: str) -> None:
    await append(database, click_at(NOON))
    (delivery,) = await stored(database)
    with pytest.raises(Undecodable, match=why):
        decode(change(delivery.fields))


async def test_absent_server_is_an_append_error() -> None:
    appender = Appender("unix:///nonexistent/valkey.sock")
    with pytest.raises(AppendError):
        await appender.append(Lane(), [encode(click_at(NOON), outcomes_of(click_at(NOON)))], SECOND)


async def test_slot_has_one_holder(database: Settings) -> None:
    assert database.redis_url
    async with Reader(database.redis_url, 3) as one, Reader(database.redis_url, 3) as other:
        assert await one.hold_slot(60)
        assert not await other.hold_slot(60)
        assert await one.hold_slot(60)
        await other.release_slot()
        assert not await other.hold_slot(60)
        await one.release_slot()
        assert await other.hold_slot(60)


async def test_abandoned_entries_are_taken_over(database: Settings) -> None:
    await append(database, click_at(NOON, 1), click_at(NOON, 2, visitor_key=9))
    assert database.redis_url
    async with Reader(database.redis_url, 0) as dead, Reader(database.redis_url, 1) as heir:
        await dead.create_group()
        delivered = await dead.new(10, None)
        assert await heir.new(10, None) == []
        assert await heir.abandoned(10, 60, 60) == []
        assert await heir.abandoned(10, 0, 60) == delivered
        await heir.acknowledge(delivered)
        assert await heir.waiting() == 0
        assert await dead.backlog(10) == []


async def test_batch_beyond_one_call_is_read_and_acknowledged(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "_PAGE", 3)
    await append(database, *(click_at(NOON + n) for n in range(11)))
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        await reader.create_group()
        with monkeypatch.context() as patched:
            patched.setattr(stream_reader, "_ENOUGH_BYTES", 1)
            first = await reader.new(7, None)
        rest = await reader.new(9, 1.0)
        assert [len(first), len(rest), len(await reader.new(7, None))] == [3, 8, 0]
        assert await reader.backlog(10) == [*first, *rest][:10]
        assert await reader.backlog(10, first[-1].id) == rest
        await reader.acknowledge([*first, *rest])
        assert (await reader.waiting(), await reader.backlog(10)) == (0, [])


async def test_facts_name_the_durability_in_force(database: Settings) -> None:
    assert database.redis_url
    seen = await ask(database.redis_url)
    assert (seen.server, seen.durability, seen.policy) == ("valkey", "always", "noeviction")
    assert seen.maxmemory > 0
