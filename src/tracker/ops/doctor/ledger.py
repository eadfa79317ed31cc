"""Whether every click of the last day is accounted for, and counted."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tracker.ops import ledger
from tracker.ops.doctor.balance import findings_of
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import UNREACHABLE_STREAM, StreamResult, time_limit
from tracker.settings import Settings
from tracker.store import db
from tracker.store.adding_up import Waiting
from tracker.store.clicks import deltas
from tracker.store.reports import conversion_counts, sub_id_pieces

_LATE_SECONDS = 60
_SUB_IDS_LATE_SECONDS = 600


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Whether every click of the last day is accounted for, and which edges hold Complete-Until back."""
    now = int(time.time())
    try:
        async with time_limit():
            balance, complete_until = await ledger.ask(settings, ledger.minutes_between(now - 86_400, now))
            waiting, sub_ids_behind = await _uncounted_yet(settings)
    except (*UNREACHABLE_STREAM, *db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("ledger", error)]
    until = "" if complete_until is None else f", complete until {ledger.rfc3339(complete_until)}"
    fine = f"every minute of the last day balances: {ledger.totals(balance)['recorded']} clicks{until}"
    findings = [
        *findings_of(balance, now * 1000),
        *_not_added_up(waiting),
        *_sub_ids_not_counted(sub_ids_behind),
    ]
    return findings or [Finding("ledger", "ok", fine)]


async def _uncounted_yet(settings: Settings) -> tuple[dict[str, Waiting], float]:
    """The deltas that wait, by what they are of, and seconds since sub ids were last counted."""
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        waiting = {
            "clicks": await deltas.waiting(connection),
            "conversions": await conversion_counts.waiting(connection),
        }
        return waiting, await sub_id_pieces.behind(connection)
    finally:
        await connection.close()


def _not_added_up(waiting: Mapping[str, Waiting]) -> list[Finding]:
    """Counts are right all the same, but each read adds the deltas up again."""
    advice = (
        "does a worker run? Its log says what fails. Until they are added up, lists and reports get slower"
    )
    return [
        Finding(
            "ledger",
            "warn",
            f"deltas of {what} that wait to be added up: {rows}, for {seconds:.0f} s",
            advice,
        )
        for what, (rows, seconds) in waiting.items()
        if seconds > _LATE_SECONDS
    ]


def _sub_ids_not_counted(seconds: float) -> list[Finding]:
    """Reports are right all the same, but read clicks one by one."""
    text = f"clicks by sub id were last added up for reports {seconds:.0f} s ago"
    advice = "does a worker run? It looks every minute. Until then reports by sub id get slower"
    return [Finding("ledger", "warn", text, advice)] if seconds > _SUB_IDS_LATE_SECONDS else []
