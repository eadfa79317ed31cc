"""Postbacks whose click is not in the table: it may come, it may be a dead letter, or there is no such click.

Dead letters can be replayed, perhaps weeks later. A postback for a click of a minute with dead letters waits
for that. Some senders make up hashes, so a postback waits only with a valid secret or from a known address.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tracker.domain.click_id import millis_of, minute_of
from tracker.domain.conversion import Refusal, is_among
from tracker.domain.postback import FUTURE_MILLIS, Postback, Result, Source
from tracker.domain.unstored import AskUnstored, Unstored, nothing_unstored
from tracker.store.clicks import kept
from tracker.store.conversions.lookups import Facts
from tracker.store.conversions.postbacks import NOT_STORED
from tracker.store.db import Connection

MOST_WAITING = 10_000
"""The most postbacks that wait for dead letters."""
MAY_BE_DEAD = "its click may be a dead letter"
"""Why a postback waits."""

_LONGEST_WINDOW = 90 * 86_400  # seconds, of goals without a window: as long as the log is kept
_COUNT_WAITING = """
SELECT count(*) FROM (SELECT FROM postback WHERE result = 'waiting' LIMIT $1) AS waiting
"""
_ADDRESSES = "SELECT DISTINCT unnest(postback_addresses) FROM advertiser"
# The longest window of the goals that may be meant. The click's offer is unknown.
_WINDOW = f"""
SELECT coalesce(
    max(coalesce(click_window, {_LONGEST_WINDOW})) FILTER (WHERE goal.id = $2),
    max(coalesce(click_window, {_LONGEST_WINDOW})) FILTER (WHERE is_base OR NOT $3),
    {_LONGEST_WINDOW})
FROM goal JOIN offer ON offer.id = goal.offer_id
WHERE $1::bigint IS NULL OR offer.advertiser_id = $1
"""  # noqa: S608


class Fate(NamedTuple):
    """The result of a postback without a stored click."""

    result: Result
    reason: str
    waits_until: datetime | None = None


_UNKNOWN = Fate(Result.REJECTED, Refusal.UNKNOWN_CLICK)
_NOT_KEPT = Fate(Result.REJECTED, Refusal.NOT_KEPT)
_PARKED = Fate(Result.PARKED, NOT_STORED)


class MissingClicks:
    """Decides about the postbacks of one transaction whose clicks are not in the table."""

    def __init__(
        self,
        connection: Connection,
        complete_until: int | None = None,
        ask_unstored: AskUnstored = nothing_unstored,
    ) -> None:
        self._connection = connection
        self._complete_until = complete_until
        self._ask_unstored = ask_unstored
        self._asked: frozenset[int] = frozenset()  # minutes
        self._unstored = Unstored(frozenset(), frozenset())
        self._waiting: int | None = None
        self._kept_since: int | None = None  # Unix milliseconds
        self._addresses: list[str] | None = None  # of all advertisers
        self._known: dict[str, bool] = {}  # addresses of senders
        self._windows: dict[tuple[int | None, int | None, bool], timedelta] = {}

    async def read(self, postbacks: Sequence[Postback]) -> Facts:
        """The facts of postbacks. Asks about their missing clicks from before Complete-Until.

        The clicks are looked up again after the question: a click that has left the stream since is stored.
        """
        facts = await Facts.read(self._connection, postbacks)
        overdue = [
            (postback, hash_)
            for postback in postbacks
            if (hash_ := facts.hash_of(postback)) and hash_ not in facts.clicks and self._is_overdue(hash_)
        ]
        if not overdue:
            return facts
        self._asked = frozenset(minute_of(hash_) for _, hash_ in overdue)
        self._unstored = await self._ask_unstored(self._asked)
        return facts.plus(await Facts.read(self._connection, [postback for postback, _ in overdue]))

    async def fate_of(self, postback: Postback, hash_: str | None) -> Fate:
        """The result of a postback for a click, which is not in the table. No hash: an unknown click."""
        if hash_ is None or millis_of(hash_) > postback.millis + FUTURE_MILLIS:
            return _UNKNOWN
        if millis_of(hash_) < await self._since():
            return _NOT_KEPT
        minute = minute_of(hash_)
        if not self._is_overdue(hash_) or minute not in self._asked:
            return _PARKED
        is_unstored = minute in self._unstored.in_flight or minute in self._unstored.dead
        if not is_unstored or not await self._is_proven(postback):
            return _UNKNOWN
        # A replayed dead letter is on its way, even if others of its minute are still dead.
        return _PARKED if minute in self._unstored.in_flight else await self._wait(postback, hash_)

    async def _since(self) -> int:
        if self._kept_since is None:
            self._kept_since = await kept.since(self._connection)
        return self._kept_since

    def _is_overdue(self, hash_: str) -> bool:
        return self._complete_until is not None and millis_of(hash_) < self._complete_until

    async def _is_proven(self, postback: Postback) -> bool:
        """Whether an advertiser or the operator sent it. The click's advertiser is checked with the click."""
        if postback.source is not Source.POSTBACK:
            return postback.source is not Source.PIXEL
        return postback.advertiser_id is not None or await self._is_known(postback.ip)

    async def _is_known(self, ip: str) -> bool:
        if self._addresses is None:
            self._addresses = [address for (address,) in await self._connection.fetch(_ADDRESSES)]
        if ip not in self._known:
            self._known[ip] = is_among(ip, self._addresses)
        return self._known[ip]

    async def _wait(self, postback: Postback, hash_: str) -> Fate:
        window = await self._window_of(postback)
        if timedelta(milliseconds=postback.millis - millis_of(hash_)) > window:
            return Fate(Result.REJECTED, Refusal.LATE)
        if self._waiting is None:
            self._waiting = await self._connection.fetchval(_COUNT_WAITING, MOST_WAITING)
        if self._waiting >= MOST_WAITING:
            return Fate(Result.REJECTED, Refusal.TOO_MANY_WAIT)
        self._waiting += 1
        arrived = datetime.fromtimestamp(postback.millis / 1000, UTC)
        return Fate(Result.WAITING, MAY_BE_DEAD, arrived + window)

    async def _window_of(self, postback: Postback) -> timedelta:
        key = (postback.advertiser_id, postback.goal_id, not postback.goal)
        if key not in self._windows:
            seconds = await self._connection.fetchval(_WINDOW, *key)
            self._windows[key] = timedelta(seconds=seconds)
        return self._windows[key]
