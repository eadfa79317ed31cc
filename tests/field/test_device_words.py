"""Operating systems, browsers and languages as people write them in targeting."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of
from tests.integration.edge_client import edge_of
from tests.integration.importing import Importer, importer
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker import device
from tracker.domain import devices, languages, normalise
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer", "tracker"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
_CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
MAC = _CHROME.format("Macintosh; Intel Mac OS X 10_15_7")
WINDOWS = _CHROME.format("Windows NT 10.0; Win64; x64")

SAME = [
    ("os", "macOS", "Mac OS X", "Apple's name of today"),
    ("os", "OS X", "Mac OS X", "Apple's name of 2012"),
    ("os", "mac-os", "Mac OS X", "with a hyphen"),
    ("os", "ChromeOS", "Chrome OS", "without a blank"),
    ("os", "iPhone OS", "iOS", "its first name"),
    ("os", "Microsoft Windows", "Windows", "with its maker"),
    ("os", "Harmony OS", "HarmonyOS", "with a blank"),
    ("os", "windows", "windows", "known in any case"),
    ("browser", "Google Chrome", "Chrome", "with its maker"),
    ("browser", "Internet Explorer", "IE", "in full"),
    ("browser", "Microsoft Edge", "Edge", "with its maker"),
    ("browser", "Samsung Browser", "Samsung Internet", "what everybody calls it"),
    ("browser", "iOS Safari", "Mobile Safari", "as caniuse has it"),
    ("browser", "Chrome for Android", "Chrome Mobile", "as caniuse has it"),
    ("browser", "Mozilla Firefox", "Firefox", "with its maker"),
    ("device_type", "mobile", "phone", "what Google calls it"),
    ("device_type", "Smart TV", "tv", "what shops call it"),
    ("device_type", "PC", "desktop", "what everybody calls it"),
    ("platform", "x86_64", "x64", "as Linux writes it"),
    ("platform", "aarch64", "ARM", "as Linux writes it"),
    ("language", "German", "de", "the English name"),
    ("language", "deu", "de", "ISO 639-2"),
    ("language", "ger", "de", "ISO 639-2, bibliographic"),
    ("language", "pt_BR", "pt-BR", "as POSIX writes it"),
    ("language", "EN", "en", "in any case"),
    ("language", "fil", "fil", "a language without a code of two letters"),
]  # fmt: skip
WARNED = [
    ("os", "Windows 10", "'Windows'", "the version is no part of the name"),
    ("os", "Windoze", "'Windows'", "a slip"),
    ("os", "iPadOS", "'iOS'", "an iPad is read as iOS, and so is a phone: no alias"),
    ("os", "Andriod", "'Android'", "a slip"),
    ("os", "iPhone", "'iOS'", "a device, not a system"),
    ("os", "Fire TV", "'Android'", "a device, not a system"),
    ("browser", "WebView", "'Chrome Mobile WebView'", "no browser, but how apps show pages"),
    ("browser", "Chrom", "'Chrome'", "a slip"),
    ("browser", "Firefox 132", "'Firefox'", "the version is no part of the name"),
    ("browser", "Netscape Navigator", "'Netscape'", "the first word is one"),
    ("browser", "Zzyzx", "is not a name", "nothing is near"),
]
REFUSED = [
    ("device_type", "watch", "not a type that is told apart"),
    ("platform", "Intel", "one maker, two architectures"),
    ("language", "jp", "a country's code"),
    ("language", "en-", "nothing behind the hyphen"),
    ("language", "de-DE;q=0.8", "a whole header"),
    ("language", "Deutsch", "not English"),
    ("language", "klingon", "no browser asks for it"),
    ("region", "XX-1", "nobody's country"),
    ("region", "California", "without its country"),
]  # fmt: skip


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read", "offers:write")) as client:
        yield client


async def test_words_with_another_name_are_saved_under_ours(client: AsyncClient) -> None:
    for rule, written, word, reason in SAME:
        for demand, saved in (([written], [word]), ({"not": [written]}, {"not": [word]})):
            answer = await client.patch(f"{USERS}/offers/3", json={"targeting": None})
            answer = await client.patch(f"{USERS}/offers/3", json={"targeting": {rule: demand}})
            body = answer.json()
            assert (answer.status_code, body["targeting"], body.get("warnings")) == (
                200,
                {rule: saved},
                None,
            ), reason


async def test_words_of_no_device_are_warned_of(client: AsyncClient) -> None:
    for rule, written, near, reason in WARNED:
        url = {"url": "https://ad.test/", "targeting": {rule: [written]}}
        for path in ("offers/3/urls", "offers"):
            body = (
                url if path != "offers" else {"name": "o", "advertiser_id": 1, "targeting": {rule: [written]}}
            )
            answer = await client.post(f"{USERS}/{path}", json=body)
            assert answer.status_code == 201, reason
            assert answer.json()["targeting"] == {rule: [written]}, reason
            told = [text for text in answer.json()["warnings"] if text.startswith(f"targeting: {rule}: ")]
            assert [near in text for text in told] == [True], (reason, told)
        place = answer.headers["location"]
        assert "warnings" not in (await client.get(place)).json()  # languages belong to the change
        again = await client.patch(place, json={"name": "other"})
        assert "warnings" not in again.json()


async def test_languages_that_browsers_ask_for_by_another_code_are_warned_of(client: AsyncClient) -> None:
    for written, asked in (
        ("Norwegian", "nb"),
        ("iw-IL", "he"),
        ("in", "id"),
        ("Tagalog", "fil"),
        ("mo", "ro"),
    ):
        for targeting, warned in (({"language": [written]}, 1), ({"language": {"not": [written, asked]}}, 0)):
            await client.patch(f"{USERS}/offers/3", json={"targeting": None})
            answer = await client.patch(f"{USERS}/offers/3", json={"targeting": targeting})
            warnings = answer.json().get("warnings", [])
            assert [f"browsers of today ask for {asked}" in text for text in warnings] == [True] * warned


async def test_meaningless_words_are_refused(client: AsyncClient) -> None:
    for rule, written, reason in REFUSED:
        answer = await client.patch(f"{USERS}/offers/3", json={"targeting": {rule: [written]}})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["targeting"]), reason


async def test_live_clicks_are_steered_by_the_words(client: AsyncClient, database: Settings) -> None:
    targeting = {"os": ["macOS"], "language": ["German"]}
    assert (await client.patch(f"{USERS}/offers/3", json={"targeting": targeting})).status_code == 200
    async with edge_of(database, demo=False) as edge:
        for agent, language, status in ((MAC, "de-AT", 302), (MAC, "fr", 403), (WINDOWS, "de", 403)):
            headers = {"User-Agent": agent, "Accept-Language": language}
            assert (await edge.get("/offer/3?affiliate_id=513", headers=headers)).status_code == status


async def test_command_line_and_files_warn_alike(tracker: Tracker, importer: Importer) -> None:
    done = await tracker("offers", "set", "3", 'targeting={"os": ["Windows 10", "macOS"]}')
    assert (done.code, '"os":["Windows 10","Mac OS X"]' in done.out) == (0, True)
    assert "tracker: warning: targeting: os: 'Windows 10' is not a name" in done.err
    path = importer.file("more.yaml", "offers: [{id: 3, targeting: {browser: [Chrom]}}]")
    imported = await importer.run("catalogue", path)
    assert (imported.code, "the nearest is 'Chrome'" in imported.err) == (0, True)


def test_known_names_are_those_of_the_reader() -> None:
    with (Path(__file__).parents[1] / "unit" / "user_agents.tsv").open(newline="") as lines:
        agents = [row["user_agent"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    read = [device.read(agent, "") for agent in agents]
    assert {found.os for found in read} <= device.systems()
    people = {found.browser for found in read if found.type in ("desktop", "phone", "tablet")}
    named = people - {""} - device.browsers()
    assert len(named) < len(people) / 10, named  # apps have names of their own


def test_aliases_lead_to_names_of_the_reader() -> None:
    assert set(devices.SYSTEMS.values()) <= device.systems()
    assert set(devices.BROWSERS.values()) <= device.browsers()
    assert [name for name in device.browsers() if normalise.browser(name) != name] == []
    assert [name for name in device.systems() if normalise.system(name) != name] == ["Mac OS"]  # of 1999
    assert {len(code) for code in languages.known().values()} == {2}
