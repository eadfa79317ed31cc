"""This machine's clock and the stream server's."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding, Level
from tracker.ops.doctor.servers import StreamResult
from tracker.settings import Settings

_SKEW_WARN, _SKEW_FAIL = 0.2, 1.0  # seconds


async def check(_: Settings, stream: StreamResult) -> list[Finding]:
    if isinstance(stream, Exception):
        return [Finding("clock", "warn", "not compared, because the stream server cannot be reached")]
    skew = stream.skew
    level: Level = "fail" if skew > _SKEW_FAIL else "warn" if skew > _SKEW_WARN else "ok"
    advice = "" if level == "ok" else "run NTP (chrony, systemd-timesyncd) on both machines"
    return [Finding("clock", level, f"{skew:.3f} s off the stream server's", advice)]
