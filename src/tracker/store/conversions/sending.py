"""Whether this database sends postbacks to affiliates and webhooks.

A restored database is a copy, and sends none at first. An operator may hold the sending of another, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.db import Connection, connect
from tracker.store.webhooks.sent import WEBHOOKS

_ANNOUNCED_AT_ONCE = 500
_COPY_OF = "SELECT copy_of FROM deployment"
# A copy of a copy that never sent: everything since the first backup is still unsent.
_HOLD = "UPDATE deployment SET copy_of = coalesce(copy_of, $1)"
_RESUME = "UPDATE deployment SET copy_of = NULL"
# A postback from before the backup has its time in its hash, even if it was stored later.
_IS_EARLIER = """
coalesce(to_timestamp(click_millis(change.postback_hash) / 1000.0), change.at)
    <= (SELECT copy_of FROM deployment)
"""
_BACKLOG = f"""
SELECT count(*), count(*) FILTER (WHERE {_IS_EARLIER}), count(DISTINCT host), min(change.at), max(change.at)
FROM sent_postback JOIN conversion_change AS change ON change.id = change_id
WHERE sent_postback.state = 'waiting'
"""  # noqa: S608
_DROP_EARLIER = f"""
UPDATE sent_postback
SET state = 'failed', next_attempt_at = NULL,
    last_error = 'dropped by resume-sending: the tracker that was backed up may have sent it'
FROM conversion_change AS change
WHERE change.id = change_id AND sent_postback.state = 'waiting' AND {_IS_EARLIER}
"""  # noqa: S608
_IS_EARLIER_EVENT = "event.at <= (SELECT copy_of FROM deployment)"
_WEBHOOK_BACKLOG = f"""
SELECT count(*), count(*) FILTER (WHERE {_IS_EARLIER_EVENT})
FROM sent_webhook JOIN webhook_event AS event ON event.id = event_id WHERE state = 'waiting'
"""  # noqa: S608
_DROP_EARLIER_WEBHOOKS = f"""
UPDATE sent_webhook
SET state = 'failed', next_attempt_at = NULL,
    last_error = 'dropped by resume-sending: the tracker that was backed up may have sent it'
FROM webhook_event AS event
WHERE event.id = event_id AND state = 'waiting' AND {_IS_EARLIER_EVENT}
"""  # noqa: S608


class Backlog(NamedTuple):
    """Postbacks to affiliates and requests to webhooks that wait in a copy."""

    waiting: int
    earlier: int  # those from before the backup, which the original may have sent since
    hosts: int
    oldest: datetime | None  # times of the changes of their conversions
    newest: datetime | None
    webhooks: int  # requests
    earlier_webhooks: int  # those with events from before the backup


async def copy_of(connection: Connection) -> datetime | None:
    """Since when nothing is sent: the time of the backup or of the hold. None if it sends."""
    made_at: datetime | None = await connection.fetchval(_COPY_OF)
    return made_at


async def hold(connection: Connection, made_at: datetime) -> None:
    """Hold the sending until `resume`. A copy's `made_at` is the time of its backup."""
    await connection.execute(_HOLD, made_at)


@asynccontextmanager
async def resuming(dsn: str, *, dry_run: bool) -> AsyncIterator[Connection]:
    """A transaction in which a copy begins to send. A dry run rolls it back."""
    connection = await connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await (transaction.rollback() if dry_run else transaction.commit())
    finally:
        await connection.close()


async def backlog(connection: Connection) -> Backlog:
    """What waits. Creates the postbacks and requests of changes that no worker has processed."""
    for table in (POSTBACKS, WEBHOOKS):
        while await table.announce(connection, _ANNOUNCED_AT_ONCE):
            pass
    return Backlog(*await connection.fetchrow(_BACKLOG), *await connection.fetchrow(_WEBHOOK_BACKLOG))


async def resume(connection: Connection, *, drops_earlier: bool) -> None:
    """Send from now on. What may have been sent already is given up if it is to be dropped."""
    if drops_earlier:
        await connection.execute(_DROP_EARLIER)
        await connection.execute(_DROP_EARLIER_WEBHOOKS)
    for table in (POSTBACKS, WEBHOOKS):
        await table.renew(connection)
    await connection.execute(_RESUME)
