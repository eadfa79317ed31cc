"""Order ids that differ only in invisible characters (`B1` and `B1 `), and placeholders (`{order_id}`)."""

from __future__ import annotations

from tracker.ops.upgrade.concern import Concern
from tracker.store import doubtful_rows
from tracker.store.db import Connection
from tracker.store.doubtful_rows import AbsentOrderId, OrderPair


async def find(connection: Connection) -> list[Concern]:
    """Find pairs within one advertiser's goal, and ids that are read as absent now.

    Only the operator can decide these.
    """
    pairs = [_of_pair(pair) for pair in await doubtful_rows.order_id_pairs(connection)]
    return pairs + [_of_absent(absent) for absent in await doubtful_rows.absent_order_ids(connection)]


def _of_pair(pair: OrderPair) -> Concern:
    return Concern(
        f"conversions/{pair.spaced_id}",
        f"order id {pair.spaced!a}, and {pair.plain!a} of conversion {pair.plain_id} (advertiser "
        f"{pair.advertiser_id}, goal {pair.goal_id}): one order now. Reject one of them if both were paid",
    )


def _of_absent(absent: AbsentOrderId) -> Concern:
    return Concern(
        f"conversions/{absent.first_id}",
        f"order id {absent.order_id!a} of {absent.conversions} conversions is read as absent now: other "
        "clicks with it were refused, and make conversions from now on. Ask the advertiser for real ids",
    )
