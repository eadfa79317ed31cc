from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tracker import metrics_socket
from tracker.metrics_socket import answering, ask

pytestmark = pytest.mark.anyio


async def echo(argument: str) -> str:
    return f"heard {argument}"


async def long(_: str) -> str:
    return "x" * 5_000_000


async def test_processes_answer_under_their_names(tmp_path: Path) -> None:
    async with (
        answering(tmp_path, "edge-1", {"say": echo}),
        answering(tmp_path, "edge-0", {"say": echo}),
        answering(tmp_path, "api-8001", {}),
    ):
        assert await ask(tmp_path, "edge-*", "say a b") == {"edge-0": "heard a b", "edge-1": "heard a b"}
        assert await ask(tmp_path, "*", "say") == {"api-8001": "", "edge-0": "heard ", "edge-1": "heard "}
    assert list((tmp_path / "metrics").iterdir()) == []
    assert await ask(tmp_path, "*", "say") == {}


async def test_long_answer_arrives_whole(tmp_path: Path) -> None:
    async with answering(tmp_path, "edge-0", {"long": long}):
        assert await ask(tmp_path, "*", "long") == {"edge-0": "x" * 5_000_000}


async def test_data_dir_may_have_any_length(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200) / ("e" * 200)
    async with answering(deep, "edge-0", {"say": echo}):
        assert await ask(deep, "*", "say") == {"edge-0": "heard "}


async def test_directory_is_closed_to_other_users(tmp_path: Path) -> None:
    async with answering(tmp_path, "edge-0", {}):
        assert stat.S_IMODE((tmp_path / "metrics").stat().st_mode) == 0o700


async def test_killed_process_is_not_shown_and_its_name_is_free(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "metrics" / "edge-0.sock"))
    assert await ask(tmp_path, "*", "say") == {}
    async with answering(tmp_path, "edge-0", {"say": echo}):
        assert await ask(tmp_path, "*", "say") == {"edge-0": "heard "}


async def test_successor_keeps_the_name_when_the_predecessor_ends(tmp_path: Path) -> None:
    async with answering(tmp_path, "edge-0", {}):
        successor = answering(tmp_path, "edge-0", {"say": echo})
        await successor.__aenter__()
    assert await ask(tmp_path, "*", "say") == {"edge-0": "heard "}
    await successor.__aexit__(None, None, None)


@asynccontextmanager
async def replying(data_dir: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A process that answers with these bytes and closes. None: it stays silent."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer or b"")
        if answer is None:
            await reader.read()  # until the other side gives up
        writer.close()

    (data_dir / "metrics").mkdir()
    server = await asyncio.start_unix_server(reply, data_dir / "metrics" / "edge-0.sock")
    yield
    server.close()


@pytest.mark.parametrize("answer", [None, b"", b"12\nhalf", b"many\nwords", b"-1\n", b"3\n\xff\xff\xff"])
async def test_process_without_a_whole_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(metrics_socket, "ANSWER_SECONDS", 0.2)
    async with replying(tmp_path, answer), answering(tmp_path, "edge-1", {"say": echo}):
        assert await ask(tmp_path, "*", "say") == {"edge-0": None, "edge-1": "heard "}


async def test_process_starts_where_no_socket_can_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").write_text("a file in its place")
    async with answering(tmp_path, "edge-0", {}):
        assert await ask(tmp_path, "*", "say") == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"this process is missing on /metrics: {tmp_path / 'metrics'}: File exists"
    ]


async def test_descriptors_are_closed(tmp_path: Path) -> None:
    async def ask_often() -> None:
        for _ in range(3):
            async with answering(tmp_path, "edge-0", {"say": echo}):
                await ask(tmp_path, "*", "say")

    await ask_often()
    before = len(os.listdir("/proc/self/fd"))
    await ask_often()
    assert len(os.listdir("/proc/self/fd")) == before
