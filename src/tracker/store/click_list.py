"""Reading clicks: filters to SQL, pages, the walk by cursor, the feed by id, the export.

Every list is in the order of the hash, which is the order of time, and starts from a place in it; only
shallow pages, and pages within one quarter-hour of click_count, skip rows by OFFSET.
"""

from __future__ import annotations

from asyncio import timeout
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import asyncpg
import orjson

from tracker.clickhash import first_hash_at, millis_of
from tracker.store import click_counts
from tracker.store.click_counts import ALL_TIME, Span, Tally
from tracker.store.clicks import FEED_LOCK
from tracker.store.pool import STATEMENT_TIMEOUT_SECONDS, Connection, Pool

TOO_SLOW = asyncpg.QueryCanceledError
"""What a read raises that ran into its connection's statement timeout."""

MAX_OFFSET = 10_000
"""Rows that a page may skip where click_count cannot tell its place."""

EXPORT_CHUNK = 1_000
"""Rows that an export holds in memory."""

Row = dict[str, object]
Value = int | str | bool

AFF_SUBS = ("aff_sub", *(f"aff_sub{n}" for n in range(2, 21)))
ADV_SUBS = ("adv_sub", *(f"adv_sub{n}" for n in range(2, 6)))

FILTERS: Final = frozenset(
    {
        *(
            "id",
            "hash",
            "offer_id",
            "affiliate_id",
            "offer_url_id",
            "advertiser_id",
            "country_code",
            "status",
        ),
        *("affiliate_source", "external_id", "is_unique", "is_bot", "is_test", *AFF_SUBS),
    }
)
_TALLIES: Final = {"offer_id": "offer", "affiliate_id": "affiliate"}

# Found one by one from conversions, which are few: OFFSET 0 keeps the planner from going through all clicks.
_CONVERTED = """
(SELECT click.*, click_hash
 FROM (SELECT DISTINCT click_hash FROM conversion) AS converted
      CROSS JOIN LATERAL (SELECT * FROM click WHERE hash = click_hash OFFSET 0) AS click) AS click"""
_FROZEN = frozenset(
    (
        *("offer_id", "offer_url_id", "advertiser_id", "affiliate_id", "country_code", "affiliate_source"),
        "is_test",
    )
)
"""Columns that a conversion has from its click."""

_HAS_NO_CONVERSION = "NOT EXISTS (SELECT FROM conversion WHERE click_hash = click.hash OFFSET 0)"

_READ_DEADLINE = STATEMENT_TIMEOUT_SECONDS + 5
"""Seconds; ends what the statement timeout cannot: a server that is frozen, a pool that is exhausted."""


class ClickFilter(NamedTuple):
    """Which clicks are asked for."""

    span: Span = ALL_TIME
    equals: tuple[tuple[str, Value], ...] = ()  # (column, value), each column once
    has_conversions: bool | None = None  # None: either way

    @property
    def tally(self) -> Tally | None:
        """What counts these clicks ahead, if anything does."""
        if self.has_conversions is not None or len(self.equals) > 1:
            return None
        for column, value in self.equals:
            return Tally(_TALLIES[column], int(value)) if column in _TALLIES else None
        return click_counts.ALL_CLICKS

    @property
    def place(self) -> str:
        """The column that time and order are told by."""
        return "click_hash" if self.has_conversions else "hash"

    @property
    def is_of_conversions(self) -> bool:
        """Whether conversions alone tell which clicks these are, so that no other click need be looked up."""
        return bool(self.has_conversions) and all(column in _FROZEN for column, _ in self.equals)

    @property
    def source(self) -> str:
        """What the condition is about: the clicks, or those that conversions lead to."""
        return _CONVERTED if self.has_conversions else "click"


class Order(NamedTuple):
    """How a list is shown: its direction, and the zone of its created_at."""

    newest_first: bool
    zone: tzinfo


class TooDeepError(ValueError):
    """A page that could only be reached by reading what lies before it."""


class Page(NamedTuple):
    rows: list[Row]
    total: int
    has_more: bool


class Feed(NamedTuple):
    """Clicks by id; `upto` falls short of `given` while a writer's transaction holds the feed back."""

    rows: list[Row]
    given: int  # the highest id given when the feed was read
    upto: int  # no click with an id up to this one will be stored any more


def _or_null(column: str) -> str:
    return f"NULLIF({column}, '')"


def _hex(column: str) -> str:
    return f"encode(uuid_send({column}), 'hex')"


_NO_COLUMN = ""

# The answer's keys in their order: the seed's, then ours. Text that is absent is "" in the table.
_COLUMNS: Final[dict[str, str]] = {
    "id": "id",
    "hash": _hex("hash"),
    "group_hash": _hex("group_hash"),
    "offer_id": "offer_id",
    "offer_name": "of_offer.name",
    "offer_url_id": "offer_url_id",
    "advertiser_id": "advertiser_id",
    "advertiser_name": "of_advertiser.name",
    "aff_group_id": "aff_group_id",
    "brand_id": "brand_id",
    "affiliate_id": "affiliate_id",
    "affiliate_name": "of_affiliate.name",
    "device_model": "device_model",
    "device_brand": "device_brand",
    "sale_status": _NO_COLUMN,
    "advertiser_external_id": _NO_COLUMN,
    "adv_sub": _or_null("adv_sub"),
    "adv_sub2": _or_null("adv_sub2"),
    "adv_sub3": _or_null("adv_sub3"),
    "adv_sub4": _or_null("adv_sub4"),
    "adv_sub5": _or_null("adv_sub5"),
    "device_os": "device_os",
    **{name: name for name in AFF_SUBS},
    "affiliate_source": "affiliate_source",
    "user_agent": _or_null("user_agent"),
    "browser": _or_null("browser"),
    "ip": _or_null("ip"),
    "device_os_version": "device_os_version",
    "platform": "platform",
    "mobile_carrier": "mobile_carrier",
    "country_code": "country_code",
    "region_code": "region_code",
    "external_id": _or_null("external_id"),
    "has_conversions": _NO_COLUMN,
    "requested_link": "requested_link",
    "redirected_link": _or_null("redirected_link"),
    "is_unique": "is_unique",
    "created_at": _NO_COLUMN,
    "status": "status",
    "reason": "reason",
    "is_bot": "is_bot",
    "bot_reason": "bot_reason",
    "is_test": "is_test",
    "verdict_late": "verdict_late",
    "requested_offer_id": "requested_offer_id",
    "requested_url_id": "requested_url_id",
    "referrer": _or_null("referrer"),
    "host": _or_null("host"),
    "language": _or_null("language"),
    "client_hints": _or_null("client_hints"),
    "gaid": _or_null("gaid"),
    "idfa": _or_null("idfa"),
    "device_type": _or_null("device_type"),
    "browser_version": _or_null("browser_version"),
    "city": "city",
    "isp": "isp",
    "fetch_dest": _or_null("fetch_dest"),
    "fetch_user": _or_null("fetch_user"),
    "visitor_key": "lpad(to_hex(visitor_key), 16, '0')",
}

KEYS = tuple(_COLUMNS)
"""The keys of a row, in their order."""

# OFFSET 0: names are looked up, each once, where the planner would rather read those of all affiliates.
_NAMES = " ".join(
    f"LEFT JOIN LATERAL (SELECT name FROM {table} WHERE id = c.{table}_id OFFSET 0) AS of_{table} ON true"  # noqa: S608
    for table in ("offer", "advertiser", "affiliate")
)

_RARE = (*ADV_SUBS, *AFF_SUBS[2:], "external_id", "requested_url_id", "client_hints", "gaid", "idfa")
"""Keys that most clicks have nothing for: they come as one column, which is null then."""

# What conversions tell of their click, each from the last one that tells it.
_TOLD = ("sale_status", "advertiser_external_id", *ADV_SUBS)
_CONVERSIONS = f"""
(SELECT json_agg(json_build_array({", ".join(_TOLD)}) ORDER BY updated_at, id)::text
 FROM conversion WHERE click_hash = c.hash)"""  # noqa: S608

_USUAL = tuple(key for key, column in _COLUMNS.items() if column and key not in _RARE)
_BLANK: Final[Row] = {
    **{key: "" if key in AFF_SUBS else None for key in KEYS},
    "sale_status": "New",
    "has_conversions": False,
}
"""What a row says until a column or a conversion says otherwise."""

_SELECT = f"""
{", ".join(f"{_COLUMNS[key]} AS {key}" for key in _USUAL)},
CASE WHEN concat({", ".join(_RARE)}) <> ''
     THEN json_build_array({", ".join(_COLUMNS[key] for key in _RARE)})::text END AS rare,
{_CONVERSIONS} AS conversions"""

_HASH_OF_ID = f"SELECT {_hex('hash')} FROM click WHERE id = $1"  # noqa: S608
_GIVEN_IDS = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM click_id"
# A transaction that holds the lock of n may still commit ids above n. Before the first id ever, last_value is
# 1 although no id was given, so that n = 1 may also stand for ids above 0.
_LOWEST_ANNOUNCED = """
SELECT min(CASE WHEN announced = 1 THEN 0 ELSE announced END)
FROM (SELECT (classid::bigint & 65535) << 32 | objid::bigint AS announced FROM pg_locks
      WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = $1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS writers
"""


async def is_ready(pool: Pool) -> bool:
    """Whether Postgres answers and is migrated."""
    try:
        async with timeout(5):
            await pool.fetchval("SELECT last_value FROM click_id")
    except asyncpg.PostgresError:
        return False
    return True


async def page(pool: Pool, clicks: ClickFilter, order: Order, number: int, per_page: int) -> Page:
    """Page `number`, from 1.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep and nothing counts its clicks ahead.
    """
    offset = (number - 1) * per_page
    if clicks.tally is None and offset > MAX_OFFSET:
        raise TooDeepError(f"these filters allow pages only up to {MAX_OFFSET:,} rows deep")
    async with reading(pool, "repeatable_read") as connection:
        if clicks.tally is None:
            total = await _count(connection, clicks)
        else:
            counted = await click_counts.days(connection, clicks.tally, clicks.span)
            total = sum(day.clicks for day in counted)
        numbers = range(offset, min(offset + per_page, total))
        if not numbers:
            return Page([], total, False)
        if clicks.tally is not None:
            span, offset = await click_counts.locate(
                connection, clicks.tally, counted, numbers, newest_first=order.newest_first
            )
            clicks = clicks._replace(span=span)
        rows = await _rows(connection, clicks, order, len(numbers), offset=offset)
    return Page(rows, total, numbers.stop < total)


async def page_after(
    pool: Pool, clicks: ClickFilter, order: Order, last_hash: str, per_page: int, total: int | None
) -> Page:
    """The page that follows the click `last_hash`; counts the clicks unless their total is known."""
    async with reading(pool, "repeatable_read") as connection:
        if clicks.tally is not None:
            counted = await click_counts.days(connection, clicks.tally, clicks.span)
            total = sum(day.clicks for day in counted)
            span = click_counts.reach(
                clicks.span, counted, millis_of(last_hash), per_page + 1, newest_first=order.newest_first
            )
            clicks = clicks._replace(span=span)
        elif total is None:
            total = await _count(connection, clicks)
        rows = await _rows(connection, clicks, order, per_page + 1, after=last_hash)
    return Page(rows[:per_page], total, len(rows) > per_page)


async def one(
    pool: Pool, key: int | str, zone: tzinfo, narrow: Callable[[ClickFilter], ClickFilter]
) -> Row | None:
    """The click with an id or a hash, if the narrowed filter has it."""
    async with reading(pool, "repeatable_read") as connection:
        hash_ = await _hash_of(connection, key) if isinstance(key, int) else key
        if hash_ is None:
            return None
        clicks = narrow(ClickFilter(equals=(("hash", hash_),)))
        rows = await _rows(connection, clicks, Order(True, zone), 1)
    return rows[0] if rows else None


async def _hash_of(connection: Connection, id_: int) -> str | None:
    # An id tells no partition: to plan anew for all of them takes several times as long as to look into each.
    await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    hash_: str | None = await connection.fetchval(_HASH_OF_ID, id_)
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
    return hash_


async def feed(pool: Pool, clicks: ClickFilter, zone: tzinfo, after_id: int, limit: int) -> Feed:
    """Clicks with ids above `after_id`, in the order of ids, below the lowest id that may still commit.

    The order of the three statements matters, and that each sees what was committed before it: a writer that
    the second does not see took its ids after the first (they are higher), or committed before the third.
    """
    async with reading(pool, "read_committed") as connection:
        given = await connection.fetchval(_GIVEN_IDS)
        announced = await connection.fetchval(_LOWEST_ANNOUNCED, FEED_LOCK >> 48)
        upto = given if announced is None else min(given, announced)
        condition, values = where(clicks)
        values += [after_id, upto]
        condition += f" AND id > ${len(values) - 1} AND id <= ${len(values)}"
        some = _some(f"SELECT * FROM {clicks.source}", condition, "id ASC", values, limit)  # noqa: S608
        records = await connection.fetch(_statement(some, "id ASC"), *values)
    return Feed([_row(record, zone) for record in records], given, upto)


async def export(pool: Pool, clicks: ClickFilter, order: Order) -> AsyncIterator[list[Row]]:
    """All clicks of a filter that are stored when the first chunk is asked for, in chunks.

    Between chunks it holds neither a connection nor a snapshot, however slowly they are taken.
    """
    async with reading(pool, "repeatable_read") as connection:
        newest = await connection.fetchval(_GIVEN_IDS)
        pieces = await _pieces(connection, clicks, order)
    for piece in pieces:
        last: str | None = None
        while True:
            async with reading(pool, "read_committed") as connection:
                rows = await _rows(connection, piece, order, EXPORT_CHUNK, after=last, newest_id=newest)
            if rows:
                yield rows
            if len(rows) < EXPORT_CHUNK:
                break
            last = str(rows[-1]["hash"])


async def _pieces(connection: Connection, clicks: ClickFilter, order: Order) -> list[ClickFilter]:
    """A filter piece by piece: to plan for the partitions of a few days takes a fraction of that for all."""
    if clicks.is_of_conversions:
        return [clicks]
    counted = await click_counts.days(connection, clicks.tally or click_counts.ALL_CLICKS, clicks.span)
    spans = click_counts.cut(clicks.span, counted, EXPORT_CHUNK)
    return [clicks._replace(span=span) for span in (reversed(spans) if order.newest_first else spans)]


@asynccontextmanager
async def reading(
    pool: Pool, isolation: Literal["repeatable_read", "read_committed"]
) -> AsyncIterator[Connection]:
    """A transaction that reads, for a limited time."""
    level = isolation.replace("_", " ").upper()
    async with timeout(_READ_DEADLINE), pool.acquire() as connection:
        try:
            # A generic plan knows neither the offer nor the partitions that a span rules out.
            await connection.execute(
                f"BEGIN ISOLATION LEVEL {level} READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
            )
            yield connection
            await connection.execute("COMMIT")
        except Exception:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        except BaseException:  # nobody waits any more: for a server that may be frozen, neither do we
            connection.terminate()
            raise


async def _count(connection: Connection, clicks: ClickFilter) -> int:
    if clicks.tally is not None:
        return await click_counts.count(connection, clicks.tally, clicks.span)
    if clicks.has_conversions is False:
        everything = await _count(connection, clicks._replace(has_conversions=None))
        return everything - await _count(connection, clicks._replace(has_conversions=True))
    condition, values = where(clicks)
    counted = (
        "count(DISTINCT click_hash) FROM conversion"
        if clicks.is_of_conversions
        else (f"count(*) FROM {clicks.source}")
    )
    statement = f"SELECT {counted} WHERE {condition}"
    return int(await connection.fetchval(statement, *values))


async def _rows(
    connection: Connection,
    clicks: ClickFilter,
    order: Order,
    limit: int,
    *,
    offset: int = 0,
    after: str | None = None,
    newest_id: int | None = None,
) -> list[Row]:
    condition, values = where(clicks)
    if after is not None:
        values.append(after)
        condition += f" AND {clicks.place} {'<' if order.newest_first else '>'} ${len(values)}"
    if newest_id is not None:
        values.append(newest_id)
        condition += f" AND {'click_id' if clicks.is_of_conversions else 'id'} <= ${len(values)}"
    sort = f"{clicks.place} {'DESC' if order.newest_first else 'ASC'}"
    if clicks.is_of_conversions:
        told = _some("SELECT DISTINCT click_hash FROM conversion", condition, sort, values, limit, offset)
        values = [[row["click_hash"] for row in await connection.fetch(told, *values)]]
        some, sort = "SELECT * FROM click WHERE hash = ANY ($1::uuid[])", sort.removeprefix("click_")
    else:
        some = _some(f"SELECT * FROM {clicks.source}", condition, sort, values, limit, offset)  # noqa: S608
    records = await connection.fetch(_statement(some, sort), *values)
    return [_row(record, order.zone) for record in records]


def where(clicks: ClickFilter, before: int = 0) -> tuple[str, list[object]]:
    """The condition of a filter, and the values of its parameters, which come after others."""
    conditions = [_HAS_NO_CONVERSION if clicks.has_conversions is False else "true"]
    values: list[object] = []
    for column, value in clicks.equals:
        if column not in FILTERS:
            raise ValueError(f"no filter {column}")
        values.append(value)
        conditions.append(f"{column} = ${before + len(values)}")
    for operator, bound, everything in zip((">=", "<"), clicks.span, ALL_TIME, strict=True):
        if bound != everything:
            values.append(first_hash_at(bound))
            conditions.append(f"{clicks.place} {operator} ${before + len(values)}")
    return " AND ".join(conditions), values


def _some(select: str, where: str, sort: str, values: list[object], limit: int, offset: int = 0) -> str:
    """The statement of some rows; adds to the values of its parameters."""
    values += [limit, offset]
    return f"{select} WHERE {where} ORDER BY {sort} LIMIT ${len(values) - 1} OFFSET ${len(values)}"


def _statement(clicks: str, sort: str) -> str:
    return f"SELECT {_SELECT} FROM ({clicks}) AS c {_NAMES} ORDER BY c.{sort}"  # noqa: S608


_TO_THE_SECOND = len("YYYY-MM-DD HH:MM:SS")


def local_second(instant: float, zone: tzinfo) -> str:
    """A moment (Unix seconds) as lists show it: down to the second."""
    minute, second = divmod(int(instant), 60)
    start = _minute(minute, zone)
    # Zones are ahead of UTC by whole minutes, since 1972.
    return f"{start[:-2]}{second:02}" if start.endswith("00") else _second(int(instant), zone)


@lru_cache(4096)  # what is read together is often of one minute, and this takes longer than the rest of a row
def _minute(minute: int, zone: tzinfo) -> str:
    return _second(minute * 60, zone)


def _second(second: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(second, zone).isoformat(" ")[:_TO_THE_SECOND]


def _row(record: asyncpg.Record, zone: tzinfo) -> Row:
    *usual, rare, conversions = record
    row = _BLANK.copy()
    row.update(zip(_USUAL, usual, strict=True))
    row["created_at"] = local_second(millis_of(record["hash"]) // 1000, zone)
    if rare is not None:
        row.update(zip(_RARE, orjson.loads(rare), strict=True))
    if conversions is not None:
        _tell(row, orjson.loads(conversions))
    return row


def _tell(row: Row, conversions: list[list[str]]) -> None:
    """Complete a click by what its conversions say; the link's own adv_sub* stand."""
    said = {
        name: text for conversion in conversions for name, text in zip(_TOLD, conversion, strict=True) if text
    }
    own = {name: row[name] for name in ADV_SUBS if row[name] is not None}
    row.update({**said, **own, "has_conversions": True})
