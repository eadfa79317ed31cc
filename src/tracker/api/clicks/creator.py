"""Creates clicks that a client sends instead of a visitor.

They take the steps of the hot path: edge.click, edge.outcome and the stream's script. The part of the
catalogue that they need is read from Postgres now. Like all clicks they reach the table over the stream and
the writer.

The keys of a request are committed first. Each click is then a call of the script under its own hash, which
is applied once even if it is repeated. The answer is read from the table. So a kill at any point leaves a
click nowhere or on the stream. If it is nowhere, the repeated request creates it. If it is on the stream, the
writer stores it even without a repeat.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_id import Mint, hash_at, millis_of
from tracker.domain.model import Click, Link, Outcomes, Visitor
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble, prepare
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.outcome import prepare_outcomes
from tracker.ops.partial_catalogue import add_touched
from tracker.settings import Settings
from tracker.store.clicks import idempotency, kept
from tracker.store.clicks.idempotency import Claim, Conflict, Reservation, StoredClick
from tracker.store.db import Pool
from tracker.stream.appender import Appender, AppenderPool, AppendError
from tracker.stream.record import Entry, encode
from tracker.stream.visitor_memory import VisitorMemory

MAX_CLICKS = 100
"""Most clicks of one request."""

_APPEND_SECONDS = 2.0
_STORED_SECONDS = 10.0  # longest wait for the writer
_LOOK_SECONDS = 0.05  # between two looks


class ClickRequest(NamedTuple):
    """A click that a client asks to create."""

    link: Link
    visitor: Visitor
    has_agent: bool  # whether a User-Agent was sent, even an empty one
    second: int | None  # Unix seconds. None = now
    dedupe_key: str | None
    legacy_id: str | None
    digest: bytes  # of all its fields


class Request(NamedTuple):
    """Clicks to create together, with the key of their request."""

    token_id: int
    key: str | None
    digest: bytes
    clicks: Sequence[ClickRequest]


class CreatedClick(NamedTuple):
    """A stored click."""

    click: StoredClick
    is_duplicate: bool  # another request created it


Prepared = tuple[Click, Outcomes]
"""A click that is not stored yet, and its outcomes."""


class Unknown(LookupError):  # noqa: N818 - says what it is
    """Clicks name an unknown offer or affiliate: (place, field) of each."""

    def __init__(self, fields: list[tuple[int, str]]) -> None:
        super().__init__(fields)
        self.fields = fields


class NotStoredYet(Exception):  # noqa: N818 - says what it is
    """The clicks are on the stream and will be stored. No writer stored them in time."""


class Creator:
    """Creates the clicks of one API process."""

    def __init__(self, settings: Settings, pool: Pool, geo: GeoReader) -> None:
        assert settings.redis_url
        self._appenders = AppenderPool(settings.redis_url, VisitorMemory.of(settings), settings.copies)
        self._is_divided = settings.partitions > 1
        self._pool = pool
        self._geo = geo
        self._mint = Mint()

    async def close(self) -> None:
        await self._appenders.close()

    async def create(self, request: Request) -> list[CreatedClick]:
        """The clicks of a request in its order, when all are stored.

        Raises:
            Unknown, Conflict: nothing was created.
            AppendError: the stream did not take all of them. A repeated request creates the rest.
            NotStoredYet: no writer stored them in time. A repeated request gets the answer.
        """
        await asyncio.to_thread(self._get_ready)
        reserved, prepared = await self._reserve(request)
        await self._append(prepared)
        stored = await self._stored({click.hash for click in reserved})
        return [CreatedClick(stored[click.hash], click.is_duplicate) for click in reserved]

    def _get_ready(self) -> None:
        prepare()
        self._geo.reload_changed()

    async def _reserve(self, request: Request) -> tuple[list[Reservation], list[Prepared]]:
        """The clicks of a request, and those that are not stored yet. All or nothing is reserved."""
        claims = [self._claim(described, place) for place, described in enumerate(request.clicks)]
        async with self._pool.acquire() as connection, connection.transaction():
            reserved = await idempotency.reserve(
                connection, request.token_id, request.key, request.digest, claims
            )
            stored = await idempotency.stored(connection, [click.hash for click in reserved])
            missing = {place: click.hash for place, click in enumerate(reserved) if click.hash not in stored}
            since = await kept.since(connection)
            for place, hash_ in missing.items():
                if millis_of(hash_) < since:
                    raise Conflict(place, "created_at", "is of a day whose clicks are not kept any more")
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
        """Build a click as the hot path does. Missing visitor data never makes it a bot or a duplicate."""
        visitor = described.visitor
        click = assemble(hash_, described.link, visitor, None, catalogue, self._geo)
        assert click
        if not described.has_agent:
            click = click._replace(bot_reason=catalogue.operator_bots.reason("", visitor.ip))
        if not described.has_agent and not visitor.ip:
            click = click._replace(visitor_key=_unique_visitor_key(hash_))
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
    """Append, with one retry: a connection that the server has closed only shows it at its next use."""
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


def _unique_visitor_key(hash_: str) -> int:
    """The visitor key of an unknown visitor. It is unique, so the click is a first one."""
    return int(hash_[16:], 16)
