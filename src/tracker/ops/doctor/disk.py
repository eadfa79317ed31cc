"""Free space, and clicks in the spool."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from tracker.edge.record import spool
from tracker.ops.doctor.finding import Finding, Level
from tracker.settings import Settings

_LEAST_FREE_WARN, _LEAST_FREE_FAIL = 5 << 30, 1 << 30


def check(settings: Settings) -> list[Finding]:
    data_dir = settings.data_dir.resolve()
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    level: Level = "fail" if free < _LEAST_FREE_FAIL else "warn" if free < _LEAST_FREE_WARN else "ok"
    advice = "" if level == "ok" else "free some space, or set TRACKER_DATA_DIR to a larger disk"
    return [
        Finding("disk", level, f"{free / (1 << 30):.1f} GB free under {data_dir}", advice),
        *_spool(data_dir),
    ]


def _spool(data_dir: Path) -> list[Finding]:
    """The clicks on this machine's disk that wait for the stream."""
    waiting = spool.segments(data_dir / "spool")
    if not waiting:
        return []
    since = datetime.fromtimestamp(spool.first_millis(waiting[0]) / 1000, UTC)
    megabytes = spool.size_of(data_dir / "spool") / 1e6
    text = f"{megabytes:.1f} MB of clicks since {since:%Y-%m-%d %H:%M} in the spool"
    return [Finding("disk", "warn", text, "an edge sends them to the stream when the stream server is back")]
