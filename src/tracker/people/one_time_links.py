"""One-time links: an invitation, the reset of a sign-in, and the first admin's.

A link is shown by GET, which uses nothing up: a preview bot or a mail filter may fetch it. POST uses it up.
"""

from __future__ import annotations

from datetime import timedelta
from secrets import token_urlsafe
from typing import Final

from tracker.people.sessions import digest
from tracker.store.db import Connection, Pool
from tracker.store.people import one_time_links
from tracker.store.people.one_time_links import OneTimeLink, Purpose

PATH: Final = "/dashboard/link"
"""The page of a link. Its secret is in the query, which no log of ours has."""
PARAMETER: Final = "s"

LASTS: Final[dict[Purpose, timedelta]] = {
    "invitation": timedelta(days=7),
    "reset": timedelta(minutes=60),
    "first-admin": timedelta(minutes=60),
}
"""How long a link works."""

_RANDOM_BYTES = 32
_LONGEST_SECRET = 100


async def make(
    connection: Connection, purpose: Purpose, user_id: int | None = None, *, drops_factor: bool = False
) -> str:
    """A link's path with its secret. Earlier links of the user end."""
    secret = token_urlsafe(_RANDOM_BYTES)
    lasts = LASTS[purpose]
    await one_time_links.make(connection, digest(secret), purpose, user_id, lasts, drops_factor=drops_factor)
    return f"{PATH}?{PARAMETER}={secret}"


async def find(source: Pool | Connection, secret: str) -> OneTimeLink | None:
    """The link of a secret, if it works."""
    if not 0 < len(secret) <= _LONGEST_SECRET:
        return None
    return await one_time_links.find(source, digest(secret))
