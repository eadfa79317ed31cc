"""Stores imported conversions as the earlier tracker had them, with their history and money.

Earlier decisions stand: no window, cap or price is applied, and no postback goes to an affiliate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.click_id import is_click_hash
from tracker.domain.conversion import Amounts, ConvertedClick, goals_named
from tracker.domain.money import show
from tracker.domain.normalise import hash_, trim
from tracker.domain.postback import STATUSES, ConversionStatus, StatusWords, meaning
from tracker.store import legacy_clicks
from tracker.store.conversions import booking, status_words
from tracker.store.conversions import lock as conversion_lock
from tracker.store.db import Connection, copy_rows
from tracker.store.imports import progress as imports
from tracker.store.imports import replaced_conversions
from tracker.store.imports.progress import Batch, Comparison, compared
from tracker.store.legacy_clicks import Found, LegacyClick

_OF_CLICK = ConvertedClick._fields[3:]  # after hash, id and status
_OWN = ("advertiser_external_id", *ADV_SUBS)
_COLUMNS = (
    *("hash", "click_hash", "click_id", "click_status"),
    *("goal_id", "order_id", "order_absent", "is_repeatable", "status"),
    *("is_over_cap", "is_unproven", "sale_status", *Amounts._fields, "refunded"),
    *(*_OWN, "created_at", "updated_at"),
    *("import_source", "legacy_id", "legacy_source"),
    *_OF_CLICK,
)
_NAMES = ", ".join(_COLUMNS)

_SESSION = """
CREATE TEMP TABLE IF NOT EXISTS incoming_conversion
    (LIKE conversion INCLUDING DEFAULTS INCLUDING GENERATED) ON COMMIT DELETE ROWS
"""
# The bounds match the list. They let the planner skip partitions.
_CLICKS = f"""
SELECT encode(uuid_send(hash), 'hex') AS hash, id, status, {", ".join(_OF_CLICK)}
FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
"""  # noqa: S608
_GOALS = "SELECT id, offer_id, name, code, is_base, is_archived, multiple, currency FROM goal"

# Of conversions that exclude each other the first is stored: `incoming_conversion.id` is the position in the
# batch. Their history begins here, and is marked as announced to affiliates.
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
# A changed conversion differs from its import, so only its constant columns are compared. What an import or
# an undo has changed last is as the import says.
_FOUND = f"""
SELECT {_NAMES}, first_status, last_status, updated_at > first_at AS is_changed
FROM conversion CROSS JOIN LATERAL (
    SELECT status_after AS first_status, at AS first_at FROM conversion_change
    WHERE conversion_id = conversion.id
    ORDER BY source = 'import' DESC, CASE source WHEN 'import' THEN -id ELSE id END LIMIT 1
) AS first
CROSS JOIN LATERAL (
    SELECT status_after AS last_status FROM conversion_change WHERE conversion_id = conversion.id
    ORDER BY id DESC LIMIT 1
) AS last
WHERE hash = ANY ($1::uuid[])
"""  # noqa: S608
_FIXED = ("click_hash", "goal_id", "order_id", "legacy_id", "legacy_source", "created_at")
_CHANGING = (
    *("is_over_cap", "is_unproven", "sale_status", "sale_amount", "sale_currency", "refunded"),
    *("payout", "payout_currency", "revenue", "revenue_currency", *_OWN, "updated_at"),
)
COMPARED = (*_FIXED, *_CHANGING, "status")
"""The columns that the table must have as in a file."""
# Earlier versions kept ids as they were written. An existing row like that is the one. The text of an absent
# order id ($6) counts only for a conversion of the same click.
_AS_WRITTEN = """
SELECT place, by_hash.id IS NOT NULL, by_order.id IS NOT NULL
FROM unnest($1::integer[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::uuid[])
    AS wanted (place, hash, advertiser_id, goal_id, order_id, only_of)
LEFT JOIN conversion AS by_hash ON by_hash.hash = wanted.hash
LEFT JOIN conversion AS by_order ON (by_order.advertiser_id, by_order.goal_id, by_order.order_id)
    = (wanted.advertiser_id, wanted.goal_id, wanted.order_id)
    AND by_order.click_hash = coalesce(wanted.only_of, by_order.click_hash)
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
# A later postback with the same absent order id can mean only one of them: the first stored one.
_ONE_ABSENT = """
UPDATE incoming_conversion AS incoming SET order_absent = false
FROM (
    SELECT id, row_number() OVER (PARTITION BY click_hash, goal_id ORDER BY id) AS place
    FROM incoming_conversion WHERE order_absent
) AS absent
WHERE incoming.id = absent.id AND (place > 1 OR EXISTS (
    SELECT FROM conversion
    WHERE (click_hash, goal_id) = (incoming.click_hash, incoming.goal_id) AND order_absent
))
"""

# The checked rows of a file so far: of rows that exclude each other the first is stored.
_CHECKED = """
CREATE TEMP TABLE IF NOT EXISTS checked_conversion (
    hash uuid PRIMARY KEY, click_hash uuid NOT NULL, advertiser_id bigint NOT NULL, goal_id bigint NOT NULL,
    order_id text, is_repeatable boolean NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS checked_conversion_order
    ON checked_conversion (advertiser_id, goal_id, order_id) WHERE order_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS checked_conversion_once
    ON checked_conversion (click_hash, goal_id) WHERE NOT is_repeatable;
TRUNCATE checked_conversion
"""
_CHECK = """
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::boolean[])
        WITH ORDINALITY AS new (hash, click_hash, advertiser_id, goal_id, order_id, is_repeatable, place)
), free AS (
    INSERT INTO checked_conversion
    SELECT hash, click_hash, advertiser_id, goal_id, order_id, is_repeatable FROM wanted
    WHERE NOT EXISTS (
        SELECT FROM conversion WHERE hash <> wanted.hash
        AND (advertiser_id, goal_id, order_id) = (wanted.advertiser_id, wanted.goal_id, wanted.order_id)
    ) AND (is_repeatable OR NOT EXISTS (
        SELECT FROM conversion WHERE hash <> wanted.hash
        AND (click_hash, goal_id) = (wanted.click_hash, wanted.goal_id) AND NOT is_repeatable
    ))
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING hash
)
SELECT hash FROM wanted
EXCEPT SELECT hash FROM free
EXCEPT SELECT hash FROM checked_conversion
EXCEPT SELECT hash FROM conversion WHERE hash = ANY ($1::uuid[])
"""

_SECOND = "is of an order, or a click and goal, that another conversion is of already"


class ImportedConversion(NamedTuple):
    """A conversion as in a file. Absent values are None or ""."""

    hash: str
    click: str  # its hash, or its earlier id as it was written
    goal_id: int | None
    goal: str  # code or name of the goal if it has no id here, neither means the base goal
    legacy_id: str | None  # its own, in the earlier tracker
    legacy_source: str | None  # of its own and its click's earlier ids. None: the import's
    order_id: str | None
    order_text: str | None  # the same as it was written
    order_absent: bool  # the order id of the file is empty, an unfilled macro or a word for nothing
    word: str  # for the status
    is_over_cap: bool
    is_unproven: bool  # on hold until a proof
    sale_status: str
    sale_amount: Decimal | None
    sale_currency: str | None
    refunded: Decimal
    payout: Decimal
    payout_currency: str | None
    revenue: Decimal
    revenue_currency: str | None
    own: tuple[str, ...]  # advertiser_external_id, adv_sub …
    created_at: datetime
    updated_at: datetime
    named: tuple[str, ...]  # the values of COMPARED in the file
    written_hash: str  # made from its ids as they were written, as earlier versions did


class _Goal(NamedTuple):
    id: int
    offer_id: int
    name: str
    code: str | None
    is_base: bool
    is_archived: bool
    multiple: bool
    currency: str


_Row = dict[str, Any]
_Named = tuple[str, str | None]
"""What names a click, and the source of the row. None: the import's."""


class ConversionStore:
    """Stores imported conversions over one connection."""

    def __init__(self, connection: Connection, source: str, *, replacing: str | None = None) -> None:
        """`source`: the operator's name for the earlier tracker.

        `replacing`: who makes conversions that imports of the source stored become what the file says.
        """
        self._connection = connection
        self._source = source
        self._replacing = replacing
        self._goals: dict[int, _Goal] = {}
        self._base_goals: dict[int, _Goal] = {}
        self._goals_of: dict[int, list[_Goal]] = {}

    async def prepare(self, items: Sequence[ImportedConversion]) -> None:
        """Create the staging table, before the transaction that stores them."""
        await self._connection.execute(_SESSION)

    async def store(self, items: Sequence[ImportedConversion]) -> Batch:
        """Store conversions in the caller's transaction. Existing rows stay, or are replaced."""
        await conversion_lock.lock(self._connection)
        rows, refused = await self._rows(items)
        replaced = await self._replace(list(rows.values()))
        records = [
            (place, *(row[column] for column in _COLUMNS))
            for place, row in enumerate(_each_once(rows.values()))
        ]
        await copy_rows(self._connection, "incoming_conversion", records, ("id", *_COLUMNS))
        await self._connection.execute(_ONE_ABSENT)
        stored = await self._connection.fetch(_INSERT)
        approved = [id_ for id_, status in stored if status == ConversionStatus.APPROVED]
        await booking.approve(self._connection, approved)
        in_the_way = await self._in_the_way(rows.values())
        refused |= {place: _SECOND for place, row in rows.items() if row["hash"] in in_the_way}
        present = len(items) - len(stored) - len(refused) - replaced
        return Batch(len(stored), present, refused, replaced)

    async def _replace(self, rows: Sequence[_Row]) -> int:
        """Replace stored conversions, and return how many."""
        if self._replacing is None:
            return 0
        found = await replaced_conversions.find(self._connection, self._source, rows, _FIXED)
        changes = list(found.changes.values())
        await replaced_conversions.replace(self._connection, self._source, self._replacing, changes)
        return len(changes)

    async def begin_check(self) -> None:
        """Forget the checked rows of another file."""
        await imports.begin_check(self._connection)
        await self._connection.execute(_CHECKED)

    async def check(self, items: Sequence[ImportedConversion]) -> dict[int, str]:
        """Why some rows could not be stored after the ones checked before, by position. Nothing is stored."""
        rows, refused = await self._rows(items)
        names = ("hash", "click_hash", "advertiser_id", "goal_id", "order_id", "is_repeatable")
        columns = [[row[name] for row in rows.values()] for name in names]
        in_the_way = {row["hash"].hex for row in await self._connection.fetch(_CHECK, *columns)}
        refused |= {place: _SECOND for place, row in rows.items() if row["hash"] in in_the_way}
        taken = [
            (place, row["hash"], row["named"], [_shown(row[name]) for name in COMPARED])
            for place, row in rows.items()
            if place not in refused
        ]
        return refused | await imports.check_again(self._connection, COMPARED, taken)

    async def compare(self, items: Sequence[ImportedConversion]) -> Comparison:
        """The rows that the table should have of some conversions, and the rows that it has.

        What has changed since the import is no difference, unless the file replaces it.
        """
        rows, _ = await self._rows(items)
        in_the_way = await self._in_the_way(rows.values())
        taken = {place: row for place, row in rows.items() if row["hash"] not in in_the_way}
        records = await self._connection.fetch(_FOUND, [row["hash"] for row in taken.values()])
        found = {record["hash"].hex: record for record in records}
        wanted, there, differing = [], [], {}
        for place, row in taken.items():
            stored = found.get(row["hash"])
            names = items[place].named if self._replacing else _comparable(items[place].named, stored)
            expected = [_shown(row[name]) for name in names]
            wanted.append((row["hash"], *expected))
            if stored is None:
                continue
            values = [stored[name] if self._replacing else _stored(name, stored, row) for name in names]
            there.append((row["hash"], *map(_shown, values)))
            if wanted[-1] != there[-1]:
                pairs = zip(names, expected, there[-1][1:], strict=True)
                differing[place] = tuple(name for name, one, other in pairs if one != other)
        stay = await self._staying({place: taken[place] for place in differing})
        return compared(wanted, there, differing, stay)

    async def _staying(self, differing: Mapping[int, _Row]) -> dict[int, str]:
        """Why some conversions would not be replaced, by position."""
        if self._replacing is None or not differing:
            return {}
        rows = list(differing.values())
        found = await replaced_conversions.find(self._connection, self._source, rows, _FIXED)
        whys = {place: found.stay.get(row["hash"], "") for place, row in differing.items()}
        return {place: why for place, why in whys.items() if why}

    async def _rows(self, items: Sequence[ImportedConversion]) -> tuple[dict[int, _Row], dict[int, str]]:
        """The rows of the table by position, and the reasons of the refused ones."""
        if not self._goals:
            await self._read_goals()
        clicks, earlier = await self._clicks({(item.click, item.legacy_source) for item in items})
        words = await status_words.read(self._connection, {item.word for item in items})
        rows: dict[int, _Row] = {}
        refused = {}
        for place, item in enumerate(items):
            source = item.legacy_source
            click = clicks.get((item.click, source)) or clicks.get((trim(item.click), source))
            goal = click and self._goal(item, click)
            status = click and _status(item, click, words)
            if click and goal and status and not (item.is_unproven and status is not ConversionStatus.HOLD):
                rows[place] = _row(item, click, goal, status) | self._sources(item)
            elif click:
                refused[place] = _why_not(item, click, goal, status)
            else:
                found = earlier.get(item.click) or earlier.get(trim(item.click), ())
                refused[place] = self._why_no_click(item, found)
        await self._find_as_written(rows)
        return rows, refused

    def _sources(self, item: ImportedConversion) -> _Row:
        own = item.legacy_id and (item.legacy_source or self._source)
        return {"import_source": self._source, "legacy_source": own}

    async def _find_as_written(self, rows: Mapping[int, _Row]) -> None:
        """Look up ids as they were written, then trimmed."""
        others = [
            (
                *(place, row["written_hash"], row["advertiser_id"], row["goal_id"], row["order_text"]),
                row["click_hash"] if row["order_absent"] else None,
            )
            for place, row in rows.items()
            if (row["written_hash"], row["order_text"]) != (row["hash"], row["order_id"])
        ]
        if not others:
            return
        columns = zip(*others, strict=True)
        for place, has_hash, has_order in await self._connection.fetch(_AS_WRITTEN, *columns):
            row = rows[place]
            row["hash"] = row["written_hash"] if has_hash else row["hash"]
            row["order_id"] = row["order_text"] if has_order else row["order_id"]

    async def _read_goals(self) -> None:
        goals = [_Goal(*row) for row in await self._connection.fetch(_GOALS)]
        self._goals = {goal.id: goal for goal in goals}
        self._base_goals = {goal.offer_id: goal for goal in goals if goal.is_base}
        self._goals_of = defaultdict(list)
        for goal in goals:
            self._goals_of[goal.offer_id].append(goal)

    def _goal(self, item: ImportedConversion, click: ConvertedClick) -> _Goal | None:
        if item.goal_id is None and item.goal:
            named = goals_named(item.goal, self._goals_of.get(click.offer_id, ()))
            return named[0] if len(named) == 1 else None
        if item.goal_id is None:
            return self._base_goals.get(click.offer_id)
        goal = self._goals.get(item.goal_id)
        return goal if goal and goal.offer_id == click.offer_id else None

    async def _clicks(self, named: Collection[_Named]) -> tuple[Mapping[_Named, ConvertedClick], Found]:
        """The clicks of hashes and earlier ids, as written or trimmed, and what these ids mean in any source.

        Earlier versions took a hash in a form other than ours for an earlier id. An earlier id may look like
        a hash.
        """
        named = {*named, *((trim(name), source) for name, source in named)}
        hashes = {name: plain for name, _ in named if is_click_hash(plain := hash_(name))}
        clicks = await self._by_hash(set(hashes.values()))
        others = {name for name, _ in named if hashes.get(name) != name or name not in clicks}
        earlier = await legacy_clicks.find(self._connection, others)
        meant = {
            (name, source): self._preferred(earlier.get(name, ()), source) or hashes.get(name)
            for name, source in named
        }
        clicks |= await self._by_hash({plain for plain in meant.values() if plain} - clicks.keys())
        return {each: clicks[plain] for each, plain in meant.items() if plain in clicks}, earlier

    async def _by_hash(self, hashes: Collection[str]) -> dict[str, ConvertedClick]:
        if not hashes:
            return {}
        wanted = sorted(hashes)
        rows = await self._connection.fetch(_CLICKS, wanted, wanted[0], wanted[-1])
        return {row["hash"]: ConvertedClick._make(row) for row in rows}

    def _preferred(self, clicks: Sequence[LegacyClick], source: str | None) -> str | None:
        """The source's click. If the file names no source: this one's, or one whose source is not noted."""
        own = [click for click in clicks if click.is_of(source or self._source)]
        if not own and (source or any(click.source for click in clicks)):
            return None
        return legacy_clicks.only(own or clicks)

    def _why_no_click(self, item: ImportedConversion, found: Sequence[LegacyClick]) -> str:
        """`found`: the clicks of all sources that its click's id may mean."""
        source = item.legacy_source or self._source
        others = sorted({click.source for click in found if click.source and not click.is_of(source)})
        several = len({click.hash for click in found}) > 1
        if not others and several:
            return f"click_hash {item.click} is an id of several clicks: give their hash"
        if not others:
            return f"click_hash {item.click} matches no click: import clicks first, with the same --source"
        what = "an id of several clicks, of sources" if several else "a click of source"
        whose = "its legacy_source is" if item.legacy_source else "this import is of"
        advice = "correct it" if item.legacy_source else f"give --source {' or --source '.join(others)}"
        listed = " and ".join(map(repr, others))
        return f"click_hash {item.click} is {what} {listed}, and {whose} {source!r}: {advice}"

    async def _in_the_way(self, rows: Collection[_Row]) -> set[str]:
        """The ones that cannot be stored, because another conversion has their key."""
        columns = [
            [row[column] for row in rows]
            for column in ("hash", "click_hash", "advertiser_id", "goal_id", "order_id")
        ]
        return {row["hash"].hex for row in await self._connection.fetch(_IN_THE_WAY, *columns)}


def _status(item: ImportedConversion, click: ConvertedClick, words: StatusWords) -> ConversionStatus | None:
    """The status of its word.

    A status' own name is not an advertiser's word here, because exports have it.
    """
    if item.word in STATUSES:
        return ConversionStatus(item.word)
    return meaning(item.word, click.advertiser_id, words)


def _why_not(
    item: ImportedConversion,
    click: ConvertedClick,
    goal: _Goal | None,
    status: ConversionStatus | None,
) -> str:
    if goal is not None and status is not None:
        return f"is_unproven goes with the status hold, and not with {status}"
    if goal is not None:
        return f"status {item.word} is no word of advertiser {click.advertiser_id}"
    if item.goal_id is not None:
        return f"goal_id {item.goal_id} matches no goal of its click's offer"
    return f"goal {item.goal} matches no goal of its click's offer, or of several"


def _row(item: ImportedConversion, click: ConvertedClick, goal: _Goal, status: ConversionStatus) -> _Row:
    return {
        **item._asdict(),
        "status": status,
        "click_hash": click.hash,
        "click_id": click.id,
        "click_status": click.status,
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


def _comparable(named: Iterable[str], stored: Mapping[str, Any] | None) -> Sequence[str]:
    """The columns of a conversion as in the file."""
    left_out = _CHANGING if stored and stored["is_changed"] else ()
    return [name for name in named if name not in left_out]


def _stored(name: str, stored: Mapping[str, Any], row: _Row) -> object:
    """A column of a conversion. Its status is the first or the last one, whichever the file has.

    Earlier versions did not store its earlier id.
    """
    if name in ("legacy_id", "legacy_source") and stored["import_source"] is None:
        return row[name]
    if name == "legacy_source":
        return legacy_clicks.source_of(stored)
    if (
        name == "status"
        and row["status"] == stored["first_status"]
        and stored["status"] == stored["last_status"]
    ):
        return row["status"]
    return stored[name]


def _shown(value: object) -> str | None:
    """A value in the same form for file and table."""
    if isinstance(value, Decimal):
        return show(value)
    if isinstance(value, datetime):  # exports have whole seconds
        return str(value.replace(microsecond=0))
    return value.hex if isinstance(value, UUID) else value if value is None else str(value)
