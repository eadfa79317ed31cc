"""Facts about stream servers: version, clock, replicas, and the settings behind their durability."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from tracker.stream import keys
from tracker.stream.client import OPTIONS
from tracker.stream.connection import Connection, RefusedError, is_elsewhere
from tracker.stream.copies import Replicas
from tracker.stream.homes import Server, homes_of

_PATIENCE_SECONDS = 4.0
_PROBES = 3  # a replica with appendfsync everysec may have one of them on disk in time
_OF_DURABILITY = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
_OF_NODES = ("cluster-require-full-coverage", "min-replicas-to-write")
_ATOMIC_SINCE = 9  # the first Valkey with CLUSTER MIGRATESLOTS


class InCluster(NamedTuple):
    """What a server of a cluster says about it."""

    moving: tuple[str, ...]  # slots that are moving the old way, by SETSLOT
    needs_all: bool  # it refuses all clicks while a slot has no primary
    moves_at_once: bool  # it has CLUSTER MIGRATESLOTS


class StreamFacts(NamedTuple):
    """A stream server as it describes itself."""

    server: str  # valkey or redis
    version: str
    durability: str  # always, everysec, no (left to the kernel), memory (without append-only file), unknown
    policy: str  # maxmemory-policy, or unknown
    maxmemory: int  # bytes. 0 = no limit
    ahead: float  # seconds that its clock is ahead of ours
    run_id: str  # new at each start
    place: Server
    least_replicas: int | None = None  # min-replicas-to-write. None: not asked, or hidden
    cluster: InCluster | None = None  # None: it belongs to no cluster


class Servers(NamedTuple):
    """All servers of a stream."""

    facts: list[StreamFacts]  # of primaries, then of replicas
    away: list[Server]  # replicas that do not answer


async def ask(url: str) -> StreamFacts:
    """Read the version of the one server or of the first primary, and the settings behind its durability.

    Raises:
        UNREACHABLE: it does not answer.
    """
    first, *_ = await homes_of(url).servers()
    return await _ask(url, first)


async def ask_all(url: str) -> Servers:
    """The same of every primary and every replica.

    Raises:
        UNREACHABLE: a primary does not answer.
    """
    found = Servers([], [])
    for server in await homes_of(url).servers():
        try:
            found.facts.append(await _ask(url, server))
        except (RedisError, OSError, TimeoutError):
            if not server.is_replica:
                raise
            found.away.append(server)
    return found


async def _ask(url: str, place: Server) -> StreamFacts:
    pool = homes_of(url).pool_at(place, **OPTIONS, decode_responses=True)
    client: Any = redis.asyncio.Redis.from_pool(pool)  # Any: see open_client
    async with client:
        server = await client.info("server")
        names = (*_OF_DURABILITY, *_OF_NODES) if place.address else _OF_DURABILITY
        try:
            config = await client.config_get(*names)
        except ResponseError:  # a hosted server may hide its settings
            config = {
                "appendonly": "yes",
                "appendfsync": "unknown",
                "maxmemory": 0,
                "maxmemory-policy": "unknown",
            }
        seconds, micros = await client.time()
        ahead = int(seconds) + int(micros) / 1_000_000 - time.time()
        nodes = await client.execute_command("CLUSTER", "NODES") if place.node else ""
    name = "valkey" if "valkey_version" in server else "redis"
    version = str(server.get("valkey_version", server["redis_version"]))
    return StreamFacts(
        server=name,
        version=version,
        durability=str(config["appendfsync"]) if config["appendonly"] == "yes" else "memory",
        policy=str(config["maxmemory-policy"]),
        maxmemory=int(config["maxmemory"]),
        ahead=ahead,
        run_id=str(server["run_id"]),
        place=place,
        least_replicas=None if (least := config.get("min-replicas-to-write")) is None else int(least),
        cluster=_in_cluster(nodes, config, name, version) if nodes else None,
    )


def _in_cluster(nodes: str, config: dict[str, Any], name: str, version: str) -> InCluster:
    """`nodes`: CLUSTER NODES. Only a server's own line has the slots that it moves, as [slot->-node]."""
    (own,) = (line for line in nodes.splitlines() if "myself" in line.split()[2])
    return InCluster(
        moving=tuple(word for word in own.split() if word.startswith("[")),
        needs_all=config.get("cluster-require-full-coverage") == "yes",
        moves_at_once=name == "valkey" and int(version.partition(".")[0]) >= _ATOMIC_SINCE,
    )


class ReplicaFacts(NamedTuple):
    """The replicas of a stream server, by some writes of now."""

    place: Server
    connected: int
    reached: int  # replicas that have each write in time
    on_disk: int  # replicas that have it on disk
    least: int  # min-replicas-to-write
    is_elsewhere: bool  # whether the server is on another machine than this process


async def ask_replicas(url: str, within: float) -> list[ReplicaFacts]:
    """Write to each primary what expires at once, and ask which replicas have it in the seconds of a call.

    Raises:
        UNREACHABLE: a primary does not answer, or refuses writes.
    """
    return [
        await _ask_replicas(url, within, server)
        for server in await homes_of(url).servers()
        if server.partitions
    ]


async def _ask_replicas(url: str, within: float, place: Server) -> ReplicaFacts:
    partition, *_ = place.partitions
    connection = Connection(homes_of(url), partition)
    try:
        await connection.open()
        (info,) = await connection.ask([(b"INFO", b"replication")], _PATIENCE_SECONDS)
        lines = dict(line.split(b":", 1) for line in info.split() if b":" in line)
        connected = int(lines.get(b"connected_slaves", 0))
        probe = (b"SET", keys.copies_probe(partition), b"", b"PX", b"1")
        probes = [probe, *Replicas(max(connected, 1)).waits(within)] * _PROBES
        replies = await connection.ask(probes, _PATIENCE_SECONDS)
        return ReplicaFacts(
            place,
            connected,
            reached=min(replies[1::3]),
            on_disk=min(on_disk for _, on_disk in replies[2::3]),
            least=await _least(connection),
            is_elsewhere=is_elsewhere(*connection.ends),
        )
    finally:
        await connection.close()


async def _least(connection: Connection) -> int:
    try:
        (reply,) = await connection.ask([(b"CONFIG", b"GET", b"min-replicas-to-write")], _PATIENCE_SECONDS)
    except RefusedError:  # a hosted server may hide its settings
        return 0
    return int(reply[1]) if reply else 0
