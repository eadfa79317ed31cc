"""Stores imported clicks without the stream, with their counts and their earlier ids."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.click_id import first_hash_at, millis_of
from tracker.domain.model import ClickRow
from tracker.store import legacy_clicks, locks
from tracker.store.clicks import insert as clicks
from tracker.store.clicks import kept, partitions
from tracker.store.conversions import lock as conversion_lock
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports import replaced_clicks
from tracker.store.imports.progress import Batch, Comparison, compared, day_of
from tracker.store.legacy_clicks import LegacyClick

_ANNOUNCE = "SELECT pg_advisory_xact_lock_shared($1 | last_value) FROM click_id"
_NOTE_IMPORTED = """
INSERT INTO imported_click (hash, source) SELECT hash, $1 FROM inserted ON CONFLICT DO NOTHING
"""
_INSERT_CLICKS = f"{clicks.inserting('stored')}, noted AS ({_NOTE_IMPORTED}) {clicks.PASSED_OVER}"
_NOTE_LEGACY = """
INSERT INTO legacy_click (legacy_id, hash, source)
SELECT legacy_id, hash, source
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS new (legacy_id, source, hash) ORDER BY legacy_id, source
"""
# The bounds match the list. They let the planner skip partitions.
_FOUND = """
WITH found AS (SELECT * FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3)
SELECT {}, EXISTS (SELECT FROM conversion WHERE click_hash = found.hash) AS is_converted FROM found
"""

_IMPORTED = "SELECT hash FROM imported_click WHERE hash = ANY ($1::uuid[])"

# The checked rows of a file so far: an earlier id of a source belongs to the first click with it.
_CHECKED = """
CREATE TEMP TABLE IF NOT EXISTS checked_legacy (
    legacy_id text, source text, hash uuid NOT NULL, PRIMARY KEY (legacy_id, source)
);
TRUNCATE checked_legacy
"""
_CHECK_LEGACY = """
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[])
        WITH ORDINALITY AS new (legacy_id, source, hash, place)
), noted AS (
    INSERT INTO checked_legacy SELECT legacy_id, source, hash FROM wanted ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING legacy_id, source, hash
)
SELECT legacy_id, source, hash FROM noted
UNION
SELECT legacy_id, source, checked_legacy.hash FROM wanted JOIN checked_legacy USING (legacy_id, source)
"""


EarlierId = tuple[str, str]
"""An id in an earlier tracker, and the source that it is of."""


class Written(NamedTuple):
    """The earlier id as it was written, and the hash that earlier versions made from it."""

    earlier: EarlierId
    hash: str


class ImportedClick(NamedTuple):
    row: ClickRow
    earlier: EarlierId | None
    named: tuple[str, ...]  # the row's fields in the file
    names_source: bool = False  # otherwise the source is the import's
    written: Written | None = None  # None: as it is

    def as_written(self) -> ImportedClick:
        """The same click with its earlier id as it was written."""
        assert self.written
        group_hash = self.written.hash if self.row.group_hash == self.row.hash else self.row.group_hash
        row = self.row._replace(hash=self.written.hash, group_hash=group_hash)
        return ImportedClick(row, self.written.earlier, self.named, self.names_source)


class ClickStore:
    """Stores imported clicks over one connection."""

    def __init__(self, connection: Connection, source: str, *, replaces: bool = False) -> None:
        """`source`: the operator's name for the earlier tracker.

        `replaces`: clicks that imports of the source stored become what the file says.
        """
        self._connection = connection
        self._source = source
        self._replaces = replaces
        self._days: set[date] = set()

    async def prepare(self, items: Sequence[ImportedClick]) -> None:
        """Create the partitions of the clicks, before the transaction that stores them."""
        since = await kept.since(self._connection)
        days = {day_of(item.row.hash) for item in items if millis_of(item.row.hash) >= since} - self._days
        if days:
            await partitions.create_history(self._connection, days)
            self._days |= days

    async def store(self, items: Sequence[ImportedClick]) -> Batch:
        """Store clicks in the caller's transaction. Existing rows stay, or are replaced."""
        items = await self._as_known(items)
        refused = await self._not_kept(items)
        noted = await self._note_legacy([item for place, item in enumerate(items) if place not in refused])
        places = [place for place in range(len(items)) if place not in refused]
        refused |= {places[number]: why for number, why in noted.items()}
        taken = [item for place, item in enumerate(items) if place not in refused]
        replaced = await self._take_out(taken)
        rows = [replaced.get(item.row.hash, item.row) for item in taken]
        await clicks.stage(self._connection, rows)
        await self._connection.execute(_ANNOUNCE, locks.FEED)
        passed_over = await self._connection.fetch(_INSERT_CLICKS, self._source)
        await replaced_clicks.tell_conversions(self._connection, replaced)
        stored = len({row.hash for row in rows}) - len(passed_over) - len(replaced)
        return Batch(stored, len(taken) - stored - len(replaced), refused, len(replaced))

    async def _take_out(self, items: Sequence[ImportedClick]) -> Mapping[str, ClickRow]:
        """Delete the stored clicks that are replaced. Returns what they become, by hash."""
        if not self._replaces:
            return {}
        await conversion_lock.lock(self._connection)
        found = await replaced_clicks.find(self._connection, self._source, items)
        await replaced_clicks.take_out(self._connection, found.rows)
        return found.rows

    async def begin_check(self) -> None:
        """Forget the checked rows of another file."""
        await imports.begin_check(self._connection)
        await self._connection.execute(_CHECKED)

    async def check(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        """Why some rows could not be stored after the ones checked before, by position. Nothing is stored."""
        items = await self._as_known(items)
        wanted = [(*item.earlier, item.row.hash) for item in items if item.earlier]
        noted = await self._connection.fetch(_CHECK_LEGACY, *zip(*wanted, strict=True)) if wanted else []
        checked = {(id_, source): LegacyClick(id_, hash_.hex, source) for id_, source, hash_ in noted}
        others = await self._not_kept(items) | _other_than(items, checked)
        others |= _other_than(items, await self._legacy(_firsts(items)), are_there=True)
        rows = [
            (place, item.row.hash, item.named, item.row)
            for place, item in enumerate(items)
            if place not in others
        ]
        return others | await imports.check_again(self._connection, ClickRow._fields, rows)

    async def compare(self, items: Sequence[ImportedClick]) -> Comparison:
        """The rows that the table should have of some clicks, and the rows that it has."""
        items = await self._as_known(items)
        legacy = await self._legacy(_firsts(items))
        refused = await self._refused(items, legacy)
        taken = {place: item for place, item in enumerate(items) if place not in refused}
        columns = sorted({"hash"}.union(*(item.named for item in taken.values())))
        rows_by_hash = await self._rows({item.row.hash for item in taken.values()}, columns)
        wanted, there, differing = [], [], {}
        for place, item in taken.items():
            row, earlier, named = item.row, item.earlier, item.named
            stored = rows_by_hash.get(row.hash)
            if stored and stored["is_converted"]:  # exports show the adv_sub… of its conversions as its own
                named = tuple(name for name in named if name not in ADV_SUBS)
            of_row, of_stored = _takers(named)
            wanted.append((row.hash, earlier, *of_row(row)))
            if stored is None:
                continue
            known = legacy.get(earlier) if earlier else None
            noted = earlier if known and known.hash == row.hash else None
            there.append((row.hash, noted, *of_stored(stored)))
            if wanted[-1] != there[-1]:
                pairs = zip(("legacy_id", *named), wanted[-1][1:], there[-1][1:], strict=True)
                differing[place] = tuple(name for name, one, other in pairs if one != other)
        stay = await self._staying({place: taken[place] for place in differing})
        return compared(wanted, there, differing, stay)

    async def _refused(
        self, items: Sequence[ImportedClick], legacy: Mapping[EarlierId, LegacyClick]
    ) -> set[int]:
        """The positions of the clicks that an import refuses. What it stored has lost its id since."""
        others = _other_than(items, legacy) | await self._not_kept(items)
        refused = {place: items[place].row.hash for place in others}
        rows = await self._connection.fetch(_IMPORTED, list(refused.values())) if refused else []
        stored = {row["hash"].hex for row in rows}
        return {place for place, hash_ in refused.items() if hash_ not in stored}

    async def _not_kept(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        """Why clicks of days that are not kept cannot be stored, by position."""
        since = await kept.since(self._connection)
        why = f"clicks before {day_of(first_hash_at(since))} are not kept any more (TRACKER_KEEP_DAYS)"
        return {place: why for place, item in enumerate(items) if millis_of(item.row.hash) < since}

    async def _staying(self, differing: Mapping[int, ImportedClick]) -> dict[int, str]:
        """Why some clicks would not be replaced, by position."""
        if not (self._replaces and differing):
            return {}
        found = await replaced_clicks.find(self._connection, self._source, differing.values())
        whys = {place: found.stay.get(item.row.hash, "") for place, item in differing.items()}
        return {place: why for place, why in whys.items() if why}

    async def _as_known(self, items: Sequence[ImportedClick]) -> Sequence[ImportedClick]:
        """Look up earlier ids as they were written, then trimmed."""
        written = {place: item.as_written() for place, item in enumerate(items) if item.written}
        if not written:
            return items
        known = await self._legacy(_firsts(written.values()))
        return [
            written[place] if place in written and written[place].earlier in known else item
            for place, item in enumerate(items)
        ]

    async def _rows(self, hashes: Collection[str], columns: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """The columns of the existing clicks, by their hashes."""
        if not hashes:
            return {}
        query = _FOUND.format(", ".join(columns))
        rows = await self._connection.fetch(query, list(hashes), min(hashes), max(hashes))
        return {row["hash"].hex: _as_read(row) for row in rows}

    async def _note_legacy(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        """Note earlier ids. Refuses ids of other clicks. No other import runs meanwhile."""
        firsts = _firsts(items)
        known = await self._legacy(firsts)
        new = {earlier: item.row.hash for earlier, item in firsts.items() if earlier not in known}
        if new:
            rows = [(*earlier, hash_) for earlier, hash_ in new.items()]
            await self._connection.execute(_NOTE_LEGACY, *zip(*rows, strict=True))
        noted = {(id_, source): LegacyClick(id_, hash_, source) for (id_, source), hash_ in new.items()}
        return _other_than(items, noted) | _other_than(items, known, are_there=True)

    async def _legacy(self, wanted: Mapping[EarlierId, ImportedClick]) -> dict[EarlierId, LegacyClick]:
        """What earlier ids that are noted mean, of the clicks that should have them."""
        found = await legacy_clicks.find(self._connection, {legacy_id for legacy_id, _ in wanted})
        known = {key: _known(found[key[0]], key[1], item) for key, item in wanted.items() if key[0] in found}
        return {key: click for key, click in known.items() if click}


def _firsts(items: Iterable[ImportedClick]) -> dict[EarlierId, ImportedClick]:
    """The first clicks that have each earlier id."""
    first: dict[EarlierId, ImportedClick] = {}
    for item in items:
        if item.earlier:
            first.setdefault(item.earlier, item)
    return first


def _other_than(
    items: Sequence[ImportedClick], noted: Mapping[EarlierId, LegacyClick], *, are_there: bool = False
) -> dict[int, str]:
    """The clicks whose earlier ids belong to other clicks, by position.

    `are_there`: the others are in the table, and not in the same file.
    """
    others = {
        place: (item.earlier[1], noted[item.earlier])
        for place, item in enumerate(items)
        if item.earlier and item.earlier in noted and noted[item.earlier].hash != item.row.hash
    }
    return {place: _other(click, source, is_there=are_there) for place, (source, click) in others.items()}


def _other(click: LegacyClick, source: str, *, is_there: bool) -> str:
    """Why a row of a source cannot have the earlier id of another click."""
    at = datetime.fromtimestamp(millis_of(click.hash) // 1000, UTC).replace(tzinfo=None)
    named = source if click.is_of(source) else click.source
    of = f", of source {named!r}" if named else ""
    why = f"legacy_id {click.legacy_id} is the earlier id of another click{of} at {at} UTC"
    if not is_there or not click.is_of(source):
        return why
    return f"{why}: another --tz? `tracker import undo` takes that import back"


def _known(found: Sequence[LegacyClick], source: str, wanted: ImportedClick) -> LegacyClick | None:
    """The source's click.

    Where the file names no source, also another's at the same time: it is the same click.
    """
    own = [click for click in found if click.is_of(source)]
    if own or wanted.names_source:
        return next(iter(own), None)
    millis = millis_of(wanted.row.hash)
    return next((click for click in found if millis_of(click.hash) == millis), None)


@lru_cache(64)  # the rows of a file mostly have the same value
def _takers(named: tuple[str, ...]) -> tuple[Callable[[ClickRow], Any], Callable[[Mapping[str, Any]], Any]]:
    """What takes some values out of a row of a file, and of the table: two at least, offer and affiliate."""
    return attrgetter(*named), itemgetter(*named)


def _as_read(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a click as in a file."""
    hashes = {name: row[name].hex for name in ("hash", "group_hash") if row.get(name) is not None}
    return {**row, **hashes}
