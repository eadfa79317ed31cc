"""Takes back what the imports of a source stored: conversions, clicks, earlier ids, and all their counts.

Each batch is a transaction of its own, under the lock of conversions. So a postback finds its click before
the batch, or never. A killed undo is run again, and goes on with what is left.

A booked conversion stays in the table, because the book refers to it. It becomes rejected, and its reversal
is booked. A click stays while a conversion, or a postback that waits, refers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from tracker.domain.click_id import is_legacy_hash
from tracker.domain.money import show
from tracker.domain.postback import ConversionStatus, Source
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Change, Table
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import deltas
from tracker.store.conversions import status
from tracker.store.conversions.lock import lock
from tracker.store.db import Connection

BATCH = 2_000
"""Rows of one transaction: postbacks wait for it."""

TABLE = Table("import", (), is_log=True)
"""The resource of an undo in the audit trail."""

_RECOGNISED_TOGETHER = 10_000
_MOST_NAMED = 20

_FIRST_IMPORTED = """EXISTS (
    SELECT FROM conversion_change
    WHERE conversion_id = conversion.id AND status_before IS NULL AND source = 'import')"""
CHANGED = """(
    EXISTS (SELECT FROM conversion_change WHERE conversion_id = conversion.id AND source <> 'import')
    OR EXISTS (SELECT FROM postback WHERE conversion_id = conversion.id)
    OR EXISTS (SELECT FROM conversion_correction WHERE conversion_id = conversion.id)
    OR EXISTS (SELECT FROM conversion_refund WHERE conversion_id = conversion.id))"""
"""SQL: whether a postback or a person has changed an imported conversion, or a postback has confirmed it."""
# What becomes of an imported conversion. Entries and corrections refer to theirs for good.
_FATE = f"""CASE
    WHEN {CHANGED} THEN 'changed'
    WHEN NOT EXISTS (SELECT FROM conversion_entry WHERE conversion_id = conversion.id) THEN 'deleted'
    WHEN status = 'approved' THEN 'reversed'
    ELSE 'reversed before' END"""

_UNNOTED = """
SELECT legacy_id, encode(uuid_send(hash), 'hex') FROM legacy_click
WHERE source = '' AND legacy_id > $1 ORDER BY legacy_id LIMIT $2
"""
_NOTE = """
WITH known AS (SELECT * FROM unnest($2::text[], $3::uuid[]) AS each (legacy_id, hash)), noted AS (
    INSERT INTO imported_click (hash, source) SELECT hash, $1 FROM known ON CONFLICT DO NOTHING
)
UPDATE legacy_click SET source = $1 FROM known
WHERE legacy_click.source = '' AND legacy_click.legacy_id = known.legacy_id AND NOT EXISTS (
    SELECT FROM legacy_click AS other WHERE (other.legacy_id, other.source) = (known.legacy_id, $1))
"""

_CONVERSIONS = f"""
SELECT fate, count(*) FROM (SELECT {_FATE} AS fate FROM conversion WHERE import_source = $1) AS each
GROUP BY fate
"""  # noqa: S608
_BOOKED = f"""
SELECT side.currency, sum(side.payout), sum(side.revenue) FROM (
    SELECT id FROM conversion WHERE import_source = $1 AND {_FATE} = 'reversed'
) AS booked JOIN conversion_entry AS entry ON conversion_id = booked.id
CROSS JOIN LATERAL (VALUES
    (entry.payout_currency, entry.payout, 0), (entry.revenue_currency, 0, entry.revenue)
) AS side (currency, payout, revenue)
GROUP BY side.currency ORDER BY side.currency
"""  # noqa: S608
_UNMARKED = f"""
SELECT count(*) FROM conversion WHERE import_source IS NULL AND {_FIRST_IMPORTED}
"""  # noqa: S608
_CLICKS = "SELECT count(*) FROM imported_click WHERE source = $1"
# $2: the conversions of the source are taken back, too.
_HOLDING = f"""
FROM conversion JOIN imported_click ON imported_click.hash = click_hash
WHERE source = $1 AND NOT ($2 AND import_source IS NOT DISTINCT FROM $1 AND {_FATE} = 'deleted')
"""
_HELD_CLICKS = f"""
SELECT count(*) FROM (
    SELECT click_hash {_HOLDING}
    UNION SELECT click_hash FROM postback JOIN imported_click ON imported_click.hash = click_hash
    WHERE imported_click.source = $1 AND result IN ('held', 'parked', 'waiting')
) AS held
"""  # noqa: S608
_SOME_HELD = f"""
SELECT encode(uuid_send(click_hash), 'hex'), id, status,
       CASE WHEN import_source = $1 THEN {_FATE} WHEN import_source IS NOT NULL THEN 'of another source'
            WHEN {_FIRST_IMPORTED} THEN 'unmarked' ELSE 'live' END,
       import_source
{_HOLDING} ORDER BY id LIMIT {_MOST_NAMED}
"""

_SOURCES = "SELECT DISTINCT source FROM import_run ORDER BY source"
_FORGET_RUNS = "DELETE FROM import_run WHERE source = $1 AND kind = ANY ($2)"

_NEXT_CONVERSIONS = f"""
SELECT id, {_FATE} AS fate FROM conversion WHERE import_source = $1 AND id > $2 ORDER BY id LIMIT $3
"""  # noqa: S608
_DELETE_CHANGES = "DELETE FROM conversion_change WHERE conversion_id = ANY ($1)"
_DELETE_CONVERSIONS = "DELETE FROM conversion WHERE id = ANY ($1)"
TELL_NOBODY = """
UPDATE conversion_change SET is_announced = true WHERE conversion_id = ANY ($1) AND NOT is_announced
"""
"""Affiliates hear nothing of an import, and so of no change of it."""

_NEXT_CLICKS = """
SELECT encode(uuid_send(each.hash), 'hex'),
    EXISTS (SELECT FROM conversion WHERE click_hash = each.hash)
    OR EXISTS (SELECT FROM postback WHERE click_hash = each.hash AND result = 'held')
    OR EXISTS (SELECT FROM postback WHERE click_hash = each.hash AND result IN ('parked', 'waiting'))
FROM (
    SELECT hash FROM imported_click WHERE source = $1 AND hash > $2 ORDER BY hash LIMIT $3
) AS each ORDER BY each.hash
"""
# The bounds match the list. They let the planner skip partitions.
_DELETE_CLICKS = f"""
WITH taken AS (
    DELETE FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
    RETURNING {click_counts.COUNTED}
), {deltas.noting("taken", "-stored", sign=-1)}, unnamed AS (
    DELETE FROM legacy_click WHERE hash = ANY ($1::uuid[]) RETURNING hash
), unmarked AS (
    DELETE FROM imported_click WHERE hash = ANY ($1::uuid[])
)
SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM unnamed)
"""  # noqa: S608

BEFORE_ALL = "0" * 32
"""The hash from which the first batch of clicks begins."""


class Kind(StrEnum):
    """What an undo takes back."""

    CLICKS = "clicks"
    CONVERSIONS = "conversions"
    ALL = "all"

    @property
    def parts(self) -> list[str]:
        """The kinds of import runs."""
        return [Kind.CLICKS.value, Kind.CONVERSIONS.value] if self is Kind.ALL else [self.value]


class Booked(NamedTuple):
    """What conversions of an import have booked in a currency."""

    currency: str
    payout: Decimal
    revenue: Decimal


class Plan(NamedTuple):
    """What an undo does."""

    clicks: int  # that are deleted
    clicks_kept: int  # because conversions, or postbacks that wait, refer to them
    conversions: int  # that are deleted
    reversed: int  # booked ones that become rejected
    reversed_before: int
    changed: int  # changed since by postbacks or the operator: they stay
    unmarked: int  # conversions imported by earlier versions, of any source: they stay
    booked: list[Booked]  # by those that are reversed


class Holder(NamedTuple):
    """A conversion that keeps a click."""

    click: str  # hash
    conversion_id: int
    status: str
    why: str  # live, of another source, unmarked, or its fate
    source: str | None  # whose import stored it


class Conversions(NamedTuple):
    """A batch of conversions."""

    last: int  # id
    seen: int
    deleted: int
    reversed: int


class Clicks(NamedTuple):
    """A batch of clicks."""

    last: str  # hash
    seen: int
    deleted: int
    legacy_ids: int


async def recognise(connection: Connection, source: str) -> int:
    """Note the clicks that earlier versions imported without their source. Returns how many.

    The hash of such a click is made from its source and its earlier id, so no other click has it.
    """
    noted, last = 0, ""
    while rows := await connection.fetch(_UNNOTED, last, _RECOGNISED_TOGETHER):
        last = rows[-1][0]
        known = [(legacy_id, hash_) for legacy_id, hash_ in rows if is_legacy_hash(hash_, source, legacy_id)]
        if known:
            await connection.execute(_NOTE, source, *zip(*known, strict=True))
        noted += len(known)
    return noted


async def plan(connection: Connection, source: str, kind: Kind) -> Plan:
    """What an undo of these kinds would do now."""
    with_conversions = Kind.CONVERSIONS in kind.parts
    fates = dict(await connection.fetch(_CONVERSIONS, source)) if with_conversions else {}
    booked = [Booked(*row) for row in await connection.fetch(_BOOKED, source)] if with_conversions else []
    unmarked = int(await connection.fetchval(_UNMARKED)) if with_conversions else 0
    clicks = held = 0
    if Kind.CLICKS in kind.parts:
        held = int(await connection.fetchval(_HELD_CLICKS, source, with_conversions))
        clicks = int(await connection.fetchval(_CLICKS, source)) - held
    return Plan(
        clicks=clicks,
        clicks_kept=held,
        conversions=fates.get("deleted", 0),
        reversed=fates.get("reversed", 0),
        reversed_before=fates.get("reversed before", 0),
        changed=fates.get("changed", 0),
        unmarked=unmarked,
        booked=booked,
    )


async def holders(connection: Connection, source: str, kind: Kind) -> list[Holder]:
    """Some conversions that keep clicks of the source."""
    with_conversions = Kind.CONVERSIONS in kind.parts
    return [Holder(*row) for row in await connection.fetch(_SOME_HELD, source, with_conversions)]


async def sources(connection: Connection) -> list[str]:
    """The sources of the files that were imported."""
    return [source for (source,) in await connection.fetch(_SOURCES)]


async def begin(connection: Connection, author: Author, source: str, kind: Kind, planned: Plan) -> None:
    """Note the undo in the audit trail, and let the files of the source be imported again."""
    before = planned._asdict() | {
        "kind": kind.value,
        "booked": [{**each._asdict(), **_shown(each)} for each in planned.booked],
    }
    async with connection.transaction():
        await edit.note_all(connection, author, TABLE, [Change(f"imports/{source}", before, None)])
        await connection.execute(_FORGET_RUNS, source, kind.parts)


def _shown(booked: Booked) -> dict[str, str]:
    return {"payout": show(booked.payout), "revenue": show(booked.revenue)}


async def take_back_conversions(
    connection: Connection, author: Author, source: str, after: int
) -> Conversions:
    """Take back the next conversions of the source, by id. `seen` is 0 at the end."""
    async with connection.transaction():
        await lock(connection)
        rows = await connection.fetch(_NEXT_CONVERSIONS, source, after, BATCH)
        deleted = [id_ for id_, fate in rows if fate == "deleted"]
        booked = [id_ for id_, fate in rows if fate == "reversed"]
        await connection.execute(_DELETE_CHANGES, deleted)
        await connection.execute(_DELETE_CONVERSIONS, deleted)
        await _reverse(connection, author, booked)
    return Conversions(rows[-1][0] if rows else after, len(rows), len(deleted), len(booked))


async def _reverse(connection: Connection, author: Author, ids: Sequence[int]) -> None:
    if ids:
        rejected = ConversionStatus.REJECTED
        await status.set_status(connection, ids, rejected, source=Source.IMPORT, author=author.token_name)
        await connection.execute(TELL_NOBODY, ids)


async def take_back_clicks(connection: Connection, source: str, after: str) -> Clicks:
    """Take back the next clicks of the source, by hash, without those that a conversion or a postback needs.

    `seen` is 0 at the end.
    """
    deleted = legacy_ids = 0
    async with connection.transaction():
        await lock(connection)
        rows = await connection.fetch(_NEXT_CLICKS, source, after, BATCH)
        free = [hash_ for hash_, is_held in rows if not is_held]
        if free:
            deleted, legacy_ids = await connection.fetchrow(_DELETE_CLICKS, free, free[0], free[-1])
    return Clicks(rows[-1][0] if rows else after, len(rows), deleted, legacy_ids)
