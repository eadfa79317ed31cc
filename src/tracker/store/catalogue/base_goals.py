"""The base goals that offers bring with them."""

from __future__ import annotations

from tracker.store.db import Connection

# It has no price yet, so no price is noted for its former id.
_GIVE_ID = "UPDATE goal SET id = $2 WHERE offer_id = $1 AND is_base"


async def give_id(connection: Connection, offer_id: int, id_: int) -> None:
    """Give another id to the base goal of an offer that was made in the same transaction."""
    await connection.execute(_GIVE_ID, offer_id, id_)
