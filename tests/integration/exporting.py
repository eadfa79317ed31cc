"""Two trackers: one is exported, and the other imports the files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Databases, Engines
from tests.integration.importing import Done, Importer, importer
from tracker.settings import Settings

__all__ = ["importer", "two"]


class Two:
    """A tracker with data and a fresh one. Commands run on one of them."""

    def __init__(self, first: Importer, second: Importer, patch: pytest.MonkeyPatch) -> None:
        self.first = first
        self.second = second
        self._patch = patch

    async def at(self, which: Importer, *words: str | Path) -> Done:
        """Run a command that must succeed."""
        self._patch.setenv("TRACKER_POSTGRES_DSN", str(which.settings.postgres_dsn))
        done = await which.command(*words)
        assert done.code == 0, done.err
        return done


@pytest.fixture
async def two(
    importer: Importer,
    database: Settings,
    databases: Databases,
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> AsyncIterator[Two]:
    name = await databases.take()
    other = replace(database, postgres_dsn=engines.dsn_of(name))
    yield Two(importer, Importer(other, capsys, tmp_path), monkeypatch)
    databases.give_back(name)
