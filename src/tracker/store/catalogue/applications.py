"""Applications: affiliates ask to run offers that need approval, and the network decides.

An application is a row of the terms between an offer and an affiliate. It is decided by a change of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from tracker.domain.webhooks import APPLICATION_ASKED
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection, Pool
from tracker.store.paging import Page, reading
from tracker.store.webhooks import events

WAIT = timedelta(days=7)
"""How long an affiliate that was declined waits before it may ask again."""

_COLUMNS = """
offer.id AS offer_id, offer.name AS offer_name, {0} AS affiliate_id,
(SELECT name FROM affiliate WHERE id = {0}) AS affiliate_name, terms.status, terms.reason, terms.note,
to_jsonb(terms.asked_at) #>> '{{}}' AS asked_at, terms.asked_by,
to_jsonb(terms.decided_at) #>> '{{}}' AS decided_at"""
# Private offers are offered to an affiliate by the network alone.
_OF_AFFILIATES = """
FROM offer CROSS JOIN unnest($1::bigint[]) AS own (affiliate_id)
LEFT JOIN offer_affiliate AS terms ON (terms.offer_id, terms.affiliate_id) = (offer.id, own.affiliate_id)
WHERE NOT offer.is_archived AND offer.status <> 'draft' AND offer.visibility = 'approval'
    AND ($2::text IS NULL OR terms.status = $2) AND ($3::bigint IS NULL OR offer.id = $3)"""
_OF_NETWORK = """
FROM offer_affiliate AS terms JOIN offer ON offer.id = terms.offer_id
WHERE asked_at IS NOT NULL AND ($1::bigint[] IS NULL OR terms.affiliate_id = ANY ($1))
    AND ($2::text IS NULL OR terms.status = $2) AND ($3::bigint IS NULL OR offer.id = $3)"""
_ONE = """
FROM offer_affiliate AS terms JOIN offer ON offer.id = terms.offer_id
WHERE (terms.offer_id, terms.affiliate_id) = ($1, $2)"""
_OFFER = """
SELECT visibility, coalesce(terms.status, '') AS status, terms.asked_at IS NOT NULL AS is_asked,
    terms.decided_at + $3::interval AS ask_from,
    coalesce(terms.decided_at + $3::interval > now(), false) AS is_early
FROM offer LEFT JOIN offer_affiliate AS terms ON (terms.offer_id, terms.affiliate_id) = (offer.id, $2)
WHERE offer.id = $1 AND NOT offer.is_archived AND offer.status <> 'draft'
    AND (visibility <> 'private' OR terms.status = 'approved')
"""
_ASK = """
INSERT INTO offer_affiliate AS terms
    (offer_id, affiliate_id, status, asked_at, asked_by, asked_token_id, note, reason)
VALUES ($1, $2, 'pending', now(), $3, $4, $5, '')
ON CONFLICT (offer_id, affiliate_id) DO UPDATE
SET (status, asked_at, asked_by, asked_token_id, note, reason)
    = ROW (excluded.status, excluded.asked_at, excluded.asked_by, excluded.asked_token_id, excluded.note, '')
"""


class NoSuchOfferError(Exception):
    """The offer does not exist, or the affiliate may not know of it."""


class RefusedError(Exception):
    """The affiliate cannot ask for the offer now. The text says why."""


async def ask(
    connection: Connection, author: Author, table: Table, offer_id: int, affiliate_id: int, note: str
) -> bool:
    """Ask for an offer. Returns False if it was asked for or approved before, which changes nothing.

    `connection`: of a change (edit.changing). `table`: the terms.

    Raises:
        NoSuchOfferError: the affiliate may not know of it.
        RefusedError: it needs no approval, or the affiliate was declined lately.
    """
    offer = await connection.fetchrow(_OFFER, offer_id, affiliate_id, WAIT)
    if offer is None:
        raise NoSuchOfferError
    place = {"offer_id": offer_id, "affiliate_id": affiliate_id}
    before = await edit.locked(connection, table, place)
    if offer["status"] == "approved" or (offer["status"] == "pending" and offer["is_asked"]):
        return False
    _check(offer)
    await connection.execute(_ASK, offer_id, affiliate_id, author.token_name, author.token_id, note)
    after = await edit.one(connection, table, place)
    path = f"offers/{offer_id}/affiliates/{affiliate_id}"
    await edit.note(connection, author, table, path, before, after)
    await events.note(connection, APPLICATION_ASKED, path, await one(connection, offer_id, affiliate_id))
    return True


def _check(offer: Any) -> None:
    if offer["visibility"] == "public":
        raise RefusedError("needs no approval: you may run it")
    if offer["status"] == "rejected" and offer["is_early"]:
        ask_from: datetime = offer["ask_from"]
        raise RefusedError(f"was declined: you may ask again from {ask_from:%Y-%m-%d %H:%M} UTC")


async def one(connection: Connection, offer_id: int, affiliate_id: int) -> Row:
    """The terms of an affiliate as an application."""
    columns = _COLUMNS.format("terms.affiliate_id")
    return dict(await connection.fetchrow(f"SELECT {columns} {_ONE}", offer_id, affiliate_id))


class Wanted(NamedTuple):
    """Which applications. None: all."""

    affiliate_ids: Sequence[int] | None
    status: str | None
    offer_id: int | None


async def of_affiliates(pool: Pool, wanted: Wanted, number: int, per_page: int) -> Page:
    """Offers that need approval: a row for each of the affiliates, with its application if it has one."""
    columns, order = _COLUMNS.format("own.affiliate_id"), "offer.id, own.affiliate_id"
    return await _page(pool, columns, _OF_AFFILIATES, order, wanted, number, per_page)


async def of_network(pool: Pool, wanted: Wanted, number: int, per_page: int) -> Page:
    """The applications of some affiliates, or of all. The latest is first."""
    columns, order = _COLUMNS.format("terms.affiliate_id"), "asked_at DESC, offer_id, affiliate_id"
    return await _page(pool, columns, _OF_NETWORK, order, wanted, number, per_page)


_PART: Final = "LIMIT $4 OFFSET $5"


async def _page(
    pool: Pool, columns: str, source: str, order: str, wanted: Wanted, number: int, per_page: int
) -> Page:
    offset = (number - 1) * per_page
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) {source}", *wanted)
        statement = f"SELECT {columns} {source} ORDER BY {order} {_PART}"
        rows = [dict(row) for row in await connection.fetch(statement, *wanted, per_page, offset)]
    return Page(rows, total, offset + len(rows) < total)
