"""Facts about a stream server: version, clock, replicas, and the settings behind its durability."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import ResponseError

from tracker.stream import keys
from tracker.stream.client import open_client
from tracker.stream.connection import Connection, RefusedError, is_elsewhere
from tracker.stream.copies import Replicas

_PATIENCE_SECONDS = 4.0
_PROBES = 3  # a replica with appendfsync everysec may have one of them on disk in time


class StreamFacts(NamedTuple):
    """A stream server as it describes itself."""

    server: str  # valkey or redis
    version: str
    durability: str  # always, everysec, no (left to the kernel), memory (without append-only file), unknown
    policy: str  # maxmemory-policy, or unknown
    maxmemory: int  # bytes. 0 = no limit
    millis: int  # its clock, Unix milliseconds
    run_id: str  # new at each start


async def ask(url: str) -> StreamFacts:
    """Read a server's version and the settings behind its durability.

    Raises:
        UNREACHABLE: it does not answer.
    """
    async with open_client(url, decode_responses=True) as client:
        server = await client.info("server")
        try:
            config = await client.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
        except ResponseError:  # a hosted server may hide its settings
            config = {
                "appendonly": "yes",
                "appendfsync": "unknown",
                "maxmemory": 0,
                "maxmemory-policy": "unknown",
            }
        seconds, micros = await client.time()
    return StreamFacts(
        server="valkey" if "valkey_version" in server else "redis",
        version=str(server.get("valkey_version", server["redis_version"])),
        durability=str(config["appendfsync"]) if config["appendonly"] == "yes" else "memory",
        policy=str(config["maxmemory-policy"]),
        maxmemory=int(config["maxmemory"]),
        millis=int(seconds) * 1000 + int(micros) // 1000,
        run_id=str(server["run_id"]),
    )


class ReplicaFacts(NamedTuple):
    """The replicas of a stream server, by some writes of now."""

    connected: int
    reached: int  # replicas that have each write in time
    on_disk: int  # replicas that have it on disk
    least: int  # min-replicas-to-write
    is_elsewhere: bool  # whether the server is on another machine than this process


async def ask_replicas(url: str, within: float) -> ReplicaFacts:
    """Write what expires at once, and ask which replicas have it in the seconds that a call may take.

    Raises:
        UNREACHABLE: the server does not answer, or refuses writes.
    """
    connection = Connection(url)
    try:
        await connection.open()
        (info,) = await connection.ask([(b"INFO", b"replication")], _PATIENCE_SECONDS)
        lines = dict(line.split(b":", 1) for line in info.split() if b":" in line)
        connected = int(lines.get(b"connected_slaves", 0))
        probe = (b"SET", keys.COPIES_PROBE, b"", b"PX", b"1")
        probes = [probe, *Replicas(max(connected, 1)).waits(within)] * _PROBES
        replies = await connection.ask(probes, _PATIENCE_SECONDS)
        return ReplicaFacts(
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
