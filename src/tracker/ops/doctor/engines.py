"""Whether the stream server and PostgreSQL can be used, and in which versions."""

from __future__ import annotations

import re

from tracker.errors import CannotStartError
from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.servers import StreamResult, time_limit
from tracker.ops.doctor.settings import without_password
from tracker.processes.engines.engine import check_version
from tracker.settings import Settings
from tracker.store import db


async def check(settings: Settings, stream: StreamResult) -> list[Finding]:
    return [_stream(settings, stream), *_strays(settings, stream), await _postgres(settings)]


def _stream(settings: Settings, stream: StreamResult) -> Finding:
    assert settings.redis_url
    where = without_password(settings.redis_url)
    if isinstance(stream, Exception):
        return _unreachable("TRACKER_REDIS_URL", where, stream)
    oldest = min(stream.servers, key=lambda facts: [int(part) for part in re.findall(r"\d+", facts.version)])
    return _versioned("TRACKER_REDIS_URL", oldest.server, oldest.version, where)


def _strays(settings: Settings, stream: StreamResult) -> list[Finding]:
    """Clicks in partitions beyond TRACKER_PARTITIONS."""
    beyond = [] if isinstance(stream, Exception) else [n for n in stream.waiting if n >= settings.partitions]
    if not beyond:
        return []
    numbers = ", ".join(map(str, beyond))
    text = f"clicks wait in partition {numbers}, but TRACKER_PARTITIONS is {settings.partitions}"
    advice = "give all edges and workers the same number: workers also drain the partitions beyond it"
    return [Finding("engines", "warn", text, advice)]


async def _postgres(settings: Settings) -> Finding:
    assert settings.postgres_dsn
    where = without_password(settings.postgres_dsn)
    try:
        async with time_limit():
            version = await db.version(settings.postgres_dsn)
    except Exception as error:  # wrong passwords and missing databases are findings too
        return _unreachable("TRACKER_POSTGRES_DSN", where, error)
    return _versioned("TRACKER_POSTGRES_DSN", "postgresql", version, where)


def _unreachable(variable: str, where: str, error: Exception) -> Finding:
    advice = f"start it with `tracker up`, or set {variable} to a running server"
    why = "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return Finding("engines", "fail", f"{where} cannot be used: {why}", advice)


def _versioned(variable: str, server: str, version: str, where: str) -> Finding:
    try:
        check_version(variable, server, version)
    except CannotStartError as error:
        return Finding("engines", "fail", str(error), "upgrade it")
    return Finding("engines", "ok", f"{server} {version} at {where}")
