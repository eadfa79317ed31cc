"""Webhooks: the URLs of the network's own systems, with their secrets, which are stored encrypted."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection

OVERLAP = timedelta(days=1)
"""How long the earlier secret signs, too, after a rotation."""

TABLE = Table(
    "webhook",
    ("url", "event_types", "description", "status", "is_archived"),
    facts=("created_at", "previous_until"),
    minted=("secret",),
)
_COUNT = "SELECT count(*) FROM webhook WHERE NOT is_archived"
_ROTATE = """
UPDATE webhook SET previous_secret = secret, previous_until = now() + $2, secret = $3 WHERE id = $1
"""
_SECRETS = "SELECT id, secret FROM webhook WHERE NOT is_archived ORDER BY id"


class Sealed(NamedTuple):
    """The encrypted secret of a webhook."""

    webhook_id: int
    secret: bytes


async def count(connection: Connection) -> int:
    """The number of webhooks that are not archived."""
    return int(await connection.fetchval(_COUNT))


async def rotate(connection: Connection, author: Author, before: Row, sealed: bytes) -> Row:
    """Give a webhook another secret. For a day the earlier one signs, too."""
    await connection.execute(_ROTATE, before["id"], OVERLAP, sealed)
    row = await edit.one(connection, TABLE, {"id": before["id"]})
    assert row is not None
    await edit.note(connection, author, TABLE, f"webhooks/{row['id']}", before, row)
    return row


async def secrets(connection: Connection) -> list[Sealed]:
    """The encrypted secrets of all webhooks that are not archived."""
    return [Sealed(*row) for row in await connection.fetch(_SECRETS)]
