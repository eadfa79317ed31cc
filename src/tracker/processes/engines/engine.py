"""The embedded engines: Valkey and PostgreSQL servers from wheels, as child processes.

Both listen on Unix sockets in a directory that depends only on the data directory, so every command with the
same data directory finds them. Engines of root run as a user of their own (see accounts.py).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from tracker.errors import CannotStartError
from tracker.processes.children import Account, Child
from tracker.processes.engines import accounts, cluster
from tracker.processes.engines.launcher import last_line
from tracker.settings import Settings

RESTORING = "restoring"
"""Where a restore is made in a data directory. While it exists, the data beside it may be incomplete."""

START_SECONDS = 60.0
"""How long an engine may take to answer anything. The replay of its log after a crash does not count."""
STOP_SECONDS = 60.0
"""How long an engine may take to shut down before it is killed.

It survives that as it survives a power cut.
"""

OLDEST = {"redis": (6, 2), "valkey": (8,), "postgresql": (15,)}
"""The first version of each server that a tracker works with."""

_LONGEST_SOCKET_DIR = 80  # bytes: the whole path of a socket must fit in 107
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Engine(Child):
    """A running server."""

    url: str


def resolve(settings: Settings) -> Settings:
    """Fill unset addresses with those of the embedded engines of this data directory.

    Raises:
        CannotStartError: another user owns the directory of their sockets.
    """
    if settings.redis_url is None or settings.postgres_dsn is None:
        _check_owner(settings.data_dir.resolve())
    return replace(
        settings,
        redis_url=settings.redis_url or redis_url(settings.data_dir),
        postgres_dsn=settings.postgres_dsn or postgres_dsn(settings.data_dir),
    )


def check_version(variable: str, server: str, version: str) -> None:
    """Refuse a server that is too old. `variable` is the setting that names it.

    Raises:
        CannotStartError: it is too old.
    """
    oldest = OLDEST[server]
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < oldest:
        wanted = ".".join(map(str, oldest))
        raise CannotStartError(
            f"{variable}: {server} {version} is too old: version {wanted} or later is needed"
        )


def socket_dir(data_dir: Path) -> Path:
    """The directory of the engines' sockets: in the data directory, or in /tmp if its path is long."""
    data_dir = data_dir.resolve()
    inside = data_dir / "run"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_DIR:
        return inside
    return Path("/tmp") / f"tracker-{sha256(os.fsencode(data_dir)).hexdigest()[:12]}"  # noqa: S108 - owner is checked


def redis_url(data_dir: Path) -> str:
    return f"unix://{quote(str(valkey_socket(data_dir)))}"


def postgres_dsn(data_dir: Path) -> str:
    return f"postgresql://{cluster.ROLE}@/tracker?host={quote(str(socket_dir(data_dir)), safe='')}"


def valkey_socket(data_dir: Path) -> Path:
    return socket_dir(data_dir) / "valkey.sock"


def own_sockets(data_dir: Path, account: Account | None) -> Path:
    """The engines' directory of sockets. Only the services, by its group, may enter it."""
    sockets = socket_dir(data_dir)
    with suppress(FileNotFoundError):
        if account is not None and sockets.lstat().st_uid not in (0, account.uid):
            shutil.rmtree(sockets)  # an earlier version's, or a stranger's in /tmp, with all contents
    return accounts.own(sockets, account, 0o700 if account is None else 0o750)


def _check_owner(data_dir: Path) -> None:
    """Refuse sockets in a directory that a stranger has made: everybody can write to /tmp."""
    sockets = socket_dir(data_dir)
    with suppress(FileNotFoundError):
        if sockets.lstat().st_uid not in accounts.owners(data_dir):
            raise CannotStartError(
                f"{sockets} is another user's: run as that user, or set TRACKER_DATA_DIR elsewhere"
            )


async def until_ready(engine: Engine, ask: Callable[[], Awaitable[bool | None]], log: Path) -> None:
    """Wait until `ask` returns True. Any other end of the wait also ends the engine.

    None means no answer, and is accepted for START_SECONDS. False means that it still loads, and is accepted
    for any time.
    """
    try:
        async with asyncio.timeout(START_SECONDS) as patience:
            while (heard := await ask()) is not True:
                if heard is False:
                    patience.reschedule(asyncio.get_running_loop().time() + START_SECONDS)
                if engine.process.returncode is not None:
                    raise CannotStartError(f"{engine.name} does not start: {last_line(log)} (see {log})")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        await engine.kill()
        raise CannotStartError(f"{engine.name} does not answer (see {log})") from None
    except BaseException:
        await engine.stop()
        raise
