"""Reading the log of postbacks: every one that came in, newest first, and what became of it."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final, NamedTuple

import asyncpg
import orjson

from tracker.clickhash import first_hash_at, is_click_hash, millis_of
from tracker.domain.normalise import hash_, trim
from tracker.store import walk
from tracker.store.click_counts import ALL_TIME, Span
from tracker.store.click_list import Order, Page, Value
from tracker.store.click_row import Row, local_second
from tracker.store.conversion_list import shown
from tracker.store.pool import Pool
from tracker.store.walk import Part, Walked

FILTERS: Final = {
    "hash": "hash",
    "result": "result",
    "source": "source",
    "advertiser_id": "advertiser_id",
    "conversion_id": "conversion_id",
    "click_id": "coalesce(click, told_click(parameters))",
}
"""What the log is filtered by, and how that is found."""

_SELECT = """
hash, source, ip, advertiser_id, coalesce(click, told_click(parameters)) AS click_id, parameters, result,
    reason, conversion_id, request
"""


class PostbackFilter(NamedTuple):
    """Which postbacks are asked for."""

    span: Span = ALL_TIME
    equals: tuple[tuple[str, Value], ...] = ()  # (one of FILTERS, value), each once


async def page(pool: Pool, postbacks: PostbackFilter, order: Order, number: int, per_page: int) -> Page:
    """Page `number`, from 1.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
    """
    return _page(await walk.page(pool, _walked(postbacks, order), number, per_page), order.zone)


async def page_after(
    pool: Pool, postbacks: PostbackFilter, order: Order, last_hash: str, per_page: int, total: int | None
) -> Page:
    """The page that follows the postback `last_hash`; counts them unless their total is known."""
    part = await walk.page_after(pool, _walked(postbacks, order), last_hash, per_page, total)
    return _page(part, order.zone)


def _walked(postbacks: PostbackFilter, order: Order) -> Walked:
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
    return Walked("postback", _SELECT, ("hash",), order.newest_first, " AND ".join(conditions), tuple(values))


def _written(click_id: str) -> list[str]:
    """How a click id may stand in the log: as it is asked for, trimmed, and as a hash."""
    plain = trim(click_id)
    hashes = [hash_(plain)] if is_click_hash(hash_(plain)) else []
    return list(dict.fromkeys((click_id, plain, *hashes)))


def _page(part: Part, zone: tzinfo) -> Page:
    return Page([_row(record, zone) for record in part.records], part.total, part.has_more)


def _row(record: asyncpg.Record, zone: tzinfo) -> Row:
    row = shown(record, zone)
    row["parameters"] = orjson.loads(record["parameters"])
    row["created_at"] = local_second(millis_of(str(row["hash"])) // 1000, zone)
    return row
