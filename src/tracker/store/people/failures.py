"""Failed sign-ins. An address that fails has to wait, and other addresses never notice."""

from __future__ import annotations

from datetime import timedelta

from tracker.store.db import Connection, Pool

ALL_ACCOUNTS = b""

_NOTE = """
INSERT INTO failed_sign_in AS failed (address, account, failures, since)
SELECT $1, account, 1, now() FROM unnest($2::bytea[]) AS new (account) ORDER BY account
ON CONFLICT (address, account) DO UPDATE SET
    failures = CASE WHEN failed.since < now() - $3::interval THEN 1 ELSE failed.failures + 1 END,
    since = CASE WHEN failed.since < now() - $3::interval THEN now() ELSE failed.since END
"""
_COUNTS = """
SELECT account, failures, extract(epoch FROM since + $3::interval - now())::float8 AS seconds_left
FROM failed_sign_in
WHERE address = $1 AND account = ANY ($2) AND since > now() - $3::interval
"""
_FORGET = "DELETE FROM failed_sign_in WHERE address = $1 AND account = $2"
_DROP_OVER = "DELETE FROM failed_sign_in WHERE since < now() - $1::interval"


async def note(pool: Pool, address: str, account: bytes, window: timedelta) -> None:
    """Count a failure of an address for an account, and for all accounts together."""
    await pool.execute(_NOTE, address, [ALL_ACCOUNTS, account], window)


async def counts(
    pool: Pool, address: str, account: bytes, window: timedelta
) -> dict[bytes, tuple[int, float]]:
    """The failures of an address, and the seconds until they count no more: by account, and in all."""
    rows = await pool.fetch(_COUNTS, address, [ALL_ACCOUNTS, account], window)
    return {key: (failures, seconds) for key, failures, seconds in rows}


async def forget(connection: Connection, address: str, account: bytes) -> None:
    """Forget the failures for an account, because the address has signed in there."""
    await connection.execute(_FORGET, address, account)


async def drop_over(connection: Connection, window: timedelta) -> None:
    await connection.execute(_DROP_OVER, window)
