"""The log of postbacks: workers write it, commands show it, and the API lists it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import tzinfo
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from tracker.domain.click_id import first_hash_at, is_click_hash, millis_of
from tracker.domain.conversion import Refusal
from tracker.domain.normalise import hash_, trim
from tracker.domain.postback import Postback, Result, Source, read_form, read_postback
from tracker.store import table_pages
from tracker.store.clicks.columns import local_second
from tracker.store.conversions.list import shown
from tracker.store.conversions.lock import lock
from tracker.store.db import Connection, Pool
from tracker.store.paging import Order, Page, Row, Value, reading
from tracker.store.table_pages import PagedTable, PageQuery
from tracker.store.time_span import ALL_TIME, Span

REPLAYED: Final = (Result.REJECTED, Result.HELD, Result.WAITING)
"""The results of postbacks that can be applied once more. What an edge refused was not kept whole."""
NOT_STORED = "its click is not stored yet"
"""Why a postback is parked."""

_PARKED = """
SELECT arrival, hash, source, ip, advertiser_id, parameters, form FROM postback
WHERE result = 'parked' AND arrival > $1 ORDER BY arrival LIMIT $2
"""
_HELD_REFUNDS = """
SELECT hash, source, ip, advertiser_id, parameters, form FROM postback
WHERE result = 'held' AND click_hash = ANY ($1) AND parameters ->> 'refund_amount' <> '' ORDER BY arrival
"""
# Postbacks that were held with fewer goals or words than now.
_HELD = """
SELECT hash, source, ip, advertiser_id, parameters, form FROM postback
WHERE result = 'held'
    AND held_at < greatest((SELECT max(version) FROM goal), (SELECT max(version) FROM status_word))
ORDER BY arrival LIMIT $1
"""
_COUNT_PARKED = "SELECT count(*) FROM postback WHERE result = 'parked' AND hash < $1"
_COUNT_HELD = "SELECT count(*) FROM postback WHERE result = 'held'"
_COUNT_UNPROVEN = "SELECT count(*) FROM conversion WHERE is_unproven"
_COUNT_WAITING = "SELECT count(*) FROM postback WHERE result = 'waiting'"
_COUNT_TOO_MANY = "SELECT count(*) FROM postback WHERE result = 'rejected' AND reason = $1 AND hash >= $2"
_WAITING = "SELECT hash, click_hash FROM postback WHERE result = 'waiting'"
_PARK = """
UPDATE postback SET (result, reason, waits_until) = ('parked', $2, NULL)
WHERE hash = ANY ($1::uuid[]) AND result = ANY ($3)
"""
_END_WAITING = """
UPDATE postback SET (result, reason) = ('rejected', $1) WHERE result = 'waiting' AND waits_until < now()
"""
_REFUSED = """
SELECT reason || coalesce(' (form ' || (form ->> 'name') || ')', ''), count(*) AS times
FROM postback WHERE result = 'refused' AND hash >= $1
GROUP BY 1 ORDER BY 2 DESC, 1
"""
_LATEST = """
SELECT hash, source, ip, advertiser_id, coalesce(form -> 'sent', parameters), result, reason, conversion_id,
    coalesce(form ->> 'path', request), form ->> 'name',
    CASE WHEN form ? 'sent' THEN parameters END AS read_as
FROM postback
WHERE hash >= $1 AND ($2::text IS NULL OR result = $2) ORDER BY hash DESC LIMIT $3
"""
_FORGET = """
DELETE FROM postback WHERE hash IN (
    SELECT hash FROM postback
    WHERE conversion_id IS NULL AND hash < $1 AND result NOT IN ('parked', 'waiting') LIMIT $2)
"""
_FORGOTTEN_AT_ONCE = 10_000


class Unapplied(NamedTuple):
    """A postback without an effect so far."""

    postback: Postback
    result: Result


class Logged(NamedTuple):
    """A postback and its result."""

    hash: str
    source: str
    ip: str
    advertiser_id: int | None
    parameters: dict[str, str]
    result: str
    reason: str
    conversion_id: int | None
    request: str = ""  # method and path, if an edge refused it. The path if it came in a form
    form: str | None = None  # its name
    read_as: dict[str, str] | None = None  # the parameters by our names, as its form reads them


async def parked(connection: Connection, after: int, count: int) -> list[tuple[int, Postback]]:
    """Postbacks that wait for their clicks, with their positions, after a position of the stream."""
    return [(place, postback_of(row)) for place, *row in await connection.fetch(_PARKED, after, count)]


async def held_refunds(connection: Connection, click_hashes: Collection[str]) -> list[Postback]:
    """Unapplied refunds of some clicks' orders, in the order of the stream."""
    return [postback_of(row) for row in await connection.fetch(_HELD_REFUNDS, list(click_hashes))]


async def held(connection: Connection, count: int) -> list[Postback]:
    """Held postbacks that were not tried with the present goals and words, in stream order."""
    return [postback_of(row) for row in await connection.fetch(_HELD, count)]


async def count_held(source: Connection | Pool) -> int:
    return int(await source.fetchval(_COUNT_HELD))


async def count_unproven(source: Connection | Pool) -> int:
    """The number of conversions on hold whose postbacks came without a proof."""
    return int(await source.fetchval(_COUNT_UNPROVEN))


async def count_waiting(source: Connection | Pool) -> int:
    """The number of postbacks that wait for dead letters."""
    return int(await source.fetchval(_COUNT_WAITING))


async def count_too_many(connection: Connection, millis: int) -> int:
    """How many since a time (Unix milliseconds) were rejected because too many others waited."""
    return int(await connection.fetchval(_COUNT_TOO_MANY, Refusal.TOO_MANY_WAIT, first_hash_at(millis)))


async def waiting(connection: Connection) -> dict[str, str]:
    """The click hashes of the postbacks that wait for dead letters, by the postback's hash.

    Includes those of transactions under way, which are waited for.
    """
    async with connection.transaction():
        await lock(connection)
        return {hash_.hex: click_hash.hex for hash_, click_hash in await connection.fetch(_WAITING)}


async def try_again(connection: Connection, hashes: Collection[str]) -> None:
    """Let the writer try some waiting postbacks again."""
    await connection.execute(_PARK, list(hashes), NOT_STORED, [Result.WAITING])


async def park_again(connection: Connection, hashes: Collection[str]) -> None:
    """Forget the results of some postbacks that had no effect."""
    await connection.execute(_PARK, list(hashes), NOT_STORED, list(REPLAYED))


async def to_replay(pool: Pool, postbacks: PostbackFilter, most: int) -> list[Unapplied]:
    """The oldest postbacks of a filter that had no effect and may have one now."""
    condition, values = _where(postbacks)
    values.append(list(REPLAYED))
    statement = f"""
SELECT hash, source, ip, advertiser_id, parameters, form, result FROM postback
WHERE {condition} AND result = ANY (${len(values)}) AND reason NOT LIKE 'cannot be stored:%'
ORDER BY hash LIMIT {int(most)}
"""  # noqa: S608
    async with reading(pool, "read_committed") as connection:
        rows = await connection.fetch(statement, *values)
    return [Unapplied(postback_of(row[:6]), Result(row[6])) for row in rows]


async def end_waiting(connection: Connection) -> None:
    """Reject postbacks that have waited for dead letters for as long as the goal's window."""
    await connection.execute(_END_WAITING, Refusal.LATE)


async def refused_since(connection: Connection, millis: int) -> list[tuple[str, int]]:
    """Numbers of refused postbacks since a time (Unix milliseconds) by reason and form, often ones first."""
    return [tuple(row) for row in await connection.fetch(_REFUSED, first_hash_at(millis))]


async def count_parked(source: Connection | Pool, before: int) -> int:
    """The number of postbacks from before a time (Unix milliseconds) that wait for their clicks."""
    return int(await source.fetchval(_COUNT_PARKED, first_hash_at(before)))


async def latest(connection: Connection, since: int, result: str | None, count: int) -> list[Logged]:
    """The latest postbacks since a time (Unix milliseconds), newest first."""
    return [_logged(row) for row in await connection.fetch(_LATEST, first_hash_at(since), result, count)]


async def forget(connection: Connection, before: int) -> None:
    """Delete postbacks without an effect from before a time (Unix milliseconds).

    Postbacks of conversions stay.
    """
    first_kept = first_hash_at(before)
    while await connection.execute(_FORGET, first_kept, _FORGOTTEN_AT_ONCE) == f"DELETE {_FORGOTTEN_AT_ONCE}":
        pass


def postback_of(row: Any) -> Postback:
    """The postback of a row: hash, source, ip, advertiser_id, parameters, form."""
    hash_, source, ip, advertiser_id, parameters, form = row
    of = read_form(form and orjson.loads(form))
    return read_postback(hash_.hex, Source(source), ip, advertiser_id, orjson.loads(parameters), of)


def _logged(row: Any) -> Logged:
    hash_, source, ip, advertiser_id, parameters, *rest = row
    logged = Logged(hash_.hex, source, ip, advertiser_id, orjson.loads(parameters), *rest)
    return logged._replace(read_as=row["read_as"] and orjson.loads(row["read_as"]))


FILTERS: Final = {
    "hash": "hash",
    "result": "result",
    "source": "source",
    "advertiser_id": "advertiser_id",
    "conversion_id": "conversion_id",
    "click_id": "coalesce(click, told_click(parameters))",
    "form": "form ->> 'name'",
}
"""The filters of the log, and their conditions."""

_SELECT = """
hash, source, ip, advertiser_id, coalesce(click, told_click(parameters)) AS click_id,
    coalesce(form -> 'sent', parameters) AS parameters, result, reason, conversion_id,
    coalesce(form ->> 'path', request) AS request, form ->> 'name' AS form,
    CASE WHEN form ? 'sent' THEN parameters END AS read_as
"""


class PostbackFilter(NamedTuple):
    """A filter of postbacks."""

    span: Span = ALL_TIME
    equals: tuple[tuple[str, Value], ...] = ()  # (one of FILTERS, value), each once


async def page(pool: Pool, postbacks: PostbackFilter, order: Order, number: int, per_page: int) -> Page:
    """Page `number`, from 1.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
    """
    return _page(await table_pages.page(pool, _walked(postbacks, order), number, per_page), order.zone)


async def page_after(
    pool: Pool, postbacks: PostbackFilter, order: Order, last_hash: str, per_page: int, total: int | None
) -> Page:
    """The page after the postback `last_hash`. Counts them unless their total is known."""
    part = await table_pages.page_after(pool, _walked(postbacks, order), last_hash, per_page, total)
    return _page(part, order.zone)


_OF_CLICK = f"({FILTERS['click_id']} = ANY ($1) OR conversion_id = ANY ($2))"


async def of_click(
    pool: Pool, click_ids: Iterable[str], conversion_ids: Iterable[int], zone: tzinfo, most: int
) -> Page:
    """The newest postbacks that name a click by one of its ids, or that changed one of some conversions."""
    forms = [form for click_id in click_ids for form in _written(click_id)]
    walked = PagedTable("postback", _SELECT, ("hash",), True, _OF_CLICK, (forms, list(conversion_ids)))
    return _page(await table_pages.page(pool, walked, 1, most), zone)


def _walked(postbacks: PostbackFilter, order: Order) -> PagedTable:
    condition, values = _where(postbacks)
    return PagedTable("postback", _SELECT, ("hash",), order.newest_first, condition, tuple(values))


def _where(postbacks: PostbackFilter) -> tuple[str, list[object]]:
    """The condition of a filter, and its parameters from $1 on."""
    conditions = ["true"]
    values: list[object] = []
    for name, value in postbacks.equals:
        values.append(_written(str(value)) if name == "click_id" else value)
        is_any = "= ANY" if name == "click_id" else "="
        conditions.append(f"{FILTERS[name]} {is_any} (${len(values)})")
    for operator, millis, everything in zip((">=", "<"), postbacks.span, ALL_TIME, strict=True):
        if millis != everything:
            values.append(first_hash_at(millis))
            conditions.append(f"hash {operator} ${len(values)}")
    return " AND ".join(conditions), values


def _written(click_id: str) -> list[str]:
    """The forms of a click id in the log: as given, trimmed, and as a hash."""
    plain = trim(click_id)
    hashes = [hash_(plain)] if is_click_hash(hash_(plain)) else []
    return list(dict.fromkeys((click_id, plain, *hashes)))


def _page(part: PageQuery, zone: tzinfo) -> Page:
    return Page([_row(record, zone) for record in part.records], part.total, part.has_more)


def _row(record: asyncpg.Record, zone: tzinfo) -> Row:
    row = shown(record, zone)
    row["parameters"] = orjson.loads(record["parameters"])
    row["read_as"] = record["read_as"] and orjson.loads(record["read_as"])
    row["created_at"] = local_second(millis_of(str(row["hash"])) // 1000, zone)
    return row
