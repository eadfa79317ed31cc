"""API tokens: random, shown once, stored as their SHA-256."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, NamedTuple

from tracker.domain.access import BOUND_SCOPES, HIDING_SCOPES, MOST_OWNERS, OF_NETWORK, OwnerKind
from tracker.domain.rates import Rate, read_rate
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection, Pool, connect
from tracker.store.token_owner import Owner

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
        *("scopes", "affiliate_id", "advertiser_id", "affiliate_ids", "advertiser_ids"),
        *("hides_money", "hint", "created_at", "last_used_at"),
        *("previous_until", "revoked_at", "is_revoked"),
    ),
)

_RANDOM_BYTES = 32  # 43 characters after the prefix
_HINT_LENGTH = len(PREFIX) + 4

_CREATE = """
INSERT INTO token (secret_hash, hint, name, scopes, expires_at, rate_limit, affiliate_ids, advertiser_ids,
    hides_money)
VALUES ($1, $2, $3, $4, $5::text::timestamptz, $6, $7, $8, $9) RETURNING id
"""
_UNKNOWN = """
SELECT own.id FROM unnest($1::bigint[]) AS own (id)
WHERE NOT EXISTS (SELECT FROM {0} WHERE {0}.id = own.id AND NOT is_archived) ORDER BY 1 LIMIT 1
"""
_ROTATE = """
UPDATE token SET previous_hash = secret_hash, previous_until = now() + $2, secret_hash = $3, hint = $4
WHERE id = $1
"""
_IS_OVERLAPPING = "SELECT previous_until > now() FROM token WHERE id = $1"
_REVOKE = "UPDATE token SET revoked_at = now() WHERE id = $1"
OPEN_AFFILIATES = """ARRAY(
    SELECT affiliate.id FROM affiliate
    WHERE affiliate.id = ANY (affiliate_ids) AND affiliate.status <> 'blocked' AND NOT is_archived
    ORDER BY 1)"""
"""SQL: of several affiliates of a token or a user, those that are neither blocked nor archived."""
OPEN_ADVERTISERS = """ARRAY(
    SELECT advertiser.id FROM advertiser
    WHERE advertiser.id = ANY (advertiser_ids) AND NOT is_archived ORDER BY 1)"""
"""SQL: of several advertisers, those that are not archived."""

_FIND = f"""
SELECT id, name, scopes, rate_limit, affiliate_ids, advertiser_ids, hides_money,
       {OPEN_AFFILIATES} || {OPEN_ADVERTISERS} AS open_ids,
       secret_hash, CASE WHEN previous_until > now() THEN previous_hash END AS previous_hash,
       coalesce(expires_at <= now(), false) AS is_expired,
       coalesce(last_used_at < now() - interval '1 minute', true) AS is_use_unrecorded
FROM token
WHERE NOT is_revoked
    AND (secret_hash = ANY ($1) OR (previous_hash = ANY ($1) AND previous_until > now()))
"""  # noqa: S608
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
    AND affiliate_ids = '{}' AND advertiser_ids = '{}'
    AND last_used_at > now() - $1::interval AND coalesce(expires_at > now(), true)
ORDER BY last_used_at DESC, id
"""


class Token(NamedTuple):
    """A token that was presented, or a session that is worth one."""

    id: int  # of a session: the negative id of its user. Keys of repeated requests belong to it
    name: str  # of a session: the e-mail address
    scopes: frozenset[str]
    rate: Rate | None  # None: the deployment's
    owner: Owner | None  # None: the network
    is_expired: bool
    is_shut: bool  # all its owners are blocked or archived
    hides_money: bool = False
    user_id: int | None = None  # of a session

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
    affiliate_id: int | None = None  # the only one of affiliate_ids
    advertiser_id: int | None = None  # likewise
    affiliate_ids: Collection[int] = ()
    advertiser_ids: Collection[int] = ()
    hides_money: bool = False

    @property
    def owner(self) -> Owner | None:
        """The owner of a token without clashes. None: the network."""
        for kind in BOUND_SCOPES:
            if ids := self._ids(kind):
                return Owner(kind, ids)
        return None

    def _ids(self, kind: OwnerKind) -> tuple[int, ...]:
        one, several = getattr(self, f"{kind}_id"), getattr(self, f"{kind}_ids")
        return (one,) if one is not None else tuple(sorted(set(several)))

    def clashes(self) -> dict[str, str]:
        """The errors, by field."""
        if not self.scopes:
            return {"scopes": "none given"}
        return self._clashes_of_owners() or self._clashes_of_scopes()

    def _clashes_of_owners(self) -> dict[str, str]:
        given = [
            name
            for kind in BOUND_SCOPES
            for name in (f"{kind}_id", f"{kind}_ids")
            if getattr(self, name) not in (None, (), [])
        ]
        if len(given) > 1:
            return {given[1]: f"does not go with {given[0]}"}
        if given and len(getattr(self.owner, "ids", ())) > MOST_OWNERS:
            return {given[0]: f"are more than {MOST_OWNERS:,}"}
        return {}

    def _clashes_of_scopes(self) -> dict[str, str]:
        owner = self.owner
        allowed = OF_NETWORK if owner is None else BOUND_SCOPES[owner.kind]
        if self.hides_money:
            allowed = tuple(scope for scope in allowed if scope in HIDING_SCOPES)
        unknown = sorted(set(self.scopes) - set(allowed))
        return {"scopes": f"{', '.join(unknown)} (possible: {', '.join(allowed)})"} if unknown else {}


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
    affiliate_ids: Collection[int] = (),
    advertiser_ids: Collection[int] = (),
    hides_money: bool = False,
    rate_limit: str | None = None,
) -> str:
    """Create a token and return its secret, which is shown only now. The audit trail does not contain it.

    Raises:
        ValueError: no scope, an unknown one, or an expiry without a time zone.
    """
    if expires_at is not None and expires_at.tzinfo is None:
        raise ValueError("expires_at: needs a time zone")
    expiry = None if expires_at is None else expires_at.isoformat()
    owners = (affiliate_id, advertiser_id, affiliate_ids, advertiser_ids)
    new = NewToken(scopes, name, expiry, rate_limit, *owners, hides_money)
    for field, message in new.clashes().items():
        raise ValueError(f"{field}: {message}")
    connection = await connect(dsn)
    try:
        return (await _insert(connection, new)).secret
    finally:
        await connection.close()


async def unknown_of(connection: Connection, owner: Owner) -> int | None:
    """The first id of an owner that no affiliate or advertiser has, or only an archived one."""
    id_: int | None = await connection.fetchval(_UNKNOWN.format(owner.kind), owner.ids)
    return id_


async def issue(connection: Connection, author: Author, new: NewToken) -> Issued:
    """Create a token."""
    issued = await _insert(connection, new)
    await edit.note(connection, author, TOKENS, f"tokens/{issued.row['id']}", None, issued.row)
    return issued


async def _insert(connection: Connection, new: NewToken) -> Issued:
    secret, owner = _new_secret(), new.owner
    id_ = await connection.fetchval(
        _CREATE,
        digest(secret),
        _hint(secret),
        new.name,
        sorted(set(new.scopes)),
        new.expires_at,
        new.rate_limit,
        *(owner.ids if owner and owner.kind == kind else () for kind in ("affiliate", "advertiser")),
        new.hides_money,
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
        _owner(row),
        row["is_expired"],
        bool(row["affiliate_ids"] or row["advertiser_ids"]) and not row["open_ids"],
        row["hides_money"],
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


def _owner(row: Mapping[str, Any]) -> Owner | None:
    for kind in BOUND_SCOPES:
        if ids := row[f"{kind}_ids"]:
            return Owner(kind, tuple(row["open_ids"] or ids))
    return None


def _new_secret() -> str:
    return PREFIX + token_urlsafe(_RANDOM_BYTES)


def _hint(secret: str) -> str:
    return secret[:_HINT_LENGTH]
