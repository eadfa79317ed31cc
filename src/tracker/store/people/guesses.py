"""Guessed codes of the second factor. They are counted in the audit trail, which has each wrong code."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from tracker.store.db import Connection, Pool

WRONG_CODE: Final = {"second_factor": "wrong code"}
"""What the audit trail says of a wrong code."""

LEAST: Final = 10
"""Least wrong codes of a user within a day that are told. A person who mistypes gives fewer."""

# A code is only asked for after the right password, so a new password ends the guessing.
_FIND = """
SELECT account.id, email, codes, addresses, since
FROM user_account AS account CROSS JOIN LATERAL (
    SELECT count(*) AS codes, count(DISTINCT address) AS addresses, min(at) AS since FROM audit
    WHERE resource = 'user_account' AND after ->> 'second_factor' = 'wrong code'
        AND path = 'users/' || account.id
        AND at > greatest(now() - interval '1 day', password_since)
) AS wrong
WHERE codes >= $1 AND NOT is_disabled AND ($2::bigint IS NULL OR account.id = $2)
ORDER BY codes DESC, account.id LIMIT $3
"""


class Guesses(NamedTuple):
    """Wrong codes that a user got within a day, all with the password of now."""

    user_id: int
    email: str
    codes: int
    addresses: int
    since: datetime


async def find(connection: Connection, most: int) -> list[Guesses]:
    """The users with LEAST wrong codes or more, those with the most first."""
    return [Guesses(*row) for row in await connection.fetch(_FIND, LEAST, None, most)]


async def of_user(source: Pool | Connection, user_id: int) -> Guesses | None:
    """The wrong codes of a user, if there are LEAST or more."""
    row = await source.fetchrow(_FIND, LEAST, user_id, 1)
    return row and Guesses(*row)
