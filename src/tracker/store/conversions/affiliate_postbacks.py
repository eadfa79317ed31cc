"""Postbacks to affiliates: created from changes of conversions.

A later change of the same conversion and URL waits until the earlier postback is sent or given up. Postbacks
of a blocked or archived affiliate are held.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tracker.domain import postback_macros
from tracker.domain.conversion import ConvertedClick
from tracker.domain.macros import TemplateError
from tracker.domain.model import Template
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.db import Connection, Pool
from tracker.store.deliveries import Deliveries, Due

KEPT = timedelta(days=90)
"""How long the log remembers."""
NOT_TOLD = "its affiliate is blocked or archived"
"""Why no postback is sent."""

_LOCK_UNANNOUNCED = """
SELECT id FROM conversion_change WHERE NOT is_announced ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_MARK_ANNOUNCED = "UPDATE conversion_change SET is_announced = true WHERE id = ANY ($1)"


def _of_click(column: str) -> str:
    """SQL: a value of the click, or of its conversion if the click's row is not kept."""
    if column not in ConvertedClick._fields:
        return f"click.{column}"
    return f"CASE WHEN click.hash IS NULL THEN conversion.{column} ELSE click.{column} END AS {column}"


# One for each affiliate postback that matches a change. Tests, imports, changes without a new status, and
# unproven conversions have none.
_SOME_FACTS = f"""
SELECT change.id AS change_id, change.status_after, change.at AS changed_at,
    (SELECT count(*) FROM conversion_change AS earlier
     WHERE earlier.conversion_id = conversion.id AND earlier.id <= change.id) AS change_number,
    affiliate.status = 'blocked' OR affiliate.is_archived AS is_held,
    asked.id AS affiliate_postback_id, asked.url, asked.url_saved_by = 'affiliate' AS is_strict,
    conversion.id, conversion.hash, conversion.click_hash, conversion.offer_id, conversion.goal_id,
    conversion.affiliate_id, conversion.payout, conversion.payout_currency, conversion.created_at,
    offer.name AS offer_name, goal.name AS goal_name, affiliate.name AS affiliate_name,
    {", ".join(map(_of_click, postback_macros.CLICK_COLUMNS))}
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
WHERE change.source <> 'import' AND NOT conversion.is_unproven
    AND change.status_before IS DISTINCT FROM change.status_after
"""  # noqa: S608
_FACTS = f"{_SOME_FACTS} AND change.id = ANY ($1) AND NOT conversion.is_test ORDER BY change.id, asked.id"
_FACTS_OF_ONE = f"{_SOME_FACTS} AND conversion.id = $1 ORDER BY change.id, asked.id LIMIT 50"
_MAKE = """
INSERT INTO sent_postback
    (change_id, conversion_id, affiliate_postback_id, affiliate_id, is_strict, url, host, last_error, state,
     next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE $9 WHEN 'waiting' THEN now() END)
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
_HOLD_BLOCKED = """
UPDATE sent_postback SET state = 'held', next_attempt_at = NULL
WHERE state = 'waiting' AND host = $1 AND next_attempt_at <= now() AND affiliate_id IN (
    SELECT id FROM affiliate WHERE status = 'blocked' OR is_archived)
"""
_IS_TOLD = "SELECT status <> 'blocked' AND NOT is_archived FROM affiliate WHERE id = $1"
HAS_LATER = """EXISTS (
    SELECT FROM sent_postback AS later
    WHERE (later.conversion_id, later.affiliate_postback_id)
            = ({0}.conversion_id, {0}.affiliate_postback_id)
        AND later.change_id > {0}.change_id AND later.state IN ('waiting', 'sent'))
"""
"""SQL condition: a newer status of the same conversion and URL goes out. No older one is sent after it."""
_HELD = f"""
FROM sent_postback AS held WHERE state = 'held' AND affiliate_id = $1 AND NOT {HAS_LATER.format("held")}
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
_COLUMNS = (
    *("id", "key", "conversion_id", "change_id", "affiliate_id", "affiliate_postback_id", "url", "state"),
    *("attempts", "created_at", "next_attempt_at", "last_attempt_at", "give_up_at", "last_status"),
    "last_error",
)
FILTERS = ("affiliate_id", "affiliate_postback_id", "conversion_id", "state", "host")
"""Columns for filters of the log."""
SENT = Table(
    "sent_postback", ("state", "attempts", "last_status", "last_error"), facts=("affiliate_id",), is_log=True
)

TESTED = Table("affiliate_postback_test", ("status", "error"), is_log=True)
"""The resource of tests in the audit trail."""
_TO_TEST = """
SELECT asked.url, asked.url_saved_by = 'affiliate' AS is_strict, asked.statuses[1] AS status_after,
    asked.affiliate_id, affiliate.name AS affiliate_name, offer.id AS offer_id, offer.name AS offer_name,
    goal.id AS goal_id, goal.name AS goal_name, goal.currency AS payout_currency
FROM affiliate_postback AS asked JOIN affiliate ON affiliate.id = asked.affiliate_id
LEFT JOIN offer ON offer.id = asked.offer_id LEFT JOIN goal ON goal.id = asked.goal_id
WHERE asked.id = $1
"""


class Preview(NamedTuple):
    """A postback that an affiliate would get of a conversion."""

    affiliate_postback_id: int
    status: str  # the one that it tells
    url: str  # filled, unless there is an error
    state: str  # waiting, held or failed, as it would be stored
    error: str


class _AffiliatePostbacks(Deliveries):
    """The postbacks to affiliates, and their log."""

    async def announce(self, connection: Connection, most: int) -> int:
        async with connection.transaction():
            changes = [id_ for (id_,) in await connection.fetch(_LOCK_UNANNOUNCED, most)]
            if changes:
                made = [_made(facts) for facts in await connection.fetch(_FACTS, changes)]
                await connection.executemany(_MAKE, made)
                await connection.execute(_MARK_ANNOUNCED, changes)
        return len(changes)

    async def take(self, pool: Pool, host: str, most: int) -> list[Due]:
        """Due postbacks of blocked and archived affiliates are held instead."""
        await pool.execute(_HOLD_BLOCKED, host)
        return await super().take(pool, host, most)


POSTBACKS = _AffiliatePostbacks("sent_postback", _IS_BEHIND, _COLUMNS, KEPT, is_strict="is_strict")


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
        await POSTBACKS.send_again(connection, [id_])
        after = await edit.one(connection, SENT, {"id": id_})
        await edit.note(connection, author, SENT, f"sent-postbacks/{id_}", before, after)


async def to_test(pool: Pool, id_: int) -> Mapping[str, Any]:
    """The URL of an affiliate's postback, whether only public addresses are allowed, and what is known."""
    return {name: value for name, value in (await pool.fetchrow(_TO_TEST, id_)).items() if value is not None}


async def preview(pool: Pool, conversion_id: int) -> list[Preview]:
    """The postbacks that the changes of a conversion make, as if it were no test."""
    previews = []
    for facts in await pool.fetch(_FACTS_OF_ONE, conversion_id):
        _, _, id_, _, _, url, _, error, state = _made(facts)
        previews.append(Preview(id_, facts["status_after"], url, state, error))
    return previews


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


def _made(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """A postback as it is stored. If its URL cannot be filled, it fails immediately."""
    url, error, state = facts["url"], "", "held" if facts["is_held"] else "waiting"
    try:
        url = postback_macros.fill(_compiled(url), facts)
    except ValueError as why:
        error, state = why.rule if isinstance(why, TemplateError) else str(why), "failed"
    names = ("change_id", "id", "affiliate_postback_id", "affiliate_id", "is_strict")
    named = (facts[name] for name in names)
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
