"""Users: their rows, passwords and second factors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import asyncpg

from tracker.domain import normalise
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, Table, TakenError
from tracker.store.db import Connection, Pool

USERS = Table(
    "user_account",
    ("email", "name", "role", "affiliate_ids", "advertiser_ids", "hides_money", "is_disabled"),
    facts=("has_password", "has_totp", "created_at", "last_sign_in_at"),
    minted=("email_key",),
    searched=("name", "email"),
)

IS_SHUT = """
(cardinality(affiliate_ids) > 0 AND NOT EXISTS (
    SELECT FROM affiliate
    WHERE affiliate.id = ANY (affiliate_ids) AND affiliate.status <> 'blocked' AND NOT affiliate.is_archived)
 OR cardinality(advertiser_ids) > 0 AND NOT EXISTS (
    SELECT FROM advertiser WHERE advertiser.id = ANY (advertiser_ids) AND NOT advertiser.is_archived))"""
"""SQL condition: all partners of a user are blocked or archived. Their tokens are refused alike."""

_SECRETS = f"""
SELECT id, email, name, role, affiliate_ids, advertiser_ids, hides_money, is_disabled OR {IS_SHUT},
       password_hash, totp_secret, totp_since IS NOT NULL AS has_totp, totp_last_step, rights
FROM user_account WHERE {{}}
"""  # noqa: S608
_BY_EMAIL = _SECRETS.format("email_key = $1")
_BY_ID = _SECRETS.format("id = $1")
_LOCKED = _SECRETS.format("id = $1 FOR UPDATE")
_SET_EMAIL_KEY = "UPDATE user_account SET email_key = $2 WHERE id = $1 AND email_key <> $2"
# A factor that waits for its first code goes: who had the account before may have seen its secret.
_SET_PASSWORD = """
UPDATE user_account
SET password_hash = $2, totp_secret = CASE WHEN totp_since IS NOT NULL THEN totp_secret END
WHERE id = $1
"""  # noqa: S105
_REHASH = """
UPDATE user_account SET password_hash = $3, rehashes = rehashes + 1 WHERE id = $1 AND password_hash = $2
"""
_PROPOSE_FACTOR = """
UPDATE user_account SET totp_secret = $2, totp_since = NULL, totp_last_step = 0 WHERE id = $1
"""
_CONFIRM_FACTOR = "UPDATE user_account SET totp_since = now(), totp_last_step = $2 WHERE id = $1"
_REMOVE_FACTOR = """
UPDATE user_account SET totp_secret = NULL, totp_since = NULL, totp_last_step = 0 WHERE id = $1
"""
# Of two requests with the same code one is first.
_USE_STEP = """
UPDATE user_account SET totp_last_step = $2 WHERE id = $1 AND totp_last_step < $2 RETURNING true
"""
_USE_CODE = "DELETE FROM recovery_code WHERE user_id = $1 AND code_hash = $2 RETURNING true"
_FORGET_CODES = "DELETE FROM recovery_code WHERE user_id = $1"
_ADD_CODES = "INSERT INTO recovery_code (user_id, code_hash) SELECT $1, unnest($2::bytea[])"
_COUNT_CODES = "SELECT count(*) FROM recovery_code WHERE user_id = $1"
_SIGNED_IN = "UPDATE user_account SET last_sign_in_at = now() WHERE id = $1"
_HAS_HAD_USER = "SELECT coalesce(bool_or(has_had_user), false) FROM deployment"
_HAS_ADMIN = """
SELECT EXISTS (
    SELECT FROM user_account WHERE role = 'admin' AND password_hash IS NOT NULL AND NOT is_disabled)
"""
_GUARDED = """
SELECT email, role, CASE WHEN totp_since IS NOT NULL THEN totp_secret END
FROM user_account WHERE password_hash IS NOT NULL AND NOT is_disabled ORDER BY id
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('user_account ' || $1, 0))"


class Secrets(NamedTuple):
    """A user, with what a sign-in is compared with."""

    id: int
    email: str
    name: str
    role: str
    affiliate_ids: Sequence[int]
    advertiser_ids: Sequence[int]
    hides_money: bool
    is_disabled: bool  # or all partners of the user are blocked or archived
    password_hash: str | None
    totp_secret: bytes | None  # sealed
    has_totp: bool
    totp_last_step: int
    rights: int


class Guarded(NamedTuple):
    """A user who can sign in."""

    email: str
    role: str
    totp_secret: bytes | None  # sealed. None: there is no second factor


async def by_email(source: Pool | Connection, email: str) -> Secrets | None:
    """The user of an e-mail address, in any case."""
    row = await source.fetchrow(_BY_EMAIL, normalise.name_key(email))
    return row and Secrets(*row)


async def by_id(source: Pool | Connection, id_: int) -> Secrets | None:
    row = await source.fetchrow(_BY_ID, id_)
    return row and Secrets(*row)


async def locked(connection: Connection, id_: int) -> Secrets | None:
    """The same, locked until the end of the transaction."""
    row = await connection.fetchrow(_LOCKED, id_)
    return row and Secrets(*row)


async def add(connection: Connection, fields: Row) -> Row:
    """Add a user without a password.

    Raises:
        TakenError: another user has the e-mail address.
    """
    return await edit.insert(connection, USERS, {**fields, "email_key": normalise.name_key(fields["email"])})


async def change(connection: Connection, id_: int, fields: Row) -> Row:
    """Write all columns of a user.

    Raises:
        TakenError: another user has the e-mail address.
    """
    try:
        await connection.execute(_SET_EMAIL_KEY, id_, normalise.name_key(fields["email"]))
    except asyncpg.UniqueViolationError:
        raise TakenError from None
    return await edit.update(connection, USERS, {"id": id_}, fields)


async def shown(connection: Connection, id_: int) -> Row | None:
    """A user's row, locked until the end of the transaction."""
    return await edit.locked(connection, USERS, {"id": id_})


async def set_password(connection: Connection, id_: int, password_hash: str) -> None:
    """Set a password. A second factor that is not on yet has to be set up from its beginning."""
    await connection.execute(_SET_PASSWORD, id_, password_hash)


async def rehash(pool: Pool, id_: int, before: str, after: str) -> None:
    """Replace a hash by one of today's parameters, unless the password has been changed meanwhile.

    It is the same password, so the sessions stay.
    """
    await pool.execute(_REHASH, id_, before, after)


async def propose_factor(connection: Connection, id_: int, sealed: bytes) -> None:
    """Note the secret of a second factor that waits for its first code."""
    await connection.execute(_PROPOSE_FACTOR, id_, sealed)


async def confirm_factor(connection: Connection, id_: int, step: int, codes: Collection[bytes]) -> None:
    """Ask for the second factor from now on. `codes` are the digests of recovery codes."""
    await connection.execute(_CONFIRM_FACTOR, id_, step)
    await replace_codes(connection, id_, codes)


async def remove_factor(connection: Connection, id_: int) -> None:
    await connection.execute(_REMOVE_FACTOR, id_)
    await connection.execute(_FORGET_CODES, id_)


async def use_step(connection: Connection, id_: int, step: int) -> bool:
    """Use up the code of a time step. False if a code of it or of a later one was used."""
    return bool(await connection.fetchval(_USE_STEP, id_, step))


async def use_code(connection: Connection, id_: int, digest: bytes) -> bool:
    """Use up a recovery code. False if there is no such code."""
    return bool(await connection.fetchval(_USE_CODE, id_, digest))


async def replace_codes(connection: Connection, id_: int, digests: Collection[bytes]) -> None:
    await connection.execute(_FORGET_CODES, id_)
    await connection.execute(_ADD_CODES, id_, list(digests))


async def count_codes(source: Pool | Connection, id_: int) -> int:
    """The number of unused recovery codes."""
    return int(await source.fetchval(_COUNT_CODES, id_))


async def note_sign_in(connection: Connection, id_: int) -> None:
    await connection.execute(_SIGNED_IN, id_)


async def has_had_user(source: Pool | Connection) -> bool:
    """Whether a user has ever existed in this database."""
    return bool(await source.fetchval(_HAS_HAD_USER))


async def has_admin(source: Pool | Connection) -> bool:
    """Whether an admin can sign in."""
    return bool(await source.fetchval(_HAS_ADMIN))


async def guarded(connection: Connection) -> list[Guarded]:
    """The users who can sign in."""
    return [Guarded(*row) for row in await connection.fetch(_GUARDED)]


async def lock(connection: Connection, name: str) -> None:
    """Let transactions with this name run one by one."""
    await connection.execute(_LOCK, name)
