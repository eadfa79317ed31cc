"""A tracker is backed up under load, lost and restored. Each answered click is there once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.conftest import Furnish
from tests.e2e.rights import rights_in
from tests.e2e.running import PATIENCE, Up, up, wait_until
from tests.environ import clean_environ
from tests.integration.people import COMMAND_LINE, HOME, PASSWORD, people_of
from tracker.people.sign_in import SignedIn
from tracker.processes.engines.engine import postgres_dsn
from tracker.settings import Settings
from tracker.store import shares
from tracker.store.shares import NewShare

_LINK = "/offer/3?affiliate_id=513"


def tracker(data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = clean_environ()
    command = [sys.executable, "-m", "tracker", *words]
    env = clean | {"TRACKER_DATA_DIR": str(data_dir)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, umask=0)


@pytest.mark.timeout(120)
def test_restored_tracker_has_each_answered_click_once(
    furnish: Furnish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.load.CONNECTIONS", 4)
    lost, backup, restored = tmp_path / "lost", tmp_path / "backup", tmp_path / "restored"
    # Batches of a second, so that clicks wait on the stream at any time.
    with up(furnish(lost), TRACKER_BATCH_AGE_MS="1000") as running:
        used = asyncio.run(_sign_up(running))
        answered = asyncio.run(_back_up_under_load(running, backup))
    assert rights_in(backup) == {"drwx------", "-rw-------"}
    done = tracker(restored, "restore", str(backup))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        f"next: TRACKER_DATA_DIR={restored} tracker up",
    )
    (restored / "demo-token").write_text((lost / "demo-token").read_text())  # no backup has secrets
    with up(restored) as running:
        wait_until(lambda: answered.keys() <= {sub for sub, _ in _stored(running)})
        stored = _stored(running)
        assert [sub for sub, times in Counter(sub for sub, _ in stored).items() if times > 1] == []
        assert {sub: link for sub, link in stored if sub in answered} == answered
        books = tracker(restored, "ledger")
        assert books.returncode == 0, books.stdout
        assert running.admin_link == ""
        asyncio.run(_sign_in_again(running, used))


async def _sign_up(running: Up) -> SignedIn:
    """The first admin's session, a link of somebody invited, and a shared report."""
    async with people_of(Settings(postgres_dsn=postgres_dsn(running.data_dir))) as people:
        joined = await people.sign_in.with_link(running.admin_link, PASSWORD, HOME, email="jane@net.example")
        await people.invited("tom@net.example")
        new = NewShare("All", "group_by=day&measures=clicks&tz=UTC", None, False, timedelta(days=1))
        async with people.pool.acquire() as connection:
            await shares.add(connection, b"digest", COMMAND_LINE, new)
        return joined


async def _sign_in_again(running: Up, used: SignedIn) -> None:
    """A copy has the users and their passwords. Sessions, links and shares work in the original only."""
    async with people_of(Settings(postgres_dsn=postgres_dsn(running.data_dir))) as people:
        assert await people.is_over(used)
        assert await people.pool.fetchval("SELECT count(*) FROM one_time_link") == 0
        assert await people.pool.fetchval("SELECT count(*) FROM report_share WHERE ended_at IS NULL") == 0
        assert await people.pool.fetchval("SELECT count(*) FROM report_share") == 1
        await people.sign_in.with_password("jane@net.example", PASSWORD, HOME)


async def _back_up_under_load(running: Up, backup: Path) -> dict[str, str]:
    """The targets of the clicks answered before the backup began."""
    async with asyncio.timeout(PATIENCE), Load([running.port], _LINK) as load:
        await load.answers(300)
        answered = dict(load.answered)
        done = await asyncio.to_thread(tracker, running.data_dir, "backup", str(backup))
        await load.answers(100)
    assert done.returncode == 0, done.stderr
    assert "backup: the writers were paused for " in done.stderr
    assert load.unexpected == []
    assert load.refused == 0
    return answered


def _stored(running: Up) -> list[tuple[str, str]]:
    """aff_sub and redirected_link of all clicks."""
    path = "/backend/open-api/v1/users/clicks/export?format=ndjson"
    response, body = running.get(path, running.api_port, Authorization=f"Bearer {running.token}")
    assert response.status == 200, body
    clicks = [json.loads(line) for line in body.splitlines()]
    return [(click["aff_sub"], click["redirected_link"]) for click in clicks]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["backup", "new"], "Valkey cannot be reached"),
        (["restore", "absent"], "absent/manifest.json: No such file or directory"),
        (["restore", "--check", "absent"], "absent/manifest.json: No such file or directory"),
    ],
)
def test_error_is_one_line(tmp_path: Path, words: list[str], complaint: str) -> None:
    done = tracker(tmp_path / "var", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
