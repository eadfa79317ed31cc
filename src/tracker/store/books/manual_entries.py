"""Entries by hand: bonuses, fees, chargebacks and payments of one party. None is ever changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.statement import ManualKind, Party, change_of
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Change, Row, Table
from tracker.store.db import Connection

TABLE = Table(
    "manual_entry",
    (
        *("affiliate_id", "advertiser_id", "kind", "amount", "currency", "change", "booked_at", "reason"),
        *("reference", "reverses", "author", "created_at"),
    ),
    money=("amount", "change"),
    is_log=True,
)

_FACTS = "SELECT clock_timestamp(), (SELECT max(until) FROM period_close)"
_KNOWN = "SELECT id FROM {} WHERE id = ANY ($1)"
# A reversed entry gives its reference up, so that it can be booked again without its fault.
_REFERENCES = """
SELECT id, affiliate_id, advertiser_id, reference FROM manual_entry AS entry
WHERE reference = ANY ($1) AND reverses IS NULL
    AND NOT EXISTS (SELECT FROM manual_entry WHERE reverses = entry.id)
"""
_INSERT = f"""
WITH added AS (
    INSERT INTO manual_entry (author, affiliate_id, advertiser_id, kind, amount, currency, change, booked_at,
        reason, reference, reverses)
    SELECT $1, affiliate_id, advertiser_id, kind, amount, currency, change, booked_at, reason, reference,
        reverses
    FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::numeric[], $6::text[], $7::numeric[],
        $8::timestamptz[], $9::text[], $10::text[], $11::bigint[]) WITH ORDINALITY AS line (affiliate_id,
        advertiser_id, kind, amount, currency, change, booked_at, reason, reference, reverses, place)
    ORDER BY place RETURNING *
)
SELECT {edit.as_object(TABLE)} FROM added ORDER BY id
"""  # noqa: S608
_REVERSED = """
SELECT affiliate_id, advertiser_id, kind, amount, currency, reverses,
    (SELECT id FROM manual_entry WHERE reverses = $1) AS reversed_by
FROM manual_entry WHERE id = $1
"""


class NewEntry(NamedTuple):
    """An entry to book."""

    party: Party
    party_id: int
    kind: ManualKind
    amount: Decimal
    currency: str
    booked_at: datetime | None  # None: now
    reason: str
    reference: str = ""


class RefusedError(Exception):
    """Entries that cannot be booked: the field and the reason, by position."""

    def __init__(self, faults: Mapping[int, tuple[str, str]]) -> None:
        super().__init__(f"{len(faults)} entries cannot be booked")
        self.faults = faults


class CannotReverseError(Exception):
    """An entry that is reversed already, or is a reversal."""


async def add(connection: Connection, author: Author, entries: Sequence[NewEntry]) -> list[Row]:
    """Book entries, all or none. Call it within a transaction of `booking`.

    Raises:
        RefusedError: a party is unknown, a time is in a closed period or in the future, or a reference is of
            another entry of its party.
    """
    now, closed_until = await connection.fetchrow(_FACTS)
    faults = await _unknown(connection, entries) | await _booked_before(connection, entries)
    for place, entry in enumerate(entries):
        if why := _wrong_time(entry.booked_at, now, closed_until):
            faults[place] = ("booked_at", why)
    if faults:
        raise RefusedError(faults)
    return await _insert(connection, author, entries, max(now, closed_until or now))


async def reverse(
    connection: Connection, author: Author, id_: int, reason: str, booked_at: datetime | None
) -> Row | None:
    """Undo an entry by another one. Call it within a transaction of `booking`. None: there is no such entry.

    Raises:
        CannotReverseError: the entry is reversed already, or is a reversal.
        RefusedError: the time is in a closed period or in the future.
    """
    row = await connection.fetchrow(_REVERSED, id_)
    if row is None:
        return None
    if row["reverses"] is not None:
        raise CannotReverseError(f"entry {id_} is itself a reversal, of entry {row['reverses']}")
    if row["reversed_by"] is not None:
        raise CannotReverseError(f"entry {id_} is reversed already, by entry {row['reversed_by']}")
    now, closed_until = await connection.fetchrow(_FACTS)
    if why := _wrong_time(booked_at, now, closed_until):
        raise RefusedError({0: ("booked_at", why)})
    party = Party.ADVERTISER if row["affiliate_id"] is None else Party.AFFILIATE
    party_id, kind = row[f"{party}_id"], ManualKind(row["kind"])
    entry = NewEntry(party, party_id, kind, row["amount"], row["currency"], booked_at, reason)
    (row,) = await _insert(connection, author, [entry], max(now, closed_until or now), id_)
    return row


async def _insert(
    connection: Connection,
    author: Author,
    entries: Iterable[NewEntry],
    now: datetime,
    reverses: int | None = None,
) -> list[Row]:
    """Add entries, in their order. All of them reverse the same one, or none."""
    lines = [
        (
            *(entry.party_id if party is entry.party else None for party in Party),
            *(entry.kind, entry.amount, entry.currency),
            change_of(entry.party, entry.kind, entry.amount, is_reversal=reverses is not None),
            *(entry.booked_at or now, entry.reason, entry.reference, reverses),
        )
        for entry in entries
    ]
    added = await connection.fetch(_INSERT, author.token_name, *map(list, zip(*lines, strict=True)))
    rows = [edit.read_object(TABLE, text) for (text,) in added]
    await edit.note_all(
        connection, author, TABLE, [Change(f"manual-entries/{row['id']}", None, row) for row in rows]
    )
    return rows


def _wrong_time(booked_at: datetime | None, now: datetime, closed_until: datetime | None) -> str:
    if booked_at is None:
        return ""
    if booked_at > now:
        return "is in the future"
    if closed_until is not None and booked_at < closed_until:
        until = closed_until.astimezone(booked_at.tzinfo).isoformat()
        return f"is in a closed period: the books are closed up to {until}"
    return ""


async def _unknown(connection: Connection, entries: Sequence[NewEntry]) -> dict[int, tuple[str, str]]:
    faults: dict[int, tuple[str, str]] = {}
    for party in Party:
        ids = {entry.party_id for entry in entries if entry.party is party}
        known = {id_ for (id_,) in await connection.fetch(_KNOWN.format(party), list(ids))}
        faults |= {
            place: (f"{party}_id", "does not exist")
            for place, entry in enumerate(entries)
            if entry.party is party and entry.party_id not in known
        }
    return faults


async def _booked_before(connection: Connection, entries: Sequence[NewEntry]) -> dict[int, tuple[str, str]]:
    """The entries whose reference another entry of their party has, in the book or in the same request."""
    references: Collection[str] = {entry.reference for entry in entries if entry.reference}
    taken = {}
    for id_, affiliate_id, advertiser_id, reference in await connection.fetch(_REFERENCES, list(references)):
        party = Party.ADVERTISER if affiliate_id is None else Party.AFFILIATE
        taken[party, affiliate_id or advertiser_id, reference] = f"is of entry {id_} of this {party} already"
    faults = {}
    for place, entry in enumerate(entries):
        key = (entry.party, entry.party_id, entry.reference)
        if entry.reference and key in taken:
            faults[place] = ("reference", taken[key])
        taken.setdefault(key, f"is of an earlier entry of this {entry.party} here already")
    return faults
