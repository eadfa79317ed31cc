"""What needs the operator's attention: secrets, advertisers, affiliates and caps.

Lost clicks are an alert too. The topic `ledger` has them, minute by minute.
"""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import alerts, db
from tracker.store.alerts import KINDS, Alert

_MOST_NAMED = 5


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """The alerts of this moment."""
    try:
        async with connected(settings) as connection:
            found = await alerts.find(connection)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("alerts", error)]
    findings = [
        finding
        for kind, advice in KINDS.items()
        for finding in _of_kind([alert for alert in found if alert.kind == kind], advice)
    ]
    return findings or [Finding("alerts", "ok", "no secret, advertiser, affiliate or cap needs attention")]


def _of_kind(found: list[Alert], advice: str) -> list[Finding]:
    findings = [Finding("alerts", "warn", alert.text, advice) for alert in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        findings.append(Finding("alerts", "warn", f"and {len(found) - _MOST_NAMED} more of this kind"))
    return findings
