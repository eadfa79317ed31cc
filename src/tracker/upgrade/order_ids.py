"""Conversions that were paid twice, as their order ids differ in what nobody sees: `B1` and `B1 `."""

from __future__ import annotations

from tracker.store import doubtful_rows
from tracker.store.doubtful_rows import OrderPair
from tracker.store.pool import Connection
from tracker.upgrade.concern import Concern


async def find(connection: Connection) -> list[Concern]:
    """Pairs of one advertiser's goal. Which of the two counts is the operator's to say."""
    return [_of_pair(pair) for pair in await doubtful_rows.order_id_pairs(connection)]


def _of_pair(pair: OrderPair) -> Concern:
    return Concern(
        f"conversions/{pair.spaced_id}",
        f"order id {pair.spaced!a}, and {pair.plain!a} of conversion {pair.plain_id} (advertiser "
        f"{pair.advertiser_id}, goal {pair.goal_id}): one order now; reject one of them if both were paid",
    )
