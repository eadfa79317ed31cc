"""Advertisers' secrets of an earlier tracker: added by value, kept as a hash, and hidden in every log."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from io import BytesIO, TextIOWrapper
from typing import Any
from urllib.parse import quote

import pytest

from tests.field.advertiser import advertiser_of
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.settings import Settings
from tracker.stream.refused_postbacks import RefusedStream
from tracker.stream.unmatched import read
from workers import conversion_writer, refused_log

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
KEY = "9f8e7d6c5b4a39281706"
DOTTED = "old.key-of_PlayGames~2019"

WORTHLESS: list[tuple[Any, str]] = [
    ("a1b2c3d4e5f6a7b", "needs at least 16 characters"),
    ("a" * 40, "6 different ones"),
    ("0101010101010101010101", "6 different ones"),
    (" " * 10 + "abcdef" + " " * 10, "needs at least 16 characters"),
    ("abcdef/ghijkl=mnopqr", "characters that logs cannot hide"),
    ("abcdef ghijkl mnopqr", "characters that logs cannot hide"),
    ("schlüssel-von-früher", "characters that logs cannot hide"),
    ("abc123" * 100, "at most 500 characters"),
    (12345678901234567890, "valid string"),
]


async def test_old_key_is_added_by_value_and_belongs_to_one_advertiser(database: Settings) -> None:
    async with (
        advertiser_of(database) as advertiser,
        api_of(database, scopes=("offers:read", "money:write")) as client,
    ):
        secrets = f"{USERS}/advertisers/1/postback-secrets"
        for key, why in WORTHLESS:
            refused = await client.post(secrets, json={"secret": key})
            assert (refused.status_code, list(refused.json()["errors"])) == (422, ["secret"]), key
            assert why in refused.json()["errors"]["secret"][0], refused.text
            assert str(key).strip() not in refused.text
        made = await client.post(secrets, json={"name": "old", "secret": f" {KEY}\n"})
        assert (made.status_code, made.json()["secret"]) == (201, None)
        assert KEY not in made.text
        place = f"{secrets}/{made.json()['id']}"
        for other in (secrets, f"{USERS}/advertisers/2/postback-secrets"):
            taken = await client.post(other, json={"secret": KEY})
            assert (taken.status_code, list(taken.json()["errors"])) == (409, ["secret"])
            assert "PlayGames" not in taken.text
        assert (await client.patch(place, json={"secret": DOTTED})).status_code == 422
        shown = [(await client.get(url)).text for url in (place, secrets, f"{USERS}/audit")]
        rows = await advertiser.fetch("SELECT secret_hash = sha256($1) FROM advertiser_secret", KEY.encode())
        assert (True,) in rows
        assert KEY not in str(shown)
        click = await advertiser.click()
        while (await advertiser.edge.get(f"/postback?click_id={click}&token={KEY}")).status_code == 403:
            await asyncio.sleep(0.01)
        await conversion_writer.run(database, burst=True)
        assert await advertiser.conversions("status", click) == [("approved",)]


async def test_old_key_is_hidden_in_every_log(database: Settings) -> None:
    form = """
    INSERT INTO postback_form (name, path, parameters) VALUES ('key', '/{secret}/postback', '{"sub": "hash"}')
    """
    async with advertiser_of(database) as advertiser, api_of(database, scopes=("money:write",)) as client:
        made = await client.post(f"{USERS}/advertisers/1/postback-secrets", json={"secret": DOTTED})
        assert made.status_code == 201
        await advertiser.connection.execute(form)
        click = await advertiser.click()
        while (await advertiser.edge.get(f"/{DOTTED}/postback?sub={click}")).status_code != 200:
            await asyncio.sleep(0.01)
        calls = (
            f"/{DOTTED}/postback?sub={click}&order_id=1&adv_sub={DOTTED}&x=a,{DOTTED}",
            f"/{DOTTED}/postback?order_id=1&y={quote(quote(DOTTED))}",
            f"/{DOTTED}/postback?sub=1&status=huh&{DOTTED}=1",
            f"/postback?order_id={DOTTED}&token={DOTTED}",
            f"/offer/99?affiliate_id=513&k={DOTTED}",
        )
        for call in calls:
            await advertiser.edge.get(call, headers={"Referer": f"https://a.test/{DOTTED}/x"})
        await conversion_writer.run(database, burst=True)
        assert database.redis_url
        async with RefusedStream(database.redis_url) as stream:
            while (await advertiser.fetch("SELECT count(*) FROM postback WHERE result = 'refused'"))[0][
                0
            ] < 3:
                await refused_log.once(database, stream)
                await asyncio.sleep(0.05)
            while not (unmatched := await read(database.redis_url, 10)):
                await asyncio.sleep(0.05)
        logged = await advertiser.fetch("SELECT postback::text FROM postback")
        assert len(logged) >= 5
        assert DOTTED not in str(logged)
        assert DOTTED not in str(unmatched)


async def test_command_takes_an_old_key_from_a_file_or_stdin(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    await importer.command("demo")
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "catalogue.yaml").write_text(f"advertiser_postback_secrets: [{{secret: {DOTTED}}}]\n")
    for words, code, said in (
        (("add", "1", f"secret={KEY}"), 1, "secret is never an argument"),
        (("add", "1", "--secret-file", str(tmp_path / "none")), 1, "cannot be read"),
        (("add", "1", "name=old", "--secret-file", str(tmp_path / "key"), "--dry-run"), 0, "old"),
        (("add", "1", "name=old", "--secret-file", str(tmp_path / "key")), 0, "old"),
        (("add", "2", "--secret-file", str(tmp_path / "key")), 1, "secret is taken"),
    ):
        done = await importer.command("postback-secrets", *words)
        assert done.code == code, done
        assert said in done.out + done.err, done
        assert KEY not in done.out + done.err
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(f"{DOTTED}\r\n".encode())))
    assert (await importer.command("postback-secrets", "add", "2", "--secret-file", "-")).code == 0
    digests = await importer.fetch("SELECT secret_hash FROM advertiser_secret ORDER BY id")
    assert digests == [(sha256(key.encode()).digest(),) for key in (KEY, DOTTED)]
    refused = await importer.command("import", "catalogue", str(tmp_path / "catalogue.yaml"))
    assert refused.code == 1
    assert "advertiser_postback_secrets is not one of" in refused.err
