"""The restore drill: proves that a backup can be restored, on engines of its own, and removes them again."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tracker.errors import CannotStartError
from tracker.ops import ledger
from tracker.ops.backup import restore
from tracker.ops.backup.files import BackupError, Manifest, explained, say
from tracker.processes.children import Claim
from tracker.processes.engines import postgres, valkey
from tracker.release import version
from tracker.settings import Settings
from tracker.stream.waiting_clicks import waiting_clicks

VERDICT = "verdict.json"
_LEDGER_SECONDS = 24 * 60 * 60
_MINUTE = 60


class Verdict(NamedTuple):
    """The result of a drill. It lies in the backup's directory, and is no part of the backup."""

    is_good: bool
    tried_at: str
    seconds: int
    tracker: str
    """Version of the tracker that restored it."""
    problem: str = ""

    def __str__(self) -> str:
        if not self.is_good:
            return f"cannot be relied on: {self.problem}"
        return f"was restored in {self.seconds} s, and its counts and its ledger agree"


async def drill(settings: Settings, source: Path) -> Verdict:
    """Restore a backup beside itself, compare its counts and its ledger, and note the verdict.

    The running tracker is not touched. The copy sends nothing, because no worker starts on it.

    Raises:
        BackupError: the verdict cannot be noted, or there is no room beside the backup.
    """
    began = time.monotonic()
    problem = ""
    with explained(source), _scratch(source) as scratch:
        try:
            say(f"drill: restoring {source} beside it")
            await _try(replace(settings, data_dir=Path(scratch) / "var"), source)
        except (BackupError, CannotStartError) as error:
            problem = str(error)
    verdict = Verdict(
        not problem,
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        round(time.monotonic() - began),
        version(),
        problem,
    )
    _note(source, verdict)
    say(f"drill: {source} {verdict}")
    return verdict


def read_verdict(source: Path) -> Verdict | None:
    """The verdict on a backup. None if it was not tried yet, or its note is damaged."""
    try:
        return Verdict(**json.loads((source / VERDICT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _scratch(source: Path) -> TemporaryDirectory[str]:
    """A directory beside the backup, where there should be room for its content."""
    return TemporaryDirectory(prefix=".drill-", dir=source.absolute().parent)


async def _try(settings: Settings, source: Path) -> None:
    manifest = await restore.restore(settings, source)
    async with AsyncExitStack() as stack:
        claim = await Claim.take(settings.data_dir.resolve())
        stack.push_async_callback(claim.release)
        stream = await valkey.start_valkey(settings, claim)
        stack.push_async_callback(stream.stop)
        database = await postgres.start_postgres(settings, claim)
        stack.push_async_callback(database.stop)
        await _compare(replace(settings, redis_url=stream.url, postgres_dsn=database.url), manifest)


async def _compare(settings: Settings, manifest: Manifest) -> None:
    """Compare the restored copy with the manifest. The restore itself has counted the table."""
    assert settings.redis_url
    on_stream = sum((await waiting_clicks(settings.redis_url)).values())
    if on_stream < manifest.waiting:
        raise BackupError(f"{on_stream} clicks are on its stream, but its manifest says {manifest.waiting}")
    made = int(datetime.fromisoformat(manifest.made_at).timestamp())
    minutes = ledger.minutes_between(made - _LEDGER_SECONDS, made + _MINUTE)
    found, _ = await ledger.ask(settings, minutes, verify=True)
    if found.unbalanced:
        raise BackupError(f"its ledger does not balance in {len(found.unbalanced)} minutes before the backup")


def _note(source: Path, verdict: Verdict) -> None:
    path = source / VERDICT
    with explained(path):
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(f"{json.dumps(verdict._asdict(), indent=2)}\n")
        new.replace(path)
