"""Backup and restore on real engines: content, refusals and damage."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from tests.conftest import Engines
from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tracker.edge.record import identity
from tracker.ops.backup import append_only, drill, files, make, series
from tracker.ops.backup.files import BackupError, check
from tracker.ops.backup.make import back_up
from tracker.ops.backup.restore import restore
from tracker.processes.children import Claim
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import append_only_dir, start_valkey
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import insert as clicks
from tracker.store.locks import Lock
from tracker.store.migrate import migrate
from tracker.stream import server_info

pytestmark = pytest.mark.anyio

SEGMENT = "0123456789ab-0-0-0123456789abcdef.spool"


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture(scope="module")
async def source(engines: Engines, maintenance: asyncpg.Connection) -> AsyncIterator[Settings]:
    """The session's engines, with one click in the table, one on the stream and one in the spool.

    `maintenance` comes first: it makes the template of other tests' databases from the same one.
    """
    await migrate(engines.postgres_dsn)
    connection = await db.connect(engines.postgres_dsn)
    await clicks.prepare(connection)
    await store_rows(connection, [a_row()])
    await connection.close()
    async with redis.asyncio.Redis.from_url(engines.redis_url) as client:
        await client.flushall()
        await client.xadd("clicks:{0}", {"a": "waiting"})
        await client.xadd("postbacks:{0}", {"r": "waiting"})
    spool = engines.settings.data_dir / "spool"
    spool.mkdir()
    (spool / SEGMENT).write_bytes(b"spooled")
    edge = identity.read(engines.settings.data_dir, 0)
    yield Settings(data_dir=engines.settings.data_dir)
    assert identity.read(engines.settings.data_dir, 0) == edge
    shutil.rmtree(spool)
    shutil.rmtree(engines.settings.data_dir / identity.DIRECTORY)


@pytest.fixture(scope="module")
async def backup(source: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("backups") / "first"
    await back_up(source, directory)
    return directory


@pytest.fixture
def copied(backup: Path, tmp_path: Path) -> Path:
    """A copy of the backup, to be damaged."""
    return Path(shutil.copytree(backup, tmp_path / "copied"))


def test_backup_is_for_its_owner_alone(backup: Path) -> None:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (backup, *backup.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert names_in(backup.parent) == {backup.name}


def test_manifest_names_all_files(backup: Path) -> None:
    manifest = check(backup)
    assert (manifest.stored, manifest.waiting) == (1, 1)
    there = {str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file()}
    assert {file.path for file in manifest.files} == there - {"manifest.json"}
    assert {"postgres.dump", f"spool/{SEGMENT}", "valkey/appendonly.aof.manifest"} < there


async def test_restored_data_equals_the_original(source: Settings, backup: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "deep" / "var")
    await restore(settings, backup)
    assert names_in(settings.data_dir) == {
        "lock", "children", "edges", "postgres", "spool", "valkey",
    }  # fmt: skip
    assert (settings.data_dir / "spool" / SEGMENT).read_bytes() == b"spooled"
    run_id = "edges/0.run"
    assert (settings.data_dir / run_id).read_bytes() == (backup / run_id).read_bytes()
    goes_on = identity.read(source.data_dir, 0).run
    assert [identity.read(settings.data_dir, 0).run for _ in range(2)] == [goes_on] * 2
    claim = await Claim.take(settings.data_dir)
    try:
        made_at = datetime.fromisoformat(check(backup).made_at)
        assert await _held(settings, claim) == (1, 1, made_at, 1, 1)
    finally:
        await claim.release()


async def test_backup_of_an_earlier_version_is_restored_as_a_copy(
    source: Settings, engines: Engines, tmp_path: Path
) -> None:
    connection = await db.connect(engines.postgres_dsn)
    try:
        await connection.execute(
            "ALTER TABLE deployment DROP copy_of; DELETE FROM migration WHERE name LIKE '0022%'"
        )
        try:
            await back_up(source, tmp_path / "earlier")
        finally:
            await migrate(engines.postgres_dsn)
        assert await connection.fetchval("SELECT copy_of FROM deployment") is None, "the original sends"
    finally:
        await connection.close()
    settings = Settings(data_dir=tmp_path / "var")
    await restore(settings, tmp_path / "earlier")
    claim = await Claim.take(settings.data_dir)
    try:
        made_at = datetime.fromisoformat(check(tmp_path / "earlier").made_at)
        assert made_at in await _held(settings, claim)
    finally:
        await claim.release()


async def _held(settings: Settings, claim: Claim) -> tuple[object, ...]:
    """Restored clicks by table and by counts, the id of the backup, clicks and postbacks on the stream."""
    valkey, postgres = await start_valkey(settings, claim), await start_postgres(settings, claim)
    try:
        connection = await asyncpg.connect(postgres.url)
        stored = await connection.fetchval("SELECT count(*) FROM click")
        counted = await connection.fetchval(
            "SELECT sum(clicks) FROM click_count_part WHERE dimension = 'all'"
        )
        copy_of = await connection.fetchval("SELECT copy_of FROM deployment")
        await connection.close()
        async with redis.asyncio.Redis.from_url(valkey.url) as client:
            waiting = [int(await client.xlen(key)) for key in ("clicks:{0}", "postbacks:{0}")]
        return int(stored), int(counted), copy_of, *waiting
    finally:
        await asyncio.gather(valkey.stop(), postgres.stop())


def _flip(backup: Path) -> None:
    dump = backup / "postgres.dump"
    data = bytearray(dump.read_bytes())
    data[len(data) // 2] ^= 1
    dump.write_bytes(data)


def _cut(backup: Path) -> None:
    os.truncate(backup / "spool" / SEGMENT, 3)


def _lose(backup: Path) -> None:
    (backup / "valkey" / "appendonly.aof.manifest").unlink()


def _garble(backup: Path) -> None:
    (backup / "manifest.json").write_text("{")


def _manifest_with(**fields: Any) -> Callable[[Path], None]:
    def change(backup: Path) -> None:
        path = backup / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


_ELSEWHERE = [{"path": "spool/../../x", "size": 0, "sha256": ""}]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_flip, r"postgres\.dump is not what was backed up: use another backup$"),
        (_cut, rf"{SEGMENT} is not what was backed up"),
        (_lose, r"appendonly\.aof\.manifest: No such file"),
        (_garble, r"manifest\.json cannot be read"),
        (shutil.rmtree, r"manifest\.json: No such file"),
        (_manifest_with(version=2), "is a backup of layout 2, but this version reads layout 1"),
        (_manifest_with(files=3), r"manifest\.json cannot be read"),
        (_manifest_with(files=_ELSEWHERE), "which is not a file of a backup"),
    ],
)
async def test_damage_is_found_before_anything_is_restored(
    copied: Path, tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(copied)
    with pytest.raises(BackupError, match=complaint):
        await restore(Settings(data_dir=tmp_path / "var"), copied)
    assert not (tmp_path / "var").exists()


async def test_restore_that_fails_leaves_an_unused_directory(copied: Path, tmp_path: Path) -> None:
    manifest = check(copied)
    (copied / "manifest.json").unlink()
    files.write_manifest(copied, replace(manifest, stored=2))
    settings = Settings(data_dir=tmp_path / "var")
    with pytest.raises(BackupError, match="contains 1 clicks, but its manifest says 2"):
        await restore(settings, copied)
    assert names_in(settings.data_dir) == {"lock", "children"}


async def test_directory_that_is_used_is_not_restored_into(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "demo-token").touch()
    with pytest.raises(BackupError, match="is not empty, it contains demo-token: set TRACKER_DATA_DIR"):
        await restore(Settings(data_dir=tmp_path), backup)
    assert names_in(tmp_path) == {"demo-token"}


@pytest.mark.parametrize(
    ("changed", "target", "complaint"),
    [
        ({"redis_url": "redis://r"}, "new", "for the embedded engines: .* PostgreSQL with pg_dump"),
        ({"postgres_dsn": "postgresql://p"}, "new", "for the embedded engines"),
        ({"data_dir": Path("/nowhere")}, "new", "Is `tracker up` running on this TRACKER_DATA_DIR"),
        ({}, "used", "used is not empty: name a directory that does not exist yet"),
        ({}, "used/file", "used/file: Not a directory"),
        ({}, "absent/new", "absent/new.*: No such file or directory"),
        ({}, "/proc", "/proc is a mount point"),
    ],
)
async def test_backup_that_cannot_be_made_is_one_line(
    source: Settings, tmp_path: Path, changed: dict[str, Any], target: str, complaint: str
) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(BackupError, match=complaint):
        await back_up(replace(source, **changed), tmp_path / target)
    assert names_in(tmp_path) == {"used"}


async def test_full_disk_is_named_and_nothing_is_left(
    source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BackupError, match=rf"{SEGMENT}: No space left on device"):
        await back_up(source, tmp_path / "new")
    assert names_in(tmp_path) == set()


async def test_failing_dump_names_its_reason(
    source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make.backup, "export", _no_view)
    with pytest.raises(BackupError, match=r"^pg_dump: error: .*snapshot"):
        await back_up(source, tmp_path / "new")
    assert names_in(tmp_path) == set()


async def _no_view(_: db.Connection) -> str:
    return "00000000-00000000-1"


async def test_restart_of_valkey_is_noticed(
    source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = iter(range(2))
    ask = server_info.ask

    async def ask_another(url: str) -> server_info.StreamFacts:
        return (await ask(url))._replace(run_id=str(next(starts)))

    monkeypatch.setattr(server_info, "ask", ask_another)
    with pytest.raises(BackupError, match="Valkey has restarted meanwhile"):
        await back_up(source, tmp_path / "new")


@pytest.fixture
async def writer(engines: Engines) -> AsyncIterator[asyncpg.Connection]:
    """A writer in the middle of a batch."""
    connection = await asyncpg.connect(engines.postgres_dsn)
    await connection.execute("SELECT pg_advisory_lock_shared($1)", Lock.BACKUP_GATE)
    yield connection
    await connection.close()


async def until_waited_for(writer: asyncpg.Connection) -> None:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
    while not await writer.fetchval(query, Lock.BACKUP_GATE):
        await asyncio.sleep(0.01)


async def test_backup_waits_for_a_writer_in_the_middle_of_a_batch(
    source: Settings, engines: Engines, writer: asyncpg.Connection, tmp_path: Path
) -> None:
    backing_up = asyncio.create_task(back_up(source, tmp_path / "new"))
    await until_waited_for(writer)
    async with redis.asyncio.Redis.from_url(engines.redis_url) as client:
        before = await client.xlen("clicks:{0}")
        await client.xadd("clicks:{0}", {"a": "late"})
    await writer.execute("SELECT pg_advisory_unlock_shared($1)", Lock.BACKUP_GATE)
    assert (await backing_up).waiting == before + 1


async def test_interrupted_backup_leaves_no_file(
    source: Settings, writer: asyncpg.Connection, tmp_path: Path
) -> None:
    backing_up = asyncio.create_task(back_up(source, tmp_path / "new"))
    await until_waited_for(writer)
    backing_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await backing_up
    assert names_in(tmp_path) == set()


@pytest.mark.usefixtures("writer")
async def test_writer_that_is_stuck_is_not_waited_for_endlessly(
    source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "WRITER_SECONDS", 0.05)
    with pytest.raises(BackupError, match="a writer has been working on a batch for 0 s"):
        await back_up(source, tmp_path / "new")


async def test_rewrite_of_the_append_only_file_does_not_change_the_copy(engines: Engines) -> None:
    directory = append_only_dir(engines.settings.data_dir)
    with ExitStack() as opened:
        parts = append_only.open_at_once(directory, opened)
        sizes = {part.name: part.size for part in parts}
        async with redis.asyncio.Redis.from_url(engines.redis_url, decode_responses=True) as client:
            await client.set("later", "x" * 1000)
            await client.bgrewriteaof()
            while (await client.info("persistence"))["aof_rewrite_in_progress"] or all(
                (directory / name).exists() for name in sizes
            ):
                await asyncio.sleep(0.01)
        assert {part.name: len(part.file.read(part.size)) for part in parts} == sizes
        again = append_only.open_at_once(directory, opened)
    assert {part.name for part in again}.isdisjoint(name for name in sizes if "manifest" not in name)


def test_append_only_file_with_a_hole_ends_the_search(tmp_path: Path) -> None:
    lines = b"file a.base.rdb seq 1 type b\nfile old.aof seq 1 type h\nfile a.incr.aof seq 2 type i\n"
    (tmp_path / "appendonly.aof.manifest").write_bytes(lines)
    (tmp_path / "a.base.rdb").touch()
    with ExitStack() as opened:
        with pytest.raises(FileNotFoundError, match=r"a\.incr\.aof"):
            append_only.open_at_once(tmp_path, opened)
        (tmp_path / "a.incr.aof").write_bytes(b"12345")
        parts = append_only.open_at_once(tmp_path, opened)
    assert [(part.name, part.size) for part in parts[1:]] == [("a.base.rdb", 0), ("a.incr.aof", 5)]
    assert b"old.aof" not in parts[0].file.getbuffer()


async def test_series_keeps_what_a_drill_has_restored(source: Settings, tmp_path: Path) -> None:
    for name, is_good in (("2026-01-01T00-00-00Z", True), ("2026-01-02T00-00-00Z", False), ("other", True)):
        a_backup(tmp_path / name, is_good=is_good)
    made = await series.add(source, tmp_path, keep=1)
    assert names_in(tmp_path) == {"other", made.name}
    assert (verdict := drill.read_verdict(made)) is not None
    assert (verdict.is_good, verdict.problem) == (True, "")
    assert stat.S_IMODE((made / drill.VERDICT).stat().st_mode) == 0o600


def a_backup(directory: Path, *, is_good: bool | None) -> Path:
    """A directory that looks like a backup, with a verdict or without one."""
    directory.mkdir()
    (directory / files.MANIFEST).touch()
    if is_good is not None:
        verdict = drill.Verdict(is_good, "2026-01-01T00:00:00Z", 1, "0.2.0")
        (directory / drill.VERDICT).write_text(json.dumps(verdict._asdict()))
    return directory


@pytest.mark.parametrize(
    ("verdicts", "keep", "coming", "goes"),
    [
        ([True, True, True], 2, 0, 1),
        ([True, True, True], 2, 1, 2),
        ([True, False, None], 1, 0, 0),
        ([True, False, True], 1, 0, 2),
        ([False, None, True], 2, 0, 0),
        ([False, False], 1, 0, 0),
        ([], 1, 1, 0),
    ],
)
def test_last_good_backup_is_never_superfluous(
    tmp_path: Path, verdicts: list[bool | None], keep: int, coming: int, goes: int
) -> None:
    made = [
        a_backup(tmp_path / f"2026-01-0{day}T00-00-00Z", is_good=good) for day, good in enumerate(verdicts)
    ]
    assert series.superfluous(tmp_path, keep, coming) == made[:goes]


async def test_drill_of_a_damaged_backup_fails_and_removes_nothing(source: Settings, copied: Path) -> None:
    _flip(copied)
    with pytest.raises(BackupError, match="cannot be relied on"):
        await series.verify(source, copied)
    assert (verdict := drill.read_verdict(copied)) is not None
    assert not verdict.is_good
    assert names_in(copied.parent) == {copied.name}, "the drill leaves nothing behind"
