"""What the metrics tell of the machine: its disk, the last backup, and the age of the geo data."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import UTC, datetime

from tracker.metrics.exposition import Exposition
from tracker.metrics.families import MACHINE
from tracker.ops.backup import last
from tracker.ops.geo_lookup import GeoLookup
from tracker.settings import Settings


def show(settings: Settings, shown: Exposition) -> None:
    """Add the metrics of the machine. What cannot be read is left out."""
    shown.declare(*(family.name for family in MACHINE))
    with suppress(OSError):
        disk = shutil.disk_usage(settings.data_dir)
        shown.add("tracker_disk_free_bytes", disk.free)
        shown.add("tracker_disk_bytes", disk.total)
    with suppress(OSError):
        if backup := last.read(settings.data_dir):
            shown.add("tracker_backup_age_seconds", backup.age)
    with GeoLookup(settings.geoip_db) as lookup:
        for database in lookup.databases:
            if database.built is not None:
                age = (datetime.now(UTC) - database.built).total_seconds()
                shown.add("tracker_geo_age_seconds", age, file=database.path.name)
