"""API tokens: random, shown once, stored as their SHA-256."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import NamedTuple

from tracker.store.pool import Pool, connect

SCOPES = (
    "clicks:read",
    "clicks:write",
    "clicks:backfill",
    "conversions:read",
    "conversions:write",
    "offers:read",
    "offers:write",
    "reports:read",
    "admin",
)
"""What a token may be allowed; admin implies all of them."""

PREFIX = "trk_"
_RANDOM_BYTES = 32  # 43 characters after the prefix

_CREATE = "INSERT INTO token (secret_hash, name, scopes, expires_at) VALUES ($1, $2, $3, $4)"
_FIND = """
SELECT id, name, scopes, coalesce(expires_at <= now(), false) AS is_expired,
       coalesce(last_used_at < now() - interval '1 minute', true) AS is_use_unrecorded
FROM token WHERE secret_hash = $1
"""
# The condition is repeated, so that of many requests at once one writes.
_RECORD_USE = """
UPDATE token SET last_used_at = now()
WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)
"""


class Token(NamedTuple):
    """What is known of a token that was presented."""

    id: int
    name: str
    scopes: frozenset[str]
    is_expired: bool

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


async def create_token(
    dsn: str, scopes: Collection[str], name: str = "", expires_at: datetime | None = None
) -> str:
    """Create a token and return it: this is the only time that it can be seen.

    Raises:
        ValueError: no scope, an unknown one, or an expiry without a time zone.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"scopes: {', '.join(unknown) or 'none given'}; known: {', '.join(SCOPES)}")
    if expires_at is not None and expires_at.tzinfo is None:
        raise ValueError("expires_at: needs a time zone")
    token = PREFIX + token_urlsafe(_RANDOM_BYTES)
    connection = await connect(dsn)
    try:
        await connection.execute(_CREATE, _digest(token), name, sorted(set(scopes)), expires_at)
    finally:
        await connection.close()
    return token


async def find_token(pool: Pool, token: str) -> Token | None:
    """The token presented, or None; notes its use, at most once a minute."""
    row = await pool.fetchrow(_FIND, _digest(token))
    if row is None:
        return None
    if row["is_use_unrecorded"] and not row["is_expired"]:
        await pool.execute(_RECORD_USE, row["id"])
    return Token(row["id"], row["name"], frozenset(row["scopes"]), row["is_expired"])


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
