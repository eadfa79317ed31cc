"""Postbacks to affiliates: created from changes of conversions, sent by the worker that takes them first.

A taken postback is not due again for a while, as a lease. If its worker is killed, the next worker sends it,
perhaps a second time with the same key.

A later change of the same conversion and URL waits until the earlier postback is sent or given up. Postbacks
of a blocked or archived affiliate are held.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tracker.domain import postback_macros
from tracker.domain.macros import TemplateError
from tracker.domain.model import Template
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.conversions.list import shown
from tracker.store.db import Connection, Pool
from tracker.store.paging import MAX_OFFSET, Page, Row, TooDeepError, reading
from tracker.store.time_span import ALL_TIME, Span

LEASE = timedelta(seconds=30)
"""How long other workers leave a postback that is being sent."""
LONGEST_PAUSE = timedelta(hours=2)
"""Longest delay of the next attempt."""
KEPT = timedelta(days=90)
"""How long the log remembers."""
NOT_TOLD = "its affiliate is blocked or archived"
"""Why no postback is sent."""
_FORGOTTEN_AT_ONCE = 10_000

_LOCK_UNANNOUNCED = """
SELECT id FROM conversion_change WHERE NOT is_announced ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_MARK_ANNOUNCED = "UPDATE conversion_change SET is_announced = true WHERE id = ANY ($1)"
# One for each affiliate postback that matches a change. Tests, imports and changes without a new status have
# none.
_FACTS = f"""
SELECT change.id AS change_id, change.status_after, change.at AS changed_at,
    (SELECT count(*) FROM conversion_change AS earlier
     WHERE earlier.conversion_id = conversion.id AND earlier.id <= change.id) AS change_number,
    affiliate.status = 'blocked' OR affiliate.is_archived AS is_held,
    asked.id AS affiliate_postback_id, asked.url,
    conversion.id, conversion.hash, conversion.click_hash, conversion.offer_id, conversion.goal_id,
    conversion.affiliate_id, conversion.payout, conversion.payout_currency, conversion.created_at,
    offer.name AS offer_name, goal.name AS goal_name, affiliate.name AS affiliate_name,
    {", ".join(f"click.{column}" for column in postback_macros.CLICK_COLUMNS)}
FROM conversion_change AS change
JOIN conversion ON conversion.id = change.conversion_id
JOIN affiliate_postback AS asked ON asked.affiliate_id = conversion.affiliate_id
    AND asked.status = 'active' AND NOT asked.is_archived AND change.status_after = ANY (asked.statuses)
    AND coalesce(asked.offer_id, conversion.offer_id) = conversion.offer_id
    AND coalesce(asked.goal_id, conversion.goal_id) = conversion.goal_id
JOIN offer ON offer.id = conversion.offer_id
JOIN goal ON goal.id = conversion.goal_id
JOIN affiliate ON affiliate.id = conversion.affiliate_id
LEFT JOIN click ON click.hash = conversion.click_hash
WHERE change.id = ANY ($1) AND NOT conversion.is_test AND change.source <> 'import'
    AND change.status_before IS DISTINCT FROM change.status_after
ORDER BY change.id, asked.id
"""  # noqa: S608
_MAKE = """
INSERT INTO sent_postback
    (change_id, conversion_id, affiliate_postback_id, affiliate_id, url, host, last_error, state,
     next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE $8 WHEN 'waiting' THEN now() END)
ON CONFLICT DO NOTHING
"""

# The same applies to a change whose postbacks another worker is about to create.
_IS_BEHIND = """(
    EXISTS (
        SELECT FROM sent_postback AS earlier
        WHERE (earlier.conversion_id, earlier.affiliate_postback_id)
                = (sent_postback.conversion_id, sent_postback.affiliate_postback_id)
            AND earlier.change_id < sent_postback.change_id AND earlier.state = 'waiting')
    OR EXISTS (
        SELECT FROM conversion_change AS earlier
        WHERE earlier.conversion_id = sent_postback.conversion_id AND earlier.id < sent_postback.change_id
            AND NOT earlier.is_announced)
)"""
# The index leads from host to host, however many postbacks wait for each.
_DUE_HOSTS = f"""
WITH RECURSIVE waiting (host) AS (
    SELECT min(host) FROM sent_postback WHERE state = 'waiting'
    UNION ALL
    SELECT (SELECT min(host) FROM sent_postback WHERE state = 'waiting' AND host > waiting.host)
    FROM waiting WHERE waiting.host IS NOT NULL
)
SELECT host FROM waiting WHERE host IS NOT NULL AND EXISTS (
    SELECT FROM sent_postback
    WHERE state = 'waiting' AND sent_postback.host = waiting.host AND next_attempt_at <= now()
        AND NOT {_IS_BEHIND})
"""  # noqa: S608
_HOLD_BLOCKED = """
UPDATE sent_postback SET state = 'held', next_attempt_at = NULL
WHERE state = 'waiting' AND host = $1 AND next_attempt_at <= now() AND affiliate_id IN (
    SELECT id FROM affiliate WHERE status = 'blocked' OR is_archived)
"""
# A copy of a database takes none. A postback that had to wait gets the full time for
# attempts.
_TAKE = f"""
UPDATE sent_postback
SET attempts = attempts + 1, last_attempt_at = now(), next_attempt_at = now() + $3::interval,
    give_up_at = CASE attempts WHEN 0 THEN now() + interval '24 hours' ELSE give_up_at END
WHERE NOT EXISTS (SELECT FROM deployment WHERE copy_of IS NOT NULL) AND id IN (
    SELECT id FROM sent_postback
    WHERE state = 'waiting' AND host = $1 AND next_attempt_at <= now() AND NOT {_IS_BEHIND}
    ORDER BY next_attempt_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, key, url, attempts, give_up_at - now()
"""  # noqa: S608
# The result of another attempt stays.
_SETTLE = """
UPDATE sent_postback
SET state = $2, next_attempt_at = now() + $3::interval, last_status = $4, last_error = $5
WHERE id = $1 AND state = 'waiting'
"""
_BRING_FORWARD = """
UPDATE sent_postback SET next_attempt_at = now()
WHERE state = 'waiting' AND next_attempt_at > now() + $1::interval
"""
_FIRE_AGAIN = """
UPDATE sent_postback
SET state = 'waiting', attempts = 0, next_attempt_at = now(), give_up_at = now() + interval '24 hours'
WHERE id = $1
"""
_IS_TOLD = "SELECT status <> 'blocked' AND NOT is_archived FROM affiliate WHERE id = $1"
# An older status is not sent after a newer one.
_HELD = """
FROM sent_postback AS held WHERE state = 'held' AND affiliate_id = $1 AND NOT EXISTS (
    SELECT FROM sent_postback AS later
    WHERE (later.conversion_id, later.affiliate_postback_id)
            = (held.conversion_id, held.affiliate_postback_id)
        AND later.change_id > held.change_id AND later.state IN ('waiting', 'sent'))
"""
_SEND_HELD = f"""
UPDATE sent_postback
SET state = 'waiting', attempts = 0, next_attempt_at = now(), give_up_at = now() + interval '24 hours'
WHERE id IN (SELECT id {_HELD})
"""  # noqa: S608
_COUNT_HELD = f"""
SELECT (SELECT count(*) {_HELD}),
    (SELECT count(*) FROM sent_postback WHERE state = 'held' AND affiliate_id = $1)
"""  # noqa: S608
_FORGET = """
DELETE FROM sent_postback WHERE id IN (
    SELECT id FROM sent_postback WHERE created_at < now() - $1::interval AND state <> 'waiting' LIMIT $2)
"""
_COUNT = f"""
SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
    count(*) FILTER (
        WHERE state = 'waiting' AND next_attempt_at < now() - interval '1 minute' AND NOT {_IS_BEHIND}
    ) AS overdue,
    count(*) FILTER (WHERE state = 'failed') AS failed
FROM sent_postback
WHERE state = 'waiting'
    OR (state = 'failed' AND coalesce(last_attempt_at, created_at) > now() - interval '1 day')
"""  # noqa: S608

_COLUMNS = (
    *("id", "key", "conversion_id", "change_id", "affiliate_id", "affiliate_postback_id", "url", "state"),
    *("attempts", "created_at", "next_attempt_at", "last_attempt_at", "give_up_at", "last_status"),
    "last_error",
)
FILTERS = ("affiliate_id", "affiliate_postback_id", "conversion_id", "state", "host")
"""Columns for filters of the log."""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM sent_postback"  # noqa: S608
SENT = Table(
    "sent_postback", ("state", "attempts", "last_status", "last_error"), facts=("affiliate_id",), is_log=True
)


class Due(NamedTuple):
    """A postback to send now."""

    id: int
    key: str
    url: str
    attempts: int  # including this one
    patience: timedelta  # the remaining time for attempts


class Counts(NamedTuple):
    """Numbers of unsent postbacks."""

    waiting: int
    overdue: int  # waiting ones that have been due for a minute
    failed: int  # failed within a day


async def announce(connection: Connection, most: int) -> int:
    """Create the postbacks of unannounced changes. Returns the number of these changes."""
    async with connection.transaction():
        changes = [id_ for (id_,) in await connection.fetch(_LOCK_UNANNOUNCED, most)]
        if changes:
            made = [_made(facts) for facts in await connection.fetch(_FACTS, changes)]
            await connection.executemany(_MAKE, made)
            await connection.execute(_MARK_ANNOUNCED, changes)
    return len(changes)


async def due_hosts(pool: Pool) -> set[str]:
    """The hosts with postbacks that are due."""
    return {host for (host,) in await pool.fetch(_DUE_HOSTS)}


async def take(pool: Pool, host: str, most: int) -> list[Due]:
    """Take the due postbacks of a host. They are due again after LEASE unless they are settled.

    Due postbacks of blocked and archived affiliates are held instead.
    """
    await pool.execute(_HOLD_BLOCKED, host)
    rows = await pool.fetch(_TAKE, host, most, LEASE)
    return [Due(id_, key.hex, *rest) for id_, key, *rest in rows]


async def settle(
    pool: Pool, id_: int, state: str, pause: timedelta | None, status: int | None, error: str
) -> None:
    """Note the result of an attempt, and the delay of the next one if there is one."""
    await pool.execute(_SETTLE, id_, state, pause, status, error)


async def bring_forward(connection: Connection) -> None:
    """Limit waiting times that were set by a clock which has gone back since."""
    await connection.execute(_BRING_FORWARD, LONGEST_PAUSE)


async def fire_again(pool: Pool, author: Author, id_: int) -> None:
    """Send a postback once more, in any state.

    Raises:
        LookupError: it does not exist. ValueError: it never had a valid address, or its affiliate is blocked
            or archived.
    """
    async with edit.changing(pool) as connection:
        before = await edit.locked(connection, SENT, {"id": id_})
        if before is None:
            raise LookupError(id_)
        if before["state"] == "failed" and not before["attempts"]:
            raise ValueError(before["last_error"])
        if not await connection.fetchval(_IS_TOLD, before["affiliate_id"]):
            raise ValueError(NOT_TOLD)
        await connection.execute(_FIRE_AGAIN, id_)
        after = await edit.one(connection, SENT, {"id": id_})
        await edit.note(connection, author, SENT, f"sent-postbacks/{id_}", before, after)


async def count_held(connection: Connection, affiliate_id: int) -> tuple[int, int]:
    """How many postbacks of an affiliate send_held would send, and how many are held.

    Raises:
        LookupError: there is no such affiliate.
        ValueError: it is blocked or archived.
    """
    is_told = await connection.fetchval(_IS_TOLD, affiliate_id)
    if is_told is None:
        raise LookupError(affiliate_id)
    if not is_told:
        raise ValueError(NOT_TOLD)
    sent, held = await connection.fetchrow(_COUNT_HELD, affiliate_id)
    return sent, held


async def send_held(connection: Connection, affiliate_id: int) -> None:
    """Send what was held while an affiliate was blocked, except old statuses: see count_held."""
    await connection.execute(_SEND_HELD, affiliate_id)


async def page(
    pool: Pool, filters: Mapping[str, Any], span: Span, zone: tzinfo, number: int, per_page: int
) -> Page:
    """A page of the log, newest first.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
    """
    offset = (number - 1) * per_page
    if offset > MAX_OFFSET:
        raise TooDeepError(f"pages lead only up to {MAX_OFFSET:,} rows deep")
    where, values = _where(filters, span)
    statement = f"{_SELECT} WHERE {where} ORDER BY id DESC LIMIT {int(per_page)} OFFSET {int(offset)}"
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) FROM sent_postback WHERE {where}", *values)  # noqa: S608
        rows = [shown(record, zone) for record in await connection.fetch(statement, *values)]
    return Page(rows, total, offset + len(rows) < total)


async def one(pool: Pool, id_: int, zone: tzinfo) -> Row | None:
    record = await pool.fetchrow(f"{_SELECT} WHERE id = $1", id_)
    return None if record is None else shown(record, zone)


async def counts(source: Pool | Connection) -> Counts:
    return Counts(*await source.fetchrow(_COUNT))


async def forget(connection: Connection) -> None:
    """Delete old postbacks that were sent or have failed."""
    while await connection.execute(_FORGET, KEPT, _FORGOTTEN_AT_ONCE) == f"DELETE {_FORGOTTEN_AT_ONCE}":
        pass


def _where(filters: Mapping[str, Any], span: Span) -> tuple[str, list[Any]]:
    conditions = [f"{column} = ${n}" for n, column in enumerate(filters, 1)]
    values = list(filters.values())
    for operator, millis, everything in zip((">=", "<"), span, ALL_TIME, strict=True):
        if millis != everything:
            values.append(millis)
            conditions.append(f"created_at {operator} to_timestamp(${len(values)}::bigint / 1000.0)")
    return " AND ".join(conditions) or "true", values


def _made(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """A postback as it is stored. If its URL cannot be filled, it fails immediately."""
    url, error, state = facts["url"], "", "held" if facts["is_held"] else "waiting"
    try:
        url = postback_macros.fill(_compiled(url), facts)
    except ValueError as why:
        error, state = why.rule if isinstance(why, TemplateError) else str(why), "failed"
    named = (facts[name] for name in ("change_id", "id", "affiliate_postback_id", "affiliate_id"))
    return (*named, url, _host(url), error, state)


def _host(url: str) -> str:
    """The host for fair turns. The port is left out, so that several ports give a host no advantage."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(4096)
def _compiled(url: str) -> Template:
    return postback_macros.compile(url)
