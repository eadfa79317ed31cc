"""Unfilled macros in values that stay as they came: sub ids and other texts of the latest rows."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS
from tracker.domain.normalise import is_unfilled, trim
from tracker.store.db import Connection

LATEST = 20_000
"""The latest rows that are searched, so that corrected links are not reported forever."""

# The condition of whole rows comes first, because it spares most of them the pairs.
_STATEMENT = r"""
SELECT whose, name, said, count(*) AS times
FROM (SELECT {whose} AS whose, {columns} FROM {table} ORDER BY {newest} DESC LIMIT $1) AS latest,
LATERAL (VALUES {pairs}) AS text (name, said)
WHERE concat_ws(E'\n', {texts}) ~ '(?n)^\s*[[{{<$%#_]'
    AND said <> '' AND left(ltrim(said), 1) IN ('{{', '[', '<', '$', '%', '#', '_')
GROUP BY whose, name, said
"""


class Unfilled(NamedTuple):
    """A macro that was sent instead of a value."""

    whose: int  # the affiliate's or advertiser's id
    name: str
    macro: str
    times: int


def _statement(table: str, whose: str, newest: str, columns: tuple[str, ...]) -> str:
    pairs = ", ".join(f"('{name}', latest.{name})" for name in columns)
    texts = ", ".join(f"latest.{name}" for name in columns)
    return _STATEMENT.format(
        table=table, whose=whose, newest=newest, columns=", ".join(columns), texts=texts, pairs=pairs
    )


_OF_AFFILIATES = _statement(
    "click", "affiliate_id", "hash", (*AFF_SUBS, *ADV_SUBS, "affiliate_source", "external_id")
)
_OF_ADVERTISERS = _statement(
    "conversion", "advertiser_id", "id", (*ADV_SUBS, "advertiser_external_id", "sale_status")
)


async def of_affiliates(connection: Connection) -> list[Unfilled]:
    """Macros in links, the most frequent first."""
    return await _read(connection, _OF_AFFILIATES)


async def of_advertisers(connection: Connection) -> list[Unfilled]:
    """Macros in postbacks, the most frequent first."""
    return await _read(connection, _OF_ADVERTISERS)


async def _read(connection: Connection, statement: str) -> list[Unfilled]:
    times: Counter[tuple[int, str, str]] = Counter()
    for whose, name, text, number in await connection.fetch(statement, LATEST):
        if is_unfilled(macro := trim(text)):
            times[whose, name, macro] += number
    return [Unfilled(*key, number) for key, number in times.most_common()]
