"""What is wrong with a ledger, and what to do: the same words for the doctor, the API and the pages."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Literal

from tracker.ops import ledger
from tracker.ops.doctor.finding import Finding
from tracker.ops.ledger import Ledger, Minute
from tracker.stream.ledger import ALIVE_MILLIS, Heartbeat

Verdict = Literal["balanced", "settling", "unbalanced"]

_LATE_MILLIS = 60_000
_MOST_MINUTES_NAMED = 5
_ADVICE = "keep the logs of edges and workers, and count the rows: tracker ledger --verify FROM TO"


def findings_of(balance: Ledger, now: int) -> list[Finding]:
    """What is wrong, the worst first. [] if nothing is. `now`: Unix milliseconds."""
    found = [
        *(*_unbalanced(balance), *_dead(balance), *_uncounted(balance), *_sharing(balance, now)),
        *_holding_back(balance, now),
    ]
    return sorted(found, key=lambda finding: finding.level != "fail")


def verdict_of(balance: Ledger) -> Verdict:
    """All minutes in one word."""
    if balance.unbalanced:
        return "unbalanced"
    is_settling = any(minute.in_flight or minute.state is ledger.State.SETTLING for minute in balance.minutes)
    return "settling" if is_settling else "balanced"


def as_json(balance: Ledger, now: int) -> dict[str, Any]:
    """The verdict and the findings, as the API and `tracker ledger --json` tell them."""
    findings = [finding._asdict() for finding in findings_of(balance, now)]
    shown = ("level", "text", "advice")
    return {
        "verdict": verdict_of(balance),
        "findings": [{name: finding[name] for name in shown} for finding in findings],
    }


def _unbalanced(balance: Ledger) -> list[Finding]:
    return [
        Finding(
            "ledger", "fail", f"{_utc(minute)} does not balance: {ledger.amiss(minute)}", _advice_on(minute)
        )
        for minute in balance.unbalanced[:_MOST_MINUTES_NAMED]
    ]


def _advice_on(minute: Minute) -> str:
    return ledger.LOST_ADVICE if minute.lost_answered else _ADVICE


def _utc(minute: Minute) -> str:
    return f"{datetime.fromtimestamp(minute.number * 60, UTC):%Y-%m-%d %H:%M} UTC"


def _dead(balance: Ledger) -> list[Finding]:
    text = f"dead letters (clicks that cannot be stored): {balance.dead_letters}"
    return [Finding("ledger", "warn", text, "see tracker dead-letters list")] if balance.dead_letters else []


def _uncounted(balance: Ledger) -> list[Finding]:
    number = sum(minute.state is ledger.State.UNCOUNTED for minute in balance.minutes)
    text = f"minutes without counts on the stream server: {number}"
    advice = "was the server emptied or replaced? Its unstored clicks are lost"
    return [Finding("ledger", "warn", text, advice)] if number else []


def _sharing(balance: Ledger, now: int) -> list[Finding]:
    """Slots that several running edges share."""
    runs: defaultdict[str, set[str]] = defaultdict(set)
    for heartbeat in balance.heartbeats:
        if now - heartbeat.sent_at < ALIVE_MILLIS:
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
        f"{text} as of {ledger.rfc3339(heartbeat.sent_at)}, when it was last heard of",
        f"start it again: tracker edge --slot {heartbeat.slot} "
        "(or take over its spool: tracker spool take DIR. "
        f"Or, if its disk is lost: tracker ledger --forget-edge {heartbeat.field})",
    )
