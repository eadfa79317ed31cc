"""Names as people write and copy them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.importing import Importer, importer
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer", "tracker"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
CAFE, CAFE_APART = "Caf\u00e9", "Cafe\u0301"

SAME = [
    ("Puzzle Quest", "Puzzle Quest", "as it is"),
    ("  Puzzle Quest\n", "Puzzle Quest", "copied with what stood around it"),
    ("\ufeffPuzzle Quest\u200b", "Puzzle Quest", "with a byte order mark and a zero-width space"),
    (CAFE_APART, CAFE, "its accent apart, as macOS writes file names"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\uae00", "Hangul in its parts"),
    ("\u212bngstr\u00f6m", "\u00c5ngstr\u00f6m", "the sign for an \u00e5ngstr\u00f6m is the letter"),
    ("\U0001f600", "\U0001f600", "an emoji is a name"),
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "joiners within stay",
    ),
    (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "so do non-joiners",
    ),
    ("?", "?", "a sign is a name"),
]
UNSEEN = [
    (" ", "a blank"),
    ("\u00a0\u3000", "blanks of other kinds"),
    ("\t\n", "controls"),
    ("\u200b", "a zero-width space"),
    ("\u2060\u200d\ufeff", "several of these"),
    ("\u202e\u202c", "directions"),
    ("\u00ad", "a hyphen that is not shown"),
    ("\u3164", "a filler of Hangul, which is a letter"),
    ("\uffa0", "another in half width"),
    ("\u2800", "Braille without a dot"),
    ("\ufe0f", "how to show what is not there"),
    ("\u034f", "a joiner of nothing"),
    ("\U000e0041", "a tag"),
    ("\u0301", "an accent alone"),
]


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    scopes = ("offers:read", "offers:write", "money:write", "admin")
    async with api_of(database, scopes=scopes) as client:
        yield client


def doors(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Doors that create a row with a name."""
    return [
        ("offers", {"name": name, "advertiser_id": 1}),
        ("advertisers", {"name": name}),
        ("affiliates", {"name": name}),
        ("offers/3/goals", {"name": name}),
        ("offers/3/urls", {"name": name, "url": "https://ad.example/"}),
        ("advertisers/1/postback-secrets", {"name": name}),
        ("link-forms", {"name": name, "path": f"/f{abs(hash(name))}", "parameters": {"o": "offer_id"}}),
        ("tokens", {"name": name, "scopes": ["clicks:read"]}),
    ]


async def test_name_is_stored_in_nfc_and_found_in_any_form(client: AsyncClient) -> None:
    for written, name, reason in SAME:
        for path, body in doors(written):
            made = await client.post(f"{USERS}/{path}", json=body)
            assert (made.status_code, made.json()["name"]) == (201, name), (path, reason, made.text)
        if not written.endswith("\n"):  # no parameter has controls
            found = await client.get(f"{USERS}/affiliates", params={"name": written})
            assert {row["name"] for row in found.json()["data"]} == {name}, reason


async def test_invisible_name_is_refused_at_every_door(client: AsyncClient) -> None:
    for written, reason in UNSEEN:
        for path, body in doors(written):
            refused = await client.post(f"{USERS}/{path}", json=body)
            assert (refused.status_code, list(refused.json()["errors"])) == (422, ["name"]), (path, reason)
        refused = await client.patch(f"{USERS}/offers/3", json={"name": written})
        assert refused.status_code == 422, reason
        refused = await client.post(f"{USERS}/bot-rules", json={"field": "user_agent", "value": written})
        assert refused.status_code == 422, reason


async def test_names_that_are_optional_may_still_be_empty(client: AsyncClient) -> None:
    made = await client.post(f"{USERS}/offers/3/urls", json={"name": "", "url": "https://ad.example/"})
    assert (made.status_code, made.json()["name"]) == (201, "")


async def test_older_name_stays_until_it_is_changed_and_is_found(
    client: AsyncClient, database: Settings
) -> None:
    await run_sql(database, "UPDATE affiliate SET name = $1 WHERE id = 513", CAFE_APART)
    answer = await client.patch(f"{USERS}/affiliates/513", json={"group_id": 9})
    assert (answer.status_code, answer.json()["name"]) == (200, CAFE_APART)
    for written in (CAFE, CAFE_APART, f" {CAFE} "):
        found = await client.get(f"{USERS}/affiliates", params={"name": written})
        assert [row["id"] for row in found.json()["data"]] == [513]
    await run_sql(database, "UPDATE affiliate SET name = ' ' WHERE id = 513")
    assert (await client.patch(f"{USERS}/affiliates/513", json={"group_id": 8})).status_code == 200


async def test_command_line_takes_names_alike(tracker: Tracker) -> None:
    assert (await tracker("affiliates", "add", f"name= {CAFE_APART} ", "--json")).json()["name"] == CAFE
    assert len((await tracker("affiliates", "list", f"name={CAFE_APART}", "--json")).out.splitlines()) == 1
    for words in (
        ("affiliates", "add", "name=\u200b"),
        ("token", "create", "--scope", "clicks:read", "--name", " "),
    ):
        done = await tracker(*words)
        assert (done.code, "a visible character" in done.err) == (1, True)


JSON_NAMES = [
    ("\U0001f600 Quest", "an emoji"),
    ("\U0001f468\u200d\U0001f469\u200d\U0001f467 Family", "three emoji, joined"),
    ("\U0001d54f", "a mathematical letter"),
    ("\U00020000\U0002a6d6", "two ideographs"),
    ('say "\U0001f600\\', "with quotation marks and a backslash before it"),
    ("a\\\\\U0001f600", "with two of these"),
    ("\\ud83d\\ude00", "the escapes themselves, as a text"),
    ("Caf\u00e9 \u20ac", "characters with one escape"),
]


@pytest.mark.parametrize(("name", "reason"), JSON_NAMES)
async def test_catalogue_of_json_is_read_as_encoders_write_it(
    importer: Importer, name: str, reason: str
) -> None:
    await importer.catalogue()
    wanted = {"affiliates": [{"id": 700, "name": name}], "offers": [{"id": 3, "name": name}]}
    for indent in (None, 2):
        for is_ascii in (True, False):
            text = json.dumps(wanted, ensure_ascii=is_ascii, indent=indent)
            for content in (text, text.replace("\\ud8", "\\uD8").replace("\\ude", "\\uDE")):
                if "\\uD8" in content and "\\\\uD8" in content:
                    continue  # these are not escapes
                done = await importer.run("catalogue", importer.file("more.json", content), "--json")
                assert done.code == 0, (reason, done.err)
    assert await importer.fetch("SELECT name FROM affiliate WHERE id = 700") == [(name,)], reason


async def test_yaml_takes_the_escapes_in_quotation_marks_too(importer: Importer) -> None:
    await importer.catalogue()
    content = """
affiliates:
  - {id: 700, name: "\\ud83d\\ude00 Quest"}  # "
  - {id: 701, name: '\\ud83d\\ude00'}
"""
    done = await importer.run("catalogue", importer.file("more.yaml", content))
    assert done.code == 0, done.err
    assert await importer.fetch("SELECT name FROM affiliate WHERE id >= 700 ORDER BY id") == [
        ("\U0001f600 Quest",),
        ("\\ud83d\\ude00",),
    ]


@pytest.mark.parametrize("escape", ["\\ud83d", "\\ude00\\ud83d", "\\ud83dx"])
async def test_half_a_pair_is_refused_in_one_line(importer: Importer, escape: str) -> None:
    await importer.catalogue()
    done = await importer.run(
        "catalogue", importer.file("more.json", f'{{"offers": [{{"id": 3, "name": "{escape}"}}]}}')
    )
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "more.json" in done.err


async def test_files_name_an_object_in_any_form(importer: Importer) -> None:
    await importer.catalogue()
    for written in (CAFE, CAFE_APART, f" {CAFE}\u200b"):
        wanted = {
            "advertisers": [{"name": written}],
            "offers": [{"name": "Puzzle Quest", "advertiser": written}],
        }
        done = await importer.run("catalogue", importer.file("more.json", json.dumps(wanted)), "--json")
        assert done.code == 0, done.err
    assert await importer.fetch("SELECT count(*) FROM advertiser WHERE name = $1", CAFE) == [(1,)]
    assert await importer.fetch("SELECT count(*) FROM advertiser") == [(2,)]
    for unseen, reason in UNSEEN:
        path = importer.file("wrong.json", json.dumps({"affiliates": [{"name": unseen}]}))
        refused = await importer.run("catalogue", path)
        assert (refused.code, "a visible character" in refused.err) == (1, True), reason
