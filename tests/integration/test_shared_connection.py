"""Partitions that share a connection: one write, one wait, and each call's own reply or error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import hiredis
import pytest

from tests.factories.clicks import outcomes_of
from tests.integration.stream_client import NOON, SECOND, click_at
from tracker.stream.appender import Appender, AppendError, Lane, Receipt
from tracker.stream.record import encode
from tracker.stream.shared_connection import SharedConnections

pytestmark = pytest.mark.anyio

_ENTRY = encode(click_at(NOON), outcomes_of(click_at(NOON)))
_SILENCE = b""
_PARTITIONS = 4

_Reply = Callable[[list[bytes]], bytes]


def receipt(partition: int) -> bytes:
    """The script's reply to one click. The clock of the server is the partition's number, to know it by."""
    return b"$23\r\n" + partition.to_bytes(6, "big") + b"0" + bytes(16) + b"\r\n"


def partition_of(command: list[bytes]) -> int:
    return int(command[3].partition(b"{")[2].partition(b"}")[0])


def ordinary(command: list[bytes]) -> bytes:
    match command[0]:
        case b"EVALSHA":
            return receipt(partition_of(command))
        case b"INFO":
            return b"$0\r\n\r\n"
        case b"WAIT":
            return b":1\r\n"
        case b"WAITAOF":
            return b"*2\r\n:1\r\n:1\r\n"
        case _:
            return b"+OK\r\n"


class FakeServer:
    """Answers as a function says. A real server cannot be made to give all these answers."""

    def __init__(self) -> None:
        self.reply: _Reply = ordinary
        self.writes: list[list[bytes]] = []
        """The names of the commands that came together."""
        self.openings = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.openings += 1
        self._writers.append(writer)
        parser = hiredis.Reader()
        while data := await reader.read(1 << 20):
            parser.feed(data)
            commands = list(iter(parser.gets, False))
            self.writes.append([command[0] for command in commands])
            writer.write(b"".join([self.reply(command) for command in commands]))
        writer.close()

    def say(self, replies: bytes) -> None:
        self._writers[-1].write(replies)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def has_appended(self) -> None:
        """Wait until a call of the script has come."""
        async with asyncio.timeout(10 * SECOND):
            while not self.appended:
                await asyncio.sleep(0)

    @property
    def appended(self) -> list[list[bytes]]:
        return [names for names in self.writes if b"EVALSHA" in names]


class Partitions:
    """Appenders of some partitions of one edge."""

    def __init__(self, url: str, copies: int) -> None:
        self.url = url
        self._connections = SharedConnections(url)
        self.appenders = [
            Appender(url, number, copies=copies, connections=self._connections)
            for number in range(_PARTITIONS)
        ]
        self._lanes = [Lane() for _ in self.appenders]

    async def append(self, number: int, within: float = SECOND, **options: bool) -> Receipt:
        return await self.appenders[number].append(self._lanes[number], [_ENTRY], within, **options)

    async def append_to_all(self) -> list[Receipt | BaseException]:
        calls = [self.append(number) for number in range(_PARTITIONS)]
        return await asyncio.gather(*calls, return_exceptions=True)

    async def close(self) -> None:
        for appender in self.appenders:
            await appender.close()
        await self._connections.close()


@asynccontextmanager
async def partitions(path: Path, copies: int = 1) -> AsyncIterator[tuple[FakeServer, Partitions]]:
    fake = FakeServer()
    async with await asyncio.start_unix_server(fake.serve, path / "socket"):
        several = Partitions(f"unix://{path}/socket", copies)
        try:
            yield fake, several
        finally:
            await several.close()
            fake.hang_up()


def numbers(results: list[Receipt | BaseException]) -> list[int]:
    return [result.millis if isinstance(result, Receipt) else -1 for result in results]


@pytest.mark.parametrize(
    ("copies", "waits"), [(1, []), (2, [b"WAIT", b"WAITAOF", b"INFO"])], ids=["one copy", "two copies"]
)
async def test_calls_of_one_moment_share_a_write_and_a_wait(
    tmp_path: Path, copies: int, waits: list[bytes]
) -> None:
    async with partitions(tmp_path, copies) as (fake, several):
        await several.append_to_all()
        fake.writes.clear()
        results = await several.append_to_all()
    assert numbers(results) == list(range(_PARTITIONS))
    (names,) = fake.appended
    assert names[:_PARTITIONS] == [b"EVALSHA"] * _PARTITIONS
    assert [name for name in names[_PARTITIONS:] if name != b"INFO"] == waits[:2]
    assert fake.openings == 1


async def test_calls_gather_while_a_write_is_under_way(tmp_path: Path) -> None:
    async with partitions(tmp_path) as (fake, several):
        await several.append_to_all()
        fake.writes.clear()
        first = asyncio.create_task(several.append(0))
        await fake.has_appended()
        others = [asyncio.create_task(several.append(number)) for number in (1, 2, 3)]
        results = await asyncio.gather(first, *others)
    assert [result.millis for result in results] == [0, 1, 2, 3]
    assert [len(names) for names in fake.appended] == [1, 3]


async def test_refusal_fails_its_own_call_only(tmp_path: Path) -> None:
    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA" and partition_of(command) == 2:
            return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        return ordinary(command)

    async with partitions(tmp_path) as (fake, several):
        fake.reply = reply
        results = await several.append_to_all()
        assert numbers(results) == [0, 1, -1, 3]
        assert isinstance(results[2], AppendError)
        assert results[2].is_certain
        fake.reply = ordinary
        assert numbers(await several.append_to_all()) == [0, 1, 2, 3]
    assert fake.openings == 1


async def test_refused_wait_fails_the_calls_that_wait(tmp_path: Path) -> None:
    def reply(command: list[bytes]) -> bytes:
        return b"-ERR no replicas here\r\n" if command[0] == b"WAIT" else ordinary(command)

    async with partitions(tmp_path, copies=2) as (fake, several):
        await several.append_to_all()
        fake.reply = reply
        waiting = asyncio.create_task(several.append(0))
        alone = asyncio.create_task(several.append(1, is_alone=True))
        results = await asyncio.gather(waiting, alone, return_exceptions=True)
    assert numbers(results) == [-1, 1]
    assert isinstance(results[0], AppendError)
    assert not results[0].is_certain


async def test_late_reply_is_not_taken_for_another_calls(tmp_path: Path) -> None:
    held: list[bytes] = []

    def hold(command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA":
            held.append(receipt(partition_of(command)))
            return _SILENCE
        return ordinary(command)

    async with partitions(tmp_path) as (fake, several):
        await several.append_to_all()
        fake.reply = hold
        impatient = asyncio.create_task(several.append(0, within=0.1))
        patient = asyncio.create_task(several.append(1, within=10 * SECOND))
        with pytest.raises(AppendError) as caught:
            await impatient
        assert not caught.value.is_certain
        fake.reply = ordinary
        fake.say(b"".join(held))
        assert (await patient).millis == 1
        assert (await several.append(0)).millis == 0
    assert fake.openings == 1


@pytest.mark.parametrize("breaks", ["silence", "hang up"])
async def test_write_that_fails_leaves_all_of_its_calls_uncertain(tmp_path: Path, breaks: str) -> None:
    async with partitions(tmp_path) as (fake, several):
        await several.append_to_all()
        fake.reply = lambda command: _SILENCE if command[0] == b"EVALSHA" else ordinary(command)
        fake.writes.clear()
        calls = [asyncio.create_task(several.append(number, within=0.2)) for number in range(_PARTITIONS)]
        if breaks == "hang up":
            await fake.has_appended()
            fake.hang_up()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, AppendError) and result.is_certain for result in results] == [False] * 4
        fake.reply = ordinary
        assert numbers(await several.append_to_all()) == [0, 1, 2, 3]
    assert fake.openings == 2


async def test_call_alone_goes_over_the_connection_it_knows_or_not_at_all(tmp_path: Path) -> None:
    async with partitions(tmp_path, copies=2) as (fake, several):
        await several.append_to_all()
        fake.hang_up()
        await until_open_again(fake, several)
        fake.writes.clear()
        with pytest.raises(AppendError, match="was closed") as caught:
            await several.append(1, is_alone=True)
        assert caught.value.is_certain
        assert fake.appended == []
        assert (await several.append(0, is_alone=True)).millis == 0


async def until_open_again(fake: FakeServer, several: Partitions) -> None:
    """Append to partition 0 until the connection has been opened again."""
    async with asyncio.timeout(10 * SECOND):
        while fake.openings < 2:
            try:
                await several.append(0)
            except AppendError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_shared", [True, False])
async def test_call_alone_does_not_follow_its_partition(tmp_path: Path, is_shared: bool) -> None:
    """The server that has it now may lack the lane's calls that no replica had. They are in the spool."""

    def moved(command: list[bytes]) -> bytes:
        return b"-MOVED 3999 127.0.0.1:1\r\n" if command[0] == b"EVALSHA" else ordinary(command)

    async with partitions(tmp_path, copies=2) as (fake, several):
        appender = several.appenders[0] if is_shared else Appender(several.url, copies=2)
        lane = Lane()
        await appender.append(lane, [_ENTRY], SECOND)
        fake.reply = moved
        fake.writes.clear()
        with pytest.raises(AppendError) as caught:
            await appender.append(lane, [_ENTRY], SECOND, is_alone=True)
        assert caught.value.is_certain
        assert len(fake.appended) == 1
        await appender.close()


async def test_connection_that_is_being_opened_is_closed_too(tmp_path: Path) -> None:
    async with partitions(tmp_path) as (fake, several):
        shared = await SharedConnections(several.url).of(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await shared.open()
        await shared.close()
        assert not shared.connection.is_open
        assert fake.openings <= 1


async def test_call_meant_for_a_former_connection_is_not_sent(tmp_path: Path) -> None:
    async with partitions(tmp_path) as (fake, several):
        shared = await SharedConnections(several.url).of(0)
        await shared.open()
        call = shared.send([(b"PING",)], shared.connection.openings - 1, SECOND, waits=False)
        with pytest.raises(ConnectionError):
            await call.replies
        assert [b"PING"] not in fake.writes
        await shared.close()
