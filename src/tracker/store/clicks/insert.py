"""Stores clicks exactly once.

A batch is taken for new at first: COPY to the table, and counts made in Python. If a hash is there already,
nothing of that stays. The batch then goes to staging, and one statement inserts and counts what is new of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import NamedTuple

import asyncpg

from tracker.domain.click_fields import STORED, Filled
from tracker.domain.model import ClickRow
from tracker.store import locks, migrate
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import deltas
from tracker.store.clicks.tally import tally
from tracker.store.db import Connection, copy_rows

BAD_ROW: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)
"""The errors of Postgres, or of asyncpg's encoding, for a row that can never be stored."""


class Writer(NamedTuple):
    """The writer: a slot, on one partition of the stream."""

    partition: int
    slot: int


class Arrival(NamedTuple):
    """A click with its stream entry."""

    entry: int  # its id: milliseconds << 20 | sequence
    row: ClickRow


_OFTEN_BLANK = frozenset(
    field.name for field in STORED if field.blank == "" and field.filled is not Filled.MOSTLY
)
FROZEN_SECONDS = 60
"""How long a transaction may wait for a writer that is frozen. It holds back the feed, and other writers of
the same clicks. PostgreSQL ends it, and in the middle of a COPY or of deltas `end_frozen` does."""

# With laxer server defaults, acknowledged clicks could be lost, or another writer's clicks refused.
_SESSION = f"""
CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE click INCLUDING DEFAULTS) ON COMMIT DELETE ROWS;
ALTER TABLE incoming ALTER id DROP NOT NULL, ALTER id DROP DEFAULT;
SET default_transaction_isolation = 'read committed';
SET idle_in_transaction_session_timeout = '{FROZEN_SECONDS}s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_ANNOUNCE = "SELECT pg_advisory_lock_shared($2), pg_advisory_xact_lock_shared($1 | last_value) FROM click_id"

_COLUMNS = ", ".join(ClickRow._fields)
_hash_of = itemgetter(ClickRow._fields.index("hash"))


def inserting(imported: str) -> str:
    """CTEs that insert the rows of `incoming` and count them. `imported`: how many of `stored` are imported.

    The counts are of the rows that are really inserted, so a batch stored twice counts once. The clicks are
    ordered by hash, so that two writers with overlapping batches wait for each other instead of deadlocking:
    `stage` has sorted them, and a temporary table is read in insertion order.
    """
    return f"""
WITH inserted AS (
    INSERT INTO click ({_COLUMNS})
    SELECT {_COLUMNS} FROM incoming
    ON CONFLICT (hash) DO NOTHING
    RETURNING {click_counts.COUNTED}
), {deltas.noting("inserted", imported)}"""  # noqa: S608


PASSED_OVER = """
SELECT DISTINCT hash FROM incoming
WHERE (SELECT count(*) FROM incoming) > (SELECT count(*) FROM inserted)
    AND hash NOT IN (SELECT hash FROM inserted)
"""
"""The clicks that `inserting` found already stored."""

_NOTE = """
INSERT INTO writer_batch (partition, slot, entries) SELECT $1::smallint, $2::integer, $3::bigint[]
ON CONFLICT (partition, slot) DO UPDATE SET entries = excluded.entries"""
_INSERT = f"{inserting('0')}, noted AS ({_NOTE}) {PASSED_OVER}"

_ENTRIES_STORED = "SELECT entries FROM writer_batch WHERE partition = $1"

# Others that insert these clicks, or take them back, would wait for us while we wait for them.
_KEEP_OTHERS_OUT = "LOCK TABLE ONLY click IN SHARE ROW EXCLUSIVE MODE"
_ANSWER = ("status", "reason", "offer_id", "offer_url_id", "redirected_link", "is_unique", "group_hash")
_TAKE_BACK = f"""
WITH taken AS (
    DELETE FROM click USING incoming
    WHERE click.hash = incoming.hash AND incoming.verdict_late AND NOT click.verdict_late
        AND ({", ".join(f"click.{column}" for column in _ANSWER)})
        IS DISTINCT FROM ({", ".join(f"incoming.{column}" for column in _ANSWER)})
    RETURNING {click_counts.COUNTED}
), {deltas.noting("taken", "0", sign=-1)}
SELECT hash FROM taken
"""  # noqa: S608
# Lists look for converted clicks by these. The offer and the money of a conversion stay.
_TELL_CONVERSIONS = """
UPDATE conversion SET (click_id, click_status, is_unique) = (click.id, click.status, click.is_unique)
FROM click WHERE click.hash = ANY ($1::uuid[]) AND click_hash = click.hash
"""

# No timeout of PostgreSQL ends a COPY, or one of many deltas, that waits for its client.
_END_FROZEN = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
    AND (query LIKE 'COPY "click"%' OR query LIKE '%INSERT INTO quarter_delta%')
    AND state = 'active' AND wait_event = 'ClientRead'
    AND xact_start < clock_timestamp() - make_interval(secs => $1)
"""


async def prepare(connection: Connection) -> None:
    """Create the staging table of a connection, once before the first `store`.

    This is a commit. So with a synchronous standby it waits until all earlier commits are on two disks, even
    those that a crash of the primary cut off in their wait. `store` may find their clicks, and write nothing.

    Raises:
        NotMigratedError: a table of an earlier version would refuse all rows, as if each were bad.
    """
    await migrate.check(connection)
    await connection.execute(_SESSION)


async def store(connection: Connection, writer: Writer, arrivals: Iterable[Arrival]) -> set[int]:
    """Store clicks in one transaction. Returns the duplicates: entries whose click came with another entry.

    The click of every other entry was stored by that entry, now or by a transaction whose acknowledgement was
    lost. On any error nothing of the batch is stored. It holds the backup gate from then on: see `open_gate`.

    A row stays as it was first stored, unless a late one differs: that has what the visitor really got.

    Raises:
        BAD_ROW: a value does not fit the table. The caller finds it by storing halves of the batch.
    """
    arrivals = list(arrivals)
    wanted, left_over = _one_a_click(arrivals)
    known: AbstractSet[str] = frozenset()
    stored_before: set[int] = set()
    are_new = True
    while _is_anything_to_do(wanted, known):
        try:
            await _store(connection, writer, wanted, known, stored_before, are_new=are_new)
            break
        except asyncpg.UniqueViolationError:
            if not are_new:
                raise
            are_new = False
        except _StoredAlready as error:
            # The writer that stored these has committed. It notes its next batch only after this one is
            # acknowledged, or together with this one as we do if an acknowledgement fails again.
            noted = await _entries_stored(connection, writer.partition)
            stored_before |= noted & {arrival.entry for arrival in arrivals}
            wanted = [arrival for arrival in wanted if arrival.entry not in stored_before]
            known = error.hashes & {arrival.row.hash for arrival in wanted}
    passed_over = {arrival.entry for arrival in wanted if arrival.row.hash in known}
    return (left_over | passed_over) - stored_before


async def stage(connection: Connection, rows: Sequence[ClickRow]) -> None:
    """COPY rows into `incoming`, in the order of their hashes."""
    if rows:
        await _copy(connection, "incoming", sorted(rows, key=_hash_of))


async def _copy(connection: Connection, table: str, rows: Sequence[ClickRow]) -> None:
    """COPY some rows.

    Columns that are blank in all rows are left out: each costs time, and most sub ids are blank.
    """
    filled = [
        place
        for place, (name, values) in enumerate(zip(ClickRow._fields, zip(*rows, strict=True), strict=True))
        if name not in _OFTEN_BLANK or values.count("") < len(rows)
    ]
    columns = itemgetter(*filled)
    await copy_rows(connection, table, map(columns, rows), columns(ClickRow._fields))


async def open_gate(connection: Connection) -> None:
    """Let backups begin: stored clicks are acknowledged, or the transaction has failed."""
    if not connection.is_closed():
        await connection.execute("SELECT pg_advisory_unlock_all()")


async def end_frozen(connection: Connection) -> int:
    """Close the connections of writers that are frozen while they send rows. Returns how many."""
    return int(await connection.fetchval(_END_FROZEN, FROZEN_SECONDS))


class _StoredAlready(Exception):  # noqa: N818 - undoes a transaction, and is not an error
    def __init__(self, hashes: AbstractSet[str]) -> None:
        self.hashes = hashes


async def _store(
    connection: Connection,
    writer: Writer,
    arrivals: Sequence[Arrival],
    known: AbstractSet[str],
    stored_before: AbstractSet[int],
    *,
    are_new: bool,
) -> None:
    """One attempt.

    Raises:
        UniqueViolationError: they are not `are_new`, or not all of them. Nothing is stored.
        _StoredAlready: other hashes than the `known` ones were there. Nothing is stored.
    """
    entries = [*stored_before, *(arrival.entry for arrival in arrivals if arrival.row.hash not in known)]
    rows = sorted((arrival.row for arrival in arrivals), key=_hash_of)
    async with connection.transaction():
        if are_new:
            await connection.execute(_ANNOUNCE, locks.FEED, locks.Lock.BACKUP_GATE)
            await _copy(connection, "click", rows)
            await deltas.note(connection, tally(rows))
            await connection.execute(_NOTE, *writer, entries)
            return
        await stage(connection, rows)
        await connection.execute(_ANNOUNCE, locks.FEED, locks.Lock.BACKUP_GATE)
        replaced = await _take_back(connection) if _may_correct(rows, known) else set()
        passed_over = _hashes(await connection.fetch(_INSERT, *writer, entries)) | replaced
        if replaced:
            await connection.execute(_TELL_CONVERSIONS, list(replaced))
        if passed_over != known:
            raise _StoredAlready(passed_over)


def _one_a_click(arrivals: Iterable[Arrival]) -> tuple[list[Arrival], set[int]]:
    """One arrival of each click, and the entries left over. The first stays unless a late one replaces it."""
    kept: dict[str, Arrival] = {}
    left_over = set()
    for arrival in arrivals:
        other = kept.setdefault(arrival.row.hash, arrival)
        if other is arrival:
            continue
        if arrival.row.verdict_late and not other.row.verdict_late:
            kept[arrival.row.hash], arrival = arrival, other
        left_over.add(arrival.entry)
    return list(kept.values()), left_over


def _is_anything_to_do(arrivals: Iterable[Arrival], known: Collection[str]) -> bool:
    return any(arrival.row.hash not in known or arrival.row.verdict_late for arrival in arrivals)


def _may_correct(rows: Iterable[ClickRow], known: Collection[str]) -> bool:
    return bool(known) and any(row.verdict_late and row.hash in known for row in rows)


async def _take_back(connection: Connection) -> set[str]:
    """Remove the rows that late rows replace, with their counts, and return their hashes."""
    await connection.execute(_KEEP_OTHERS_OUT)
    return _hashes(await connection.fetch(_TAKE_BACK))


async def _entries_stored(connection: Connection, partition: int) -> set[int]:
    rows = await connection.fetch(_ENTRIES_STORED, partition)
    return {entry for row in rows for entry in row["entries"]}


def _hashes(rows: Iterable[asyncpg.Record]) -> set[str]:
    return {row["hash"].hex for row in rows}
