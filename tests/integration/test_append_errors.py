"""Failed calls to a fake server, because a real one cannot give all these answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.factories.clicks import outcomes_of
from tests.integration.stream_client import NOON, SECOND, click_at
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.record import encode

pytestmark = pytest.mark.anyio

_ENTRY = encode(click_at(NOON), outcomes_of(click_at(NOON)))
_HANG_UP, _SILENCE = b"", b"silence"


@asynccontextmanager
async def server(path: Path, reply: bytes) -> AsyncIterator[str]:
    """Answers one call of the script with these bytes, then closes."""

    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"EVALSHA" not in (request := await reader.read(65536)) and request:
            writer.write(b"+OK\r\n" * request.count(b"CLIENT"))
            writer.write(b"$0\r\n\r\n" * request.count(b"\r\nINFO\r\n"))
        if reply != _HANG_UP:
            writer.write(b"" if reply == _SILENCE else reply)
            await reader.read()
        writer.close()
        await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_unix_server(begin, path):
        yield f"unix://{path}"
        await asyncio.gather(*serving)


@pytest.mark.parametrize(
    ("reply", "is_certain"),
    [
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", True),
        (b"-READONLY You can't write against a read only replica.\r\n", True),
        (b"-LOADING Redis is loading the dataset in memory\r\n", True),
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n", True),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", True),
        (b"-ASK 3999 127.0.0.1:6381\r\n", True),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", True),
        (b"-CLUSTERDOWN Hash slot not served\r\n", True),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL.\r\n", True),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", True),
        (b"-MISCONF Errors writing to the AOF file: No space left on device\r\n", True),
        (b"-NOAUTH Authentication required.\r\n", True),
        (b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n", True),
        (b"-STALE sequence 1\r\n", True),
        (b"-ERR user_script:1: attempt to index a nil value\r\n", False),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", False),
        (b"$6\r\n\0\0\0\0\0\1\r\n", False),  # an answer too few
        (_HANG_UP, False),
        (_SILENCE, False),
    ],
    ids=lambda value: value.decode().strip()[:24] if isinstance(value, bytes) else "",
)
async def test_failed_call_is_certain_or_uncertain(tmp_path: Path, reply: bytes, is_certain: bool) -> None:
    async with server(tmp_path / "socket", reply) as url:
        appender = Appender(url)
        with pytest.raises(AppendError) as caught:
            await appender.append(Lane(), [_ENTRY], SECOND / 4 if reply == _SILENCE else 30 * SECOND)
        await appender.close()
    assert caught.value.is_certain is is_certain


async def test_unsent_call_is_certainly_not_done(tmp_path: Path) -> None:
    appender = Appender(f"unix://{tmp_path}/nobody")
    with pytest.raises(AppendError) as caught:
        await appender.append(Lane(), [_ENTRY], SECOND)
    assert caught.value.is_certain
