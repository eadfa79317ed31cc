"""Postbacks of advertisers that are stuck."""

from __future__ import annotations

import time

from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.macros import unfilled_macro
from tracker.ops.doctor.servers import UNREACHABLE_STREAM, StreamResult, time_limit
from tracker.settings import Settings
from tracker.store import db, unfilled
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.missing_clicks import MOST_WAITING
from tracker.store.unfilled import Unfilled
from tracker.stream.postbacks import PostbackStream

_LONG_PARKED_SECONDS = 3600
_MOST_REASONS_NAMED = 3

_MOST_MACROS_NAMED = 5


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Postbacks on their way, and postbacks that are stuck."""
    try:
        async with time_limit():
            waiting, unreadable = await _on_stream(settings)
            parked, long_parked = await _parked(settings)
            waiting_for_dead, too_many = await _waiting(settings)
            held, unproven, refused, macros = await _not_taken(settings)
    except (*UNREACHABLE_STREAM, *db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("postbacks", error)]
    findings = [Finding("postbacks", "ok", f"{waiting} on the stream, {parked} waiting for their clicks")]
    if long_parked:
        text = f"waiting for their clicks for more than an hour: {long_parked}"
        findings.append(
            Finding("postbacks", "warn", text, "see the findings on Complete-Until in the topic ledger")
        )
    findings += _of_dead_letters(waiting_for_dead, too_many)
    if unreadable:
        text = f"postbacks that no worker can read: {unreadable}"
        findings.append(Finding("postbacks", "warn", text, "see tracker postbacks --unreadable"))
    if held:
        text = f"held, because their goal or status word is unknown: {held}"
        advice = "see tracker postbacks --result held, then add the goal's code or the status word"
        findings.append(Finding("postbacks", "warn", text, advice))
    if unproven:
        text = f"conversions on hold, because their postbacks came without a proof: {unproven}"
        advice = (
            "see tracker conversions is_unproven=true, then give their advertisers a secret, or decide them"
        )
        findings.append(Finding("postbacks", "warn", text, advice))
    if refused:
        often = ", ".join(f"{times} times {reason}" for reason, times in refused[:_MOST_REASONS_NAMED])
        text = f"refused by edges within a day: {sum(times for _, times in refused)}: {often}"
        findings.append(Finding("postbacks", "warn", text, "see tracker postbacks --result refused"))
    return findings + [
        unfilled_macro("postbacks", "advertiser", macro) for macro in macros[:_MOST_MACROS_NAMED]
    ]


def _of_dead_letters(waiting: int, too_many: int) -> list[Finding]:
    advice = "see tracker dead-letters list, then replay them, or drop those that can never be stored"
    text = f"postbacks that wait for dead letters: {waiting} of at most {MOST_WAITING}"
    findings = [Finding("postbacks", "warn", text, advice)] if waiting else []
    if too_many:
        text = f"rejected within a day, because {MOST_WAITING} others waited for dead letters: {too_many}"
        findings.append(Finding("postbacks", "warn", text, "ask their advertisers to send them again"))
    return findings


async def _waiting(settings: Settings) -> tuple[int, int]:
    """The number of postbacks that wait for dead letters, and of those that could not wait within a day."""
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        yesterday = int((time.time() - 86_400) * 1000)
        return (
            await postback_log.count_waiting(connection),
            await postback_log.count_too_many(connection, yesterday),
        )
    finally:
        await connection.close()


async def _not_taken(settings: Settings) -> tuple[int, int, list[tuple[str, int]], list[Unfilled]]:
    """The numbers of held postbacks and unproven conversions, a day's refusals by reason, unfilled macros."""
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        yesterday = int((time.time() - 86_400) * 1000)
        held = await postback_log.count_held(connection)
        unproven = await postback_log.count_unproven(connection)
        refused = await postback_log.refused_since(connection, yesterday)
        return held, unproven, refused, await unfilled.of_advertisers(connection)
    finally:
        await connection.close()


async def _on_stream(settings: Settings) -> tuple[int, int]:
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        return await stream.waiting()


async def _parked(settings: Settings) -> list[int]:
    """The number of parked postbacks, and of those that have been parked for long."""
    assert settings.postgres_dsn
    now = time.time()
    connection = await db.connect(settings.postgres_dsn)
    try:
        return [
            await postback_log.count_parked(connection, int((now - ago) * 1000))
            for ago in (0, _LONG_PARKED_SECONDS)
        ]
    finally:
        await connection.close()
