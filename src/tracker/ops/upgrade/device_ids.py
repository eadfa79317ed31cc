"""Device ids that are not ids, such as {gaid}: all visitors with the same text were one visitor."""

from __future__ import annotations

import time

from tracker.domain.click_id import first_hash_at
from tracker.ops.upgrade.concern import Concern
from tracker.store import doubtful_rows
from tracker.store.db import Connection
from tracker.store.doubtful_rows import DeviceId

DAYS = 7
"""Days of clicks that are searched, and the most clicks of them (the latest)."""
MOST_NAMED = 100


async def find(connection: Connection) -> list[Concern]:
    """Find such texts, by affiliate and text.

    Clicks stay unchanged: only the affiliate can correct its links.
    """
    since = int(time.time() * 1000) - DAYS * 86_400_000
    device_ids = await doubtful_rows.device_ids(connection, first_hash_at(since))
    more = device_ids[MOST_NAMED:]
    rest = Concern(
        "clicks", f"and {sum(each.clicks for each in more)} more with {len(more)} other texts for a device id"
    )
    return [_of_value(each) for each in device_ids[:MOST_NAMED]] + [rest] * bool(more)


def _of_value(device_id: DeviceId) -> Concern:
    return Concern(
        f"affiliates/{device_id.affiliate_id}",
        f"{device_id.clicks} clicks of the last {DAYS} days have {device_id.parameter}="
        f"{device_id.value[:50]!a}, which is not a device id: these were one visitor, and count by address "
        "and User-Agent now",
    )
