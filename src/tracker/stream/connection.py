"""A fast connection for the calls that edges and writers make for every click.

redis-py opens it, since it knows addresses, TLS and authentication. Its streams, locks and timeouts are then
left out: with them a call costs twice as much. hiredis reads the replies.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from functools import partial
from hashlib import sha1
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import Any, Final

import hiredis

from tracker.stream.copies import LATE_SECONDS, LOOK, Replicas
from tracker.stream.homes import Homes, Server


class RefusedError(Exception):
    """An error reply of the server. Its first word is the kind of error."""

    @property
    def kind(self) -> str:
        return str(self).partition(" ")[0]


def is_elsewhere(ours: object, theirs: object) -> bool:
    """Whether a connection leads to another machine, by the addresses of its two ends.

    They are as sockets give them: (address, port, ...), or the path of a Unix socket. A connection to an
    address of this machine has it at both ends, except within 127.0.0.0/8.
    """
    if not (isinstance(ours, tuple) and isinstance(theirs, tuple)):
        return False
    there = ip_address(str(theirs[0]).partition("%")[0])
    if isinstance(there, IPv6Address) and there.ipv4_mapped:
        there = there.ipv4_mapped
    return not there.is_loopback and str(ours[0]) != str(theirs[0])


# Before a word of a command: the end of the word before it, and the length of this one. Most are shorter.
_HEADERS: Final = [b"\r\n$%d\r\n" % length for length in range(4096)]


def pack(words: Sequence[bytes]) -> bytes:
    """A command as the server reads it (https://valkey.io/topics/protocol/).

    One join of prepared headers takes less than half as long as hiredis' packer does.
    """
    try:
        headers = [_HEADERS[len(word)] for word in words]
    except IndexError:
        headers = [b"\r\n$%d\r\n" % len(word) for word in words]
    parts = [b""] * (2 * len(words) + 2)
    parts[0], parts[-1] = b"*%d" % len(words), b"\r\n"
    parts[1:-1:2] = headers
    parts[2:-1:2] = words
    return b"".join(parts)


class Script:
    """A script, and the SHA-1 under which the server knows it once it has run."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.sha = sha1(text, usedforsecurity=False).hexdigest().encode()


class PartitionConnection(ABC):
    """Sends commands about one partition and awaits their replies, one call at a time."""

    def __init__(self) -> None:
        self.is_copied = True
        """Whether the last `write` is on the disk of a replica too."""
        self.openings = 0
        """How often it was opened. Since then it has led to one server."""
        self.ends: tuple[object, object] = None, None
        """Our address and the server's (see is_elsewhere)."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it still leads to the server that it was opened to."""

    @abstractmethod
    async def open(self) -> None:
        """Open it to the server that has the partition now."""

    @abstractmethod
    def drop(self) -> None:
        """Take no more replies, at once. It can be opened again, and has to be closed in the end."""

    @abstractmethod
    async def close(self) -> None:
        """Close it. Replies that are still due are dropped."""

    @abstractmethod
    async def write(self, commands: Sequence[Sequence[bytes]], within: float) -> list[Any]:
        """As `ask`, and wait for replicas. `is_copied` says whether one has on disk what was written."""

    @abstractmethod
    def _send(self, commands: Sequence[Sequence[bytes]], within: float, waits: bool) -> Awaitable[list[Any]]:
        """The replies to some commands. A refusal is one of them. `waits`: for replicas, if it is shared."""

    async def run(
        self,
        script: Script,
        arguments: Sequence[bytes],
        within: float,
        *,
        waits: bool = False,
        follows: bool = True,
    ) -> Any:
        """The reply of a script. Its text is sent only if the server does not know it.

        `arguments` begin with the number of keys. `waits`: as `write` does. `follows`: as `ask` does. Raises
        the errors of `ask`.
        """
        until = monotonic() + within
        ask = self.write if waits else self.ask if follows else partial(self.ask, follows=False)
        try:
            (reply,) = await ask([(b"EVALSHA", script.sha, *arguments)], within)
            return reply
        except RefusedError as error:
            if error.kind != "NOSCRIPT":
                raise
        (reply,) = await ask([(b"EVAL", script.text, *arguments)], until - monotonic())
        return reply

    async def ask(
        self,
        commands: Sequence[Sequence[bytes]],
        within: float,
        *,
        waits: bool = False,
        follows: bool = True,
    ) -> list[Any]:
        """The replies to some commands, which go in one write.

        If the partition has moved to another server, they go there, all of them: so a command must be one
        that may be repeated. If not `follows`, that is a refusal.

        Raises:
            RefusedError: the server refused one of them.
            ConnectionError: the connection was closed before the last reply.
            TimeoutError: the last reply did not come within so many seconds.
        """
        until = monotonic() + within
        replies = await self._send(commands, within, waits)
        for reply in replies:
            if isinstance(reply, RefusedError):
                if reply.kind != "MOVED" or not follows:
                    raise reply
                return await self._ask_there(commands, until, waits)
        return replies

    async def _ask_there(self, commands: Sequence[Sequence[bytes]], until: float, waits: bool) -> list[Any]:
        """The replies of the server that has the partition now. It may say that it has not, too."""
        async with asyncio.timeout(until - monotonic()):
            await self.open()
        replies = await self._send(commands, until - monotonic(), waits)
        for reply in replies:
            if isinstance(reply, RefusedError):
                raise reply
        return replies


class Connection(PartitionConnection):
    """A connection of its own."""

    def __init__(self, homes: Homes, partition: int, server: Server | None = None) -> None:
        """`server`: the one that it always leads to. Else each opening asks `homes`."""
        super().__init__()
        pool = homes.pool_at(server, protocol=2) if server else homes.pool(partition, protocol=2)
        self._made: Any = pool.make_connection()
        self._replies: _Replies | None = None
        self._replicas = Replicas()

    @property
    def is_open(self) -> bool:
        return self._replies is not None and not self._replies.is_lost

    async def open(self) -> None:
        await self.close()  # redis-py does not know that the last connection has ended
        await self._made.connect()
        self._transport: asyncio.Transport = self._made._writer.transport
        self._replies = _Replies(self._transport.get_protocol())
        self._transport.set_protocol(self._replies)
        self.openings += 1
        transport = self._transport
        self.ends = transport.get_extra_info("sockname"), transport.get_extra_info("peername")

    async def write(self, commands: Sequence[Sequence[bytes]], within: float) -> list[Any]:
        replicas = self._replicas
        if replicas.is_look_due:
            await self._look_at_replicas(within)
        answers = await self.ask([*commands, *replicas.waits(within)], within + LATE_SECONDS)
        replicas.note(*answers[len(commands) :])
        self.is_copied = replicas.have_it
        return answers[: len(commands)]

    async def _look_at_replicas(self, within: float) -> None:
        try:
            (info,) = await self.ask([LOOK], within)
            self._replicas.look_at(info)
        except RefusedError:
            self._replicas.never_look()

    def send(self, commands: Sequence[Sequence[bytes]], within: float) -> asyncio.Future[list[Any]]:
        """The replies to some commands, which go at once. A refusal is one of them."""
        assert self._replies is not None
        waiting = self._replies.wait_for(len(commands), within)
        self._transport.write(b"".join([pack(words) for words in commands]))
        return waiting

    def _send(self, commands: Sequence[Sequence[bytes]], within: float, waits: bool) -> Awaitable[list[Any]]:
        return self.send(commands, within)

    def drop(self) -> None:
        if self._replies is not None:
            self._replies = None
            self._transport.abort()

    async def close(self) -> None:
        self._replies = None
        await self._made.disconnect(nowait=True)


class _Replies(asyncio.Protocol):
    """Replaces redis-py's reader."""

    def __init__(self, former: asyncio.BaseProtocol) -> None:
        self._former = former  # it needs connection_lost
        self._reader = hiredis.Reader(replyError=RefusedError)
        self._waiting: asyncio.Future[list[Any]] | None = None
        self._missing = 0
        self._replies: list[Any] = []
        self.is_lost = False

    def wait_for(self, number: int, within: float) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        self._missing, self._replies = number, []
        if self.is_lost:
            self._fail(waiting, ConnectionError("the connection was closed"))
        # A busy loop runs the timer before it reads replies that have come in time: hence call_soon, twice.
        late = loop.call_later(within, loop.call_soon, loop.call_soon, self._fail, waiting, TimeoutError())
        waiting.add_done_callback(lambda _: late.cancel())
        return waiting

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._missing and (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
            self._missing -= 1
            if not self._missing and self._waiting and not self._waiting.done():
                self._waiting.set_result(self._replies)

    def _fail(self, waiting: asyncio.Future[list[Any]], error: Exception) -> None:
        if not waiting.done():
            waiting.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._waiting:
            self._fail(self._waiting, ConnectionError("the connection was closed"))
        self._former.connection_lost(exc)
