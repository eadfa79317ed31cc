"""Many postbacks to affiliates are sent once more, and how the affiliates' addresses have been doing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, tzinfo
from typing import Any, Final, NamedTuple

from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author
from tracker.store.conversions.affiliate_postbacks import HAS_LATER, NOT_TOLD, POSTBACKS, SENT
from tracker.store.conversions.list import shown
from tracker.store.db import Pool
from tracker.store.deliveries import where
from tracker.store.paging import Page, reading
from tracker.store.time_span import Span

MOST: Final = 10_000
"""Most postbacks of one request."""
LOOKED_BACK: Final = timedelta(days=7)
"""How far back the state of an address goes."""
LATER: Final = "a later status has been sent since"
"""Why an old status is not sent."""
IS_FAILING: Final = "sent_lately = 0 AND unsent >= 5"
"""SQL condition of an address that keeps failing: nothing has arrived within a day."""

# An old status must not arrive after a newer one.
_CHOSEN = f"""
SELECT id, CASE
    WHEN state = 'failed' AND attempts = 0 THEN last_error
    WHEN (SELECT status = 'blocked' OR is_archived FROM affiliate WHERE id = affiliate_id) THEN '{NOT_TOLD}'
    WHEN {HAS_LATER.format("sent_postback")} THEN '{LATER}'
    ELSE '' END
FROM sent_postback WHERE {{condition}} ORDER BY id LIMIT {MOST + 1} FOR UPDATE
"""  # noqa: S608
_URLS = f"""
SELECT told.* , {IS_FAILING} AS is_failing FROM (
    SELECT asked.id, asked.affiliate_id, affiliate.name AS affiliate_name, asked.offer_id, asked.goal_id,
        asked.url, asked.status, asked.version,
        count(*) FILTER (WHERE state = 'sent') AS sent,
        count(*) FILTER (WHERE state = 'failed') AS failed,
        count(*) FILTER (WHERE state = 'waiting') AS waiting,
        count(*) FILTER (WHERE state = 'held') AS held,
        count(*) FILTER (WHERE state = 'sent' AND last_attempt_at > now() - interval '1 day') AS sent_lately,
        count(*) FILTER (WHERE attempts > 0 AND (state = 'waiting' OR
            state = 'failed' AND last_attempt_at > now() - interval '1 day')) AS unsent,
        max(last_attempt_at) FILTER (WHERE state = 'sent') AS last_sent_at,
        max(last_attempt_at) FILTER (WHERE state IN ('failed', 'waiting')) AS last_failed_at,
        (array_agg(last_error ORDER BY last_attempt_at DESC NULLS LAST)
            FILTER (WHERE state IN ('failed', 'waiting') AND last_error <> ''))[1] AS last_error
    FROM affiliate_postback AS asked JOIN affiliate ON affiliate.id = asked.affiliate_id
    LEFT JOIN sent_postback AS tried
        ON affiliate_postback_id = asked.id AND tried.created_at > now() - $1::interval
    WHERE NOT asked.is_archived AND ($2::bigint IS NULL OR asked.affiliate_id = $2)
    GROUP BY asked.id, affiliate.name
) AS told
"""  # noqa: S608
_SHOWN = ("sent_lately", "unsent")


class TooManyError(ValueError):
    """More than MOST postbacks are meant."""


class Refired(NamedTuple):
    """A postback, and why it is not sent again. "": it is."""

    id: int
    reason: str


async def refire(
    pool: Pool, author: Author, filters: Mapping[str, Any], span: Span, *, dry_run: bool
) -> list[Refired]:
    """Send the postbacks of a filter once more, each to its address with its key. A dry run undoes it.

    Raises:
        TooManyError: they are too many.
    """
    condition, values = where(filters, span)
    async with edit.changing(pool, is_trial=dry_run) as connection:
        rows = [Refired(*row) for row in await connection.fetch(_CHOSEN.format(condition=condition), *values)]
        if len(rows) > MOST:
            raise TooManyError(f"matches more than {MOST:,} postbacks")
        ids = [row.id for row in rows if not row.reason]
        if ids:
            await POSTBACKS.send_again(connection, ids)
            told = {**filters, "postbacks": len(ids)}
            await edit.note(connection, author, SENT, "sent-postbacks", told, {"state": "waiting"})
    return rows


async def urls(
    pool: Pool, affiliate_id: int | None, is_failing: bool | None, zone: tzinfo, number: int, per_page: int
) -> Page:
    """Affiliates' addresses and how they have been doing, those that keep failing first."""
    values = (LOOKED_BACK, affiliate_id, is_failing)
    found = f"SELECT * FROM ({_URLS}) AS found WHERE ($3::boolean IS NULL OR is_failing = $3)"  # noqa: S608
    offset = (number - 1) * per_page
    part = f"ORDER BY is_failing DESC, unsent DESC, id LIMIT {int(per_page)} OFFSET {int(offset)}"
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) FROM ({found}) AS counted", *values)  # noqa: S608
        rows = [shown(record, zone) for record in await connection.fetch(f"{found} {part}", *values)]
    return Page([_url(row) for row in rows], total, number * per_page < total)


def _url(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _SHOWN}
