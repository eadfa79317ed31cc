"""Facts about a stream server: version, clock, and the settings behind its durability."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import ResponseError

from tracker.stream.client import open_client


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
