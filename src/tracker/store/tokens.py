"""API tokens: random, shown once, stored as their SHA-256."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, NamedTuple

from tracker.domain.rates import Rate, read_rate
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection, Pool, connect
from tracker.store.token_owner import Owner

MEANINGS = {
    "clicks:read": "read clicks",
    "clicks:write": "create clicks",
    "clicks:backfill": "create clicks of the past (needs clicks:write too)",
    "conversions:read": "read conversions and postbacks",
    "conversions:write": "create conversions and set their statuses",
    "offers:read": "read offers, partners and the rest of the catalogue",
    "offers:write": "change the catalogue, except for the fields of money:write",
    "reports:read": "read reports and the ledger",
    "money:read": "read statements, bookings and period closes",
    "money:write": "book money by hand, change prices, terms, status words, postback secrets and checks",
    "admin": "everything, including tokens and their audit trail",
}
"""The scopes of tokens, and their meanings."""

SCOPES = tuple(MEANINGS)
"""The scopes of a token. admin implies all of them."""

BOUND_SCOPES = {
    "affiliate": ("clicks:read", "conversions:read", "offers:read", "reports:read", "money:read"),
    "advertiser": ("clicks:read", "conversions:read", "reports:read", "money:read"),
}
"""The scopes of a token that is bound to an affiliate or advertiser."""

_LOST = {
    "conversions:read": "the book (money:read)",
    "conversions:write": "to see whole conversions (conversions:read)",
    "offers:read": "the audit trail of tokens (admin)",
    "offers:write": "prices, terms, postback secrets and checks (money:write)",
}
"""Permissions that a scope included before the money scopes existed."""

PREFIX = "trk_"

OVERLAP = timedelta(days=1)
"""How long the earlier secret stays valid after a rotation by default."""
LONGEST_OVERLAP = timedelta(days=30)

TOKENS = Table(
    "token",
    ("name", "expires_at", "rate_limit"),
    facts=(
        *("scopes", "affiliate_id", "advertiser_id", "hint", "created_at", "last_used_at"),
        *("previous_until", "revoked_at", "is_revoked"),
    ),
)

_RANDOM_BYTES = 32  # 43 characters after the prefix
_HINT_LENGTH = len(PREFIX) + 4

_CREATE = """
INSERT INTO token (secret_hash, hint, name, scopes, expires_at, rate_limit, affiliate_id, advertiser_id)
VALUES ($1, $2, $3, $4, $5::text::timestamptz, $6, $7, $8) RETURNING id
"""
_ROTATE = """
UPDATE token SET previous_hash = secret_hash, previous_until = now() + $2, secret_hash = $3, hint = $4
WHERE id = $1
"""
_IS_OVERLAPPING = "SELECT previous_until > now() FROM token WHERE id = $1"
_REVOKE = "UPDATE token SET revoked_at = now() WHERE id = $1"
_FIND = """
SELECT token.id, token.name, scopes, rate_limit, affiliate_id, advertiser_id,
       secret_hash, CASE WHEN previous_until > now() THEN previous_hash END AS previous_hash,
       coalesce(expires_at <= now(), false) AS is_expired,
       coalesce(affiliate.status = 'blocked' OR affiliate.is_archived, advertiser.is_archived, false)
           AS is_shut,
       coalesce(last_used_at < now() - interval '1 minute', true) AS is_use_unrecorded
FROM token
LEFT JOIN affiliate ON affiliate.id = affiliate_id LEFT JOIN advertiser ON advertiser.id = advertiser_id
WHERE NOT is_revoked
    AND (secret_hash = ANY ($1) OR (previous_hash = ANY ($1) AND previous_until > now()))
"""
# The condition is repeated, so that only one of many parallel requests writes.
_RECORD_USE = """
UPDATE token SET last_used_at = now()
WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)
"""
_AGEING = """
SELECT name, id, expires_at FROM token
WHERE NOT is_revoked AND expires_at < now() + $1 ORDER BY expires_at, id
"""
_WEAKENED = """
SELECT name, id, scopes, last_used_at FROM token
WHERE predates_money AND NOT is_revoked AND 'admin' <> ALL (scopes)
    AND affiliate_id IS NULL AND advertiser_id IS NULL
    AND last_used_at > now() - $1::interval AND coalesce(expires_at > now(), true)
ORDER BY last_used_at DESC, id
"""


class Token(NamedTuple):
    """A token that was presented."""

    id: int
    name: str
    scopes: frozenset[str]
    rate: Rate | None  # None: the deployment's
    owner: Owner | None  # None: the network
    is_expired: bool
    is_shut: bool  # its owner is blocked or archived

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class Found(NamedTuple):
    """A token that was looked up, but not used yet."""

    token: Token
    is_use_unrecorded: bool  # for a minute


class NewToken(NamedTuple):
    """The fields of a new token."""

    scopes: Collection[str]
    name: str = ""
    expires_at: str | None = None  # with its offset
    rate_limit: str | None = None
    affiliate_id: int | None = None
    advertiser_id: int | None = None

    def clashes(self) -> dict[str, str]:
        """The errors, by field."""
        if not self.scopes:
            return {"scopes": "none given"}
        if self.affiliate_id is not None and self.advertiser_id is not None:
            return {"advertiser_id": "does not go with affiliate_id"}
        allowed = self._allowed()
        unknown = sorted(set(self.scopes) - set(allowed))
        return {"scopes": f"{', '.join(unknown)} (possible: {', '.join(allowed)})"} if unknown else {}

    def _allowed(self) -> tuple[str, ...]:
        if self.affiliate_id is not None:
            return BOUND_SCOPES["affiliate"]
        return SCOPES if self.advertiser_id is None else BOUND_SCOPES["advertiser"]


class Issued(NamedTuple):
    """A secret that is shown only now, and its token's row."""

    secret: str
    row: Row


class OverlapError(Exception):
    """The secret before the last rotation is still valid, and another rotation would end it."""


async def create_token(
    dsn: str,
    scopes: Collection[str],
    name: str = "",
    expires_at: datetime | None = None,
    *,
    affiliate_id: int | None = None,
    advertiser_id: int | None = None,
    rate_limit: str | None = None,
) -> str:
    """Create a token and return its secret, which is shown only now. The audit trail does not contain it.

    Raises:
        ValueError: no scope, an unknown one, or an expiry without a time zone.
    """
    if expires_at is not None and expires_at.tzinfo is None:
        raise ValueError("expires_at: needs a time zone")
    expiry = None if expires_at is None else expires_at.isoformat()
    new = NewToken(scopes, name, expiry, rate_limit, affiliate_id, advertiser_id)
    for field, message in new.clashes().items():
        raise ValueError(f"{field}: {message}")
    connection = await connect(dsn)
    try:
        return (await _insert(connection, new)).secret
    finally:
        await connection.close()


async def issue(connection: Connection, author: Author, new: NewToken) -> Issued:
    """Create a token."""
    issued = await _insert(connection, new)
    await edit.note(connection, author, TOKENS, f"tokens/{issued.row['id']}", None, issued.row)
    return issued


async def _insert(connection: Connection, new: NewToken) -> Issued:
    secret = _new_secret()
    id_ = await connection.fetchval(
        _CREATE,
        digest(secret),
        _hint(secret),
        new.name,
        sorted(set(new.scopes)),
        new.expires_at,
        new.rate_limit,
        new.affiliate_id,
        new.advertiser_id,
    )
    return Issued(secret, await _read(connection, id_))


async def rotate(connection: Connection, author: Author, before: Row, overlap: timedelta) -> Issued:
    """Give a token a new secret. The former one stays valid until the overlap ends.

    Raises:
        OverlapError: an even older secret is still valid. Without overlap it is ended, too.
    """
    if overlap and await connection.fetchval(_IS_OVERLAPPING, before["id"]):
        raise OverlapError(f"the secret before the last rotation works until {before['previous_until']}")
    secret = _new_secret()
    await connection.execute(_ROTATE, before["id"], overlap, digest(secret), _hint(secret))
    row = await _read(connection, before["id"])
    await edit.note(connection, author, TOKENS, f"tokens/{row['id']}", before, row)
    return Issued(secret, row)


async def revoke(connection: Connection, author: Author, before: Row) -> Row:
    """Revoke a token for good, with all of its secrets."""
    if before["is_revoked"]:
        return before
    await connection.execute(_REVOKE, before["id"])
    row = await _read(connection, before["id"])
    await edit.note(connection, author, TOKENS, f"tokens/{row['id']}", before, row)
    return row


async def find_token(pool: Pool, token: str) -> Token | None:
    """The presented token, or None. Notes its use at most once a minute."""
    secret = digest(token)
    found = (await find_all(pool, [secret])).get(secret)
    return None if found is None else await note_use(pool, found)


async def find_all(pool: Pool, secrets: Collection[bytes]) -> dict[bytes, Found]:
    """The tokens of some digests. Their use is not noted."""
    rows = await pool.fetch(_FIND, list(secrets))
    return {
        secret: Found(_token(row), row["is_use_unrecorded"])
        for row in rows
        for secret in (row["secret_hash"], row["previous_hash"])
        if secret in secrets
    }


async def note_use(pool: Pool, found: Found) -> Token:
    """Note the use of a token at most once a minute, and return it."""
    if found.is_use_unrecorded and not found.token.is_expired:
        await pool.execute(_RECORD_USE, found.token.id)
    return found.token


def _token(row: Mapping[str, Any]) -> Token:
    return Token(
        row["id"],
        row["name"],
        frozenset(row["scopes"]),
        None if row["rate_limit"] is None else read_rate(row["rate_limit"]),
        _owner(row["affiliate_id"], row["advertiser_id"]),
        row["is_expired"],
        row["is_shut"],
    )


async def works(dsn: str, token: str) -> bool:
    """Whether requests with a token are accepted. This check is not noted as a use."""
    connection = await connect(dsn)
    try:
        row = await connection.fetchrow(_FIND, [digest(token)])
    finally:
        await connection.close()
    return row is not None and not row["is_expired"]


async def ageing(connection: Connection, within: timedelta) -> list[tuple[str, int, datetime]]:
    """Name, id and expiry of the tokens that have expired or expire within a time."""
    return [tuple(row) for row in await connection.fetch(_AGEING, within)]


class Weakened(NamedTuple):
    """A token from before the money scopes existed, which has lost some permissions since."""

    name: str
    id: int
    lost: list[str]  # the lost permissions, with their scopes
    last_used_at: datetime


async def weakened(connection: Connection, within: timedelta) -> list[Weakened]:
    """The tokens that have lost permissions and were used within a time, the last used first."""
    tokens = [
        Weakened(name, id_, _lost(scopes), used)
        for name, id_, scopes, used in await connection.fetch(_WEAKENED, within)
    ]
    return [token for token in tokens if token.lost]


def _lost(scopes: Collection[str]) -> list[str]:
    known = set(_LOST) - ({"conversions:write"} if "conversions:read" in scopes else set())
    return [text for scope, text in _LOST.items() if scope in known and scope in scopes]


def digest(token: str) -> bytes:
    """The key for look-ups of a token. The duration of a look-up reveals nothing about the token."""
    return sha256(token.encode()).digest()


async def _read(connection: Connection, id_: int) -> Row:
    row = await edit.one(connection, TOKENS, {"id": id_})
    assert row is not None
    return row


def _owner(affiliate_id: int | None, advertiser_id: int | None) -> Owner | None:
    if affiliate_id is not None:
        return Owner("affiliate", affiliate_id)
    return None if advertiser_id is None else Owner("advertiser", advertiser_id)


def _new_secret() -> str:
    return PREFIX + token_urlsafe(_RANDOM_BYTES)


def _hint(secret: str) -> str:
    return secret[:_HINT_LENGTH]
