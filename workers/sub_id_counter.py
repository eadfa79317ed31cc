"""Makes the pieces that reports by sub id read, of finished hours and days, the newest first.

All workers may do it. One makes pieces at a time. A killed one leaves what it has made, and the next goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, date, datetime, timedelta
from time import monotonic

from tracker.settings import Settings
from tracker.store import db
from tracker.store.reports import sub_id_pieces as pieces
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
_RETRY_SECONDS = 10.0
_LONGEST_PAUSE = 10.0
_CHECKING_SECONDS = 1.0
"""How long a round looks at older days that need nothing. It goes on from there in the next round."""


async def run(settings: Settings) -> None:
    """Make pieces until cancelled. An outage only delays it: reports read clicks where pieces are missing."""
    assert settings.postgres_dsn
    dsn = settings.postgres_dsn
    older: deque[date] = deque()

    async def work() -> None:
        while True:
            await once(dsn, older)
            await asyncio.sleep(EVERY_SECONDS)

    # A fault does not end the writers of the same worker.
    await Retry(logger, "sub ids", pause=_RETRY_SECONDS, fault="sub ids cannot be counted").run(work)


async def once(dsn: str, older: deque[date]) -> None:
    """One round: today and yesterday, then `older` days for a minute. Their list is filled again if empty."""
    connection = await db.connect(dsn)
    try:
        await pieces.begin(connection)
        today = datetime.now(UTC).date()
        recent = (today, today - timedelta(days=1))
        for day in recent:
            if await _make(connection, day) is None:
                return
        await pieces.note_round(connection)
        older.extend([] if older else [day for day in await pieces.days(connection) if day not in recent])
        await _make_older(connection, older)
    finally:
        connection.terminate()  # not a close, which would wait for a server that may be frozen


async def _make_older(connection: db.Connection, older: deque[date]) -> None:
    begun, checking = monotonic(), 0.0
    while older and monotonic() - begun < EVERY_SECONDS and checking < _CHECKING_SECONDS:
        day_begun = monotonic()
        made = await _make(connection, older[0])
        if made is None:
            return
        older.popleft()
        checking += 0 if made else monotonic() - day_begun


async def _make(connection: db.Connection, day: date) -> int | None:
    """Make the pieces of a day that are due, and return how many. None while another process makes pieces."""
    async with pieces.turn(connection) as is_ours:
        if not is_ours:
            return None
        await pieces.forget_changed(connection)
        due = await pieces.due(connection, day)
        for piece in due:
            begun = monotonic()
            await pieces.make(connection, piece)
            # At most half of a core, because writers come first.
            await asyncio.sleep(min(monotonic() - begun, _LONGEST_PAUSE))
    return len(due)
