"""Saved views: names for the queries of pages, of one person or of a team."""

from __future__ import annotations

from typing import NamedTuple

from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.db import Connection, Pool
from tracker.store.paging import Page
from tracker.store.token_owner import Owner

VIEWS = Table(
    "saved_view",
    ("name", "shows", "query", "is_shared"),
    facts=("user_id", "token_id", "made_by", "created_at"),
    minted=("user_id", "token_id", "made_by", "affiliate_ids", "advertiser_ids"),
)

# A team is all who see the same rows as the maker did.
_SEEN = (
    "(user_id = $1 OR token_id = $2 OR is_shared AND affiliate_ids = $3::bigint[] "
    "AND advertiser_ids = $4::bigint[])"
)
_WANTED = f"{_SEEN} AND ($5::text IS NULL OR shows = $5) AND ($6::boolean IS NULL OR is_shared = $6)"
_COUNT = f"SELECT count(*) FROM saved_view WHERE {_WANTED}"  # noqa: S608
_LIST = f"""
SELECT {edit.as_object(VIEWS)} FROM saved_view WHERE {_WANTED}
ORDER BY lower(name), id LIMIT $7 OFFSET $8
"""  # noqa: S608
_ONE = f"SELECT {edit.as_object(VIEWS)} FROM saved_view WHERE {_SEEN} AND id = $5"  # noqa: S608
_NUMBER = "SELECT count(*) FROM saved_view WHERE user_id = $1 OR token_id = $2"
_IS_TAKEN = """
SELECT EXISTS (
    SELECT FROM saved_view
    WHERE (user_id = $1 OR token_id = $2) AND shows = $3 AND name = $4 AND id IS DISTINCT FROM $5)
"""


class Reader(NamedTuple):
    """Somebody who sees views: their own, and those of the team."""

    user_id: int | None
    token_id: int | None
    affiliate_ids: tuple[int, ...]
    advertiser_ids: tuple[int, ...]


def reader(author: Author, owner: Owner | None) -> Reader:
    """The reader that an author with the rows of an owner is."""
    ids = owner.ids if owner else ()
    is_affiliate = owner is not None and owner.kind == "affiliate"
    return Reader(author.user_id, author.token_id, ids if is_affiliate else (), () if is_affiliate else ids)


async def page(
    pool: Pool, reader: Reader, shows: str | None, is_shared: bool | None, number: int, per_page: int
) -> Page:
    """A page of the views that a reader sees, by name, and the number of all of them."""
    offset = (number - 1) * per_page
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        total = await connection.fetchval(_COUNT, *reader, shows, is_shared)
        texts = await connection.fetch(_LIST, *reader, shows, is_shared, per_page, offset)
    return Page([edit.read_object(VIEWS, text) for (text,) in texts], total, offset + len(texts) < total)


async def one(pool: Pool, reader: Reader, id_: int) -> Row | None:
    """A view, if the reader sees it."""
    text = await pool.fetchval(_ONE, *reader, id_)
    return None if text is None else edit.read_object(VIEWS, text)


async def number_of(pool: Pool, reader: Reader) -> int:
    """The number of views that a reader has made."""
    return int(await pool.fetchval(_NUMBER, reader.user_id, reader.token_id))


async def is_taken(connection: Connection, row: Row) -> bool:
    """Whether the maker of a view has another one of its name."""
    whose = row["user_id"], row["token_id"]
    return bool(await connection.fetchval(_IS_TAKEN, *whose, row["shows"], row["name"], row.get("id")))
