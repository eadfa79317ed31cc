"""Uniqueness and first clicks: the append script on a real Valkey."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from tests.factories.clicks import an_offer, outcomes_of
from tests.integration.stream_client import (
    DAY,
    NOON,
    append,
    append_entries,
    click_at,
    hash_at,
    stored,
)
from tracker.domain.model import Click, Outcomes, Reason, Status
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.stream.appender import Lane
from tracker.stream.client import open_client
from tracker.stream.record import Decision, Entry, decode, encode

pytestmark = pytest.mark.anyio

MINUTE = 60_000

LATER = [
    ("at once", 0, False),
    ("a millisecond on", 1, False),
    ("the window's last millisecond", DAY - 1, False),
    ("the window's end", DAY, True),
    ("long after", 5 * DAY, True),
    ("another edge's clock is behind", -5, False),
    ("it comes late, its window would have held the first", 1 - DAY, False),
    ("it comes so late that its window was over before", -DAY, True),
]
STARTS = [
    ("in the middle of a slice", NOON),
    ("a slice's first", NOON // DAY * DAY),
    ("a slice's last", NOON // DAY * DAY + DAY - 1),
]


@pytest.mark.parametrize("start", [start for _, start in STARTS], ids=[name for name, _ in STARTS])
async def test_window_is_fixed_from_the_first_click(database: Settings, start: int) -> None:
    for visitor_key, (case, later, is_unique) in enumerate(LATER):
        clicks = [click_at(start, 1), click_at(start + later, 2)]
        answers = await append(database, *(click._replace(visitor_key=visitor_key) for click in clicks))
        second = Decision(0, clicks[1].hash) if is_unique else Decision(1, clicks[0].hash)
        assert answers == [Decision(0, clicks[0].hash), second], case


@pytest.mark.parametrize("start", [start for _, start in STARTS], ids=[name for name, _ in STARTS])
async def test_late_click_belongs_to_the_window_of_its_own_time(database: Settings, start: int) -> None:
    first, second = click_at(start, 1), click_at(start + DAY, 2)
    late = [
        (DAY - 1, first),
        (DAY, second),
        (DAY + 1, second),
        (1, first),
        (-1, first),
        (2 * DAY - 1, second),
    ]
    answers = await append(database, first, second, *(click_at(start + later, 3) for later, _ in late))
    assert [answer.outcome for answer in answers] == [0, 0, *[1] * len(late)]
    assert [answer.first_hash for answer in answers[2:]] == [whose.hash for _, whose in late]


def expected_firsts(moments: list[int], window: int) -> list[int]:
    """The moment of each click's first one, for clicks that come in order."""
    firsts: list[int] = []
    for moment in moments:
        is_running = firsts and moment - firsts[-1] < window
        firsts.append(firsts[-1] if is_running else moment)
    return firsts


@pytest.mark.parametrize("seconds", [60, 3600, 86_400, 1_000_003])
async def test_sequence_of_clicks_is_unique_by_its_window(database: Settings, seconds: int) -> None:
    window, chance = seconds * 1000, random.Random(seconds)
    gaps = [0, 1, window // 3, window // 2, window - 1, window, window + 1, 3 * window]
    moments = [NOON + chance.randrange(window)]
    moments += [moments[0] + sum(chance.choices(gaps, k=n)) for n in range(40)]
    moments.sort()
    offer = an_offer(unique_window=seconds)
    answers = await append(database, *(click_at(m, n, offer=offer) for n, m in enumerate(moments)))
    firsts = [int(answer.first_hash[:12], 16) for answer in answers if answer.first_hash]
    assert firsts == expected_firsts(moments, window)


async def test_uniqueness_is_per_offer_visitor_and_optionally_affiliate(database: Settings) -> None:
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


async def test_visitor_keys_differ_in_every_bit(database: Settings) -> None:
    keys = [0, *(1 << bit for bit in range(64))]
    answers = await append(database, *(click_at(NOON, n, visitor_key=key) for n, key in enumerate(keys)))
    assert [answer.outcome for answer in answers] == [0] * len(keys)


async def test_simultaneous_first_clicks_are_one_unique(database: Settings) -> None:
    batches = [[click_at(NOON + n % 3, n * 20 + m) for m in range(20)] for n in range(20)]
    answered = await asyncio.gather(*(append(database, *batch) for batch in batches))
    (first,) = {answer.first_hash for answers in answered for answer in answers}
    uniques = [
        click.hash
        for batch, answers in zip(batches, answered, strict=True)
        for click, answer in zip(batch, answers, strict=True)
        if answer.outcome == 0
    ]
    assert uniques == [first]
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [row.hash for row in rows if row.is_unique] == [first]
    assert {row.group_hash for row in rows} == {first}


@pytest.mark.parametrize("window", [60, 86_400])
async def test_clicks_that_waited_for_days_are_judged_too(database: Settings, window: int) -> None:
    offer = an_offer(unique_window=window)
    long_ago = 1_700_000_000_000
    first, second = click_at(long_ago, 1, offer=offer), click_at(long_ago + 1000, 2, offer=offer)
    assert await append(database, first) == [Decision(0, first.hash)]
    assert await append(database, second) == [Decision(1, first.hash)]


@pytest.mark.parametrize("start", [start for _, start in STARTS], ids=[name for name, _ in STARTS])
async def test_visitor_is_remembered_for_its_window_and_an_hour(database: Settings, start: int) -> None:
    await append(database, click_at(start))
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        (bucket,) = await client.keys("unique:*")
        kept_until = await client.pexpiretime(bucket)
    assert start + DAY + 60 * MINUTE <= kept_until <= start + 2 * DAY + 60 * MINUTE


def with_refused_duplicates(click: Click) -> Entry:
    accepted = outcomes_of(click).unique
    refused = accepted._replace(status=Status.REJECTED, reason=Reason.DUPLICATE, location="")
    return encode(click, Outcomes(accepted, refused, accepted))


async def test_refused_duplicates_are_duplicates_like_others(database: Settings) -> None:
    clicks = [click_at(NOON, 1), click_at(NOON + 5, 2), click_at(NOON + DAY, 3)]
    answers = await append_entries(database, [with_refused_duplicates(click) for click in clicks])
    assert answers == [Decision(0, clicks[0].hash), Decision(1, clicks[0].hash), Decision(0, clicks[2].hash)]
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [(row.is_unique, row.reason) for row in rows] == [(True, 0), (False, Reason.DUPLICATE), (True, 0)]


async def test_killed_server_remembers_visitors_and_answers(tmp_path: Path) -> None:
    settings = resolve(Settings(data_dir=tmp_path))
    lane, clicks = Lane(), [click_at(NOON, 1), click_at(NOON, 2, visitor_key=9)]
    claim = await Claim.take(tmp_path)
    valkey = await start_valkey(settings, claim)
    try:
        answers = await append(settings, *clicks, lane=lane)
        os.kill(valkey.process.pid, signal.SIGKILL)
        await valkey.process.wait()
        valkey = await start_valkey(settings, claim)
        assert await append(settings, *clicks, lane=lane) == answers
        assert await append(settings, click_at(NOON + MINUTE, 3)) == [Decision(1, clicks[0].hash)]
        assert len(await stored(settings)) == 3
    finally:
        await valkey.stop()
        await claim.release()
