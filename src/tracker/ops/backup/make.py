"""`tracker backup DIR`: copies everything while the tracker runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import NamedTuple

from tracker.edge.record import identity
from tracker.ops.backup import append_only, programs
from tracker.ops.backup.files import (
    DUMP,
    BackupError,
    File,
    Manifest,
    copy,
    create,
    digest,
    explained,
    say,
    sync_directory,
    write_manifest,
)
from tracker.processes.engines import engine
from tracker.processes.engines import valkey as engines_valkey
from tracker.release import version
from tracker.settings import Settings
from tracker.store import backup, db
from tracker.store.clicks import partitions
from tracker.stream import server_info
from tracker.stream.reader import UNREACHABLE
from tracker.stream.waiting_clicks import waiting_clicks

WRITER_SECONDS = 30.0
"""How long a writer may work on a batch before a backup gives up."""


class _Moment(NamedTuple):
    """The state of one moment, held for copying."""

    at: datetime
    view: str  # of the table, for pg_dump
    waiting: int  # clicks on the stream
    append_only: list[append_only.Part]


async def back_up(settings: Settings, target: Path) -> Manifest:
    """Back up the embedded engines and the spool into a directory. It appears when it is complete.

    Raises:
        BackupError: it cannot be made. Its unfinished directory is removed.
    """
    programs.check_embedded(settings)
    with _whole_or_absent(target) as unfinished:
        manifest = await _fill(engine.resolve(settings), unfinished)
        write_manifest(unfinished, manifest)
    say(f"backup: without the key file {settings.key_file}: keep a copy of it elsewhere")
    return manifest


@contextmanager
def _whole_or_absent(target: Path) -> Iterator[Path]:
    """A temporary directory beside the target. It is renamed when it is complete."""
    target = target.absolute()
    _check_target(target)
    with explained(target):
        unfinished = Path(mkdtemp(prefix=f"{target.name}.unfinished-", dir=target.parent))
    try:
        yield unfinished
        with explained(target):
            sync_directory(unfinished)
            unfinished.rename(target)
            sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_target(target: Path) -> None:
    with explained(target):
        if target.is_mount():
            raise BackupError(f"{target} is a mount point: name a directory in it that does not exist yet")
        if target.exists() and any(target.iterdir()):
            raise BackupError(f"{target} is not empty: name a directory that does not exist yet")


async def _fill(settings: Settings, unfinished: Path) -> Manifest:
    assert settings.redis_url
    assert settings.postgres_dsn
    with _valkey_answers():
        valkey = await server_info.ask(settings.redis_url)
    _copy_spool(settings.data_dir / "spool", unfinished / "spool")
    _copy_run_ids(settings.data_dir / identity.DIRECTORY, unfinished / identity.DIRECTORY)
    connection = await db.connect(settings.postgres_dsn)
    try:
        with ExitStack() as opened:
            moment = await _catch(settings, connection, opened)
            _copy_append_only(moment.append_only, unfinished / "valkey")
        await _check_same(settings.redis_url, valkey.run_id)
        stored = await backup.stored(connection)
        say(f"backup: PostgreSQL, {stored} clicks")
        await _dump(settings.postgres_dsn, moment.view, unfinished / DUMP)
    finally:
        await connection.close()
    return Manifest(
        made_at=f"{moment.at:%Y-%m-%dT%H:%M:%SZ}",
        tracker=version(),
        postgresql=await db.version(settings.postgres_dsn),
        valkey=valkey.version,
        stored=stored,
        waiting=moment.waiting,
        files=tuple(_files(unfinished)),
    )


def _copy_spool(spool: Path, target: Path) -> None:
    with explained(target):
        target.mkdir(mode=0o700)
    segments = sorted(spool.glob("*.spool"))
    say(f"backup: spool, {len(segments)} segments")
    for segment in segments:
        with explained(segment):
            try:
                file = segment.open("rb")
            except (
                FileNotFoundError
            ):  # the segment was drained: its clicks are on the stream, which is copied next
                continue
        with file:
            copy(file, target / segment.name)
    sync_directory(target)


def _copy_run_ids(edges: Path, target: Path) -> None:
    """Copy the edges' run ids without their sequence numbers. Edges of the copy need them for the spools."""
    if not edges.is_dir():
        return
    with explained(target):
        target.mkdir(mode=0o700)
        for path in sorted(edges.glob("*.run")):
            with path.open("rb") as file:
                copy(file, target / path.name, identity.RUN_LENGTH)
    sync_directory(target)


async def _catch(settings: Settings, connection: db.Connection, opened: ExitStack) -> _Moment:
    """Stream and table at one moment, when every stored click has left the stream."""
    assert settings.postgres_dsn
    await partitions.keep(connection)
    try:
        async with backup.writers_held(settings.postgres_dsn, WRITER_SECONDS):
            began = monotonic()
            moment = await _look(settings, connection, opened)
    except backup.WritersBusy as error:
        raise BackupError(
            f"a writer has been working on a batch for {WRITER_SECONDS:.0f} s: see its log, and try again"
        ) from error
    say(f"backup: the writers were paused for {(monotonic() - began) * 1000:.0f} ms")
    return moment


async def _look(settings: Settings, connection: db.Connection, opened: ExitStack) -> _Moment:
    assert settings.redis_url
    at, view = datetime.now(UTC), await backup.export(connection)
    with _valkey_answers():
        on_stream = sum((await waiting_clicks(settings.redis_url)).values())
    directory = engines_valkey.append_only_dir(settings.data_dir)
    with explained(directory):
        return _Moment(at, view, on_stream, append_only.open_at_once(directory, opened))


async def _check_same(url: str, run_id: str) -> None:
    """Refuse a Valkey that has restarted: it may have cut a torn end off and written over it."""
    with _valkey_answers():
        if (await server_info.ask(url)).run_id != run_id:
            raise BackupError("Valkey has restarted meanwhile: start the backup again")


def _copy_append_only(parts: list[append_only.Part], target: Path) -> None:
    say(f"backup: Valkey, {sum(part.size for part in parts) / (1 << 20):.1f} MB")
    with explained(target):
        target.mkdir(mode=0o700)
    for part in parts:
        copy(part.file, target / part.name, part.size)
    sync_directory(target)


async def _dump(dsn: str, view: str, target: Path) -> None:
    create(target)
    await programs.run("pg_dump", f"--dbname={dsn}", "-Fc", "-Z1", f"--snapshot={view}", f"--file={target}")


def _files(unfinished: Path) -> Iterator[File]:
    for path in sorted(path for path in unfinished.rglob("*") if path.is_file()):
        yield File(str(path.relative_to(unfinished)), *digest(path))


@contextmanager
def _valkey_answers() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        raise BackupError(
            f"Valkey cannot be reached ({error}). Is `tracker up` running on this TRACKER_DATA_DIR?"
        ) from error
