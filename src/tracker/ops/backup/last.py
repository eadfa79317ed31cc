"""The last verified backup of a data directory, as its tracker remembers it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tracker.ops.backup.files import explained

FILE = "last-backup.json"


class Last(NamedTuple):
    """A backup that was restored for a trial, and found good."""

    made_at: datetime
    path: str

    @property
    def age(self) -> float:
        """Seconds since it was begun. All that is younger would be lost with the disk."""
        return (datetime.now(UTC) - self.made_at).total_seconds()


def note(data_dir: Path, source: Path, made_at: str) -> None:
    """Remember a verified backup. `made_at`: of its manifest.

    The API reads the note for the metrics, perhaps under another account.
    """
    path = data_dir / FILE
    with explained(path):
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o644)  # commands have another umask
            json.dump({"made_at": made_at, "path": str(source.resolve())}, file)
        new.replace(path)


def read(data_dir: Path) -> Last | None:
    """The last verified backup. None before the first one, and if the note is damaged.

    Raises:
        OSError: the note cannot be read.
    """
    try:
        noted = json.loads((data_dir / FILE).read_bytes())
        return Last(datetime.fromisoformat(noted["made_at"]), str(noted["path"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
