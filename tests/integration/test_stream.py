"""The append script and the writer's end, on a real Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clicks import a_click, an_offer, outcomes_of
from tracker.clickhash import first_hash_at
from tracker.model import Affiliate, Click, Outcomes, Reason, Status
from tracker.settings import Settings
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.reader import Delivery, Reader
from tracker.stream.record import Answer, Undecodable, decode, encode
from tracker.stream.server import ask

pytestmark = pytest.mark.anyio

DAY = 86_400_000
NOON = 1_800_000_000_000 // DAY * DAY + DAY // 2
SECOND = 1.0


def hash_at(millis: int, n: int = 1) -> str:
    return first_hash_at(millis)[:12] + f"70008{n:015x}"


def click_at(millis: int, n: int = 1, **changes: Any) -> Click:
    return a_click(hash=hash_at(millis, n), **changes)


async def append(settings: Settings, *clicks: Click, lane: Lane | None = None) -> list[Answer]:
    assert settings.redis_url
    appender = Appender(settings.redis_url)
    try:
        receipt = await appender.append(lane or Lane(), [encode(c, outcomes_of(c)) for c in clicks], SECOND)
        assert receipt.outcomes == [answer.outcome for answer in receipt.answers]
        return receipt.answers
    finally:
        await appender.close()


async def stored(settings: Settings) -> list[Delivery]:
    assert settings.redis_url
    async with Reader(settings.redis_url, slot=0) as reader:
        await reader.create_group()
        return [*await reader.backlog(10_000), *await reader.new(10_000, None)]


WINDOW_EDGES = [
    ("at once", 0, False),
    ("inside", 1000, False),
    ("the window's last millisecond", DAY - 1, False),
    ("the window's end", DAY, True),
    ("long after", 5 * DAY, True),
    ("another edge's clock is behind", -5, False),
]


@pytest.mark.parametrize("start", [NOON, NOON // DAY * DAY, NOON // DAY * DAY + DAY - 1])
@pytest.mark.parametrize(("case", "later", "is_unique"), WINDOW_EDGES)
async def test_the_window_is_fixed_from_the_first_click(
    database: Settings, case: str, later: int, is_unique: bool, start: int
) -> None:
    first, second = await append(database, click_at(start), click_at(start + later, 2))
    assert first == Answer(0, hash_at(start))
    assert second == (Answer(0, hash_at(start + later, 2)) if is_unique else Answer(1, hash_at(start))), case


async def test_unique_per_offer_visitor_and_where_asked_affiliate(database: Settings) -> None:
    other_offer, per_affiliate = an_offer(id=4), an_offer(id=5, unique_per_affiliate=True)
    clicks = [
        click_at(NOON, 1),
        click_at(NOON, 2, affiliate_id=514),  # another affiliate: the same visitor of the offer
        click_at(NOON, 3, offer=other_offer),
        click_at(NOON, 4, visitor_key=43),
        click_at(NOON, 5, offer=per_affiliate),
        click_at(NOON, 6, offer=per_affiliate, affiliate_id=514),
        click_at(NOON, 7, offer=per_affiliate),
    ]
    answers = await append(database, *clicks)
    assert [answer.outcome for answer in answers] == [0, 1, 0, 0, 0, 0, 1]
    assert answers[6].first_hash == hash_at(NOON, 5)


async def test_tests_bots_and_refused_clicks_take_nothing_and_see_the_first(database: Settings) -> None:
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
    assert answers == [Answer(0, None)] * 3 + [Answer(0, human.hash), Answer(0, human.hash)]
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [row.is_unique for row in rows] == [False, False, False, True, False]
    assert [row.group_hash for row in rows] == [None, None, None, human.hash, human.hash]


async def test_a_repeated_call_changes_nothing(database: Settings) -> None:
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


async def test_hundreds_of_first_clicks_at_once_give_one_unique(database: Settings) -> None:
    batches = [[click_at(NOON + n % 3, n * 20 + m) for m in range(20)] for n in range(20)]
    answers = [
        a for batch in await asyncio.gather(*(append(database, *batch) for batch in batches)) for a in batch
    ]
    assert sum(answer.outcome == 0 for answer in answers) == 1
    assert len({answer.first_hash for answer in answers}) == 1


async def test_the_outcome_stored_is_the_one_answered(database: Settings) -> None:
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


async def test_a_record_survives_the_way_unchanged(database: Settings) -> None:
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
    ],
)
async def test_a_damaged_entry_says_what_is_wrong(database: Settings, change: Any, why: str) -> None:
    await append(database, click_at(NOON))
    (delivery,) = await stored(database)
    with pytest.raises(Undecodable, match=why):
        decode(change(delivery.fields))


async def test_an_absent_server_is_an_append_error() -> None:
    appender = Appender("unix:///nonexistent/valkey.sock")
    with pytest.raises(AppendError):
        await appender.append(Lane(), [encode(click_at(NOON), outcomes_of(click_at(NOON)))], SECOND)


async def test_a_slot_has_one_holder(database: Settings) -> None:
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
        assert await heir.abandoned(10, 60) == []
        assert await heir.abandoned(10, 0) == delivered
        await heir.acknowledge(delivery.id for delivery in delivered)
        assert await heir.waiting() == 0
        assert await dead.backlog(10) == []


async def test_facts_name_the_durability_in_force(database: Settings) -> None:
    assert database.redis_url
    seen = await ask(database.redis_url)
    assert (seen.server, seen.durability, seen.policy) == ("valkey", "always", "noeviction")
    assert seen.maxmemory > 0
