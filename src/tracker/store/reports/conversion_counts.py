"""Conversions added up: the definition of conversion_count, its deltas, and its recount.

Triggers note each change of a conversion in conversion_delta, in the transaction that makes it. `add_up`
moves these rows into conversion_count. Readers add both in one snapshot, so the time of adding up changes no
number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date

from tracker.domain.click_fields import FROZEN
from tracker.domain.click_id import first_hash_at
from tracker.store import adding_up, time_span
from tracker.store.adding_up import Waiting
from tracker.store.clicks.counts import REPORTED
from tracker.store.clicks.recount import Difference
from tracker.store.conversions.list import Basis
from tracker.store.db import Connection, Pool
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY

COUNTED: Mapping[str, str] = {dimension: column for dimension, column in REPORTED.items() if column in FROZEN}
"""The dimensions of conversion_count besides 'all', and their columns. A key is as in report_count."""

MEASURES = ("conversions", "over_cap", "payout", "revenue")
"""The sums of conversion_count."""

SUMMED_BY = ("outcome", "payout_currency", "revenue_currency")
"""The columns of conversion_count that are neither sums, nor a time, nor a key of reports."""


def _each(form: str) -> str:
    return ", ".join(form.format(measure) for measure in MEASURES)


IS_ANYTHING = f"({_each('sum({})')}) <> ({_each('0')})"
"""SQL over groups of sums: whether they add up to something."""

_SLOT_SECONDS = SLOT_MILLIS // 1000
_KEY = ("basis", "quarters", "dimension", "slot", "key", *SUMMED_BY)
_KEYS = ", ".join(_KEY)

_PLACES = ", ".join(
    (
        *("(1, 'all', '')", f"({SLOTS_A_DAY}, 'all', '')"),
        *(f"({SLOTS_A_DAY}, '{name}', coalesce({column}::text, ''))" for name, column in COUNTED.items()),
    )
)


def _counts_of(deltas: str, *bases: Basis) -> str:
    """A query of the rows of conversion_count, from rows of conversion_delta."""
    times = ", ".join(f"('{basis}', {basis}_second)" for basis in bases)
    return f"""
    SELECT {_KEYS}, sum(conversions)::bigint AS conversions, sum(over_cap)::bigint AS over_cap,
           sum(payout) AS payout, sum(revenue) AS revenue
    FROM {deltas}
    CROSS JOIN LATERAL (VALUES {times}) AS time (basis, second)
    CROSS JOIN LATERAL (VALUES {_PLACES}) AS place (quarters, dimension, key)
    CROSS JOIN LATERAL (SELECT (second / {_SLOT_SECONDS} / quarters * quarters)::integer AS slot) AS of
    GROUP BY {_KEYS} HAVING {IS_ANYTHING}"""  # noqa: S608


def _adding(counts: str) -> str:
    """A statement that adds rows to conversion_count. Only the holder of Lock.ADDING_UP may run it.

    While deltas are added up in parts, the amounts of a row may differ from 0 when its conversions are 0.
    """
    return f"""
MERGE INTO conversion_count AS known USING ({counts}) AS more
ON ({", ".join(f"known.{name}" for name in _KEY)}) = ({", ".join(f"more.{name}" for name in _KEY)})
WHEN MATCHED AND ({_each("known.{0} + more.{0}")}) = ({_each("0")}) THEN DELETE
WHEN MATCHED THEN UPDATE SET {_each("{0} = known.{0} + more.{0}")}
WHEN NOT MATCHED THEN INSERT ({_KEYS}, {_each("{}")})
    VALUES ({", ".join(f"more.{name}" for name in _KEY)}, {_each("more.{}")})"""  # noqa: S608


_ADD_UP = f"""
WITH taken AS (
    DELETE FROM conversion_delta WHERE ctid = ANY (ARRAY(SELECT ctid FROM conversion_delta LIMIT $1))
    RETURNING *
)
{_adding(_counts_of("taken", "click", "conversion"))}
"""  # noqa: S608

_DAYS = f"""
SELECT DISTINCT slot / {SLOTS_A_DAY} AS day FROM conversion_count
UNION SELECT click_second / 86400 FROM conversion
UNION SELECT floor(extract(epoch FROM created_at) / 86400)::bigint FROM conversion
UNION SELECT click_second / 86400 FROM conversion_delta
UNION SELECT conversion_second / 86400 FROM conversion_delta
"""  # noqa: S608
_FACTS = f"""
SELECT click_second, floor(extract(epoch FROM created_at))::bigint AS conversion_second,
       {", ".join(COUNTED.values())}, status AS outcome, payout_currency, revenue_currency,
       1 AS conversions, is_over_cap::integer AS over_cap, payout, revenue
FROM conversion WHERE NOT is_test"""  # noqa: S608
_OF_DAY = f"slot >= $1 AND slot < $1 + {SLOTS_A_DAY}"
_WRONG = f"""
WITH of_click AS (
    {_FACTS} AND click_hash >= $2 AND click_hash < $3
), of_conversion AS (
    {_FACTS} AND created_at >= to_timestamp($1 * {_SLOT_SECONDS}::bigint)
        AND created_at < to_timestamp(($1 + {SLOTS_A_DAY}) * {_SLOT_SECONDS}::bigint)
), recounted AS (
    {_counts_of("of_click", "click")} UNION ALL {_counts_of("of_conversion", "conversion")}
), known AS (
    SELECT {_KEYS}, {_each("sum({0}) AS {0}")}
    FROM (
        SELECT {_KEYS}, {_each("{}")} FROM conversion_count WHERE {_OF_DAY}
        UNION ALL
        SELECT * FROM ({_counts_of("conversion_delta", "click", "conversion")}) AS deltas WHERE {_OF_DAY}
    ) AS either
    GROUP BY {_KEYS} HAVING {IS_ANYTHING}
), wrong AS (
    SELECT {_KEYS}, {_each("known.{0} AS said_{0}, recounted.{0} AS found_{0}")}
    FROM recounted FULL JOIN known USING ({_KEYS})
    WHERE ({_each("known.{}")}) IS DISTINCT FROM ({_each("recounted.{}")})
)"""  # noqa: S608
_COMPARE = f"""{_WRONG}
SELECT outcome || ' ' || measure || ' by ' || dimension || ' at the time of the ' || basis
           || CASE quarters WHEN 1 THEN '' ELSE ', a day' END AS dimension,
       key, slot * {SLOT_MILLIS}::bigint AS millis, said, found, unit
FROM wrong CROSS JOIN LATERAL (VALUES
    ('conversions', said_conversions::numeric, found_conversions::numeric, 'conversions'),
    ('over_cap', said_over_cap, found_over_cap, 'conversions'),
    ('payout', said_payout, found_payout, payout_currency),
    ('revenue', said_revenue, found_revenue, revenue_currency)
) AS of (measure, said, found, unit)
WHERE said IS DISTINCT FROM found AND coalesce(said, found) <> 0
ORDER BY millis, 1, key
"""  # noqa: S608
_MISSING = f"""
SELECT {_KEYS}, {_each("coalesce(found_{0}, 0) - coalesce(said_{0}, 0) AS {0}")} FROM wrong"""  # noqa: S608
_CORRECT = _WRONG + _adding(_MISSING)


async def add_up(connection: Connection) -> None:
    """Move deltas into conversion_count, in one transaction. It does nothing while another one does it."""
    async with adding_up.turn(connection) as is_ours:
        if is_ours:
            await connection.execute(_ADD_UP, adding_up.MOST)


async def waiting(source: Connection | Pool) -> Waiting:
    """The deltas of conversions that wait to be added up."""
    return await adding_up.waiting(source, "conversion_delta")


async def days(connection: Connection, first: date, last: date) -> list[date]:
    """The days (UTC) from `first` to `last` that may have conversions or counts of them."""
    found = time_span.dates(row["day"] for row in await connection.fetch(_DAYS))
    return sorted(day for day in found if first <= day <= last)


async def differences(connection: Connection, day: date) -> AsyncIterator[Difference]:
    """The wrong sums of a day."""
    async with connection.transaction():
        async for row in connection.cursor(_COMPARE, *_bounds(day)):
            yield Difference(*row)


async def correct(connection: Connection, day: date) -> int:
    """Correct the counts of a day, and return how many were wrong."""
    async with adding_up.correcting(connection):
        status = await connection.execute(_CORRECT, *_bounds(day))
    return int(status.removeprefix("MERGE "))


def _bounds(day: date) -> tuple[int, str, str]:
    """The first quarter-hour of a day, and the bounds of its hashes."""
    low, high = (number * SLOTS_A_DAY for number in (time_span.number_of(day), time_span.number_of(day) + 1))
    return low, first_hash_at(low * SLOT_MILLIS), first_hash_at(high * SLOT_MILLIS)
