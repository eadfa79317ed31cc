"""How full the caps of an offer are: those of clicks from the stream, all others from the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import islice

from tracker.ops import cap_counters
from tracker.settings import Settings
from tracker.store.conversions import cap_marks, caps
from tracker.store.conversions.cap_marks import CapCount
from tracker.store.db import Connection, Pool
from tracker.stream import cap_counts

MOST_OF_ONE = 20
"""Most affiliates that are shown of one cap for each affiliate: the fullest."""
MOST_COUNTERS = 2_000
"""Most counters of one look."""


async def of_offer(
    settings: Settings, pool: Pool, offer_id: int, affiliate_id: int | None, millis: int
) -> list[CapCount]:
    """The counts of an offer's caps at a moment (Unix milliseconds), by cap, the fullest first.

    `affiliate_id`: caps of each affiliate are counted for this one. None: for those that fill them most, of
    the affiliates with clicks since yesterday.

    Raises:
        UNREACHABLE: the stream server does not answer.
    """
    async with pool.acquire() as connection:
        of_conversions = await caps.fill(connection, offer_id, affiliate_id, millis, MOST_OF_ONE)
        watched = await _watched(connection, offer_id, affiliate_id, millis)
    assert settings.redis_url
    names = [each.counter.name for each in watched]
    used = await cap_counts.counted(settings.redis_url, settings.partitions, names) if names else []
    of_clicks = map(cap_counters.count, watched, used)
    return _fullest([*of_clicks, *of_conversions])


async def _watched(
    connection: Connection, offer_id: int, affiliate_id: int | None, millis: int
) -> list[cap_counters.Watched]:
    found = await cap_marks.click_caps(connection, offer_id)
    if affiliate_id is not None:
        found = [cap for cap in found if cap.affiliate_id in (None, 0, affiliate_id)]
    if affiliate_id is None and any(cap.affiliate_id == 0 for cap in found):
        affiliates = await cap_counters.busy_affiliates(connection, millis // 1000)
    else:
        affiliates = [] if affiliate_id is None else [affiliate_id]
    return list(islice(cap_counters.watched(found, affiliates, millis), MOST_COUNTERS))


def _fullest(counts: Iterable[CapCount]) -> list[CapCount]:
    """The fullest counts of each cap. Caps stay in the order of their ids."""
    by_cap = defaultdict(list)
    for count in counts:
        by_cap[count.cap_id].append(count)
    return [
        count
        for _, own in sorted(by_cap.items())
        for count in sorted(own, key=lambda count: (-count.used, count.affiliate_id or 0))[:MOST_OF_ONE]
    ]
