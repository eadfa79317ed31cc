"""Shares: links that open one stored report. The database has only the digests of their secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tracker.domain.access import OwnerKind
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection, Pool
from tracker.store.token_owner import Owner

SHARES = Table(
    "report_share",
    (),
    facts=(
        *("name", "query", "affiliate_ids", "advertiser_ids", "hides_money", "is_network_wide"),
        *("user_id", "token_id", "made_by", "created_at", "expires_at", "ended_at"),
    ),
    is_log=True,
)

KEPT = timedelta(days=30)
"""How long an ended share stays in the list."""

# A share does not outlive the token that made it.
_ADD = f"""
INSERT INTO report_share (secret_hash, name, query, affiliate_ids, advertiser_ids, hides_money,
    user_id, token_id, made_by, expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9,
    least(now() + $10::interval, (SELECT expires_at FROM token WHERE id = $8))
RETURNING {edit.as_object(SHARES)}
"""  # noqa: S608
_NUMBER = "SELECT count(*) FROM report_share WHERE user_id = $1 OR token_id = $2"
_END = f"""
UPDATE report_share SET ended_at = coalesce(ended_at, now()) WHERE id = $1 RETURNING {edit.as_object(SHARES)}
"""  # noqa: S608
# Of several owners, those that are blocked or archived since are left out, as for tokens.
_FIND = f"""
SELECT affiliate_ids, advertiser_ids, expires_at,
       ARRAY(
           SELECT affiliate.id FROM affiliate
           WHERE affiliate.id = ANY (affiliate_ids) AND affiliate.status <> 'blocked' AND NOT is_archived
           UNION ALL
           SELECT advertiser.id FROM advertiser
           WHERE advertiser.id = ANY (advertiser_ids) AND NOT is_archived ORDER BY 1),
       {edit.as_object(SHARES)}
FROM report_share WHERE id = $1 AND secret_hash = $2 AND ended_at IS NULL AND expires_at > now()
"""  # noqa: S608
_USE = """
INSERT INTO share_use (share_id, client, hour) VALUES ($1, $2, date_trunc('hour', now()))
ON CONFLICT DO NOTHING RETURNING true
"""
_END_ALL = "UPDATE report_share SET ended_at = now() WHERE ended_at IS NULL"
_FORGET = "DELETE FROM report_share WHERE least(expires_at, ended_at) < now() - $1::interval"


class NewShare(NamedTuple):
    """The fields of a new share."""

    name: str
    query: str
    owner: Owner | None  # None: the whole network
    hides_money: bool
    lasts: timedelta


class Share(NamedTuple):
    """A share that was opened with its secret."""

    row: Row
    owner: Owner | None  # None: the whole network
    expires_at: datetime

    @property
    def id(self) -> int:
        return int(self.row["id"])


async def add(connection: Connection, digest: bytes, author: Author, new: NewShare) -> Row:
    """Store a share. An author that is a token ends it with its own expiry."""
    owners = (new.owner.ids if new.owner and new.owner.kind == kind else () for kind in _KINDS)
    whose = author.user_id, author.token_id, author.token_name
    text = await connection.fetchval(
        _ADD, digest, new.name, new.query, *owners, new.hides_money, *whose, new.lasts
    )
    return edit.read_object(SHARES, text)


async def number_of(connection: Connection, author: Author) -> int:
    """The number of shares that an author has made, with those that ended lately."""
    return int(await connection.fetchval(_NUMBER, author.user_id, author.token_id))


async def end(connection: Connection, id_: int) -> Row:
    """End a share for good."""
    return edit.read_object(SHARES, await connection.fetchval(_END, id_))


async def find(pool: Pool, id_: int, digest: bytes) -> Share | None:
    """The share of a secret, if it still opens. A share whose owners are all blocked or archived does not."""
    row = await pool.fetchrow(_FIND, id_, digest)
    if row is None:
        return None
    affiliates, advertisers, expires_at, open_ids, text = row
    if (affiliates or advertisers) and not open_ids:
        return None
    owner = _owner(affiliates, advertisers, open_ids)
    return Share(edit.read_object(SHARES, text), owner, expires_at)


async def is_first_use(connection: Connection, id_: int, client: str) -> bool:
    """Whether a client opens a share for the first time in this hour. Notes it."""
    return bool(await connection.fetchval(_USE, id_, client))


async def end_all(connection: Connection) -> None:
    """End all shares."""
    await connection.execute(_END_ALL)


async def forget(connection: Connection) -> None:
    """Forget the shares that ended long ago, with their uses."""
    await connection.execute(_FORGET, KEPT)


_KINDS: tuple[OwnerKind, ...] = ("affiliate", "advertiser")


def _owner(affiliates: Sequence[int], advertisers: Sequence[int], open_ids: Sequence[int]) -> Owner | None:
    if not (affiliates or advertisers):
        return None
    return Owner("affiliate" if affiliates else "advertiser", tuple(open_ids))
