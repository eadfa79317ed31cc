"""The last verified backup, and how old it is."""

from __future__ import annotations

from datetime import timedelta

from tracker.ops.backup import last
from tracker.ops.doctor.finding import Finding
from tracker.processes.engines.engine import postgres_dsn
from tracker.settings import Settings

_OLD = timedelta(days=2)
_ADVICE = "run `tracker backup --keep 7 DIR` by a timer (see docs/operations/backup.md)"


def check(settings: Settings) -> list[Finding]:
    """Engines of the operator's own are backed up by what belongs to them."""
    if settings.postgres_dsn not in (None, postgres_dsn(settings.data_dir)):
        return []
    try:
        found = last.read(settings.data_dir)
    except OSError as error:
        return [
            Finding("backup", "warn", f"{error.filename}: {error.strerror}", "run the doctor as its owner")
        ]
    if found is None:
        return [Finding("backup", "warn", "there is no verified backup of this tracker", _ADVICE)]
    text = f"{found.path} of {found.made_at:%Y-%m-%d %H:%M} was verified"
    if found.age > _OLD.total_seconds():
        return [Finding("backup", "warn", f"{text}, and is more than {_OLD.days} days old", _ADVICE)]
    return [Finding("backup", "ok", text)]
