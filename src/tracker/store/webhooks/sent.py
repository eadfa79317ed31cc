"""The requests of webhooks: made from events, and their log.

A later event of a subject waits until the earlier one is sent or given up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from tracker.domain import webhooks
from tracker.domain.money import show
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.conversions.list import KEYS
from tracker.store.db import Connection, Pool
from tracker.store.deliveries import Deliveries

KEPT = timedelta(days=30)
"""How long the log remembers."""

_LOCK_UNANNOUNCED = """
SELECT id FROM webhook_event WHERE NOT is_announced ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
# A change of a webhook that is under way is waited for: it moves or ends only requests that are there. Each
# webhook has its turn, as hosts have it elsewhere: of several at one host, one may never answer.
_MAKE = """
INSERT INTO sent_webhook (event_id, key, webhook_id, type, subject, url, host)
SELECT event.id, event.key, webhook.id, event.type, event.subject, webhook.url, 'webhook ' || webhook.id
FROM webhook_event AS event JOIN webhook ON CASE
    WHEN event.webhook_id IS NULL THEN event.type = ANY (webhook.event_types)
    ELSE event.webhook_id = webhook.id END
WHERE event.id = ANY ($1) AND webhook.status = 'active' AND NOT webhook.is_archived
ORDER BY event.id, webhook.id FOR SHARE OF webhook
ON CONFLICT DO NOTHING
"""
_MARK_ANNOUNCED = "UPDATE webhook_event SET is_announced = true WHERE id = ANY ($1)"
# The same applies to an event whose requests another worker is about to create.
_IS_BEHIND = """(
    EXISTS (
        SELECT FROM sent_webhook AS earlier
        WHERE (earlier.webhook_id, earlier.subject) = (sent_webhook.webhook_id, sent_webhook.subject)
            AND earlier.event_id < sent_webhook.event_id AND earlier.state = 'waiting')
    OR EXISTS (
        SELECT FROM webhook_event AS earlier
        WHERE earlier.subject = sent_webhook.subject AND earlier.id < sent_webhook.event_id
            AND NOT earlier.is_announced)
)"""
_MESSAGE = """
SELECT event.type, event.at, event.data::text AS data, webhook.secret,
    CASE WHEN webhook.previous_until > now() THEN webhook.previous_secret END AS previous_secret
FROM sent_webhook AS sent
JOIN webhook_event AS event ON event.id = sent.event_id JOIN webhook ON webhook.id = sent.webhook_id
WHERE sent.id = $1
"""
_PAYLOAD = """
SELECT event.type, event.at, event.data::text AS data
FROM sent_webhook AS sent JOIN webhook_event AS event ON event.id = sent.event_id WHERE sent.id = $1
"""
_IS_ACTIVE = """
SELECT status = 'active' AND NOT is_archived FROM webhook
WHERE id = (SELECT webhook_id FROM sent_webhook WHERE id = $1)
"""
_COLUMNS = (
    *("id", "key", "event_id", "webhook_id", "type", "subject", "url", "state", "attempts", "created_at"),
    *("next_attempt_at", "last_attempt_at", "give_up_at", "last_status", "last_error"),
)
FILTERS = ("webhook_id", "type", "subject", "state")
"""Columns for filters of the log."""
SENT = Table("sent_webhook", ("state", "attempts", "last_status", "last_error"), is_log=True)

_OF_CONVERSION = tuple(
    key for key in KEYS if not key.endswith("_name") and key not in ("click_created_at", "is_test")
)
_TIMES = ("created_at", "updated_at")
_HASHES = ("hash", "click_hash")


class Message(NamedTuple):
    """The content of a request, and the encrypted secrets that sign it."""

    payload: bytes
    secret: bytes
    previous_secret: bytes | None  # None: no earlier one signs any more


class _SentWebhooks(Deliveries):
    """The requests of webhooks, and their log."""

    async def announce(self, connection: Connection, most: int) -> int:
        async with connection.transaction():
            events = [id_ for (id_,) in await connection.fetch(_LOCK_UNANNOUNCED, most)]
            if events:
                await connection.execute(_MAKE, events)
                await connection.execute(_MARK_ANNOUNCED, events)
        return len(events)


WEBHOOKS = _SentWebhooks("sent_webhook", _IS_BEHIND, _COLUMNS, KEPT)


async def message(pool: Pool, id_: int) -> Message:
    """What a request says. It is the same in each attempt."""
    row = await pool.fetchrow(_MESSAGE, id_)
    return Message(orjson.dumps(_payload(row)), row["secret"], row["previous_secret"])


async def payload(pool: Pool, id_: int) -> dict[str, Any]:
    """The same as an object."""
    return _payload(await pool.fetchrow(_PAYLOAD, id_))


async def send_again(pool: Pool, author: Author, id_: int) -> None:
    """Send a request once more, in any state.

    Raises:
        LookupError: it does not exist. ValueError: its webhook is paused or archived.
    """
    async with edit.changing(pool) as connection:
        before = await edit.locked(connection, SENT, {"id": id_})
        if before is None:
            raise LookupError(id_)
        if not await connection.fetchval(_IS_ACTIVE, id_):
            raise ValueError("its webhook is paused or archived")
        await WEBHOOKS.send_again(connection, [id_])
        after = await edit.one(connection, SENT, {"id": id_})
        await edit.note(connection, author, SENT, f"sent-webhooks/{id_}", before, after)


def _payload(row: Mapping[str, Any]) -> dict[str, Any]:
    type_, data = row["type"], json.loads(row["data"], parse_float=Decimal)
    if type_.startswith("conversion."):
        data = _conversion(type_, data)
    return {"type": type_, "timestamp": _time(row["at"]), "data": data}


def _conversion(type_: str, data: Mapping[str, Any]) -> dict[str, Any]:
    told = {"conversion": _fields(data["conversion"])}
    return told if type_ == webhooks.CREATED else told | {"previous": _fields(data["previous"])}


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _shown(key, row[key]) for key in _OF_CONVERSION if key in row}


def _shown(key: str, value: Any) -> Any:
    """A value of a conversion as JSON: amounts as texts, times in UTC, an unknown text as null."""
    if key in _TIMES:
        return _time(datetime.fromisoformat(value))
    if key in _HASHES:
        return value.replace("-", "")
    return show(value) if isinstance(value, Decimal) else None if value == "" else value


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
