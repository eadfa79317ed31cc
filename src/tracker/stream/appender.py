"""An edge's end of the stream: numbered calls of the script, each done once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from tracker.stream.record import ANSWER_BYTES, Answer, Entry, read_answer

LANE_SECONDS = 30 * 86400
"""How long a lane is remembered: longer than any spool may wait for the stream."""

_SCRIPT = files(__package__).joinpath("record_clicks.lua").read_bytes()
_SHA = sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()


class AppendError(Exception):
    """The stream did not take a batch, or did not say so in time; the message is the cause."""


class Receipt:
    """What the stream decided of a batch of clicks, in their order."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    @property
    def outcomes(self) -> list[int]:
        """The places of the outcomes in Outcomes."""
        return [digit - 0x30 for digit in self._packed[::ANSWER_BYTES]]

    @property
    def answers(self) -> list[Answer]:
        packed = self._packed
        return [read_answer(packed[at : at + ANSWER_BYTES]) for at in range(0, len(packed), ANSWER_BYTES)]


class Lane:
    """Numbered calls: one of unknown fate is repeated under its number, and is done once."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8).encode()
        self.sequence = 1

    def next(self) -> None:
        self.sequence += 1


_LOOK_ONLY = 0


class Appender:
    """Appends batches to one partition over one connection; never two calls at once."""

    def __init__(self, url: str, partition: int = 0) -> None:
        self._connection = redis.asyncio.ConnectionPool.from_url(url, protocol=2).make_connection()  # type: ignore[no-untyped-call]
        self._stream = b"clicks:{%d}" % partition
        self._lane = b"lane:{%d}:" % partition
        self._unique = b"unique:{%d}:" % partition
        self._cap = b"cap:{%d}:" % partition
        self._busy = asyncio.Lock()

    async def append(self, lane: Lane, entries: Sequence[Entry], within: float) -> Receipt:
        """Append a batch.

        Raises:
            AppendError: refused, or no answer within so many seconds. The fate is unknown: repeat the same
                batch under the same lane and sequence, or abandon the lane.
        """
        return await self._run(lane.id, lane.sequence, entries, within)

    async def look(self, entries: Sequence[Entry], within: float) -> Receipt:
        """Learn what would be decided of each of these clicks if it came alone now; nothing is written.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """
        return await self._run(b"", _LOOK_ONLY, entries, within)

    async def counts(self, names: Sequence[str], within: float) -> list[int]:
        """What the caps' counters of these names have counted; 0 for those that have not begun.

        Raises:
            AppendError: refused, or no answer within so many seconds.
        """
        if not names:
            return []
        async with self._connected(within):
            values = await self._call(b"MGET", *(self._cap + name.encode() for name in names))
            return [int(value or 0) for value in values]

    async def _run(self, lane: bytes, sequence: int, entries: Sequence[Entry], within: float) -> Receipt:
        arguments = [
            b"2",
            self._stream,
            self._lane + lane,
            b"%d" % sequence,
            b"%d" % LANE_SECONDS,
            self._unique,
            self._cap,
        ]
        for entry in entries:
            arguments += entry
        async with self._connected(within):
            try:
                reply = await self._call(b"EVALSHA", _SHA, *arguments)
            except NoScriptError:
                reply = await self._call(b"EVAL", _SCRIPT, *arguments)
            packed = reply[1]
            if len(packed) != ANSWER_BYTES * len(entries):
                raise RedisError(f"{len(entries)} clicks were answered with {len(packed)} bytes")
        return Receipt(packed)

    async def reach(self, within: float) -> None:
        """Connect where that has not been done, or has been undone.

        Raises:
            AppendError: the server cannot be reached.
        """
        async with self._connected(within):
            pass

    @asynccontextmanager
    async def _connected(self, within: float) -> AsyncIterator[None]:
        """The connection, to oneself; AppendError for all that goes wrong with it."""
        try:
            async with asyncio.timeout(within), self._busy:
                try:
                    if not self._connection.is_connected:
                        await self._connection.connect()
                    yield
                except BaseException:
                    # The reply still to come must not be taken for another call's.
                    await self._connection.disconnect(nowait=True)
                    raise
        except TimeoutError as error:
            raise AppendError("no answer in time") from error
        except (RedisError, OSError, RuntimeError) as error:  # RuntimeError: uvloop's, of a closed one
            raise AppendError(f"{type(error).__name__}: {error}") from error

    async def _call(self, *words: bytes) -> Any:
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]
        await self._connection.send_packed_command(packed, check_health=False)
        return await self._connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        await self._connection.disconnect()
