"""The stream server's side of the ledger: counts by minute, heartbeats of edges, lengths of streams.

Every count changes in the same script as its entry. So counts and lengths of one partition, read in one
transaction, fit together.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from typing import Any, NamedTuple

from tracker.domain.click_id import is_click_hash, millis_of
from tracker.domain.unstored import Unstored
from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys
from tracker.stream.client import StreamClient

MINUTE = 60_000
"""Milliseconds."""
HOUR = 60 * MINUTE
LEDGER_HOURS = 40 * 24
"""How long a minute's counts are kept on the stream server."""
ALIVE_MILLIS = 10_000
"""An edge that sent a heartbeat within this time is running. It sends one each second."""
UNKNOWN = 0
"""The minute of entries whose hash cannot be read."""

_LOOKED_AT = 1_000  # entries from the stream's beginning
_CHUNK = 1_000  # entries of a recount that are read at a time
_PARTITIONS = range(MAX_PARTITIONS)  # partitions out of use may still have counts and clicks


class Counts(NamedTuple):
    """The entries of one minute, counted by what became of them."""

    recorded: int = 0
    late: int = 0  # recorded from a spool
    answered: int = 0  # known to be answered
    stored: int = 0
    duplicates: int = 0  # of clicks that another entry has stored
    dead: int = 0
    given_up: int = 0  # dead letters dropped by the operator

    @property
    def in_flight(self) -> int:
        return self.recorded - self.stored - self.duplicates - self.dead - self.given_up


_KINDS = dict(zip("rlnxudg", Counts._fields, strict=True))


class Heartbeat(NamedTuple):
    """An edge's heartbeat: its clicks before `low_watermark` have reached the partition's stream."""

    partition: int
    slot: str
    run: str  # of the edge's spool. "" of a version before run ids
    low_watermark: int  # Unix milliseconds
    sent_at: int  # Unix milliseconds of the stream server
    spooled: Mapping[int, int]  # clicks still in the edge's spools, by minute

    @property
    def field(self) -> str:
        """The field in edges:{p}."""
        return f"{self.slot}/{self.run}" if self.run else self.slot

    @property
    def edge(self) -> str:
        """The edge's name for people."""
        return f"{self.slot} (run {self.run})" if self.run else self.slot


class Snapshot(NamedTuple):
    """The counts, and the lengths and heartbeats that they are compared with."""

    counts: Mapping[int, Counts]  # by minute. Of whole hours
    waiting: int  # entries on the streams
    dead_letters: int  # entries on the dead-letter streams
    heartbeats: list[Heartbeat]
    lost_answered: Mapping[int, int]  # by minute. See _lost_answered


class Recount(NamedTuple):
    """The entries on the streams themselves, counted by minute."""

    waiting: Mapping[int, int]
    dead_letters: Mapping[int, int]


class StreamLedger(StreamClient):
    """Reads the ledger of all partitions. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str) -> None:
        super().__init__(url, socket_timeout=5)

    async def snapshot(self, hours: Collection[int]) -> Snapshot:
        """The counts of these hours. Those of one partition are as of one moment."""
        waiting, dead_letters = 0, 0
        heartbeats: list[Heartbeat] = []
        fields: list[tuple[int, dict[bytes, bytes]]] = []
        lost: Counter[int] = Counter()
        for partition in await self._with_anything(hours):
            async with self.of(partition).pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.xlen(keys.clicks(partition))
                pipe.xlen(keys.dead(partition))
                pipe.hgetall(keys.edges(partition))
                for hour in hours:
                    pipe.hgetall(keys.ledger(partition, hour))
                time, clicks, dead, edges, *counted = await pipe.execute()
            waiting, dead_letters = waiting + clicks, dead_letters + dead
            here, own = _heartbeats(partition, edges), list(zip(hours, counted, strict=True))
            lost.update(_lost_answered(_counts(own), here, _millis_of_time(time)))
            heartbeats += here
            fields += own
        return Snapshot(_counts(fields), waiting, dead_letters, heartbeats, lost)

    async def recount(self) -> Recount:
        """Count the entries on the streams themselves, one by one."""
        return Recount(await self._minutes_of(keys.clicks), await self._minutes_of(keys.dead))

    async def complete_until(self, since: int | None = None) -> int | None:
        """The time before which every click is stored, in Unix milliseconds. None if nothing is known.

        It reads heartbeats first, then the streams. A click before an edge's watermark is then on a stream or
        stored. `since`: an earlier result, which saves reading the hours before it.
        """
        edges = await self.each(_PARTITIONS, lambda pipe, partition: pipe.hgetall(keys.edges(partition)))
        firsts = await self.each(
            _PARTITIONS, lambda pipe, partition: pipe.xrange(keys.clicks(partition), count=_LOOKED_AT)
        )
        bounds: list[int] = []
        for partition, (entries,) in enumerate(firsts):
            # An edge whose clock is ahead may later mint hashes before the watermark that it sent.
            bounds += (
                min(heartbeat.low_watermark, heartbeat.sent_at)
                for heartbeat in _heartbeats(partition, *edges[partition])
            )
            bounds += (millis for fields in _fields(entries) if (millis := _millis(fields)) is not None)
            if len(entries) == _LOOKED_AT and bounds:
                bounds += await self._lowest_in_flight(partition, since, min(bounds))
        return min(bounds, default=None)

    async def unstored(self, minutes: Set[int]) -> Unstored:
        """Which of these Unix minutes have clicks on the streams, and which have dead letters.

        A click that is in neither, of a time before Complete-Until, is in the table if it was recorded.
        """
        partitions = await self._with_anything({minute // 60 for minute in minutes})
        asked = sorted(minutes)

        def ask(pipe: Any, partition: int) -> None:
            for minute in asked:
                hour, minute_of_hour = divmod(minute, 60)
                pipe.hmget(keys.ledger(partition, hour), [f"{minute_of_hour}:{kind}" for kind in _KINDS])

        counted = [
            (minute, Counts(*(int(count or 0) for count in reply)))
            for replies in await self.each(partitions, ask)
            for minute, reply in zip(asked, replies, strict=True)
        ]
        return Unstored(
            {minute for minute, counts in counted if counts.in_flight > 0},
            {minute for minute, counts in counted if counts.dead > 0},
        )

    async def forget(self, heartbeats: Iterable[Heartbeat]) -> None:
        """Delete heartbeats of edges that never run again."""
        for heartbeat in heartbeats:
            client = self.of(heartbeat.partition)
            await client.hdel(keys.edges(heartbeat.partition), heartbeat.field)

    async def heartbeats_here(self, partition: int) -> tuple[int, list[Heartbeat]]:
        """The stream server's clock, and the heartbeats of all edges on one partition."""
        async with self.of(partition).pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.edges(partition))
            time, edges = await pipe.execute()
        return _millis_of_time(time), _heartbeats(partition, edges)

    async def owner(self, slot: int, run: str) -> str:
        """The run id of the edge that a slot belongs to. A free slot is given to `run`."""
        owner: bytes | None = await self._client.hget(keys.SLOTS, slot)
        if owner is None:
            await self._client.hsetnx(keys.SLOTS, slot, run)
            owner = await self._client.hget(keys.SLOTS, slot)
        return owner.decode() if owner else run

    async def take_slot(self, slot: int, run: str) -> None:
        """Give the slot of a dead edge to another edge."""
        await self._client.hset(keys.SLOTS, slot, run)

    async def deployment(self) -> str | None:
        """The id of this deployment. None if no edge has named it since the server was new."""
        id_: bytes | None = await self._client.get(keys.DEPLOYMENT)
        return id_.decode() if id_ else None

    async def name_deployment(self, known: str | None) -> str:
        """Give a server without an id the known one, or a new one. Returns the id that it has then."""
        await self._client.setnx(keys.DEPLOYMENT, known or secrets.token_hex(8))
        return await self.deployment() or ""

    async def heartbeats(self) -> tuple[int, list[Heartbeat]]:
        """The stream server's clock, and the heartbeats of all edges.

        In a cluster it is the clock of partition 0's server. The doctor warns if the others' differ.
        """
        now = _millis_of_time(await self._client.time())
        edges = await self.each(_PARTITIONS, lambda pipe, partition: pipe.hgetall(keys.edges(partition)))
        heartbeats = [
            heartbeat for partition in _PARTITIONS for heartbeat in _heartbeats(partition, *edges[partition])
        ]
        return now, heartbeats

    async def _lowest_in_flight(self, partition: int, since: int | None, below: int) -> list[int]:
        """The start of the first minute before a time with entries in flight, if there is one."""
        last = below // HOUR
        first = last - LEDGER_HOURS if since is None else since // HOUR
        hours = range(max(first, 0), last + 1)
        async with self.of(partition).pipeline(transaction=False) as pipe:
            for hour in hours:
                pipe.hgetall(keys.ledger(partition, hour))
            counts = _counts(zip(hours, await pipe.execute(), strict=True))
        return [minute * MINUTE for minute in sorted(counts) if counts[minute].in_flight > 0][:1]

    async def _with_anything(self, hours: Collection[int]) -> list[int]:
        """The partitions with entries, heartbeats, or counts of these hours."""
        existing = await self.each(
            _PARTITIONS,
            lambda pipe, partition: pipe.exists(
                *(key(partition) for key in (keys.edges, keys.clicks, keys.dead)),
                *(keys.ledger(partition, hour) for hour in hours),
            ),
        )
        return [partition for partition, (number,) in enumerate(existing) if number]

    async def _minutes_of(self, stream: Callable[[int], bytes]) -> Counter[int]:
        minutes: Counter[int] = Counter()
        for partition in _PARTITIONS:
            after = b"-"
            while entries := await self.of(partition).xrange(stream(partition), after, count=_CHUNK):
                minutes.update((_millis(fields) or UNKNOWN) // MINUTE for fields in _fields(entries))
                after = b"(" + entries[-1][0]
        return minutes


def _counts(hours: Iterable[tuple[int, dict[bytes, bytes]]]) -> dict[int, Counts]:
    minutes: dict[int, Counter[str]] = defaultdict(Counter)
    for hour, fields in hours:
        for field, count in fields.items():
            minute, _, kind = field.decode().partition(":")
            minutes[hour * 60 + int(minute)][_KINDS[kind]] += int(count)
    return {minute: Counts(**counted) for minute, counted in minutes.items()}


def _lost_answered(counts: Mapping[int, Counts], heartbeats: list[Heartbeat], now: int) -> dict[int, int]:
    """Answered clicks of one partition that neither its counts nor a spool have, by minute.

    An edge counts a click as answered in a later call than the one that records it, or that counts it as
    spooled. So there are none, unless the server lost calls that it had confirmed. An edge that starts sends
    heartbeats before it has read its spool. So a minute is left out while a running edge may have clicks of
    it. `now`: Unix milliseconds.
    """
    spooled: Counter[int] = Counter()
    for heartbeat in heartbeats:
        spooled.update(heartbeat.spooled)
    running = (each.low_watermark for each in heartbeats if now - each.sent_at < ALIVE_MILLIS)
    end = min(running, default=now) // MINUTE
    return {
        minute: lost
        for minute, of in counts.items()
        if UNKNOWN < minute < end and (lost := of.answered - of.recorded - spooled[minute]) > 0
    }


def _heartbeats(partition: int, edges: dict[bytes, bytes]) -> list[Heartbeat]:
    return [_heartbeat(partition, edge.decode(), text) for edge, text in edges.items()]


def _heartbeat(partition: int, edge: str, text: bytes) -> Heartbeat:
    slot, _, run = edge.partition("/")
    low_watermark, sent_at, spooled = text.split(b" ", 2)
    by_minute = {int(minute): count for minute, count in json.loads(spooled).items()}
    return Heartbeat(partition, slot, run, int(low_watermark), int(sent_at), by_minute)


def _millis_of_time(time: tuple[int, int]) -> int:
    seconds, micros = time
    return seconds * 1000 + micros // 1000


def _fields(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Iterable[dict[bytes, bytes]]:
    return (fields for _, fields in entries)


def _millis(fields: dict[bytes, bytes]) -> int | None:
    """The time of an entry's click, in Unix milliseconds. The hash is readable even in a damaged record."""
    hash_ = fields.get(b"r", b"")[3:35].decode("ascii", "replace")
    return millis_of(hash_) if is_click_hash(hash_) else None
