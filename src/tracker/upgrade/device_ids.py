"""Device ids that are not one, such as {gaid}: people who sent the same were one visitor."""

from __future__ import annotations

import time

from tracker.clickhash import first_hash_at
from tracker.store import doubtful_rows
from tracker.store.doubtful_rows import DeviceId
from tracker.store.pool import Connection
from tracker.upgrade.concern import Concern

DAYS = 7
"""How many days of clicks are looked through, and of their clicks the latest CLICKS."""
MOST_NAMED = 100


async def find(connection: Connection) -> list[Concern]:
    """By affiliate and by what it sends. Clicks stay as they are: links are the affiliate's to put right."""
    since = int(time.time() * 1000) - DAYS * 86_400_000
    found = await doubtful_rows.device_ids(connection, first_hash_at(since))
    more = found[MOST_NAMED:]
    rest = Concern(
        "clicks", f"and {sum(each.clicks for each in more)} more with {len(more)} other texts for a device id"
    )
    return [_of_value(each) for each in found[:MOST_NAMED]] + [rest] * bool(more)


def _of_value(found: DeviceId) -> Concern:
    return Concern(
        f"affiliates/{found.affiliate_id}",
        f"{found.clicks} clicks of the last {DAYS} days have {found.parameter}={found.value[:50]!a}, which "
        "is not a device's id: these were one visitor, and are told apart by address and User-Agent now",
    )
