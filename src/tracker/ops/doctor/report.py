"""The report of `tracker doctor`: every check, by topic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tracker.ops.doctor import (
    affiliates,
    alerts,
    backup,
    catalogue,
    clock,
    disk,
    durability,
    engines,
    form,
    formats,
    geo,
    ledger,
    nodes,
    postbacks,
    retention,
    settings,
    standby,
    tokens,
    users,
    webhooks,
)
from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.servers import StreamResult, ask_stream
from tracker.settings import Settings

_Check = Callable[[Settings], list[Finding]]

_ServerCheck = Callable[[Settings, StreamResult], Awaitable[list[Finding]]]

_OF_SERVERS: Mapping[str, _ServerCheck] = {
    "engines": engines.check,
    "nodes": nodes.check,
    "durability": durability.check,
    "standby": standby.check,
    "clock": clock.check,
    "catalogue": catalogue.check,
    "tokens": tokens.check,
    "users": users.check,
    "ledger": ledger.check,
    "formats": formats.check,
    "postbacks": postbacks.check,
    "affiliates": affiliates.check,
    "webhooks": webhooks.check,
    "alerts": alerts.check,
    "retention": retention.check,
}

_LOCAL: Mapping[str, _Check] = {
    "settings": settings.check,
    "geo": geo.check,
    "disk": disk.check,
    "backup": backup.check,
    "form": form.check,
}

TOPICS = (*_OF_SERVERS, *_LOCAL)
"""The topics that can be checked alone."""


async def examine(settings: Settings, only: str | None = None) -> list[Finding]:
    """Check every topic, or one, with resolved `settings`. Only the servers that it needs are called."""
    findings: list[Finding] = []
    stream: StreamResult | None = None
    for topic in TOPICS if only is None else (only,):
        if topic in _LOCAL:
            findings += _LOCAL[topic](settings)
        else:
            stream = stream or await ask_stream(settings)
            findings += await _OF_SERVERS[topic](settings, stream)
    return findings
