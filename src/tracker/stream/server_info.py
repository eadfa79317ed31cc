"""What a stream server says of itself."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import ResponseError

from tracker.stream.client import open_client


class StreamFacts(NamedTuple):
    """What a stream server says of itself."""

    server: str  # valkey or redis
    version: str
    durability: str  # always, everysec, no (left to the kernel), memory (no append-only file) or unknown
    policy: str  # maxmemory-policy, or unknown
    maxmemory: int  # bytes; 0 = no limit
    millis: int  # its clock, Unix milliseconds
    run_id: str  # another at each of its starts


async def ask(url: str) -> StreamFacts:
    """Ask a server for its version and the settings that durability rests on.

    Raises:
        UNREACHABLE: it cannot be asked.
    """
    async with open_client(url, decode_responses=True) as client:
        server = await client.info("server")
        try:
            config = await client.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
        except ResponseError:  # a hosted server that keeps its settings to itself
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
