"""A series of backups in one directory: each by the time that it was begun, and how many of them stay.

A backup counts if a drill has restored it. The others are kept until enough newer ones count. So the last
good one never goes. Other files in the directory are left alone.
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from tracker.ops.backup import last
from tracker.ops.backup.drill import Verdict, drill, read_verdict
from tracker.ops.backup.files import MANIFEST, BackupError, explained, read_manifest, say
from tracker.ops.backup.make import back_up
from tracker.settings import Settings

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")


async def add(settings: Settings, directory: Path, keep: int) -> Path:
    """Make a backup in a series, try it, and remove the ones that `keep` newer good ones make superfluous.

    Raises:
        BackupError: it cannot be made, or the drill failed. Nothing is removed then.
    """
    _make(directory)
    target = directory / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    say(f"backup: {await back_up(settings, target)}")
    await verify(settings, target)
    for old in superfluous(directory, keep):
        with explained(old):
            shutil.rmtree(old)
        say(f"backup: {old} removed, {keep} newer ones are good")
    return target


async def verify(settings: Settings, source: Path) -> Verdict:
    """Try a backup, and remember it if it is good.

    Raises:
        BackupError: it cannot be relied on.
    """
    verdict = await drill(settings, source)
    if not verdict.is_good:
        raise BackupError(f"{source} {verdict}")
    last.note(settings.data_dir, source, read_manifest(source).made_at)
    return verdict


def superfluous(directory: Path, keep: int, coming: int = 0) -> list[Path]:
    """The backups that have `keep` good ones after them, oldest first. `coming` good ones follow soon."""
    found = sorted(path for path in directory.iterdir() if _is_backup(path)) if directory.is_dir() else []
    good = [path for path in found if (verdict := read_verdict(path)) and verdict.is_good]
    return [path for path in found if sum(path < newer for newer in good) + coming >= keep]


def _make(directory: Path) -> None:
    with explained(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _is_backup(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name)) and (path / MANIFEST).is_file() and not path.is_symlink()
