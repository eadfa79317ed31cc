"""Storing imported conversions: as the earlier tracker had them, with their history and their money.

What was decided there stands: no window, cap or price is held against it, and no affiliate is told of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.clickhash import is_click_hash
from tracker.conversion import ADV_SUBS, Amounts, ConversionStatus, ConvertedClick
from tracker.money import show
from tracker.store import conversions
from tracker.store.imports import Batch, Sums, summed
from tracker.store.pool import Connection

_OF_CLICK = ConvertedClick._fields[3:]  # after hash, id and status
_OWN = ("advertiser_external_id", *ADV_SUBS)
_COLUMNS = (
    *("hash", "click_hash", "click_id", "goal_id", "order_id", "is_repeatable", "status", "is_over_cap"),
    *("sale_status", *Amounts._fields, *_OWN, "created_at", "updated_at", *_OF_CLICK),
)
_NAMES = ", ".join(_COLUMNS)

_SESSION = """
CREATE TEMP TABLE IF NOT EXISTS incoming_conversion
    (LIKE conversion INCLUDING DEFAULTS INCLUDING GENERATED) ON COMMIT DELETE ROWS
"""
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
# The bounds say what the list does; they rule partitions out.
_CLICKS = f"""
SELECT encode(uuid_send(hash), 'hex') AS hash, id, status, {", ".join(_OF_CLICK)}
FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
"""  # noqa: S608
_GOALS = "SELECT id, offer_id, is_base, multiple, currency FROM goal"

# Of those that exclude each other the first is stored: `incoming_conversion.id` is the place in the batch.
# Their history begins here, and is told to nobody.
_INSERT = f"""
WITH inserted AS (
    INSERT INTO conversion ({_NAMES})
    SELECT {_NAMES} FROM incoming_conversion ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING id, status
), noted AS (
    INSERT INTO conversion_change (conversion_id, status_after, source, is_announced)
    SELECT id, status, 'import', true FROM inserted ORDER BY id
)
SELECT id, status FROM inserted
"""  # noqa: S608
_FOUND = """
SELECT hash, click_hash, goal_id, order_id, payout, payout_currency, revenue, revenue_currency
FROM conversion WHERE hash = ANY ($1::uuid[])
"""
_IN_THE_WAY = """
SELECT wanted.hash FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[])
    AS wanted (hash, click_hash, advertiser_id, goal_id, order_id)
WHERE NOT EXISTS (SELECT FROM conversion WHERE hash = wanted.hash) AND (EXISTS (
    SELECT FROM conversion
    WHERE (advertiser_id, goal_id, order_id) = (wanted.advertiser_id, wanted.goal_id, wanted.order_id)
) OR EXISTS (
    SELECT FROM conversion
    WHERE (click_hash, goal_id) = (wanted.click_hash, wanted.goal_id) AND NOT is_repeatable
))
"""

_SECOND = "is of an order, or a click and goal, that another conversion is of already"


class ImportedConversion(NamedTuple):
    """A conversion as a file has it. What it does not say is None, or ""."""

    hash: str
    click: str  # its hash, or its earlier id
    goal_id: int | None  # None: the base goal
    order_id: str | None
    status: ConversionStatus
    is_over_cap: bool
    sale_status: str
    sale_amount: Decimal | None
    sale_currency: str | None
    payout: Decimal
    payout_currency: str | None
    revenue: Decimal
    revenue_currency: str | None
    own: tuple[str, ...]  # advertiser_external_id, adv_sub …
    created_at: datetime
    updated_at: datetime


class _Goal(NamedTuple):
    id: int
    offer_id: int
    is_base: bool
    multiple: bool
    currency: str


_Row = dict[str, Any]


class ConversionStore:
    """Stores imported conversions over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._goals: dict[int, _Goal] = {}
        self._base_goals: dict[int, _Goal] = {}

    async def prepare(self, items: Sequence[ImportedConversion]) -> None:
        """Have the staging table; before the transaction that stores them."""
        await self._connection.execute(_SESSION)

    async def store(self, items: Sequence[ImportedConversion]) -> Batch:
        """Store conversions, in a transaction of the caller's; they stand as they were stored first."""
        await conversions.lock(self._connection)
        rows, refused = await self._rows(items)
        records = [
            (place, *(row[column] for column in _COLUMNS))
            for place, row in enumerate(_each_once(rows.values()))
        ]
        await self._connection.copy_records_to_table(
            "incoming_conversion", records=records, columns=("id", *_COLUMNS)
        )
        stored = await self._connection.fetch(_INSERT)
        approved = [id_ for id_, status in stored if status == ConversionStatus.APPROVED]
        await conversions.book(self._connection, approved)
        in_the_way = await self._in_the_way(rows.values())
        refused |= {place: _SECOND for place, row in rows.items() if row["hash"] in in_the_way}
        return Batch(len(stored), len(items) - len(stored) - len(refused), refused)

    async def compare(self, items: Sequence[ImportedConversion]) -> tuple[Sums, Sums]:
        """What the table should have of some conversions, and what it has."""
        rows, _ = await self._rows(items)
        in_the_way = await self._in_the_way(rows.values())
        wanted = [row for row in _each_once(rows.values()) if row["hash"] not in in_the_way]
        found = await self._connection.fetch(_FOUND, [row["hash"] for row in wanted])
        return summed(map(_told, wanted)), summed(
            _told({**row, "hash": row["hash"].hex, "click_hash": row["click_hash"].hex}) for row in found
        )

    async def _rows(self, items: Sequence[ImportedConversion]) -> tuple[dict[int, _Row], dict[int, str]]:
        """The rows of the table by their places, and why others make none."""
        if not self._goals:
            await self._read_goals()
        clicks = await self._clicks({item.click for item in items})
        rows: dict[int, _Row] = {}
        refused = {}
        for place, item in enumerate(items):
            click = clicks.get(item.click)
            goal = click and self._goal(item, click)
            if click and goal:
                rows[place] = _row(item, click, goal)
            else:
                refused[place] = (
                    f"goal_id {item.goal_id} is of no goal of its click's offer"
                    if click
                    else (f"click_hash {item.click} is of no click")
                )
        return rows, refused

    async def _read_goals(self) -> None:
        goals = [_Goal(*row) for row in await self._connection.fetch(_GOALS)]
        self._goals = {goal.id: goal for goal in goals}
        self._base_goals = {goal.offer_id: goal for goal in goals if goal.is_base}

    def _goal(self, item: ImportedConversion, click: ConvertedClick) -> _Goal | None:
        if item.goal_id is None:
            return self._base_goals.get(click.offer_id)
        goal = self._goals.get(item.goal_id)
        return goal if goal and goal.offer_id == click.offer_id else None

    async def _clicks(self, names: Collection[str]) -> Mapping[str, ConvertedClick]:
        """The clicks of hashes and earlier ids."""
        hashes = {name: name for name in names if is_click_hash(name)}
        earlier = await self._connection.fetch(_LEGACY, [name for name in names if name not in hashes])
        hashes |= {legacy_id: hash_.hex for legacy_id, hash_ in earlier}
        if not hashes:
            return {}
        wanted = sorted(set(hashes.values()))
        rows = await self._connection.fetch(_CLICKS, wanted, wanted[0], wanted[-1])
        found = {row["hash"]: ConvertedClick._make(row) for row in rows}
        return {name: found[hash_] for name, hash_ in hashes.items() if hash_ in found}

    async def _in_the_way(self, rows: Collection[_Row]) -> set[str]:
        """Those that cannot be stored, as another one is what they would be."""
        columns = [
            [row[column] for row in rows]
            for column in ("hash", "click_hash", "advertiser_id", "goal_id", "order_id")
        ]
        return {row["hash"].hex for row in await self._connection.fetch(_IN_THE_WAY, *columns)}


def _row(item: ImportedConversion, click: ConvertedClick, goal: _Goal) -> _Row:
    return {
        **item._asdict(),
        "click_hash": click.hash,
        "click_id": click.id,
        "goal_id": goal.id,
        "is_repeatable": goal.multiple,
        "sale_by_browser": False,
        "sale_currency": None if item.sale_amount is None else item.sale_currency or goal.currency,
        "payout_currency": item.payout_currency or goal.currency,
        "revenue_currency": item.revenue_currency or goal.currency,
        **dict(zip(_OWN, item.own, strict=True)),
        **dict(zip(_OF_CLICK, click[3:], strict=True)),
    }


def _each_once(rows: Iterable[_Row]) -> list[_Row]:
    first: dict[str, _Row] = {}
    for row in rows:
        first.setdefault(row["hash"], row)
    return list(first.values())


def _told(row: Mapping[str, Any]) -> tuple[object, ...]:
    money = (show(row["payout"]), row["payout_currency"], show(row["revenue"]), row["revenue_currency"])
    return (row["hash"], row["click_hash"], row["goal_id"], row["order_id"], *money)
