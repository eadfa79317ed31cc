"""An edge's end of the stream: numbered calls of the script, each applied once."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeVar

from tracker.domain import caps
from tracker.domain.model import Click
from tracker.stream import keys
from tracker.stream.connection import Connection, PartitionConnection, RefusedError, Script
from tracker.stream.homes import homes_of
from tracker.stream.partitions import partition_of
from tracker.stream.record import (
    ANSWER_BYTES,
    OUTCOME_PLACES,
    UNKNOWN_LIVE,
    Decision,
    Entry,
    hash_of_entry,
    millis_of_entry,
    read_answer,
)
from tracker.stream.shared_connection import Seat, SharedConnections
from tracker.stream.visitor_memory import VisitorMemory

LANE_SECONDS: Final = 30 * 86400
"""How long a lane is remembered: longer than a spool may wait for the stream."""
MAX_BATCH: Final = 512
"""Most clicks of one call. A hundred clicks take well under a millisecond of the stream server's time."""
MAX_BATCH_BYTES: Final = 1 << 20
"""A call takes no more clicks once its records have so many bytes: 512 clicks can have 25 MB, which would
always be late."""
OWN_LANE_SECONDS = 86_400
"""How long a click's own lane is remembered. A later repeat makes a second entry, which the writer drops."""

_SCRIPT: Final = Script(files("tracker.stream").joinpath("lua", "record_clicks.lua").read_bytes())
_MILLIS_BYTES: Final = 6  # of the server's clock, before the answer
_ANSWERED: Final = struct.Struct(">II")  # minute, clicks


class AppendError(Exception):
    """The stream did not take a batch, or did not answer in time. The message is the cause."""

    def __init__(self, cause: str, *, is_certain: bool) -> None:
        super().__init__(cause)
        self.is_certain = is_certain
        """True if the batch was not taken. Else it may have been taken, or may still be."""


class Receipt:
    """The stream's decisions on a batch of clicks, in their order."""

    def __init__(self, packed: bytes, millis: int, is_copied: bool) -> None:
        self.decided = packed
        """The decisions, as the script answers them."""
        self.millis = millis  # the server's clock, Unix milliseconds
        self.is_copied = is_copied
        """Whether a replica has the batch on disk too, if the call waited for that."""
        self.outcomes = list(packed[::ANSWER_BYTES].translate(OUTCOME_PLACES))
        """The numbers of the outcomes in Outcomes."""

    @property
    def unknown(self) -> int:
        """The number of clicks whose visitors there was no room to remember."""
        return self.decided[::ANSWER_BYTES].count(UNKNOWN_LIVE)

    @property
    def answers(self) -> list[Decision]:
        packed = self.decided
        return [read_answer(packed[at : at + ANSWER_BYTES]) for at in range(0, len(packed), ANSWER_BYTES)]


class Lane:
    """Numbers the calls of one connection. A call repeated under its number is applied once."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8).encode()
        self.sequence = 1

    def next(self) -> None:
        self.sequence += 1


def pack_answered(clicks: Mapping[int, int]) -> bytes:
    """Counts of answered clicks by minute, packed as calls carry them."""
    return b"".join(_ANSWERED.pack(minute, count) for minute, count in clicks.items())


_Answer = TypeVar("_Answer")

Mode = Literal["live", "look", "spooled", "uncertain", "copied"]
"""The mode of a call, explained in record_clicks.lua."""

# Errors by which a server refuses a call before it does anything.
_REFUSALS = frozenset(
    (
        *("ASK", "BADBATCH", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH"),
        *("NOPERM", "NOREPLICAS", "OOM", "READONLY", "STALE", "TRYAGAIN", "WRONGPASS"),
    )
)


class Appender:
    """Appends batches to one partition, one call at a time."""

    def __init__(
        self,
        url: str,
        partition: int = 0,
        edge: str = "",
        memory: VisitorMemory = VisitorMemory(),  # noqa: B008 - a value
        copies: int = 1,
        connections: SharedConnections | None = None,
    ) -> None:
        """`connections`: those of an edge whose partitions share them. Else it opens one of its own."""
        self._connection: PartitionConnection = (
            Seat(connections, partition) if connections else Connection(homes_of(url), partition)
        )
        self._waits = copies > 1
        self._memory = memory
        self._room = b"0"  # known once the connection is open
        self._stream = keys.clicks(partition)
        self._lane = keys.lane_prefix(partition)
        self._edges = keys.edges(partition)
        self._remembered = keys.remembered(partition)
        self._cap = keys.cap_prefix(partition)
        self._prefixes = (keys.unique_prefix(partition), self._cap, keys.ledger_prefix(partition))
        self._edge = edge.encode()
        self._busy = asyncio.Lock()
        self._has_sent = False

    @property
    def openings(self) -> int:
        """How often the connection was opened. Since then it has led to one server."""
        return self._connection.openings

    @property
    def ends(self) -> tuple[object, object]:
        """The addresses of both ends of the connection, as it was last opened (see is_elsewhere)."""
        return self._connection.ends

    async def append(
        self,
        lane: Lane,
        entries: Sequence[Entry],
        within: float,
        *,
        heartbeat: bytes | None = None,
        answered: bytes = b"",
        is_alone: bool = False,
    ) -> Receipt:
        """Append a batch of clicks whose visitors wait.

        `within`: seconds. `heartbeat`: this edge's heartbeat, which b"" removes. `answered`: counts of clicks
        answered since the last call (see pack_answered and record_clicks.lua). `is_alone`: the replicas are
        away. So they are not waited for, and the call goes over the connection that is open, or not at all. A
        replica that took over lacks the calls before this one, and would count them as done after it.

        Raises:
            AppendError: refused, or no answer in time. If that is not certain, repeat the same call under
                the same lane and sequence, or abandon the lane.
        """
        call = partial(
            self._arguments, "live", lane.id, lane.sequence, entries, heartbeat, answered, LANE_SECONDS
        )
        receipt = await self._run(call, within, waits=self._waits and not is_alone, reopens=not is_alone)
        if len(receipt.outcomes) != len(entries):
            raise AppendError(f"{len(entries)} clicks got {len(receipt.outcomes)} answers", is_certain=False)
        return receipt

    async def append_each(self, entries: Sequence[Entry], within: float) -> None:
        """Append clicks, each in a call of its own under its hash. A repeated call changes nothing.

        No visitor waits, so the ledger counts the clicks as answered.

        Raises:
            AppendError: refused, no answer within so many seconds, or no replica has them. Some or all may be
                appended.
        """
        # The first call carries the script, which the server may not have yet. All calls go in one write, and
        # so share the server's fsync.
        starts = [(b"EVAL", _SCRIPT.text), *[(b"EVALSHA", _SCRIPT.sha)] * (len(entries) - 1)]

        async def ask(until: float) -> None:
            calls = [(*start, *self._own_call(entry)) for start, entry in zip(starts, entries, strict=True)]
            self._has_sent = True
            send = self._connection.write if self._waits else self._connection.ask
            await send(calls, until - monotonic())

        await self._alone(ask, within)
        if not self._connection.is_copied:
            raise AppendError("no replica has them on disk", is_certain=False)

    def _own_call(self, entry: Entry) -> list[bytes]:
        answered = pack_answered({millis_of_entry(entry) // 60_000: 1})
        return self._arguments("live", hash_of_entry(entry), 1, [entry], None, answered, OWN_LANE_SECONDS)

    async def append_late(
        self,
        lane: bytes,
        sequence: int,
        entries: Sequence[Entry],
        within: float,
        *,
        is_uncertain: bool,
        answered: bytes = b"",
        decided: bytes = b"",
    ) -> None:
        """Append a batch from a spool, whose visitors were answered. A repeated call changes nothing.

        `is_uncertain`: the lane's previous call had the same clicks, and may have been applied. `decided`:
        the decisions that the clicks were answered with (see Receipt), unless with their first outcomes.
        Replicas are not waited for: a later call over the same connection may wait for this one too.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """
        mode: Mode = "copied" if decided else "uncertain" if is_uncertain else "spooled"
        call = partial(
            self._arguments, mode, lane, sequence, entries, decided or None, answered, LANE_SECONDS
        )
        await self._run(call, within)

    async def last_call(self, lane: bytes, within: float) -> int:
        """The number of a lane's last call: it and all before it are done. 0 if the server knows of none.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """

        async def ask(until: float) -> int:
            self._has_sent = True
            (last,) = await self._connection.ask([(b"GET", self._lane + lane)], until - monotonic())
            return int(last.partition(b" ")[0]) if last else 0

        return await self._alone(ask, within)

    async def look(self, entries: Sequence[Entry], within: float) -> Receipt:
        """The decisions that these clicks would get now, each alone. Nothing is written.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """
        call = partial(self._arguments, "look", b"", 0, entries, None, b"", LANE_SECONDS)
        return await self._run(call, within)

    async def counts(self, names: Sequence[str], within: float) -> list[int]:
        """The counts of caps' counters, by name. 0 for counters that have not begun.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """
        if not names:
            return []
        command = [b"MGET", *(self._cap + name.encode() for name in names)]

        async def ask(until: float) -> list[int]:
            self._has_sent = True
            (values,) = await self._connection.ask([command], until - monotonic())
            return [int(value or 0) for value in values]

        return await self._alone(ask, within)

    async def _run(
        self, call: Callable[[], list[bytes]], within: float, *, waits: bool = False, reopens: bool = True
    ) -> Receipt:
        connection = self._connection

        async def run(until: float) -> Receipt:
            self._has_sent = True
            reply = await connection.run(_SCRIPT, call(), until - monotonic(), waits=waits, follows=reopens)
            millis = int.from_bytes(reply[:_MILLIS_BYTES], "big")
            return Receipt(reply[_MILLIS_BYTES:], millis, connection.is_copied)

        if not (reopens or connection.is_open):
            raise AppendError("the connection was closed", is_certain=True)
        return await self._alone(run, within)

    def _arguments(
        self,
        mode: Mode,
        lane: bytes,
        sequence: int,
        entries: Sequence[Entry],
        heartbeat: bytes | None,
        answered: bytes,
        lane_seconds: int,
    ) -> list[bytes]:
        arguments = [
            b"4",
            self._stream,
            self._lane + lane,
            self._edges,
            self._remembered,
            b"%d" % sequence,
            mode.encode(),
            b"%d" % lane_seconds,
            *self._prefixes,
            b"" if heartbeat is None else self._edge,
            heartbeat or b"",
            answered,
            self._room,
        ]
        for entry in entries:
            arguments += entry
        return arguments

    async def _alone(self, ask: Callable[[float], Awaitable[_Answer]], within: float) -> _Answer:
        """Let `ask` use the connection alone, until a deadline. Every error becomes an AppendError.

        Not a context manager: mypyc compiles no asynchronous generators.
        """
        is_ours = False
        until = monotonic() + within  # not the loop's time, which stands still while the loop is busy
        try:
            await self._take_turn(until)
            is_ours, self._has_sent = True, False
            try:
                return await self._connected(ask, until)
            finally:
                self._busy.release()
        except TimeoutError as error:
            raise AppendError("no answer in time", is_certain=not (is_ours and self._has_sent)) from error
        except Exception as error:  # of any kind: clicks can still go to the spool, and must not wait
            raise AppendError(
                f"{type(error).__name__}: {error}", is_certain=not self._has_sent or _is_refusal(error)
            ) from error

    async def _room_there(self, within: float) -> bytes:
        """The bytes that this partition's visitors may take, by the server's maxmemory."""
        try:
            (info,) = await self._connection.ask([(b"INFO", b"memory")], within)
        except RefusedError:  # a hosted server may hide it
            info = b""
        lines = [line.partition(":") for line in info.decode().split()]
        return b"%d" % self._memory.room({name: value for name, _, value in lines})

    async def _take_turn(self, until: float) -> None:
        if self._busy.locked():
            async with asyncio.timeout_at(until):
                await self._busy.acquire()
        else:
            await self._busy.acquire()  # immediate, so without the cost of a timeout

    async def _connected(self, ask: Callable[[float], Awaitable[_Answer]], until: float) -> _Answer:
        try:
            if not self._connection.is_open:
                async with asyncio.timeout_at(until):
                    await self._connection.open()
                self._room = await self._room_there(until - monotonic())
            return await ask(until)
        except BaseException:
            # A late reply must not be taken for another call's.
            self._connection.drop()
            raise

    async def close(self) -> None:
        await self._connection.close()


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, RefusedError) and error.kind in _REFUSALS


class Counted(NamedTuple):
    """A click with caps lowered by the counts of other partitions, and the counts of all partitions."""

    click: Click
    counts: list[int]


class AppenderPool:
    """One appender for each partition."""

    def __init__(self, url: str, memory: VisitorMemory, copies: int = 1) -> None:
        self._appenders = [
            Appender(url, number, memory=memory, copies=copies) for number in range(memory.partitions)
        ]

    def of(self, click: Click) -> Appender:
        return self._appenders[partition_of(click.visitor_key, len(self._appenders))]

    async def counted(self, click: Click, within: float) -> Counted:
        """Read the counts of a click's caps from all partitions, each within so many seconds.

        Raises:
            AppendError: a partition did not answer.
        """
        names = [counter.name for counter in click.counters]
        counted = [await appender.counts(names, within) for appender in self._appenders]
        sums = [sum(counts) for counts in zip(*counted, strict=True)]
        own = counted[partition_of(click.visitor_key, len(counted))]
        elsewhere = [total - here for total, here in zip(sums, own, strict=True)]
        return Counted(click._replace(counters=caps.lowered(click.counters, elsewhere)), sums)

    async def close(self) -> None:
        await asyncio.gather(*(appender.close() for appender in self._appenders))
