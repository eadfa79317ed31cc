"""Retention: what is kept of clicks, what would go, and what holds it back."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding, Level, cannot_read
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import db, retention
from tracker.store.clicks import kept
from tracker.store.db import Connection

_TOPIC = "retention"
_ADVICE = "tracker retention --dry-run looks at each day. See docs/operations/retention.md"


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """The days that are kept and held back."""
    try:
        async with connected(settings) as connection:
            return await _look(connection, settings.keep_days)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read(_TOPIC, error)]


async def _look(connection: Connection, keep_days: int) -> list[Finding]:
    first = await kept.first_day(connection)
    since = "all clicks are kept" if first is None else f"clicks from {first} on are kept one by one"
    if not keep_days:
        return [Finding(_TOPIC, "ok", f"{since}, and none is dropped (TRACKER_KEEP_DAYS)")]
    due = await retention.due(connection, retention.end_of(keep_days))
    waiting = sum(len(one.days) for one in due)
    text = f"{since}, {keep_days} days are wanted, and {waiting} older days are still there"
    found = [Finding(_TOPIC, "ok", text)]
    if held := await retention.held(connection):
        level: Level = "warn" if held.needs_operator else "ok"
        found.append(Finding(_TOPIC, level, f"{held.day} and later days stay: {held.why}", _ADVICE))
    return found
