"""How a process shows its metrics: on a Unix socket in TRACKER_DATA_DIR/metrics.

A request is one line: a name and an optional argument. The response is its length in bytes, a newline and the
text, so a truncated response is recognised. The directory is 0700: other accounts cannot connect.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long a process may take to answer: half of the time that Prometheus gives a scrape by default."""

_BACKLOG = 64
_SUFFIX = ".sock"

Answers = Mapping[str, Callable[[str], Awaitable[str]]]
"""The function that answers a request with this argument or "". Unknown requests get an empty response."""


@asynccontextmanager
async def answering(data_dir: Path, name: str, answers: Answers) -> AsyncIterator[None]:
    """Answer as the process `name`, such as edge-0, until the context ends.

    A failure of metrics never prevents the start: if the socket cannot be made, the log says so.
    """
    directory = _directory(data_dir)
    listening = _try_to_listen(directory, name)
    if listening is None:
        yield
        return
    inode = _inode(directory, name)
    server = await asyncio.start_unix_server(lambda *streams: _answer(answers, *streams), sock=listening)
    try:
        yield
    finally:
        server.close()
        if _inode(directory, name) == inode:  # otherwise a successor has taken the name
            (directory / f"{name}{_SUFFIX}").unlink(missing_ok=True)


async def ask(data_dir: Path, names: str, question: str) -> dict[str, str | None]:
    """The response of each running process whose name matches `names`, such as edge-*, in order of names.

    None means that a process listens but does not answer in full within ANSWER_SECONDS. The socket of a
    killed process is skipped.
    """
    directory = _directory(data_dir)
    answers: dict[str, str | None] = {}

    async def hear(name: str) -> None:
        try:
            answers[name] = await _ask(directory, name, question)
        except (ConnectionRefusedError, FileNotFoundError):  # the process was killed, or has just ended
            pass
        except (OSError, EOFError, ValueError):
            answers[name] = None

    found = [path.name.removesuffix(_SUFFIX) for path in directory.glob(f"{names}{_SUFFIX}")]
    await asyncio.gather(*map(hear, found))
    return dict(sorted(answers.items()))


async def _ask(directory: Path, name: str, question: str) -> str:
    async with asyncio.timeout(ANSWER_SECONDS):
        with _short(directory) as short:
            reader, writer = await asyncio.open_unix_connection(f"{short}/{name}{_SUFFIX}")
        try:
            writer.write(f"{question}\n".encode())
            size = int(await reader.readline())
            return (await reader.readexactly(size)).decode()
        finally:
            writer.close()


async def _answer(answers: Answers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            async with asyncio.timeout(ANSWER_SECONDS):
                name, _, argument = (await reader.readline()).decode().rstrip("\n").partition(" ")
                text = (await answers[name](argument)).encode() if name in answers else b""
                writer.write(b"%d\n%b" % (len(text), text))
                await writer.drain()
    finally:
        writer.close()


def _directory(data_dir: Path) -> Path:
    return data_dir.resolve() / "metrics"


def _try_to_listen(directory: Path, name: str) -> socket.socket | None:
    listening = socket.socket(socket.AF_UNIX)
    listening.setblocking(False)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _bind(listening, directory, name)
    except OSError as error:
        listening.close()
        logger.warning(
            "this process is missing on /metrics: %(path)s: %(cause)s",
            {"event": "metrics_missing", "path": directory, "cause": error.strerror or error},
        )
        return None
    return listening


def _bind(listening: socket.socket, directory: Path, name: str) -> None:
    """Listen under another name first and rename it, because a killed owner may have left the name behind."""
    with _short(directory) as short:
        new = f"{short}/{name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(new)
        listening.bind(new)
        listening.listen(_BACKLOG)
        os.replace(new, f"{short}/{name}{_SUFFIX}")


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A short path of the directory, because a socket path has at most 107 bytes."""
    if sys.platform != "linux":
        yield str(directory)
        return
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _inode(directory: Path, name: str) -> int | None:
    try:
        return (directory / f"{name}{_SUFFIX}").stat().st_ino
    except OSError:
        return None
