"""The ledger: where is every recorded click? It has a balance for each minute of the clicks' hashes.

recorded = stored + in flight + spooled + dead + given up + duplicates. `stored` is counted by Postgres in the
transactions that store. The stream server counts everything else together with each entry. A click that one
of them lost or has twice is a difference between the two.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Set
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from tracker.edge.record import spool
from tracker.settings import Settings
from tracker.store.alerts import Alert
from tracker.store.clicks import ledger as stored_clicks
from tracker.store.clicks.ledger import Rows
from tracker.store.db import Connection, connect
from tracker.stream.ledger import ALIVE_MILLIS, UNKNOWN, Counts, Heartbeat, Recount, Snapshot, StreamLedger

LONGEST = 31 * 1440
"""The most minutes of one request."""
MOST_RECOUNTED = 200_000
"""Up to this many entries on the streams are counted one by one if the counts do not explain them."""

LOST_ADVICE = (
    "the stream server lost clicks that edges had answered. Did it fail over to a copy, or start from an "
    "older file? Keep the files of the old server and the logs of the edges. See docs/operations/ledger.md"
)
"""What to do about clicks that were answered and lost."""

_NO_ROWS = "not kept"  # the rows of a minute, where they were to be counted

_LAST = 2**31 - 1  # as Postgres counts them: the minute in the year 6053
_READINGS = 3
_PAUSE = 0.2  # seconds between attempts

Json = dict[str, Any]


class State(StrEnum):
    """Whether the counts of a minute agree."""

    BALANCED = "balanced"
    SETTLING = "settling"  # an entry is in flight, and may be stored but not yet acknowledged
    UNBALANCED = "unbalanced"  # clicks are lost (difference or lost_answered above 0), or there twice
    UNCOUNTED = "uncounted"  # the stream server has no counts of this hour: they are too old, or lost


class Seen(NamedTuple):
    """The facts read about one minute, in this order."""

    before: Counts
    stored: int
    rows: int | None  # rows of the click table. None: not counted, or not kept
    found: tuple[int, int] | None  # entries on the streams and dead letters. None: not counted one by one
    after: Counts
    spooled: int
    is_hour_counted: bool
    lost_answered: int = 0

    @property
    def is_still(self) -> bool:
        """Whether the streams did not change during the reads, so that the facts fit together exactly."""
        return self.before._replace(answered=0) == self.after._replace(answered=0)


class Minute(NamedTuple):
    """One minute's balance."""

    number: int  # Unix minutes, or UNKNOWN for entries with an unreadable hash
    recorded: int
    answered: int
    late: int
    stored: int
    rows: int | None
    in_flight: int
    spooled: int
    dead: int
    given_up: int
    duplicates: int
    difference: int  # clicks that were recorded but cannot be found, or below 0: found but not recorded
    lost_answered: int  # answered clicks of which the stream server has no record any more
    state: State

    @property
    def not_known_answered(self) -> int:
        """An edge that was killed cannot report its last clicks."""
        return max(self.recorded - self.answered, 0)


COUNTS = (
    *("recorded", "answered", "not_known_answered", "late", "stored", "in_flight", "spooled", "dead"),
    *("given_up", "duplicates", "difference", "lost_answered"),
)
"""The counts of a minute, in the order in which they are shown."""

_HEADS = {"not_known_answered": "unconfirmed", "lost_answered": "lost"} | {
    name: name.replace("_", " ") for name in ("in_flight", "given_up")
}


class Ledger(NamedTuple):
    """The minutes of the request that have any counts."""

    minutes: list[Minute]
    heartbeats: list[Heartbeat]
    dead_letters: int  # dead letters of all times
    is_cross_checked: bool  # whether the counts were compared with the entries on the streams

    @property
    def unbalanced(self) -> list[Minute]:
        return [minute for minute in self.minutes if minute.state is State.UNBALANCED]


def minutes_between(first: int, last: int) -> range:
    """The minutes from one Unix second to another, both included.

    Raises:
        ValueError: there is no minute, or there are more than LONGEST. The message continues a line that
            names the first second.
    """
    minutes = range(max(first, 0) // 60, min(last // 60, _LAST) + 1)
    if not minutes:
        raise ValueError("is after to (default: now)")
    if len(minutes) > LONGEST:
        raise ValueError(f"is more than {LONGEST // 1440} days before to (default: now)")
    return minutes


async def read(
    stream: StreamLedger, connection: Connection, minutes: range, *, verify: bool = False
) -> Ledger:
    """The balance of some minutes. With `verify` the rows of the click table are counted too.

    Raises:
        UNREACHABLE: the stream or Postgres is away.
    """
    for _ in range(_READINGS - 1):
        ledger = await _read_once(stream, connection, minutes, verify=verify)
        if not ledger.unbalanced:
            return ledger
        await asyncio.sleep(_PAUSE)
    return await _read_once(stream, connection, minutes, verify=verify)


async def lost_clicks(stream: StreamLedger, now: int) -> list[Alert]:
    """Clicks of the last day that were answered, and that the stream server lost. `now`: Unix seconds.

    Raises:
        UNREACHABLE: the stream is away.
    """
    lost = (await stream.snapshot(range(now // 3600 - 24, now // 3600 + 1))).lost_answered
    if not lost:
        return []
    first = f"{datetime.fromtimestamp(min(lost) * 60, UTC):%Y-%m-%d %H:%M} UTC"
    text = f"the stream server lost {sum(lost.values())} answered clicks, the first of {first}"
    return [Alert("clicks_lost", "ledger", text)]


async def complete_until(stream: StreamLedger, data_dir: Path, since: int | None = None) -> int | None:
    """The time before which every click is stored, spooled clicks of this machine included.

    Heartbeats also report these, unless the edge has never reached the stream. Spools are read first: a click
    that leaves them meanwhile is then found on the stream or stored. `since` and the result: as
    StreamLedger.complete_until.
    """
    spooled = await asyncio.to_thread(spool.segments, data_dir / "spool")
    until = await stream.complete_until(since)
    return None if until is None else min((until, *map(spool.first_millis, spooled)))


async def ask(settings: Settings, minutes: range, *, verify: bool = False) -> tuple[Ledger, int | None]:
    """The balance of some minutes, and the time before which every click is stored."""
    assert settings.redis_url
    assert settings.postgres_dsn
    async with StreamLedger(settings.redis_url) as stream:
        complete = await complete_until(stream, settings.data_dir)
        connection = await connect(settings.postgres_dsn)
        try:
            return await read(stream, connection, minutes, verify=verify), complete
        finally:
            await connection.close()


class Silent(NamedTuple):
    """An edge that does not run any more, or heartbeats of partitions that a running one has given up."""

    heartbeats: list[Heartbeat]
    leaves_nothing: bool  # it runs, and says that nothing of before is left

    @property
    def name(self) -> str:
        return f"{self.heartbeats[0].slot}/{self.heartbeats[0].run}"

    @property
    def spooled(self) -> int:
        """Clicks in its spool by its last heartbeats."""
        return sum(sum(heartbeat.spooled.values()) for heartbeat in self.heartbeats)

    @property
    def said_at(self) -> int:
        """The time of its last heartbeat, in Unix milliseconds."""
        return max(heartbeat.sent_at for heartbeat in self.heartbeats)


async def silent_edge(settings: Settings, edge: str) -> Silent:
    """An edge that may be forgotten.

    `edge` is a slot, or <slot>/<run id> if several edges have the slot. <slot>/ is an edge of a version
    without run ids.

    Raises:
        LookupError: the edge is unknown or running, or there are several. The message says which.
    """
    assert settings.redis_url
    async with StreamLedger(settings.redis_url) as stream:
        return await _silent(stream, edge)


async def forget_edge(settings: Settings, edge: str) -> int:
    """Deregister an edge that will never run again, or that has given up some partitions.

    `edge`: as for silent_edge. Returns the number of clicks that are in its spool by its last heartbeat.

    Raises:
        LookupError: as silent_edge.
    """
    assert settings.redis_url
    async with StreamLedger(settings.redis_url) as stream:
        silent = await _silent(stream, edge)
        await stream.forget(silent.heartbeats)
    return silent.spooled


async def _silent(stream: StreamLedger, edge: str) -> Silent:
    now, heartbeats = await stream.heartbeats()
    heartbeats = [
        heartbeat for heartbeat in heartbeats if edge in (heartbeat.slot, f"{heartbeat.slot}/{heartbeat.run}")
    ]
    if not heartbeats:
        raise LookupError(f"edge {edge} is not known: `tracker ledger` shows the known ones")
    silent = [heartbeat for heartbeat in heartbeats if now - heartbeat.sent_at >= ALIVE_MILLIS]
    if not silent:
        raise LookupError(f"edge {edge} is running, or was seconds ago: stop it first")
    several = sorted({f"{heartbeat.slot}/{heartbeat.run}" for heartbeat in silent})
    if len(several) > 1:
        raise LookupError(f"edge {edge} is one of {', '.join(several)}: name one of these")
    running = [each for each in heartbeats if each.run == silent[0].run and each not in silent]
    last = max(heartbeat.sent_at for heartbeat in silent)
    is_done = all(not each.spooled and each.low_watermark > last for each in running)
    return Silent(silent, bool(running) and is_done)


async def _read_once(stream: StreamLedger, connection: Connection, minutes: range, *, verify: bool) -> Ledger:
    hours = sorted({UNKNOWN, *range(minutes.start // 60, -(-minutes.stop // 60))})
    before = await stream.snapshot(hours)
    stored, rows = await _stored(connection, minutes, verify=verify)
    is_explained = _explains(before)
    is_recounted = not is_explained and before.waiting <= MOST_RECOUNTED
    recount = await stream.recount() if is_recounted else None
    after = await stream.snapshot(hours)
    counted = {minute // 60 for minute in after.counts}
    readings = _Readings(before, stored, rows, recount, after, _spooled(after.heartbeats), counted)
    judged = [judge(number, readings.of(number)) for number in readings.numbers(minutes)]
    return Ledger(judged, after.heartbeats, after.dead_letters, is_explained or is_recounted)


class _Readings(NamedTuple):
    """The facts read about all minutes, in this order."""

    before: Snapshot
    stored: Mapping[int, int]
    rows: Rows | None
    recount: Recount | None
    after: Snapshot
    spooled: Mapping[int, int]
    hours: Set[int]  # minutes with counts on the stream server

    def numbers(self, minutes: range) -> list[int]:
        """The minutes that have any counts."""
        on_streams = self.recount.waiting if self.recount else {}
        counted = {
            *self.after.counts,
            *self.stored,
            *(self.rows.of if self.rows else {}),
            *on_streams,
            *self.spooled,
        }
        return sorted(number for number in counted if number in minutes or number == UNKNOWN)

    def of(self, number: int) -> Seen:
        return Seen(
            before=self.before.counts.get(number, Counts()),
            stored=self.stored.get(number, 0),
            rows=None if self.rows is None else self.rows.at(number),
            found=self._found(number),
            after=self.after.counts.get(number, Counts()),
            spooled=self.spooled.get(number, 0),
            is_hour_counted=number // 60 in self.hours,
            lost_answered=self.after.lost_answered.get(number, 0),
        )

    def _found(self, number: int) -> tuple[int, int] | None:
        if self.recount is None:
            return None
        return self.recount.waiting.get(number, 0), self.recount.dead_letters.get(number, 0)


async def _stored(
    connection: Connection, minutes: range, *, verify: bool
) -> tuple[dict[int, int], Rows | None]:
    if verify:
        return await stored_clicks.stored_and_rows(connection, minutes)
    return await stored_clicks.stored(connection, minutes), None


def _explains(snapshot: Snapshot) -> bool:
    """Whether the counts account for exactly the entries on the streams."""
    in_flight = sum(counts.in_flight for minute, counts in snapshot.counts.items() if minute != UNKNOWN)
    dead = sum(counts.dead for counts in snapshot.counts.values())
    return (snapshot.waiting, snapshot.dead_letters) == (in_flight, dead)


def _spooled(heartbeats: list[Heartbeat]) -> Counter[int]:
    spooled: Counter[int] = Counter()
    for heartbeat in heartbeats:
        spooled.update(heartbeat.spooled)
    return spooled


def judge(number: int, seen: Seen) -> Minute:
    """The balance of a minute from the facts read about it."""
    counts = seen.after
    in_flight, dead, recorded = counts.in_flight, counts.dead, counts.recorded
    if seen.is_still and seen.found is not None:
        in_flight, dead = seen.found
    if number == UNKNOWN:  # the minutes in which these were recorded are unknown
        in_flight = seen.found[0] if seen.found else 0
        recorded = in_flight + dead + counts.given_up
    difference = recorded - (seen.stored + in_flight + dead + counts.given_up + counts.duplicates)
    return Minute(
        number=number,
        recorded=recorded + seen.spooled,
        answered=counts.answered,
        late=counts.late,
        stored=seen.stored,
        rows=seen.rows,
        in_flight=in_flight,
        spooled=seen.spooled,
        dead=dead,
        given_up=counts.given_up,
        duplicates=counts.duplicates,
        difference=difference,
        lost_answered=seen.lost_answered,
        state=_state(number, seen, difference),
    )


def _state(number: int, seen: Seen, difference: int) -> State:
    if seen.rows is not None and seen.rows != seen.stored:
        return State.UNBALANCED
    if number == UNKNOWN:
        return State.BALANCED
    if seen.lost_answered:
        return State.UNBALANCED
    if seen.stored and not seen.is_hour_counted:
        return State.UNCOUNTED
    counts = seen.after
    if seen.is_still and seen.found not in (None, (counts.in_flight, counts.dead)):
        return State.UNBALANCED
    # Clicks that are stored by now: at least those that had left the stream before, at most those that have
    # not left it another way since.
    if not seen.before.stored <= seen.stored <= counts.stored + counts.in_flight:
        return State.UNBALANCED
    return State.SETTLING if difference else State.BALANCED


def as_json(ledger: Ledger, zone: tzinfo, complete_until: int | None) -> Json:
    """The response of the API, and the output of `tracker ledger --json`."""
    return {
        "data": [_minute(minute, zone) for minute in ledger.minutes],
        "totals": totals(ledger),
        "unbalanced": [_name(minute, zone) for minute in ledger.unbalanced],
        "edges": [_edge(heartbeat) for heartbeat in ledger.heartbeats],
        "complete_until": None if complete_until is None else rfc3339(complete_until),
        "is_cross_checked": ledger.is_cross_checked,
    }


def totals(ledger: Ledger) -> dict[str, int]:
    return {name: sum(getattr(minute, name) for minute in ledger.minutes) for name in COUNTS}


def amiss(minute: Minute) -> str:
    """The fault of a minute that does not balance."""
    if minute.rows not in (None, minute.stored):
        return f"{minute.rows} rows are in the table, {minute.stored} were counted"
    faults = []
    if minute.difference:
        faults.append(f"{abs(minute.difference)} {'missing' if minute.difference > 0 else 'too many'}")
    if minute.lost_answered:
        faults.append(f"{minute.lost_answered} answered and lost by the stream server")
    return ", ".join(faults) or "its counts contradict each other"


def rfc3339(millis: int) -> str:
    """UTC with milliseconds, as 2026-11-25T16:00:00.123Z."""
    seconds, rest = divmod(millis, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def _minute(minute: Minute, zone: tzinfo) -> Json:
    row: Json = {"minute": _name(minute, zone)} | {name: getattr(minute, name) for name in COUNTS}
    return row | ({} if minute.rows is None else {"rows": minute.rows}) | {"state": minute.state}


def _name(minute: Minute, zone: tzinfo) -> str | None:
    """Its start with the offset. None: unknown."""
    if minute.number == UNKNOWN:
        return None
    return datetime.fromtimestamp(minute.number * 60, zone).isoformat()


def _edge(heartbeat: Heartbeat) -> Json:
    return {
        "slot": heartbeat.slot,
        "run": heartbeat.run,
        "partition": heartbeat.partition,
        "until": rfc3339(heartbeat.low_watermark),
        "heard": rfc3339(heartbeat.sent_at),
        "spooled": sum(heartbeat.spooled.values()),
    }


def in_words(ledger: Ledger, zone: tzinfo, complete_until: int | None) -> str:
    """For a terminal: one line per minute, the totals, the edges, and the minutes that do not balance."""
    facts = as_json(ledger, zone, complete_until)
    columns = [*COUNTS, *(["rows"] if any(minute.rows is not None for minute in ledger.minutes) else [])]
    table = [
        _line("minute", [_HEADS.get(name, name) for name in columns], "state"),
        *(
            _line(row["minute"] or "unknown", [row.get(name, _NO_ROWS) for name in columns], row["state"])
            for row in facts["data"]
        ),
        _line("all", [sum(row.get(name, 0) for row in facts["data"]) for name in columns], ""),
    ]
    edges = [
        f"edge {_named(edge)}, partition {edge['partition']}, as of {edge['heard']}: all before "
        f"{edge['until']} is on the stream, {edge['spooled']} in its spool"
        for edge in facts["edges"]
    ]
    return "\n".join([*table, "", *edges, *_verdict(ledger, facts)])


def _named(edge: Json) -> str:
    return f"{edge['slot']} (run {edge['run']})" if edge["run"] else str(edge["slot"])


def _line(first: str, columns: list[Any], last: str) -> str:
    return f"{first:26}" + "".join(f"{column:>12}" for column in columns) + f"  {last}".rstrip()


def _verdict(ledger: Ledger, facts: Json) -> list[str]:
    unbalanced = [
        f"does not balance: {name or 'unknown'}: {amiss(minute)}"
        for name, minute in zip(facts["unbalanced"], ledger.unbalanced, strict=True)
    ]
    unchecked = (
        [] if ledger.is_cross_checked else ["too many entries wait on the stream to be counted one by one"]
    )
    return [
        f"complete until {facts['complete_until'] or 'unknown: no edge has sent a heartbeat'}",
        *unchecked,
        *(unbalanced or ["every minute balances"]),
    ]
