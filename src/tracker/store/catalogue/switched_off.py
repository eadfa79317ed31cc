"""The postbacks of an affiliate that the network switched off."""

from __future__ import annotations

from typing import NamedTuple

from tracker.store.db import Connection

_POSTBACKS = """
SELECT id, url, offer_id, goal_id FROM affiliate_postback
WHERE affiliate_id = $1 AND paused_by = 'network' ORDER BY id
"""


class SwitchedOff(NamedTuple):
    """A postback that only the network switches on."""

    id: int
    url: str
    offer_id: int | None  # None: all offers
    goal_id: int | None  # None: all goals


async def postbacks(connection: Connection, affiliate_id: int) -> list[SwitchedOff]:
    """Those that the network paused or archived."""
    return [SwitchedOff(*row) for row in await connection.fetch(_POSTBACKS, affiliate_id)]
