"""Statements: the balances of affiliates or advertisers by currency, and the entries behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from tracker.domain.statement import Balance, Party
from tracker.store.books import months
from tracker.store.db import Connection, Pool
from tracker.store.paging import MAX_OFFSET, Page, TooDeepError, reading
from tracker.store.time_span import Span
from tracker.store.token_owner import Owner, visible_offers

MOST_GROUPS = 100_000
"""Most groups of all statements together."""

_CHUNK_LINES = 1_000
_INSTANT = "to_timestamp(${}::bigint / 1000.0)"
_LOW, _HIGH = _INSTANT.format(1), _INSTANT.format(2)
_SUMS_OF_LINES = "coalesce(sum(opening), 0), " + ", ".join(
    f"coalesce(sum(change) FILTER (WHERE line = '{line}'), 0)" for line in Balance._fields[1:]
)

# A party and currency without an entry in the span and without a balance has no statement.
_BALANCES = """
WITH part AS ({parts})
SELECT party_id, (SELECT name FROM {party} WHERE id = party_id), currency, {sums}
FROM part GROUP BY party_id, currency HAVING sum(opening) <> 0 OR sum(entries) > 0
ORDER BY party_id, currency
"""
_MONTHS = """
SELECT party_id, currency, line, CASE WHEN month < '{first}' THEN amount ELSE 0 END AS opening,
    CASE WHEN month < '{first}' THEN 0 ELSE amount END AS change,
    CASE WHEN month < '{first}' THEN 0 ELSE entries END AS entries
FROM book_month WHERE party = '{party}' AND month < '{last}' AND {whose}"""
_EDGE = """
SELECT party_id, currency, line, sum(amount) * {opening}, sum(amount) * {change}, count(*) * {change}
FROM ({entries}) AS edge GROUP BY party_id, currency, line"""
_LATER = """
SELECT party_id, currency, line, sum(amount) FILTER (WHERE booked_at < {low}),
    sum(amount) FILTER (WHERE booked_at >= {low}), count(*) FILTER (WHERE booked_at >= {low})
FROM ({entries}) AS later GROUP BY party_id, currency, line"""
# The period of a conversion ends with the first close after it. Closes only follow each other, so it stays.
_PERIOD = "(SELECT min(until) FROM period_close WHERE until > {})"
_ADJUSTED = """
WITH adjusted AS (
    SELECT entry.{party}_id AS party_id, entry.{side}_currency AS currency, {period} AS until, entry.{side}
    FROM conversion_entry AS entry JOIN conversion ON conversion.id = conversion_id
    WHERE is_adjustment AND booked_at >= {low} AND booked_at < {high} AND {whose} AND entry.{side} <> 0
)
SELECT party_id, currency, (SELECT max(earlier.until) FROM period_close AS earlier
    WHERE earlier.until < adjusted.until) AS since, until, count(*) AS entries, sum({side}) AS amount
FROM adjusted GROUP BY party_id, currency, until ORDER BY party_id, currency, until
"""
_GROUPED = """
SELECT entry.{party}_id AS party_id, entry.{side}_currency AS currency, {keys},
    count(*) AS entries, sum(entry.{side}) AS amount
FROM conversion_entry AS entry {join}
WHERE booked_at >= {low} AND booked_at < {high} AND NOT is_adjustment AND {whose} AND entry.{side} <> 0
GROUP BY {numbers} ORDER BY {numbers} LIMIT {limit}
"""
_LAST_CLOSE = f"SELECT coalesce(max(until) >= {_INSTANT.format(1)}, false) FROM period_close"  # noqa: S608

_OFFSETS = """
JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS zone (low, high, ahead)
    ON floor(extract(epoch FROM booked_at)) >= low AND floor(extract(epoch FROM booked_at)) < high
"""
_DAY = "DATE '1970-01-01' + ((floor(extract(epoch FROM booked_at))::bigint + ahead) / 86400)::integer"
_NAME_OF_OFFER = "(SELECT name FROM offer WHERE offer.id = {of}.offer_id AND {seen})"
_NAME_OF_GOAL = """
(SELECT goal.name FROM goal JOIN offer ON offer.id = offer_id WHERE goal.id = {of}.goal_id AND {seen})
"""
GROUPS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "offer": (
        "",
        {"offer_id": "entry.offer_id", "offer_name": _NAME_OF_OFFER},
    ),
    "goal": (
        "JOIN conversion ON conversion.id = conversion_id",
        {"goal_id": "conversion.goal_id", "goal_name": _NAME_OF_GOAL},
    ),
    "month": (_OFFSETS, {"month": f"to_char({_DAY}, 'YYYY-MM')"}),
    "day": (_OFFSETS, {"day": f"({_DAY})::text"}),
    "kind": ("", {"kind": "entry.kind"}),
}
"""Groups of what is booked: the join that they need, and their keys with the expressions."""

LINE_KEYS: Final = (
    *("booked_at", "line", "amount", "currency", "conversion_id", "order_id", "offer_id", "offer_name"),
    *("goal_id", "goal_name", "conversion_at", "period_until", "entry_id", "reverses", "reference"),
    *("reason", "author"),
)
_LINES = """
SELECT line.*, (SELECT name FROM {party} WHERE id = party_id) AS party_name,
    {offer} AS offer_name, {goal} AS goal_name
FROM (
    (SELECT booked_at, 0 AS source, entry.id AS entry_id, entry.{party}_id AS party_id, kind AS line,
        entry.{side} AS amount, entry.{side}_currency AS currency, conversion_id, order_id,
        entry.offer_id, goal_id, created_at AS conversion_at,
        CASE WHEN is_adjustment THEN {period} END AS period_until,
        NULL::bigint AS reverses, '' AS reference, entry.reason, entry.author
    FROM conversion_entry AS entry JOIN conversion ON conversion.id = conversion_id
    WHERE booked_at >= {low} AND booked_at < {high} AND {whose} AND entry.{side} <> 0
        AND booked_at >= $3 AND (booked_at, 0, entry.id) > ($3, $4::integer, $5::bigint)
    ORDER BY booked_at, entry.id LIMIT {limit})
    UNION ALL
    (SELECT booked_at, 1, id, {party}_id, kind, change, currency, NULL, NULL, NULL, NULL, NULL, NULL,
        reverses, reference, reason, author
    FROM manual_entry AS entry
    WHERE {party}_id IS NOT NULL AND booked_at >= {low} AND booked_at < {high} AND {whose}
        AND booked_at >= $3 AND (booked_at, 1, id) > ($3, $4::integer, $5::bigint)
    ORDER BY booked_at, id LIMIT {limit})
) AS line ORDER BY booked_at, source, entry_id {part}
"""
_COUNT = """
SELECT
    (SELECT count(*) FROM conversion_entry AS entry
    WHERE booked_at >= {low} AND booked_at < {high} AND {whose} AND {side} <> 0)
    + (SELECT count(*) FROM manual_entry AS entry
    WHERE {party}_id IS NOT NULL AND booked_at >= {low} AND booked_at < {high} AND {whose})
"""


class StatementRequest(NamedTuple):
    """Which statements."""

    party: Party
    span: Span
    party_ids: tuple[int, ...] | None = None  # None: of all
    owner: Owner | None = None  # the viewer if it is bound to an owner, None: the network

    def sql(self, statement: str, **more: object) -> str:
        """A statement about this party, with the span as $1 and $2."""
        names = {
            "party": self.party,
            "side": self.party.side,
            "low": _LOW,
            "high": _HIGH,
            "whose": self.whose,
        }
        return statement.format(**names, **more)

    @property
    def whose(self) -> str:
        """SQL: which entries are of the parties."""
        if self.party_ids is None:
            return "true"
        return f"entry.{self.party}_id IN ({_listed(self.party_ids)})"

    def name_of(self, name: str, row: str) -> str:
        """The name of a row's offer or goal, if the viewer may see the offer."""
        return name.format(of=row, seen=visible_offers(self.owner))


class Adjusted(NamedTuple):
    """The adjustments of one closed period."""

    since: datetime | None  # None: the first period
    until: datetime | None  # None: of an entry that was written by hand into the table
    entries: int
    amount: Decimal


class Grouped(NamedTuple):
    """One group of what is booked."""

    keys: Mapping[str, object]
    entries: int
    amount: Decimal


class Statement(NamedTuple):
    """The statement of a party in one currency."""

    party_id: int
    name: str | None
    currency: str
    balance: Balance
    adjusted: Sequence[Adjusted] = ()
    groups: Sequence[Grouped] = ()


class Statements(NamedTuple):
    """Statements in the order of parties and currencies."""

    statements: list[Statement]
    is_final: bool  # the whole span is closed, so that nothing in it changes any more


class TooManyGroupsError(Exception):
    """There are more than MOST_GROUPS groups."""


async def read(
    pool: Pool, asked: StatementRequest, group: str = "", offsets: Sequence[tuple[int, int, int]] = ()
) -> Statements:
    """The statements of a span. `offsets` of the span's zone (see local_time) are needed for days and months.

    Raises:
        TooManyGroupsError: the groups have to be fewer.
    """
    async with reading(pool, "repeatable_read") as connection:
        is_final = await connection.fetchval(_LAST_CLOSE, asked.span.high)
        found = await _balances(connection, asked)
        adjusted = await _adjusted(connection, asked)
        groups = await _groups(connection, asked, group, offsets) if group else {}
    statements = [
        each._replace(
            adjusted=adjusted.get((each.party_id, each.currency), ()),
            groups=groups.get((each.party_id, each.currency), ()),
        )
        for each in found
    ]
    return Statements(statements, is_final)


async def owed(pool: Pool, asked: StatementRequest) -> list[Statement]:
    """The balances of a span alone."""
    async with reading(pool, "repeatable_read") as connection:
        return await _balances(connection, asked)


async def lines(pool: Pool, asked: StatementRequest) -> AsyncGenerator[list[dict[str, Any]], None]:
    """All entries of a span in the order of their time, in chunks. Entries of 0 are left out."""
    statement, after = _lines(asked, _CHUNK_LINES, f"LIMIT {_CHUNK_LINES}"), _first(asked)
    while True:
        async with reading(pool, "read_committed") as connection:
            records = await connection.fetch(statement, *asked.span, *after)
        if records:
            yield [dict(record) for record in records]
        if len(records) < _CHUNK_LINES:
            return
        last = records[-1]
        after = (last["booked_at"], last["source"], last["entry_id"])


async def line_page(pool: Pool, asked: StatementRequest, number: int, per_page: int) -> Page:
    """Page `number`, from 1, of the entries of a span in the order of their time, without those of 0.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
    """
    offset = (number - 1) * per_page
    if offset > MAX_OFFSET:
        raise TooDeepError(f"pages lead only up to {MAX_OFFSET:,} rows deep")
    statement = _lines(asked, offset + per_page, f"LIMIT {int(per_page)} OFFSET {int(offset)}")
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(asked.sql(_COUNT), *asked.span)
        rows = [dict(row) for row in await connection.fetch(statement, *asked.span, *_first(asked))]
    return Page(rows, total, offset + len(rows) < total)


def _lines(asked: StatementRequest, limit: int, part: str) -> str:
    """The statement for lines: `part` of the first `limit` ones after a place."""
    names = {
        "offer": asked.name_of(_NAME_OF_OFFER, "line"),
        "goal": asked.name_of(_NAME_OF_GOAL, "line"),
    }
    return asked.sql(_LINES, period=_PERIOD.format("created_at"), limit=int(limit), part=part, **names)


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(str(int(id_)) for id_ in ids)


def _first(asked: StatementRequest) -> tuple[object, ...]:
    """The place before all lines of a span."""
    return datetime.fromtimestamp(asked.span.low / 1000, UTC), -1, 0


async def _balances(connection: Connection, asked: StatementRequest) -> list[Statement]:
    """The statements without their parts: whole months, their edges, and what is not in the months yet."""
    carried, cut = await months.carried(connection), months.cut(asked.span)
    own = "true" if asked.party_ids is None else f"party_id IN ({_listed(asked.party_ids)})"
    parts = [
        _MONTHS.format(party=asked.party, first=cut.first, last=cut.last, whose=own),
        *(_edge(asked, carried, edge) for edge in cut.edges),
        _LATER.format(entries=_entries(asked, carried.later, f"booked_at < {_HIGH}"), low=_LOW),
    ]
    rows = await connection.fetch(
        asked.sql(_BALANCES, parts=" UNION ALL ".join(parts), sums=_SUMS_OF_LINES), *asked.span
    )
    return [
        Statement(party_id, name, currency, Balance._make(amounts))
        for party_id, name, currency, *amounts in map(tuple, rows)
    ]


def _edge(asked: StatementRequest, carried: months.Carried, edge: months.Edge) -> str:
    low, high = (f"to_timestamp({bound} / 1000.0)" for bound in edge.span)
    entries = _entries(asked, carried.up_to_here, f"booked_at >= {low} AND booked_at < {high}")
    return _EDGE.format(entries=entries, opening=edge.opening, change=edge.change)


def _entries(asked: StatementRequest, which: months.Which, when: str) -> str:
    """A query of entries of the party."""
    return months.entries_of(asked.party, lambda table: f"{which(table)} AND {when} AND {asked.whose}")


async def _adjusted(
    connection: Connection, asked: StatementRequest
) -> Mapping[tuple[int, str], list[Adjusted]]:
    found: defaultdict[tuple[int, str], list[Adjusted]] = defaultdict(list)
    statement = asked.sql(_ADJUSTED, period=_PERIOD.format("conversion.created_at"))
    for party_id, currency, *rest in await connection.fetch(statement, *asked.span):
        found[party_id, currency].append(Adjusted._make(rest))
    return found


async def _groups(
    connection: Connection, asked: StatementRequest, group: str, offsets: Sequence[tuple[int, int, int]]
) -> Mapping[tuple[int, str], list[Grouped]]:
    join, keys = GROUPS[group]
    row = "conversion" if group == "goal" else "entry"
    named = ", ".join(f"{asked.name_of(expression, row)} AS {key}" for key, expression in keys.items())
    numbers = ", ".join(str(number + 1) for number in range(2 + len(keys)))
    statement = asked.sql(_GROUPED, join=join, keys=named, numbers=numbers, limit=MOST_GROUPS + 1)
    values: list[Any] = [*asked.span]
    if join == _OFFSETS:
        values += map(list, zip(*offsets, strict=True))
    rows = await connection.fetch(statement, *values)
    if len(rows) > MOST_GROUPS:
        raise TooManyGroupsError
    found: defaultdict[tuple[int, str], list[Grouped]] = defaultdict(list)
    for row in rows:
        found[row["party_id"], row["currency"]].append(
            Grouped({key: row[key] for key in keys}, row["entries"], row["amount"])
        )
    return found
