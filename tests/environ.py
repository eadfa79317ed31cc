"""The environment of processes that tests start."""

from __future__ import annotations

import os


def clean_environ() -> dict[str, str]:
    """The environment without settings, except which form runs (TRACKER_PURE)."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRACKER_") or name == "TRACKER_PURE"
    }
