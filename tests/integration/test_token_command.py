"""`tracker token`, and the doctor's findings on tokens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import CLICKS, api_of, run_sql
from tracker import cli
from tracker.ops.doctor import report
from tracker.settings import Settings

pytestmark = pytest.mark.anyio


class Shell:
    """Runs the command on a test's database and returns its output."""

    def __init__(
        self,
        settings: Settings,
        patch: pytest.MonkeyPatch,
        captured: pytest.CaptureFixture[str],
        command: str = "token",
    ) -> None:
        assert settings.postgres_dsn
        patch.setenv("TRACKER_POSTGRES_DSN", settings.postgres_dsn)
        patch.setenv("TRACKER_REDIS_URL", settings.redis_url or "")
        patch.setenv("TRACKER_DATA_DIR", str(settings.data_dir))
        self._captured = captured
        self._command = command
        self.stderr = ""

    async def __call__(self, *words: str, code: int = 0) -> str:
        try:
            returned = await asyncio.to_thread(cli.main, [self._command, *words])
        except SystemExit as exit_:
            returned = int(str(exit_.code))
        out, err = self._captured.readouterr()
        assert returned == code, err
        self.stderr = err
        return out.strip() if code == 0 else err.strip()

    async def json(self, *words: str) -> Any:
        return json.loads(await self(*words, "--json"))


@pytest.fixture
def shell(database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(database, monkeypatch, capsys)


async def status_of(client: AsyncClient, secret: str, path: str = CLICKS) -> int:
    return (await client.get(path, headers={"Authorization": f"Bearer {secret}"})).status_code


async def test_token_is_made_listed_shown_rotated_and_revoked(database: Settings, shell: Shell) -> None:
    create = ("create", "--scope", "clicks:read", "--scope", "offers:read", "--name", "bi")
    secret = await shell(*create, "--expires-in", "7", "--rate", "9/second")
    (row,) = await shell.json("list")
    told = (row["name"], row["scopes"], row["rate_limit"], row["hint"])
    assert told == ("bi", ["clicks:read", "offers:read"], "9/second", secret[:8])
    assert f"{secret[:8]}…  bi: clicks:read offers:read, expires " in await shell("list")
    assert await shell.json("show", "1") == row
    assert secret not in str(row)
    assert "rate_limit      9/second" in await shell("show", "1")
    async with api_of(database, scopes=()) as client:
        second = await shell("rotate", "1", "--overlap-hours", "1")
        assert [await status_of(client, each) for each in (secret, second)] == [200, 200]
        refused = await shell("rotate", "1", code=1)
        assert refused.startswith("tracker: the secret before the last rotation works until ")
        third = await shell("rotate", "1", "--overlap-hours", "0")
        assert [await status_of(client, each) for each in (secret, second, third)] == [401, 401, 200]
        assert await shell("revoke", "1") == "token 1 is revoked"
        assert await status_of(client, third) == 401
    assert await shell.json("list") == []
    assert [row["id"] for row in await shell.json("list", "--revoked")] == [1]
    assert await shell("rotate", "1", code=1) == "tracker: token 1 has been revoked"
    assert await shell("show", "2", code=1) == "tracker: there is no token 2"
    async with api_of(database, scopes=("admin",)) as client:
        trail = (await client.get("/backend/open-api/v1/users/audit?path=tokens/1")).json()["data"]
    assert [(change["token_name"], change["action"]) for change in trail] == [
        *[("tracker token", "update")] * 3,
        ("tracker token", "create"),
    ]


async def test_token_is_bound(database: Settings, shell: Shell) -> None:
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'Jane')")
    secret = await shell("create", "--scope", "clicks:read", "--affiliate", "513")
    async with api_of(database, scopes=()) as client:
        assert await status_of(client, secret, "/backend/open-api/v1/affiliates/clicks") == 200
        assert await status_of(client, secret) == 403
    assert " - affiliate 513: clicks:read" in await shell("list")


REFUSED = [
    (["--scope", "clicks:read", "--affiliate", "7"], 1, "tracker: there is no affiliate 7"),
    (["--scope", "clicks:read", "--advertiser", "7"], 1, "tracker: there is no advertiser 7"),
    (["--scope", "admin", "--affiliate", "7"], 1, "tracker: scopes: admin (possible: clicks:read, "),
    (["--scope", "clicks:read", "--affiliate", "7", "--advertiser", "8"], 2, "not allowed with argument"),
    (["--scope", "clicks:read", "--rate", "lots"], 2, "'lots' is not a rate such as 600/minute"),
    (["--scope", "root"], 2, "invalid choice: 'root'"),
]


async def test_wrong_arguments_make_no_token(shell: Shell) -> None:
    for words, code, complaint in REFUSED:
        assert complaint in await shell("create", *words, code=code), words
    assert await shell.json("list") == []


async def test_doctor_names_tokens_that_end(database: Settings, shell: Shell) -> None:
    (finding,) = await report.examine(database, "tokens")
    assert (finding.level, finding.text) == ("ok", "no token has expired or expires within 14 days")
    for name, days in (("soon", "13"), ("later", "15"), ("never", ""), ("gone", "1"), ("revoked", "1")):
        await shell(
            "create", "--scope", "clicks:read", "--name", name, *(["--expires-in", days] if days else [])
        )
    await run_sql(database, "UPDATE token SET expires_at = '2026-01-02 03:04+00' WHERE name = 'gone'")
    await shell("revoke", "5")
    findings = await report.examine(database, "tokens")
    assert [finding.level for finding in findings] == ["warn", "warn"]
    assert findings[0].text == "token 4 (gone) has expired at 2026-01-02 03:04 UTC"
    assert findings[1].text.startswith("token 1 (soon) expires at ")
    assert findings[0].advice == "create another one, or revoke it: tracker token revoke 4"
