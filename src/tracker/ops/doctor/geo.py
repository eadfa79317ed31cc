"""The geo databases in use, and how old they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tracker.ops.doctor.finding import Finding
from tracker.ops.geo_lookup import GeoLookup
from tracker.settings import Settings, packaged_geoip

PACKAGED = " (the packaged one, the default)"
_OLD_GEO = timedelta(days=60)


def check(settings: Settings) -> list[Finding]:
    if not settings.geoip_db:
        advice = "set TRACKER_GEOIP_DB to an mmdb file (see docs/guides/geoip.md)"
        return [Finding("geo", "warn", "no database: country, region, city and ISP stay unknown", advice)]
    is_default = settings.geoip_db == packaged_geoip()
    with GeoLookup(settings.geoip_db) as lookup:
        return [_database(*database, is_default=is_default) for database in lookup.databases]


def _database(path: object, kind: str, built: datetime | None, problem: str, *, is_default: bool) -> Finding:
    if built is None or problem:
        return Finding("geo", "fail", problem, "put a valid mmdb file there, or correct TRACKER_GEOIP_DB")
    text = f"{path}{PACKAGED if is_default else ''}: {kind}, built {built:%Y-%m-%d}"
    if datetime.now(UTC) - built > _OLD_GEO:
        return Finding(
            "geo",
            "warn",
            f"{text}: it is old, and addresses move",
            "run `tracker geo update` (see docs/guides/geoip.md)",
        )
    return Finding("geo", "ok", text)
