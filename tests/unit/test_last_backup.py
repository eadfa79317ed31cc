"""The last verified backup, as the doctor tells it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tracker.ops.backup import last
from tracker.ops.doctor import report
from tracker.settings import Settings


def said_of(settings: Settings) -> list[tuple[str, str]]:
    return [(one.level, one.text) for one in asyncio.run(report.examine(settings, "backup"))]


def a_note(data_dir: Path, age: timedelta) -> None:
    last.note(data_dir, Path("/backups/one"), f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%SZ}")


@pytest.mark.parametrize(
    ("age", "level", "said"),
    [
        (timedelta(hours=1), "ok", "/backups/one of "),
        (timedelta(days=1, hours=23), "ok", "was verified"),
        (timedelta(days=2, minutes=1), "warn", "more than 2 days old"),
    ],
)
def test_backup_is_fine_for_two_days(tmp_path: Path, age: timedelta, level: str, said: str) -> None:
    a_note(tmp_path, age)
    ((found, text),) = said_of(Settings(data_dir=tmp_path))
    assert (found, said in text) == (level, True)
    assert (tmp_path / last.FILE).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"made_at": 7, "path": ""}', b"[]"])
def test_tracker_without_a_verified_backup_is_a_warning(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / last.FILE).write_bytes(content)
    assert said_of(Settings(data_dir=tmp_path)) == [("warn", "there is no verified backup of this tracker")]


def test_newer_note_takes_the_place_of_the_older(tmp_path: Path) -> None:
    a_note(tmp_path, timedelta(days=9))
    a_note(tmp_path, timedelta(hours=1))
    assert [level for level, _ in said_of(Settings(data_dir=tmp_path))] == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == [last.FILE]


def test_own_postgresql_is_not_the_trackers_to_back_up(tmp_path: Path) -> None:
    assert said_of(Settings(data_dir=tmp_path, postgres_dsn="postgresql://tracker@db/tracker")) == []
