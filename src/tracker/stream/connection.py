"""A connection on which every click is asked for, by edges and writers: so with little in between.

redis-py makes it, for it knows addresses, TLS and authentication. Then its streams, locks and timeouts step
aside: they made a call cost twice as much. hiredis packs the commands and reads the replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from time import monotonic
from typing import Any

import hiredis
import redis.asyncio


class RefusedError(Exception):
    """What the server says instead of a reply; the first word is what kind of error it is."""

    @property
    def kind(self) -> str:
        return str(self).partition(" ")[0]


Argument = bytes | int
"""Of a command."""


class Script:
    """A script, by the name that the server knows it by once it has seen it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.sha = sha1(text, usedforsecurity=False).hexdigest().encode()


class Connection:
    """Asks, and awaits the replies; never two of these at once."""

    def __init__(self, url: str) -> None:
        # Any: what redis-py makes here has no types.
        self._made: Any = redis.asyncio.ConnectionPool.from_url(url, protocol=2).make_connection()  # type: ignore[no-untyped-call]
        self._replies: _Replies | None = None

    @property
    def is_open(self) -> bool:
        return self._replies is not None and not self._replies.is_lost

    async def open(self) -> None:
        await self.close()  # redis-py has not heard of the end of the last one
        await self._made.connect()
        self._transport: asyncio.Transport = self._made._writer.transport
        self._replies = _Replies(self._transport.get_protocol())
        self._transport.set_protocol(self._replies)

    async def run(self, script: Script, arguments: Sequence[Argument], within: float) -> Any:
        """The reply to a script, of which the server is told the text where it does not know it.

        `arguments` begin with the number of keys. Raises what `ask` raises.
        """
        until = monotonic() + within
        try:
            (reply,) = await self.ask([(b"EVALSHA", script.sha, *arguments)], within)
        except RefusedError as error:
            if error.kind != "NOSCRIPT":
                raise
            (reply,) = await self.ask([(b"EVAL", script.text, *arguments)], until - monotonic())
        return reply

    async def ask(self, commands: Sequence[Sequence[Argument]], within: float) -> list[Any]:
        """The replies to some commands, which go in one write.

        Raises:
            RefusedError: one of them was refused.
            ConnectionError: the connection was closed before all had been replied to.
            TimeoutError: not all were replied to within so many seconds.
        """
        assert self._replies is not None
        waiting = self._replies.wait_for(len(commands), within)
        self._transport.write(b"".join([hiredis.pack_command(tuple(words)) for words in commands]))  # type: ignore[arg-type]
        replies = await waiting
        for reply in replies:
            if isinstance(reply, RefusedError):
                raise reply
        return replies

    async def close(self) -> None:
        """Whatever is still to be replied on it is nobody's."""
        self._replies = None
        await self._made.disconnect(nowait=True)


class _Replies(asyncio.Protocol):
    """Takes the place of redis-py's reader."""

    def __init__(self, former: asyncio.BaseProtocol) -> None:
        self._former = former  # it wants to hear of the end
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
        # A loop that was held up sees that time is up before it sees what has come meanwhile: hence twice.
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
