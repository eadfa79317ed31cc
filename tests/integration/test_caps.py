"""Caps, as the append script keeps them on a real Valkey."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.factories.clicks import an_offer, outcomes_of
from tests.integration.stream_client import DAY, NOON, SECOND, append_entries, click_at, hash_at, stored
from tracker.domain import caps
from tracker.domain.model import NO_TERMS, Cap, Click, Counter, Offer, Outcomes, Period, Reason, Status
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.client import open_client
from tracker.stream.record import Decision, Entry, decode, encode

pytestmark = pytest.mark.anyio

LATE = 3_600_000
END = NOON // DAY * DAY // 1000 + 86_400

CLICKS = Counter("3:all:clicks:day:1", False, 3, END)
UNIQUES = Counter("3:all:uniques:day:1", True, 2, END)


def entry(
    n: int,
    *counters: Counter,
    visitor_key: int = 42,
    at: int = NOON,
    refuses_duplicates: bool = False,
    is_refused: bool = False,
    **changes: Any,
) -> Entry:
    """An entry of a click with a refused capped outcome."""
    click = click_at(at, n, visitor_key=visitor_key, counters=counters, **changes)
    accepted = outcomes_of(click).unique
    duplicate = accepted._replace(status=Status.REJECTED, reason=Reason.DUPLICATE)
    capped = accepted._replace(status=Status.FORWARDED, reason=Reason.CAPPED)
    paused = accepted._replace(status=Status.REJECTED, reason=Reason.OFFER_PAUSED)
    if is_refused:
        return encode(click, Outcomes(paused, paused, paused))
    return encode(click, Outcomes(accepted, duplicate if refuses_duplicates else accepted, capped))


def own_click(offer: Offer, n: int, at: int, affiliate_id: int = 513) -> Click:
    counters = caps.counters(offer, NO_TERMS, affiliate_id, at)
    return click_at(at, n, offer=offer, affiliate_id=affiliate_id, visitor_key=n, counters=counters)


async def outcomes(settings: Settings, *entries: Entry, lane: Lane | None = None) -> list[int]:
    return [answer.outcome for answer in await append_entries(settings, list(entries), lane=lane)]


async def counts(settings: Settings, *counters: Counter) -> list[int]:
    assert settings.redis_url
    appender = Appender(settings.redis_url)
    try:
        return await appender.counts([counter.name for counter in counters], SECOND)
    finally:
        await appender.close()


async def test_accepted_clicks_count_until_the_cap_is_full(database: Settings) -> None:
    entries = [entry(n, CLICKS) for n in range(5)]
    assert await outcomes(database, *entries) == [0, 1, 1, 2, 2]
    assert await outcomes(database, entry(5, CLICKS, visitor_key=9)) == [2]
    assert await counts(database, CLICKS) == [3]
    rows = [decode(delivery.fields) for delivery in await stored(database)]
    assert [row.status for row in rows] == ["accepted"] * 3 + ["forwarded"] * 3
    assert [row.reason for row in rows] == [0] * 3 + [Reason.CAPPED] * 3
    assert [row.group_hash for row in rows] == [hash_at(NOON, 0)] * 5 + [None]
    assert [row.is_unique for row in rows] == [True] + [False] * 5


async def test_cap_of_uniques_leaves_duplicates_alone(database: Settings) -> None:
    visitors = [1, 1, 2, 3, 1, 3]
    entries = [entry(n, UNIQUES, visitor_key=key) for n, key in enumerate(visitors)]
    assert await outcomes(database, *entries) == [0, 1, 0, 2, 1, 2]
    assert await counts(database, UNIQUES) == [2]


@pytest.mark.parametrize("counter", [CLICKS, UNIQUES])
async def test_cap_of_zero_refuses_all_clicks(database: Settings, counter: Counter) -> None:
    assert await outcomes(database, *(entry(n, counter._replace(limit=0)) for n in range(2))) == [2, 2]
    assert await counts(database, counter) == [0]


async def test_capped_click_takes_no_uniqueness_and_no_other_count(database: Settings) -> None:
    full = CLICKS._replace(limit=0)
    assert await outcomes(database, entry(1, UNIQUES, full), entry(2, full, UNIQUES)) == [2, 2]
    assert await counts(database, UNIQUES, full) == [0, 0]
    assert await outcomes(database, entry(3, UNIQUES)) == [0]


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("bot", {"bot_reason": "list"}),
        ("test click", {"is_test": True}),
        ("refused", {"is_refused": True}),
    ],
)
async def test_clicks_of_bots_tests_and_refusals_are_not_capped(
    database: Settings, case: str, changes: dict[str, Any]
) -> None:
    full = CLICKS._replace(limit=0)
    assert await outcomes(database, entry(1, full, **changes)) == [0], case
    assert await outcomes(database, entry(2, CLICKS, **changes)) == [0], case
    assert await counts(database, CLICKS) == [0], case


async def test_refused_duplicate_counts_nowhere_and_is_checked_before_caps(
    database: Settings,
) -> None:
    one = CLICKS._replace(limit=1)
    entries = [entry(n, one, refuses_duplicates=True) for n in range(3)]
    entries.append(entry(3, one, visitor_key=9, refuses_duplicates=True))
    assert await outcomes(database, *entries) == [0, 1, 1, 2]
    assert await counts(database, one) == [1]


async def test_limit_may_move_while_the_count_goes_on(database: Settings) -> None:
    limits = [3, 3, 1, 2, 3, 3, 5, 5, 5]
    expected = [0, 0, 2, 2, 0, 2, 0, 0, 2]
    in_one = [
        entry(n, CLICKS._replace(name="in one", limit=limit), visitor_key=n) for n, limit in enumerate(limits)
    ]
    assert await outcomes(database, *in_one) == expected
    in_many = [
        await outcomes(database, entry(n, CLICKS._replace(limit=limit), visitor_key=100 + n))
        for n, limit in enumerate(limits)
    ]
    assert in_many == [[outcome] for outcome in expected]


async def test_repeated_call_counts_once(database: Settings) -> None:
    lane, entries = Lane(), [entry(n, CLICKS, UNIQUES) for n in range(2)]
    assert await outcomes(database, *entries, lane=lane) == [0, 1]
    assert await outcomes(database, *entries, lane=lane) == [0, 1]
    assert await counts(database, CLICKS, UNIQUES) == [2, 1]


async def test_cap_is_exact_under_many_appenders(database: Settings) -> None:
    hundred, fifty = CLICKS._replace(limit=100), UNIQUES._replace(limit=50)
    batches = [
        [entry(n * 20 + m, hundred, fifty, visitor_key=n * 10 + m % 10) for m in range(20)] for n in range(20)
    ]
    answers = [
        answer
        for batch in await asyncio.gather(*(outcomes(database, *batch) for batch in batches))
        for answer in batch
    ]
    assert sum(answer == 0 for answer in answers) == 50
    assert sum(answer != 2 for answer in answers) == 100
    assert await counts(database, hundred, fifty) == [100, 50]


async def test_caps_leave_room_per_affiliate_and_period(database: Settings) -> None:
    offer = an_offer(caps=(Cap(0, False, Period.HOUR, 1),), time_zone="Asia/Kolkata")
    half_past = NOON + 30 * 60_000  # a whole hour there
    moments = [half_past - 1, half_past - 2, half_past, half_past + 3_599_999, half_past + 3_600_000]
    clicks = [own_click(offer, n, at) for n, at in enumerate(moments)]
    clicks.append(own_click(offer, 9, half_past, affiliate_id=514))
    entries = [encode(click, outcomes_of(click)) for click in clicks]
    assert await outcomes(database, *entries) == [0, 2, 0, 2, 0, 0]


async def test_late_click_counts_for_the_period_of_its_own_time(database: Settings) -> None:
    offer = an_offer(caps=(Cap(None, False, Period.DAY, 2),))
    long_ago = 1_700_000_000_000
    for n, (at, outcome) in enumerate(
        [(NOON, 0), (long_ago, 0), (long_ago + 1, 0), (long_ago, 2), (NOON, 0)]
    ):
        click = own_click(offer, n, at)
        assert await outcomes(database, encode(click, outcomes_of(click))) == [outcome], n


@pytest.mark.parametrize(
    ("expires", "kept_until"), [(END, END * 1000 + LATE), (0, -1)], ids=["a period's", "the total"]
)
async def test_count_outlives_its_period_by_an_hour(
    database: Settings, expires: int, kept_until: int
) -> None:
    await outcomes(database, entry(1, CLICKS._replace(expires=expires)))
    await outcomes(database, entry(2, CLICKS._replace(expires=expires)))
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        assert await client.pexpiretime(f"cap:{{0}}:{CLICKS.name}") == kept_until


async def everything(settings: Settings) -> dict[bytes, bytes]:
    """The content of the server by key."""
    assert settings.redis_url
    async with open_client(settings.redis_url) as client:
        return {key: await client.dump(key) for key in await client.keys("*")}


async def test_look_decides_the_same_and_leaves_no_trace(database: Settings) -> None:
    assert database.redis_url
    await outcomes(database, entry(1, CLICKS, visitor_key=1), entry(2, CLICKS, visitor_key=2))
    before = await everything(database)
    appender = Appender(database.redis_url)
    entries = [
        entry(3, CLICKS, visitor_key=1),
        entry(4, CLICKS, visitor_key=3),
        entry(5, CLICKS, visitor_key=3),  # none has come before, and there is room for one
        entry(6, CLICKS._replace(limit=2), visitor_key=1),
        entry(7, CLICKS, visitor_key=2, refuses_duplicates=True),
        entry(8, visitor_key=3, is_test=True),
    ]
    seen = await appender.look(entries, SECOND)
    assert seen.answers == [
        Decision(1, hash_at(NOON, 1)),
        Decision(0, hash_at(NOON, 4)),
        Decision(0, hash_at(NOON, 5)),
        Decision(2, hash_at(NOON, 1)),
        Decision(1, hash_at(NOON, 2)),
        Decision(0, None),
    ]
    await appender.close()
    assert await everything(database) == before


async def test_counts_are_read_by_name(database: Settings) -> None:
    await outcomes(database, entry(1, CLICKS, UNIQUES), entry(2, CLICKS, UNIQUES))
    never = CLICKS._replace(name="never")
    assert await counts(database, UNIQUES, never, CLICKS) == [1, 0, 2]
    assert await counts(database) == []


async def test_counts_survive_a_killed_server(tmp_path: Path) -> None:
    settings = resolve(Settings(data_dir=tmp_path))
    claim = await Claim.take(tmp_path)
    valkey = await start_valkey(settings, claim)
    try:
        assert await outcomes(settings, entry(1, CLICKS), entry(2, CLICKS)) == [0, 1]
        os.kill(valkey.process.pid, signal.SIGKILL)
        await valkey.process.wait()
        valkey = await start_valkey(settings, claim)
        assert await outcomes(settings, entry(3, CLICKS), entry(4, CLICKS)) == [1, 2]
        assert await counts(settings, CLICKS) == [3]
    finally:
        await valkey.stop()
        await claim.release()


WHOLE, _ = encode(click_at(NOON, counters=(CLICKS,)), outcomes_of(click_at(NOON)))
ITEM = WHOLE[29:]
MALFORMED = [
    ("nothing", b""),
    ("too short", WHOLE[:28]),
    ("unknown kind", b"X" + WHOLE[1:29]),
    ("no window", WHOLE[:1] + bytes(4) + WHOLE[5:29]),
    ("a cap cut off", WHOLE[:-1]),
    ("a cap's head cut off", WHOLE[:35]),
    ("a cap of an unknown kind", WHOLE + b"x" + ITEM[1:]),
    ("something after the caps", WHOLE + b"c"),
]


@pytest.mark.parametrize(
    "control", [control for _, control in MALFORMED], ids=[case for case, _ in MALFORMED]
)
async def test_batch_with_a_malformed_control_writes_nothing(database: Settings, control: bytes) -> None:
    good = entry(1, CLICKS)
    with pytest.raises(AppendError, match="BADBATCH"):
        await outcomes(database, good, (control, good[1]))
    assert await everything(database) == {}


async def test_control_without_uniqueness_needs_no_window(database: Settings) -> None:
    control, record = entry(1)
    nothing = b"N" + bytes(4) + control[5:]
    assert await append_entries(database, [(nothing, record)]) == [Decision(0, None)]
