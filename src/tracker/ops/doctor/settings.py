"""The settings in force."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.geo import PACKAGED
from tracker.secret_key import is_open_to_others
from tracker.settings import Settings, packaged_geoip, secret_files

_MASK = "***"
_KEY = "TRACKER_MAXMIND_LICENSE_KEY"


def check(settings: Settings) -> list[Finding]:
    shown = [
        Finding("settings", "ok", f"{name} = {_MASK if name == _KEY and value else _shown(value)}")
        for name, value in settings.variables()
    ]
    if not os.access(settings.data_dir, os.W_OK | os.X_OK):
        text = f"{settings.data_dir.resolve()} is missing or not writable"
        shown.append(Finding("settings", "fail", text, "start `tracker up` once, or set TRACKER_DATA_DIR"))
    return [*shown, *_open_files()]


def _open_files() -> list[Finding]:
    """The files of secrets that others may read."""
    return [
        Finding("settings", "warn", f"{name}: other users can read {path}", f"run `chmod 600 {path}`")
        for name, path in secret_files().items()
        if path.exists() and is_open_to_others(path.stat())
    ]


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        default = PACKAGED if value and value == packaged_geoip() else ""
        return (", ".join(map(str, value)) or "none") + default
    return without_password(value) if isinstance(value, str) and "://" in value else str(value)


def without_password(url: str) -> str:
    url = re.sub(r"([?&](?:\w+_)?password=)[^&]*", r"\1***", url)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username or ''}:{_MASK}@{parts.netloc.rpartition('@')[2]}").geturl()
