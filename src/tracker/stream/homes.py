"""Which server has a partition: the primary of a cluster or of sentinels, or the one server there is.

A connection asks as it opens, and nothing is remembered for it. So a failover, and a slot that has moved,
need no more than a new connection.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import ConnectionError as UnreachableError
from redis.exceptions import RedisError

from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys

_ANSWER_SECONDS = 1.0  # of one node, when it is asked who has a partition
_UNKNOWN_HOSTS = (None, b"", b"?")  # a node that was asked at the address that counts for it


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Server(NamedTuple):
    """A server of the stream. It has its primary's slots."""

    address: Address | None  # None: the one of the URL
    node: str = ""  # its id in a cluster
    primary: str = ""  # of a replica in a cluster: its primary's id
    is_replica: bool = False
    partitions: tuple[int, ...] = ()  # of a primary: those that it has, of all that there may be


SLOTS = [int(key_slot(keys.clicks(partition))) for partition in range(MAX_PARTITIONS)]
"""The slot of each partition's keys in a cluster."""


class Homes:
    """Where the partitions are: at the one server of a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def pool(self, partition: int, kind: Any = redis.asyncio.ConnectionPool, **options: Any) -> Any:
        """Makes connections to the server that has a partition. Any: redis-py has no types here."""
        return kind.from_url(self._url, **options)

    def pool_at(self, server: Server, **options: Any) -> Any:
        """Makes connections to one server."""
        return self.pool(0, **options)

    async def servers(self) -> list[Server]:
        """All servers, primaries first.

        Raises:
            ConnectionError of redis: nobody says which they are.
        """
        return [Server(None, partitions=tuple(range(MAX_PARTITIONS)))]

    async def server(self, partition: int) -> Server | None:
        """The server that has a partition now. None: one server has all, and each opening finds it.

        Raises:
            ConnectionError of redis: nobody says which.
        """
        return None

    async def learn(self) -> None:
        """Ask which partitions live together, if that is not known."""

    def lead(self, partition: int) -> int:
        """The first of the partitions that are known to be on the same server."""
        return 0


@cache
def homes_of(url: str) -> Homes:
    """The homes of a URL. All callers of a process share what is known of them."""
    kind = urlsplit(url).scheme.partition("+")[2]
    return {"": Homes, "sentinel": BehindSentinels, "cluster": InCluster}[kind](url)


class _Asked(Homes, ABC):
    """Some nodes know. Those of the URL are asked, in any order, until one answers."""

    _default_port = 6379

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        scheme, (account, at, hosts) = parts.scheme.partition("+")[0], parts.netloc.rpartition("@")
        options: dict[str, Any] = {**parse_url(f"{scheme}://{account}{at}?{parts.query}")}
        self._is_encrypted = options.pop("connection_class", None) is not None
        self._options = options
        self._nodes_options = self._options_of_nodes()
        self._name = parts.path.strip("/")
        self._nodes = self._named = [self._address(host) for host in hosts.split(",")]
        self._asking: asyncio.Task[tuple[str, Any]] | None = None

    def _options_of_nodes(self) -> dict[str, Any]:
        """The options of connections to the nodes that are asked."""
        return self._options | {"protocol": 2}

    def _address(self, host: str) -> Address:
        parts = urlsplit(f"//{host}")
        return Address(parts.hostname or "", parts.port or self._default_port)

    @abstractmethod
    async def address(self, partition: int) -> Address:
        """The server that has a partition now.

        Raises:
            ConnectionError of redis: nobody says which.
        """

    @abstractmethod
    async def check(self, connection: Any) -> None:
        """Refuse a server that a new connection should not have met.

        Raises:
            ConnectionError of redis: it is not the primary.
        """

    def pool(self, partition: int, kind: Any = redis.asyncio.ConnectionPool, **options: Any) -> Any:
        options |= self._options | {"homes": self, "partition": partition}
        return kind(connection_class=_EncryptedAtHome if self._is_encrypted else _AtHome, **options)

    def pool_at(self, server: Server, **options: Any) -> Any:
        assert server.address
        options |= self._options | server.address._asdict()
        return redis.asyncio.ConnectionPool(connection_class=self._plain, **options)

    @property
    def _plain(self) -> Any:
        return redis.asyncio.SSLConnection if self._is_encrypted else redis.asyncio.Connection

    async def _ask(self, *words: str) -> tuple[str, Any]:
        """The host of a node and its answer. Callers of one moment share one question."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_one(*words), name="homes")
            self._asking.add_done_callback(_look_at)
        return await asyncio.shield(self._asking)

    async def _ask_one(self, *words: str) -> tuple[str, Any]:
        failures = []
        for host, port in random.sample(self._nodes, len(self._nodes)):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if answer := await self._answer(Address(host, port), *words):
                        return host, answer
                failures.append(f"{host}:{port} knows no {self._name!r}")
            except (RedisError, OSError) as error:
                failures.append(str(error) or f"{host}:{port} does not answer")
        raise UnreachableError("; ".join(failures))

    async def _answer(self, node: Address, *words: str) -> Any:
        connection = self._plain(**node._asdict(), **self._nodes_options)
        try:
            await connection.connect()
            await connection.send_command(*words)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Everybody may have stopped waiting for it."""
    if not task.cancelled():
        task.exception()


class BehindSentinels(_Asked):
    """One server has all partitions, and sentinels know which."""

    _default_port = 26379

    def _options_of_nodes(self) -> dict[str, Any]:
        """Sentinels have no databases, and an account of their own: ?sentinel_username and _password."""
        shared = super()._options_of_nodes()
        for name in ("username", "password", "db"):
            shared.pop(name, None)
            shared.pop(f"sentinel_{name}", None)
            if own := self._options.pop(f"sentinel_{name}", None):
                shared[name] = own
        return shared

    async def address(self, partition: int) -> Address:
        _, (host, port) = await self._ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        return Address(host.decode(), int(port))

    async def check(self, connection: Any) -> None:
        """Sentinels that were cut off name the former primary, which would answer reads from the past."""
        await connection.send_command("ROLE")
        role, *_ = await connection.read_response(disable_decoding=True)
        if role != b"master":
            where = Address(connection.host, connection.port)
            raise UnreachableError(f"{where} is no primary, though a sentinel says so")

    async def servers(self) -> list[Server]:
        primary = Server(await self.address(0), partitions=tuple(range(MAX_PARTITIONS)))
        _, replicas = await self._ask_one("SENTINEL", "REPLICAS", self._name)
        return [primary, *(self._replica(facts) for facts in replicas)]

    def _replica(self, facts: list[bytes]) -> Server:
        named = dict(zip(facts[::2], facts[1::2], strict=True))
        return Server(Address(named[b"ip"].decode(), int(named[b"port"])), is_replica=True)


class InCluster(_Asked):
    """Each primary of a cluster has some of the partitions."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._name = "slots"  # of a node that has just started
        self._leads: Mapping[int, int] = {}

    async def learn(self) -> None:
        if not self._leads:
            await self.servers()

    def lead(self, partition: int) -> int:
        return self._leads.get(partition, partition)

    async def address(self, partition: int) -> Address:
        server = await self.server(partition)
        assert server.address
        return server.address

    async def server(self, partition: int) -> Server:
        for server in await self.servers():
            if partition in server.partitions:
                return server
        raise UnreachableError(f"no server of the cluster has slot {SLOTS[partition]}")

    async def check(self, connection: Any) -> None:
        """A server without a partition says so itself, to each command."""

    async def servers(self) -> list[Server]:
        host, slots = await self._ask("CLUSTER", "SLOTS")
        found: dict[str, Server] = {}
        for first, last, *nodes in slots:
            primary = nodes[0][2].decode()
            here = tuple(partition for partition, slot in enumerate(SLOTS) if first <= slot <= last)
            for node in nodes:
                server = _node(host, node, primary)
                before = found.get(server.node, server).partitions
                found[server.node] = server._replace(partitions=() if server.is_replica else before + here)
        servers = sorted(found.values(), key=lambda server: (server.is_replica, server.address))
        self._note(servers)
        return servers

    def _note(self, servers: list[Server]) -> None:
        """Remember which partitions live together, and ask these servers too from now on."""
        self._leads = {n: min(server.partitions) for server in servers for n in server.partitions}
        there = [server.address for server in servers if server.address]
        self._nodes = list(dict.fromkeys((*self._named, *there)))


def _node(asked: str, node: list[Any], primary: str) -> Server:
    host, port, id_, *_ = node
    address = Address(asked if host in _UNKNOWN_HOSTS else host.decode(), int(port))
    return Server(address, id_.decode(), primary, is_replica=id_.decode() != primary)


class _AtHome(redis.asyncio.Connection):
    """A connection to the server that has a partition at the moment when it opens."""

    def __init__(self, *, homes: _Asked, partition: int, **options: Any) -> None:
        super().__init__(**options)
        self._homes = homes
        self._partition = partition

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self.host, self.port = await self._homes.address(self._partition)
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        await self._homes.check(self)


class _EncryptedAtHome(_AtHome, redis.asyncio.SSLConnection):
    pass
