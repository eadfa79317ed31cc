"""What the append script writes, byte for byte.

Releases share these keys during an upgrade, and a visitor is known only by the name that an earlier call
wrote.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.factories.clicks import an_offer, outcomes_of
from tests.integration.stream_client import NOON, SECOND, append, click_at
from tracker.domain.model import Click, Counter
from tracker.settings import Settings
from tracker.stream.appender import Appender, Lane, pack_answered
from tracker.stream.client import open_client
from tracker.stream.record import encode

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
MINUTE = 60_000
IN_2096 = 4_000_000_000_000  # later than any clock, so that buckets end by their slices and not by the call
LONGEST = (1 << 25) - 1  # seconds: a control has no room for more


async def everything(client: Any) -> dict[bytes, Any]:
    """Each key's value. A stream's is the fields of its entries."""
    read = {b"hash": client.hgetall, b"string": client.get, b"stream": client.xrange}
    found = {key: await read[await client.type(key)](key) for key in await client.keys()}
    return {
        key: [fields for _, fields in value] if isinstance(value, list) else value
        for key, value in found.items()
    }


def bucket_of(click: Click, partition: int = 0) -> tuple[bytes, bytes]:
    """Where a click's visitor is: a bucket's key, and a field."""
    control, _ = encode(click, outcomes_of(click))
    window, fingerprint = click.offer.unique_window * 1000, control[5:13]
    number = int.from_bytes(fingerprint[:2])
    return b"unique:{%d}:%d:%d:%d" % (partition, window, click.millis // window, number), fingerprint[2:]


async def test_call_writes_these_keys_and_no_others(database: Settings) -> None:
    counters = (Counter("offer:3:t", False, 10, 0), Counter("offer:3:d:20833", True, 10, NOON // 1000))
    first, repeated = click_at(NOON, 1, counters=counters), click_at(NOON + MINUTE, 2, counters=counters)
    entries = [encode(click, outcomes_of(click)) for click in (first, repeated)]
    lane, minute, binary = Lane(), NOON // MINUTE, bytes.fromhex(first.hash)
    lane.sequence = 123_456_789
    key, field = bucket_of(first)
    assert database.redis_url
    appender = Appender(database.redis_url, edge="4/0123")
    receipt = await appender.append(
        lane, entries, SECOND, heartbeat=b'17 {"1": 2}', answered=pack_answered({minute: 3, minute - 60: 4})
    )
    await appender.close()
    async with open_client(database.redis_url) as client:
        assert await everything(client) == {
            b"clicks:{0}": [
                {b"a": b"0" + binary, b"r": entries[0][1]},
                {b"a": b"1" + binary, b"r": entries[1][1]},
            ],
            b"lane:{0}:" + lane.id: b"123456789 0" + binary + b"1" + binary,
            b"edges:{0}": {b"4/0123": b'17 %d {"1": 2}' % receipt.millis},
            b"remembered:{0}": b"%d 0 " % (receipt.millis // HOUR),
            b"cap:{0}:offer:3:t": b"2",
            b"cap:{0}:offer:3:d:20833": b"1",
            b"ledger:{0}:%d" % (minute // 60): {
                b"%d:r" % (minute % 60): b"1",
                b"%d:n" % (minute % 60): b"3",
                b"%d:r" % ((minute + 1) % 60): b"1",
            },
            b"ledger:{0}:%d" % (minute // 60 - 1): {b"%d:n" % (minute % 60): b"4"},
            key: {field: binary},
        }


@pytest.mark.parametrize("seed", range(3))
async def test_visitors_are_in_buckets_of_these_names_until_these_times(
    database: Settings, seed: int
) -> None:
    rng = random.Random(seed)
    windows = [1, 60, 86_400, LONGEST, *(rng.randint(1, LONGEST) for _ in range(4))]
    clicks = [
        click_at(
            IN_2096 + rng.choice([0, 1, window * 1000 - 1, rng.randrange(3 * window * 1000)]),
            n,
            offer=an_offer(unique_window=window),
            visitor_key=rng.getrandbits(64),
        )
        for n, window in enumerate(windows * 40)
    ]
    buckets: dict[bytes, dict[bytes, bytes]] = {}
    ends = {}
    for click in clicks:
        key, field = bucket_of(click, partition=3)
        buckets.setdefault(key, {})[field] = bytes.fromhex(click.hash)
        window = click.offer.unique_window * 1000
        ends[key] = (click.millis // window + 2) * window + HOUR
    answers = await append(database, *clicks, partition=3)
    assert [answer.outcome for answer in answers] == [0] * len(clicks)
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        written: Any = await client.keys("unique:*")
        assert {key: await client.hgetall(key) for key in written} == buckets
        assert {key: await client.pexpiretime(key) for key in written} == ends
