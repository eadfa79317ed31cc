"""Events for webhooks: written in the transaction of the change, so no change is without its event.

The events of conversions are written by triggers of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson

from tracker.store.db import Connection

_NOTE = """
INSERT INTO webhook_event (type, subject, data) SELECT $1, $2, $3::jsonb WHERE webhooks_want(ARRAY[$1::text])
"""
_NOTE_FOR = """
INSERT INTO webhook_event (type, subject, data, webhook_id) VALUES ($1, $2, $3::jsonb, $4)
"""
_FORGET = """
DELETE FROM webhook_event WHERE id IN (
    SELECT id FROM webhook_event AS event
    WHERE is_announced AND at < now() - $1::interval
        AND NOT EXISTS (SELECT FROM sent_webhook WHERE event_id = event.id)
    LIMIT $2)
"""
_FORGOTTEN_AT_ONCE = 10_000


async def note(connection: Connection, type_: str, subject: str, data: Mapping[str, Any]) -> None:
    """Note an event if a webhook wants its type. Call it within the transaction of the change.

    `subject`: the path of the object. Receivers get the events of a subject in their order.
    """
    await connection.execute(_NOTE, type_, subject, orjson.dumps(data).decode())


async def note_for(
    connection: Connection, webhook_id: int, type_: str, subject: str, data: Mapping[str, Any]
) -> None:
    """Note an event for one webhook, although it may not want the type."""
    await connection.execute(_NOTE_FOR, type_, subject, orjson.dumps(data).decode(), webhook_id)


async def forget(connection: Connection, kept: timedelta) -> None:
    """Delete old events without requests in the log."""
    while await connection.execute(_FORGET, kept, _FORGOTTEN_AT_ONCE) == f"DELETE {_FORGOTTEN_AT_ONCE}":
        pass
