"""One connection to a server for several partitions: calls that are due go in one write, with one wait.

The server then reads, syncs and answers once for all of them.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections.abc import Awaitable, Sequence
from time import monotonic
from typing import Any

from tracker.stream.connection import Connection, PartitionConnection, RefusedError
from tracker.stream.copies import LATE_SECONDS, LOOK, Replicas
from tracker.stream.homes import Address, Homes, Server, homes_of


class _Call:
    """Commands of one partition, which wait for their turn or for their replies."""

    def __init__(
        self, commands: Sequence[Sequence[bytes]], opening: int, until: float, replies: Future[list[Any]]
    ) -> None:
        self.commands = commands
        self.opening = opening
        """The opening of the connection that they were meant for."""
        self.until = until
        self.replies = replies
        self.waits = False
        self.is_copied = True

    def fail(self, error: Exception) -> None:
        if not self.replies.done():
            self.replies.set_exception(error)


class SharedConnection:
    """Sends what partitions want sent. While a write is under way, the next one gathers.

    If a write fails as a whole, the connection is cut, and all of its calls fail. A refusal fails one call.
    """

    def __init__(self, homes: Homes, server: Server | None) -> None:
        self.connection = Connection(homes, 0, server)
        self._replicas = Replicas()
        self._due: list[_Call] = []
        self._sent: list[_Call] = []
        self._waits = self._looks = False  # what the write under way ends with
        self._opening: Task[None] | None = None

    async def open(self) -> None:
        """Open the connection, unless it is open. Partitions of one moment share the attempt."""
        if self.connection.is_open:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self.connection.open(), name="shared connection")
            self._opening.add_done_callback(_look_at)
        await asyncio.shield(self._opening)

    def send(self, commands: Sequence[Sequence[bytes]], opening: int, within: float, *, waits: bool) -> _Call:
        """Send commands with the next write. Within so many seconds its future has replies, or an error.

        `opening`: the connection's, by its number. They go over that one or not at all. `waits`: for
        replicas. Then the replies may come LATE_SECONDS later.
        """
        loop = asyncio.get_running_loop()
        within += LATE_SECONDS if waits else 0.0
        call = _Call(commands, opening, monotonic() + within, loop.create_future())
        call.waits = waits
        # A busy loop runs the timer before it reads replies that have come in time: hence call_soon, twice.
        late = loop.call_later(within, loop.call_soon, loop.call_soon, call.fail, TimeoutError())
        call.replies.add_done_callback(lambda _: late.cancel())
        if not self._sent and not self._due:
            loop.call_soon(self._write)  # partitions whose clicks came together share the write
        self._due.append(call)
        return call

    def _write(self) -> None:
        self._sent, self._due = self._to_be_sent(), []
        if not self._sent:
            return
        within = max([call.until for call in self._sent]) - monotonic()
        commands = [command for call in self._sent for command in call.commands]
        self._waits = any(call.waits for call in self._sent)
        self._looks = self._waits and self._replicas.is_look_due
        if self._waits:
            commands += self._replicas.waits(max(within - LATE_SECONDS, 0))
        if self._looks:
            commands.append(LOOK)
        try:
            self.connection.send(commands, within).add_done_callback(self._take)
        except Exception as error:  # of any kind: the next calls must not wait for this write
            self._give_up(error)

    def _to_be_sent(self) -> list[_Call]:
        """The calls whose partitions still wait, unless the connection is no more the one that they meant."""
        calls = []
        for call in self._due:
            if not (self.connection.is_open and call.opening == self.connection.openings):
                call.fail(ConnectionError("the connection was closed"))
            elif not call.replies.done():
                calls.append(call)
        return calls

    def _take(self, replied: Future[list[Any]]) -> None:
        """Take the replies to a write, and send what has gathered meanwhile."""
        if error := replied.exception():
            self._give_up(error)
        else:
            calls, self._sent = self._sent, []
            self._answer(calls, replied.result())
        self._write()

    def _give_up(self, error: BaseException) -> None:
        self.connection.drop()  # a late reply must not be taken for another call's
        for call in self._sent:
            call.fail(TimeoutError() if isinstance(error, TimeoutError) else ConnectionError(str(error)))
        self._sent = []

    def _answer(self, calls: list[_Call], replies: list[Any]) -> None:
        refusal = self._note(replies)
        at = 0
        for call in calls:
            before, at = at, at + len(call.commands)
            if refusal and call.waits:
                call.fail(RefusedError(str(refusal)))
            elif not call.replies.done():
                call.is_copied = self._replicas.have_it
                call.replies.set_result(replies[before:at])

    def _note(self, replies: list[Any]) -> RefusedError | None:
        """Note what follows the calls' replies. Returns the refusal of a wait, if there is one."""
        if self._looks:
            self._look(replies.pop())
        if not self._waits:
            return None
        for reply in replies[-2:]:
            if isinstance(reply, RefusedError):
                return reply
        self._replicas.note(*replies[-2:])
        return None

    def _look(self, info: Any) -> None:
        if isinstance(info, RefusedError):
            self._replicas.never_look()
        else:
            self._replicas.look_at(info)

    async def close(self) -> None:
        if self._opening is not None:  # perhaps nobody waits for it any more
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self.connection.close()


class Seat(PartitionConnection):
    """One partition's part of the connection to its server."""

    def __init__(self, connections: SharedConnections, partition: int) -> None:
        super().__init__()
        self._connections = connections
        self._partition = partition
        self._shared: SharedConnection | None = None
        self._opening = 0  # of the shared connection, by its number
        self._last: _Call | None = None

    @property
    def is_open(self) -> bool:
        if self._shared is None:
            return False
        connection = self._shared.connection
        return connection.is_open and connection.openings == self._opening

    async def open(self) -> None:
        """If the other partitions' connection to the server is open, that is the one."""
        self._shared = None
        shared = await self._connections.of(self._partition)
        await shared.open()
        self._shared, self._opening = shared, shared.connection.openings
        self.ends = shared.connection.ends
        self.openings += 1

    async def write(self, commands: Sequence[Sequence[bytes]], within: float) -> list[Any]:
        replies = await self.ask(commands, within, waits=True)
        self.is_copied = self._last is not None and self._last.is_copied
        return replies

    def _send(self, commands: Sequence[Sequence[bytes]], within: float, waits: bool) -> Awaitable[list[Any]]:
        assert self._shared
        self._last = self._shared.send(commands, self._opening, within, waits=waits)
        return self._last.replies

    def drop(self) -> None:
        """The other partitions go on. They cannot take the replies of this one for theirs."""
        self._shared = None

    async def close(self) -> None:
        self._shared = None


class SharedConnections:
    """The connections of one edge, one to each server that has any of its partitions."""

    def __init__(self, url: str) -> None:
        self._homes = homes_of(url)
        self._connections: dict[Address | None, SharedConnection] = {}

    async def of(self, partition: int) -> SharedConnection:
        """The connection to the server that has a partition now.

        Raises:
            ConnectionError of redis: nobody says which server that is.
        """
        server = await self._homes.server(partition)
        address = server.address if server else None
        if address not in self._connections:
            self._connections[address] = SharedConnection(self._homes, server)
        return self._connections[address]

    async def close(self) -> None:
        for shared in self._connections.values():
            await shared.close()


def _look_at(task: Task[None]) -> None:
    """Everybody may have stopped waiting for it."""
    if not task.cancelled():
        task.exception()
