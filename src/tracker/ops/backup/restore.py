"""`tracker restore`: makes a data directory from a backup."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tracker.ops.backup import programs
from tracker.ops.backup.files import DUMP, BackupError, Manifest, check, copy, explained, say, sync_directory
from tracker.processes.children import Claim
from tracker.processes.engines import engine, valkey
from tracker.processes.engines import postgres as engines_postgres
from tracker.settings import Settings
from tracker.store import backup, db, shares
from tracker.store.conversions import sending
from tracker.store.migrate import migrate
from tracker.store.people import one_time_links, sessions

_LOCKS = {"lock", "children"}  # files that a refused tracker leaves in a data directory


async def restore(settings: Settings, source: Path) -> Manifest:
    """Restore a backup into the data directory, which must be empty.

    Raises:
        BackupError: the backup is incomplete, or the directory is in use. The directory stays unchanged.
            CannotStartError: the database server cannot be started on it.
    """
    programs.check_embedded(settings)
    data_dir = settings.data_dir.resolve()
    _check_unused(data_dir)
    say(f"restore: checking {source}")
    manifest = check(source)
    claim = await Claim.take(data_dir)
    unfinished = data_dir / engine.RESTORING
    try:
        with explained(unfinished):
            unfinished.mkdir(mode=0o700)
        try:
            await _fill(replace(settings, data_dir=unfinished), source, manifest)
            _move(unfinished, data_dir)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    finally:
        await claim.release()
    return manifest


def _check_unused(data_dir: Path) -> None:
    with explained(data_dir):
        found = sorted(set(os.listdir(data_dir)) - _LOCKS) if data_dir.exists() else []
    if found:
        raise BackupError(
            f"{data_dir} is not empty, it contains {found[0]}: set TRACKER_DATA_DIR to an empty directory, "
            "or move the files away"
        )


async def _fill(settings: Settings, source: Path, manifest: Manifest) -> None:
    """Make all contents of a data directory, with a temporary database server for the table."""
    say(f"restore: Valkey and the spool, {manifest.waiting} clicks on the stream")
    _copy(source, "valkey", valkey.append_only_dir(settings.data_dir), manifest)
    _copy(source, "spool", settings.data_dir / "spool", manifest)
    if any(file.path.startswith("edges/") for file in manifest.files):
        _copy(source, "edges", settings.data_dir / "edges", manifest)
    say(f"restore: PostgreSQL, {manifest.stored} clicks")
    claim = await Claim.take(settings.data_dir)
    try:
        postgres = await engines_postgres.start_postgres(settings, claim)
        try:
            await _load(postgres.url, source / DUMP, manifest)
        finally:
            await postgres.stop()
    finally:
        await claim.release()
        with suppress(OSError):
            engine.socket_dir(settings.data_dir).rmdir()


def _copy(source: Path, kind: str, target: Path, manifest: Manifest) -> None:
    with explained(target):
        for directory in (target.parent, target):
            directory.mkdir(mode=0o700, exist_ok=True)
    for path in (source / file.path for file in manifest.files if file.path.startswith(f"{kind}/")):
        with explained(path), path.open("rb") as file:
            copy(file, target / path.name)
    sync_directory(target)


async def _load(dsn: str, dump: Path, manifest: Manifest) -> None:
    jobs = f"--jobs={os.cpu_count() or 1}"
    await programs.run("pg_restore", f"--dbname={dsn}", "--exit-on-error", jobs, str(dump))
    connection = await db.connect(dsn)
    try:
        if (found := await backup.stored(connection)) != manifest.stored:
            raise BackupError(f"{dump} contains {found} clicks, but its manifest says {manifest.stored}")
        await migrate(dsn)  # the backup may be of a version without the mark for copies
        await sending.hold(connection, datetime.fromisoformat(manifest.made_at))
        # What works in the original does not work in its copy, which others may look after.
        await sessions.drop_all(connection)
        await one_time_links.drop_all(connection)
        await shares.end_all(connection)
        await backup.analyze(connection)
    finally:
        await connection.close()


def _move(unfinished: Path, data_dir: Path) -> None:
    """Move everything into place. This process owns the data directory, so no other process starts in it."""
    with explained(data_dir):
        for name in ("spool", "edges", "valkey", "postgres"):
            if name != "edges" or (unfinished / name).exists():  # if no edge ran
                (unfinished / name).rename(data_dir / name)
        sync_directory(data_dir)
