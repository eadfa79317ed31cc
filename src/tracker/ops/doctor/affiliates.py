"""Postbacks to affiliates that are stuck."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.macros import unfilled_macro
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import db, unfilled
from tracker.store.conversions import affiliate_postbacks, sending

_MOST_MACROS_NAMED = 5


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Whether affiliates get their postbacks."""
    try:
        async with connected(settings) as connection:
            counts = await affiliate_postbacks.POSTBACKS.counts(connection)
            made_at = await sending.copy_of(connection)
            macros = await unfilled.of_affiliates(connection)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        why = str(error) or type(error).__name__
        return [
            Finding("affiliates", "fail", f"their postbacks cannot be read: {why}", "see the topic engines")
        ]
    findings = [Finding("affiliates", "ok", f"postbacks waiting to be sent to affiliates: {counts.waiting}")]
    if made_at is not None:
        since = f"{made_at:%Y-%m-%d %H:%M:%S} UTC"
        whose = "a backup's time, or that of hold-sending"
        text = f"no postback is sent: sending is held since {since} ({whose})"
        advice = "if no other tracker sends them: `tracker resume-sending`"
        findings.append(Finding("affiliates", "warn", text, advice))
    elif counts.overdue:
        text = f"postbacks to affiliates that are overdue: {counts.overdue}"
        findings.append(
            Finding(
                "affiliates", "warn", text, "does a worker run? Many postbacks to one host take their time"
            )
        )
    if counts.failed:
        text = f"postbacks to affiliates given up within a day: {counts.failed}"
        findings.append(Finding("affiliates", "warn", text, "see GET …/users/sent-postbacks?state=failed"))
    return findings + [
        unfilled_macro("affiliates", "affiliate", macro) for macro in macros[:_MOST_MACROS_NAMED]
    ]
