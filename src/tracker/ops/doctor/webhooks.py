"""Webhooks: whether their secrets can be read, and requests that are stuck."""

from __future__ import annotations

from tracker.ops.doctor import key_file
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import db
from tracker.store.webhooks import webhooks
from tracker.store.webhooks.sent import WEBHOOKS


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Whether the key file opens the secrets, and whether the network's own systems get their events."""
    try:
        async with connected(settings) as connection:
            counts = await WEBHOOKS.counts(connection)
            sealed = await webhooks.secrets(connection)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("webhooks", error)]
    findings = [Finding("webhooks", "ok", f"requests waiting to be sent to webhooks: {counts.waiting}")]
    locked = [
        key_file.Sealed(f"the secret of webhook {id_}", secret, f"rotate: POST …/users/webhooks/{id_}/rotate")
        for id_, secret in sealed
    ]
    findings += key_file.findings(
        settings, "webhooks", locked, "is missing", ", rotate the secrets of all webhooks"
    )
    if counts.overdue:
        text = f"requests to webhooks that are overdue: {counts.overdue}"
        findings.append(Finding("webhooks", "warn", text, "does a worker run?"))
    if counts.failed:
        text = f"requests to webhooks given up within a day: {counts.failed}"
        findings.append(Finding("webhooks", "warn", text, "see GET …/users/sent-webhooks?state=failed"))
    return findings
