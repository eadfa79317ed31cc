"""Whether every click of the last day is accounted for, and counted."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from tracker.ops import ledger
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import UNREACHABLE_STREAM, StreamResult, time_limit
from tracker.ops.ledger import Ledger, Minute
from tracker.settings import Settings
from tracker.store import db
from tracker.store.adding_up import Waiting
from tracker.store.clicks import deltas
from tracker.store.reports import conversion_counts, sub_id_pieces
from tracker.stream.ledger import Heartbeat

_LATE_MILLIS = 60_000
_LATE_SECONDS = 60
_SUB_IDS_LATE_SECONDS = 600
_MOST_MINUTES_NAMED = 5


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
        *(*_unbalanced(balance), *_dead(balance), *_uncounted(balance), *_sharing(balance, now * 1000)),
        *_holding_back(balance, now * 1000),
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


def _unbalanced(balance: Ledger) -> list[Finding]:
    advice = "keep the logs of edges and workers, and count the rows: tracker ledger --verify FROM TO"
    return [
        Finding("ledger", "fail", f"{_utc(minute)} does not balance: {ledger.amiss(minute)}", advice)
        for minute in balance.unbalanced[:_MOST_MINUTES_NAMED]
    ]


def _utc(minute: Minute) -> str:
    return f"{datetime.fromtimestamp(minute.number * 60, UTC):%Y-%m-%d %H:%M} UTC"


def _dead(balance: Ledger) -> list[Finding]:
    text = f"dead letters (clicks that cannot be stored): {balance.buried}"
    return [Finding("ledger", "warn", text, "see tracker dead-letters list")] if balance.buried else []


def _uncounted(balance: Ledger) -> list[Finding]:
    number = sum(minute.state is ledger.State.UNCOUNTED for minute in balance.minutes)
    text = f"minutes of the last day without counts on the stream server: {number}"
    advice = "was the server emptied or replaced? Its unstored clicks are lost"
    return [Finding("ledger", "warn", text, advice)] if number else []


def _sharing(balance: Ledger, now: int) -> list[Finding]:
    """Slots that several running edges share."""
    runs: defaultdict[str, set[str]] = defaultdict(set)
    for heartbeat in balance.heartbeats:
        if now - heartbeat.sent_at < ledger.ALIVE_MILLIS:
            runs[heartbeat.slot].add(heartbeat.run)
    advice = "start each edge with a --slot of its own, unique among all machines"
    return [
        Finding(
            "ledger", "fail", f"{len(of)} edges have the slot {slot} (runs {', '.join(sorted(of))})", advice
        )
        for slot, of in sorted(runs.items())
        if len(of) > 1
    ]


def _holding_back(balance: Ledger, now: int) -> list[Finding]:
    late = [heartbeat for heartbeat in balance.heartbeats if now - heartbeat.low_watermark > _LATE_MILLIS]
    return [Finding("ledger", "warn", *_held_back(heartbeat, now)) for heartbeat in late]


def _held_back(heartbeat: Heartbeat, now: int) -> tuple[str, str]:
    until, spooled = ledger.rfc3339(heartbeat.low_watermark), sum(heartbeat.spooled.values())
    text = f"edge {heartbeat.edge} holds Complete-Until back at {until}, with {spooled} clicks in its spool"
    if now - heartbeat.sent_at <= _LATE_MILLIS:
        return text, "check the stream server: the edge empties its spool by itself"
    return (
        f"{text}, and was last heard of at {ledger.rfc3339(heartbeat.sent_at)}",
        f"start it again: tracker edge --slot {heartbeat.slot} "
        f"(or, if its disk is lost: tracker ledger --forget-edge {heartbeat.field})",
    )
