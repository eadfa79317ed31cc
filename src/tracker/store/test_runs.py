"""Tests of an offer with an affiliate: a signed link, and what the tables have of its click."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tracker.domain.click_id import first_hash_at
from tracker.store.clicks import list as click_list
from tracker.store.clicks.list import ClickFilter
from tracker.store.conversions import affiliate_postbacks
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.affiliate_postbacks import Preview
from tracker.store.conversions.list import ConversionFilter
from tracker.store.conversions.postbacks import PostbackFilter
from tracker.store.db import Connection, Pool
from tracker.store.paging import Order, Page, Row

KEPT = timedelta(days=90)
"""How long a test is kept."""
_MOST = 20  # postbacks and conversions of one test

_COLUMNS = (
    "id, created_at, created_by, offer_id, affiliate_id, offer_url_id, goal_id, link, expires_at, click_hash"
)
_MAKE = f"""
INSERT INTO test_run (created_by, offer_id, affiliate_id, offer_url_id, goal_id, link, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}
"""  # noqa: S608
_FORGET = "DELETE FROM test_run WHERE created_at < now() - $1::interval"
_ONE = f"SELECT {_COLUMNS} FROM test_run WHERE id = $1"  # noqa: S608
_LATEST = f"SELECT {_COLUMNS} FROM test_run ORDER BY id DESC LIMIT $1"  # noqa: S608
# The signature is a part of the address that was opened. Another click may follow after a correction.
_CLICK = """
SELECT hash FROM click
WHERE affiliate_id = $1 AND hash >= $2::uuid AND hash < $3::uuid AND is_test
    AND position($4 IN requested_link) > 0
ORDER BY hash DESC LIMIT 1
"""
_NOTE_CLICK = "UPDATE test_run SET click_hash = $2 WHERE id = $1"
_IS_GOAL = "SELECT EXISTS (SELECT FROM goal WHERE id = $1 AND offer_id = $2 AND NOT is_archived)"
_PROOF = """
SELECT advertiser.id, postback_check = 'required', cardinality(postback_addresses) > 0
FROM offer JOIN advertiser ON advertiser.id = advertiser_id WHERE offer.id = $1
"""


class Run(NamedTuple):
    """A test, as it is stored."""

    id: int
    created_at: datetime
    created_by: str
    offer_id: int
    affiliate_id: int
    offer_url_id: int | None
    goal_id: int | None
    link: str
    expires_at: datetime
    click_hash: str | None = None


class Proof(NamedTuple):
    """What an advertiser's postback has to bring."""

    advertiser_id: int
    is_needed: bool
    by_address: bool  # an address may do


class Traces(NamedTuple):
    """What the tables have of a test."""

    click: Row | None
    postbacks: list[Row]  # newest first
    conversions: list[Row]  # newest first
    told: list[Preview]  # what the affiliate would be told of the newest conversion


async def make(connection: Connection, run: Run) -> Run | None:
    """Store a test. Old ones are deleted. None: another one has the same link."""
    await connection.execute(_FORGET, KEPT)
    row = await connection.fetchrow(_MAKE, run.created_by, *run[3:9])
    return row and _run(row)


async def one(pool: Pool, id_: int) -> Run | None:
    row = await pool.fetchrow(_ONE, id_)
    return row and _run(row)


async def latest(pool: Pool, count: int) -> list[Run]:
    """The latest tests, newest first."""
    return [_run(row) for row in await pool.fetch(_LATEST, count)]


async def is_goal(connection: Connection, goal_id: int, offer_id: int) -> bool:
    """Whether an offer has a goal that is not archived."""
    return bool(await connection.fetchval(_IS_GOAL, goal_id, offer_id))


async def proof(pool: Pool, offer_id: int) -> Proof:
    """What the postbacks of an offer's advertiser have to bring."""
    return Proof(*await pool.fetchrow(_PROOF, offer_id))


async def latest_click(pool: Pool, run: Run) -> str | None:
    """The hash of the latest stored click of a test's link."""
    (mark,) = parse_qs(urlsplit(run.link).query)["test"]
    start, end = (int(at.timestamp() * 1000) for at in (run.created_at, run.expires_at))
    first = run.click_hash or first_hash_at(start - 1000)
    found = await pool.fetchval(_CLICK, run.affiliate_id, first, first_hash_at(end + 1000), f"test={mark}")
    if found is None:
        return run.click_hash
    hash_: str = found.hex
    if hash_ != run.click_hash:
        await pool.execute(_NOTE_CLICK, run.id, hash_)
    return hash_


async def traces(pool: Pool, hash_: str, zone: tzinfo) -> Traces:
    """What the tables have of a test's click."""
    newest = Order(True, zone)
    clicks = await click_list.page(pool, ClickFilter(equals=(("hash", hash_),)), newest, 1, 1)
    logged = await postback_log.page(pool, PostbackFilter(equals=(("click_id", hash_),)), newest, 1, _MOST)
    made: Page = await conversion_list.page(
        pool, ConversionFilter(equals=(("click_hash", hash_),)), newest, 1, _MOST
    )
    told = await affiliate_postbacks.preview(pool, int(str(made.rows[0]["id"]))) if made.rows else []
    return Traces(clicks.rows[0] if clicks.rows else None, logged.rows, made.rows, told)


def _run(row: Mapping[str, Any]) -> Run:
    hash_ = row["click_hash"]
    return Run(*row.values())._replace(click_hash=hash_ and hash_.hex)
