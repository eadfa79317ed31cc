"""Clicks that a client tells of instead of a visitor following a link.

They take the hot path's own steps (edge.click, edge.outcome, the stream's script), on the part of the
catalogue that they touch, read from Postgres at this moment; and the way of all clicks into the table, over
the stream and through the writer. What makes a repeated request the same one is committed first; each click
is then a call of the script under its own hash, done once however often it is repeated; and the answer is
read from the table. So whatever is killed in between, a click is either nowhere, and the repeated request
creates it, or on the stream, and the writer stores it though nobody asks again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_id import Mint, hash_at
from tracker.domain.model import Click, Link, Outcomes, Visitor
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.outcome import prepare_outcomes
from tracker.ops.partial_catalogue import add_touched
from tracker.settings import Settings
from tracker.store.clicks import idempotency
from tracker.store.clicks.idempotency import Claim, Reservation, StoredClick
from tracker.store.db import Pool
from tracker.stream.appender import Appender, AppenderPool, AppendError
from tracker.stream.record import Entry, encode
from tracker.stream.visitor_memory import VisitorMemory

MAX_CLICKS = 100
"""Most clicks of one request."""

_APPEND_SECONDS = 2.0
_STORED_SECONDS = 10.0  # how long the writer is waited for
_LOOK_SECONDS = 0.05  # between looks


class ClickRequest(NamedTuple):
    """A click as a client tells of it."""

    link: Link
    visitor: Visitor
    has_agent: bool  # whether a User-Agent was told; "" is one that was empty
    second: int | None  # when it was, Unix seconds; None = now
    dedupe_key: str | None
    legacy_id: str | None
    digest: bytes  # of all that was said of it


class Request(NamedTuple):
    """Clicks to be created together, and what the request is known by when it is repeated."""

    token_id: int
    key: str | None
    digest: bytes
    clicks: Sequence[ClickRequest]


class CreatedClick(NamedTuple):
    """A click that is in the table."""

    click: StoredClick
    is_duplicate: bool  # another request had created it


Prepared = tuple[Click, Outcomes]
"""A click that is not in the table, and what it may be answered with."""


class Unknown(LookupError):  # noqa: N818 - says what it is
    """A click names an offer or affiliate that there is none of: (place, field) of each."""

    def __init__(self, fields: list[tuple[int, str]]) -> None:
        super().__init__(fields)
        self.fields = fields


class NotStoredYet(Exception):  # noqa: N818 - says what it is
    """The clicks are on the stream and will be stored; no writer has done so in time."""


class Creator:
    """Creates clicks on behalf of one API process."""

    def __init__(self, settings: Settings, pool: Pool, geo: GeoReader) -> None:
        assert settings.redis_url
        self._appenders = AppenderPool(settings.redis_url, VisitorMemory.of(settings))
        self._is_divided = settings.partitions > 1
        self._pool = pool
        self._geo = geo
        self._mint = Mint()

    async def close(self) -> None:
        await self._appenders.close()

    async def create(self, request: Request) -> list[CreatedClick]:
        """The clicks of a request in its order, once all are stored.

        Raises:
            Unknown, Conflict: nothing was created.
            AppendError: the stream did not take them all; the request, repeated, creates the rest.
            NotStoredYet: as it says; the request, repeated, has the answer.
        """
        await asyncio.to_thread(self._geo.reload_changed)
        reserved, prepared = await self._reserve(request)
        await self._append(prepared)
        stored = await self._stored({click.hash for click in reserved})
        return [CreatedClick(stored[click.hash], click.is_duplicate) for click in reserved]

    async def _reserve(self, request: Request) -> tuple[list[Reservation], list[Prepared]]:
        """Which clicks are meant, and those of them that are not in the table; all or nothing."""
        claims = [self._claim(described, place) for place, described in enumerate(request.clicks)]
        async with self._pool.acquire() as connection, connection.transaction():
            reserved = await idempotency.reserve(
                connection, request.token_id, request.key, request.digest, claims
            )
            stored = await idempotency.stored(connection, [click.hash for click in reserved])
            missing = {place: click.hash for place, click in enumerate(reserved) if click.hash not in stored}
            links = {place: request.clicks[place].link for place in missing}
            catalogue = Catalogue()
            if links:
                await add_touched(connection, catalogue, links.values())
            _check_known(catalogue, links)
        described = ((hash_, request.clicks[place]) for place, hash_ in missing.items())
        return reserved, [self._prepared(hash_, each, catalogue) for hash_, each in described]

    def _claim(self, described: ClickRequest, place: int) -> Claim:
        second = described.second
        hash_ = self._mint.hash() if second is None else hash_at(second * 1000, place)
        return Claim(hash_, described.digest, described.dedupe_key, described.legacy_id)

    def _prepared(self, hash_: str, described: ClickRequest, catalogue: Catalogue) -> Prepared:
        """A click by the hot path's steps; of what was not told of its visitor nothing is concluded."""
        visitor = described.visitor
        click = assemble(hash_, described.link, visitor, None, catalogue, self._geo)
        assert click
        if not described.has_agent:
            click = click._replace(bot_reason=catalogue.operator_bots.reason("", visitor.ip))
        if not described.has_agent and not visitor.ip:
            click = click._replace(visitor_key=_key_of_its_own(hash_))
        return click, prepare_outcomes(click, catalogue)

    async def _append(self, prepared: Iterable[Prepared]) -> None:
        entries: dict[Appender, list[Entry]] = defaultdict(list)
        for click, outcomes in prepared:
            appender = self._appenders.of(click)
            if self._is_divided and click.counters:
                click, _ = await self._appenders.counted(click, _APPEND_SECONDS)
            entries[appender].append(encode(click, outcomes))
        for appender, own in entries.items():
            await _append_each(appender, own)

    async def _stored(self, hashes: set[str]) -> dict[str, StoredClick]:
        try:
            async with asyncio.timeout(_STORED_SECONDS):
                while True:
                    stored = await idempotency.stored(self._pool, hashes)
                    if len(stored) == len(hashes):
                        return stored
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise NotStoredYet from None


async def _append_each(appender: Appender, entries: list[Entry]) -> None:
    """Append, and once more where that failed: only then a connection shows that the server has closed it."""
    try:
        await appender.append_each(entries, _APPEND_SECONDS)
    except AppendError:
        await appender.append_each(entries, _APPEND_SECONDS)


def _check_known(catalogue: Catalogue, links: Mapping[int, Link]) -> None:
    unknown = [
        (place, field)
        for place, link in links.items()
        for field, known in (("offer_id", catalogue.offers), ("affiliate_id", catalogue.affiliates))
        if getattr(link, field) not in known
    ]
    if unknown:
        raise Unknown(unknown)


def _key_of_its_own(hash_: str) -> int:
    """The visitor key of somebody of whom nothing is known: nobody else's, so that this is a first click."""
    return int(hash_[16:], 16)
