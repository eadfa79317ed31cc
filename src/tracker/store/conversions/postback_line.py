"""The order of postbacks: as they came off the stream, even if one waits for its click.

Edges' clocks differ, so hashes do not show the order. The log notes the order of arrival. A postback waits
behind an earlier one of the same click, or of the same order with the same advertiser's secret. Nothing else
makes it wait: a postback without rights or without a secret blocks no other one. Neither does a postback that
waits for dead letters, as long as its click is not stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tracker.domain.conversion import ConvertedClick
from tracker.domain.postback import Postback
from tracker.store.conversions import postbacks as postback_log
from tracker.store.db import Connection

NEW = 2**63 - 1
"""The arrival number of a postback that is not in the log yet: after all logged ones."""
MOST_BESIDE = 50
"""Parked postbacks of a click, or of an order, that are applied together.

The rest follows in the next round.
"""

_COLUMNS = "arrival, hash, source, ip, advertiser_id, parameters, form"
# A postback without a secret counts only if it may have rights. It never moves others to a later round. A
# waiting postback counts too: its click has just left the dead letters.
_OF_CLICKS = f"""
SELECT named.place, beside.*
FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS named (click_hash, advertiser_id, place),
LATERAL (
    (SELECT {_COLUMNS} FROM postback
    WHERE result IN ('parked', 'waiting')
        AND (click_hash, advertiser_id) = (named.click_hash, named.advertiser_id)
    ORDER BY arrival LIMIT $3)
    UNION ALL
    (SELECT {_COLUMNS} FROM postback
    WHERE result IN ('parked', 'waiting') AND click_hash = named.click_hash AND advertiser_id IS NULL
        AND (source <> 'postback' OR EXISTS (
            SELECT FROM advertiser
            WHERE id = named.advertiser_id AND (postback_check = 'none' OR postback_addresses <> '{{}}')))
    ORDER BY arrival LIMIT $3)
) AS beside
"""  # noqa: S608
_OF_ORDERS = f"""
SELECT named.place, beside.*
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS named (advertiser_id, order_id, place),
LATERAL (
    SELECT {_COLUMNS} FROM postback
    WHERE result = 'parked' AND (advertiser_id, order_id) = (named.advertiser_id, named.order_id)
    ORDER BY arrival LIMIT $3
) AS beside
"""  # noqa: S608

Key = tuple[str, int] | tuple[int, str]
"""A click and its advertiser, or an advertiser and an order id."""


class Queued(NamedTuple):
    """A postback and its position."""

    arrival: int
    postback: Postback


class Line:
    """The postbacks to apply together, and the waiting ones."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: set[Key] = set()
        self._horizons: dict[Key, int] = {}  # arrival number after which some may be unread
        self._clicks: set[str] = set()  # of the waiting ones
        self._orders: defaultdict[Key, set[int | None]] = defaultdict(set)  # and of the goals that they name

    async def beside(
        self, queue: Collection[Queued], clicks: Mapping[str, ConvertedClick | None]
    ) -> list[Queued]:
        """Parked postbacks of these clicks and orders, which may have to be applied first.

        `clicks` are the stored ones, by the hash of a postback that names them.
        """
        named = [(one.postback, click) for one in queue if (click := clicks.get(one.postback.hash))]
        of_clicks = [(click.hash, click.advertiser_id) for _, click in named]
        of_orders = [
            key for postback, click in named if (key := _order(postback)) and key[0] == click.advertiser_id
        ]
        parked = await self._read(_OF_CLICKS, of_clicks) + await self._read(_OF_ORDERS, of_orders)
        known = {one.postback.hash for one in queue}
        new = {one.postback.hash: one for one in parked if one.postback.hash not in known}
        return list(new.values())

    async def _read(self, statement: str, keys: Iterable[Key]) -> list[Queued]:
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if not new:
            return []
        self._known.update(new)
        firsts, seconds = zip(*new, strict=True)
        rows = await self._connection.fetch(statement, firsts, seconds, MOST_BESIDE + 1)
        parked: defaultdict[int, list[Queued]] = defaultdict(list)
        for place, arrival, *row in rows:
            parked[place].append(Queued(arrival, postback_log.postback_of(row)))
        for place, beside in parked.items():
            proven = [one.arrival for one in beside if one.postback.advertiser_id is not None]
            if len(proven) > MOST_BESIDE:
                self._horizons[new[place - 1]] = proven[MOST_BESIDE - 1]
        return [one for beside in parked.values() for one in beside]

    def holds(self, one: Queued, click: ConvertedClick) -> bool:
        """Whether a postback of a stored click must wait behind another one."""
        order = _order(one.postback)
        keys: list[Key] = [(click.hash, click.advertiser_id), *([order] if order else [])]
        if any(one.arrival > self._horizons.get(key, NEW) for key in keys):
            return True
        return click.hash in self._clicks or (order is not None and self._waits_for(order, one.postback))

    def _waits_for(self, order: Key, postback: Postback) -> bool:
        goals = self._orders.get(order, set())
        return bool(goals) and (postback.goal_id is None or bool(goals & {None, postback.goal_id}))

    def wait(self, one: Queued, click_hash: str) -> None:
        """A postback waits, and so do those behind it."""
        self._clicks.add(click_hash)
        if (order := _order(one.postback)) is not None:
            self._orders[order].add(one.postback.goal_id)


def _order(postback: Postback) -> tuple[int, str] | None:
    """The order of a postback with its advertiser's secret."""
    if postback.advertiser_id is None or postback.order_id is None:
        return None
    return postback.advertiser_id, postback.order_id
