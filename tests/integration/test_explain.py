"""The explanation of a link, by the code of the edge and without a trace."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of, recorded
from tests.integration.importing import Importer, importer
from tests.unit.mmdb import write_mmdb
from tracker.ops.explain import Question, UnreadableUrlError, explain, in_words
from tracker.ops.geo_lookup import GeoLookup
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream import server_info
from tracker.stream.waiting_clicks import waiting_clicks

__all__ = ["importer"]

pytestmark = pytest.mark.anyio

PATH = "/backend/open-api/v1/explain"
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"
MONDAY_NOON = 1_795_435_200_000  # 2026-11-23 12:00 UTC
LINK = "http://go.test/offer/3?affiliate_id=513"


@pytest.fixture
async def demo(database: Settings) -> Settings:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    return database


async def told_of(settings: Settings, url: str, **changes: Any) -> dict[str, Any]:
    question = Question(url, "192.0.2.7", DESKTOP, "de", "", MONDAY_NOON)._replace(**changes)
    return await explain(settings, GeoLookup(()), question)


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("SELECT", LINK, {}, {"http_status": 302, "status": "accepted", "reason": 0, "offer_url_id": 132}),
    ("UPDATE offer SET redirect_status = 307", LINK, {}, {"http_status": 307}),
    ("SELECT", f"{LINK}&url_id=133", {}, {"status": "accepted", "offer_url_id": 133}),
    ("SELECT", f"{LINK}&aff_sub=a%20b", {}, {"status": "accepted"}),
    ("UPDATE offer SET status = 'paused'", LINK, {}, {"http_status": 410, "reason_name": "offer_paused"}),
    (
        "UPDATE offer SET starts_at = '2026-11-24'",
        LINK,
        {},
        {"status": "rejected", "reason_name": "offer_not_started"},
    ),
    ("UPDATE offer SET starts_at = '2026-11-24'", LINK, {"millis": MONDAY_NOON + 86_400_000}, {"reason": 0}),
    (
        """UPDATE offer SET targeting = '{"schedule": ["sat,sun 00:00-24:00"]}'""",
        LINK,
        {},
        {"reason_name": "off_target"},
    ),
    (
        "UPDATE offer SET time_zone = 'Mars/Base'",
        LINK,
        {},
        {
            "reason_name": "offer_misconfigured",
            "problem": "'Mars/Base' is not a time zone such as Europe/Berlin",
        },
    ),
    (
        "UPDATE offer SET status = 'paused', fallback_offer_id = 1 WHERE id = 3",
        LINK,
        {},
        {"status": "forwarded", "reason": 10, "offer_id": 1, "offer_url_id": 101},
    ),
    (
        "UPDATE deployment SET fallback_offer_id = 1; UPDATE offer SET status = 'paused' WHERE id = 3",
        LINK,
        {},
        {"status": "forwarded", "reason": 10, "offer_id": 1},
    ),
    (
        "INSERT INTO block (field, value) VALUES ('ip', '192.0.2.0/24')",
        LINK,
        {},
        {"reason_name": "ip_blocked"},
    ),
    (
        "UPDATE offer SET visibility = 'private'; "
        "INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (3, 513)",
        LINK,
        {},
        {"status": "accepted"},
    ),
    (
        """INSERT INTO link_form (path, parameters) VALUES ('/click/', '{"pid": "affiliate_id"}')""",
        "http://go.test/click?pid=513&offer_id=3",
        {},
        {"status": "accepted", "offer_id": 3},
    ),
    (
        "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 0)",
        LINK,
        {},
        {"http_status": 403, "reason_name": "capped"},
    ),
]


@pytest.mark.parametrize(("statement", "url", "changes", "expected"), CASES)
async def test_explained_answer_equals_the_real_one(
    demo: Settings, statement: str, url: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    await run_sql(demo, statement)
    told = await told_of(demo, url, **changes)
    assert {name: told["answer"].get(name) for name in expected} == expected
    assert in_words(told)


CHAIN = """
UPDATE offer_url SET fallback_offer_id = 1 WHERE id = 133;
UPDATE offer_url SET fallback_offer_id = 2 WHERE id = 132;
UPDATE offer SET status = 'paused' WHERE id = 2;
UPDATE offer SET fallback_url = 'https://x.test/ü?c={hash}&s={aff_sub}' WHERE id = 3;
UPDATE deployment SET fallback_offer_id = 1
"""
URL_132 = {"of": "url", "to": "offer 2", "takes": False, "reason_name": "offer_paused"}
URL_133 = {"of": "url", "to": "offer 1", "takes": True}
OFFER_3 = {"of": "offer", "to": "https://x.test/%C3%BC?c={hash}&s={aff_sub}", "takes": True}
NETWORK = {"of": "network", "to": "offer 1", "takes": True}
CHAINS: list[tuple[str, str, list[dict[str, Any]], dict[str, Any], dict[str, str]]] = [
    (
        "SELECT",
        LINK,
        [URL_132, OFFER_3, NETWORK],
        {"status": "accepted"},
        {"affiliate_id": "513", "aff_sub": "a b"},
    ),
    (
        "UPDATE affiliate SET status = 'pending' WHERE id = 513",
        LINK,
        [
            OFFER_3,
            {"of": "network", "to": "offer 1", "takes": False, "reason_name": "affiliate_pending"},
        ],
        {"status": "forwarded", "offer_id": 3, "offer_url_id": None},
        {"aff_sub": "a b"},
    ),
    (
        "UPDATE offer SET status = 'paused' WHERE id = 3",
        f"{LINK}&url_id=133",
        [URL_133, OFFER_3, NETWORK],
        {"status": "forwarded", "offer_id": 1, "offer_url_id": 101},
        {"affiliate_id": "513"},
    ),
    (
        "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 0)",
        LINK,
        [URL_132, OFFER_3, NETWORK],
        {"status": "forwarded", "offer_id": 3, "offer_url_id": None},
        {"aff_sub": "a b"},
    ),
]


@pytest.mark.parametrize(("statement", "url", "chain", "expected", "filled"), CHAINS)
async def test_explanation_shows_the_fallback_chain_and_macro_values(
    demo: Settings,
    statement: str,
    url: str,
    chain: list[dict[str, Any]],
    expected: dict[str, Any],
    filled: dict[str, str],
) -> None:
    await run_sql(demo, CHAIN)
    await run_sql(demo, statement)
    told = await told_of(demo, f"{url}&aff_sub=a+b")
    assert told["fallbacks"] == chain
    assert {name: told["answer"][name] for name in expected} == expected
    assert told["macros"] | filled == told["macros"]
    assert in_words(told)


async def test_explanation_equals_the_click_and_uses_nothing_up(demo: Settings) -> None:
    await run_sql(
        demo,
        "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 2);"
        """UPDATE offer_url SET targeting = '{"language": ["de"]}', weight = 1 WHERE id = 133""",
    )
    headers = {"User-Agent": DESKTOP, "Accept-Language": "de"}
    async with edge_of(demo, demo=False) as client:
        for number, status in enumerate((302, 302, 403)):
            for _ in range(2):
                told = await told_of(demo, f"{LINK}&source=x", ip="127.0.0.1", millis=int(time.time() * 1000))
            answer = await client.get("/offer/3?affiliate_id=513&source=x", headers=headers)
            (row,) = await recorded(demo)
            assert answer.status_code == status
            assert told["caps"][0]["count"] == number
            assert (told["answer"]["status"], told["answer"]["reason"]) == (row.status, row.reason)
            assert told["answer"]["offer_url_id"] == row.offer_url_id
            assert told["is_unique"] is row.is_unique
            assert told["visitor"]["key"] == f"{row.visitor_key % 2**64:016x}"
            first_click = None if row.is_unique else row.group_hash
            assert told["first_click"] == first_click
    urls = {url["id"]: url for url in told["urls"]}
    assert urls[133]["rules"] == [{"rule": "language in de", "holds": True}]


CLOSED: list[tuple[str, list[dict[str, str]]]] = [
    ("SELECT", []),
    ("UPDATE offer SET closed_until = '2026-11-20'", []),
    (
        "UPDATE offer SET closed_until = '2999-05-05 05:05'",
        [{"for": "everyone", "until": "2999-05-05T05:05:00+00:00", "by": "the operator"}],
    ),
    (
        "UPDATE offer SET closed_until = '2999-05-01'",
        [{"for": "everyone", "until": "2999-05-01T00:00:00+00:00", "by": "payout cap (month)"}],
    ),
    (
        "INSERT INTO offer_affiliate VALUES (3, 513, 'approved', '9999-12-31')",
        [{"for": "affiliate 513", "until": "9999-12-31T00:00:00+00:00", "by": "conversions cap (total)"}],
    ),
]


async def test_explanation_says_who_closed_an_offer_until_when(demo: Settings) -> None:
    caps = """INSERT INTO cap (offer_id, affiliate_id, counts, period, amount, on_reached, currency) VALUES
        (3, NULL, 'payout', 'month', 5, 'close', 'USD'), (3, 0, 'conversions', 'total', 5, 'close', NULL)"""
    await run_sql(demo, caps)
    for change, closed in CLOSED:
        await run_sql(demo, "UPDATE offer SET closed_until = NULL")
        await run_sql(demo, change)
        told = await told_of(demo, LINK)
        assert (change, told.get("closed", [])) == (change, closed)
        assert (told["answer"]["reason_name"] == "offer_closed") == bool(closed)


async def test_counts_of_all_partitions_are_added_up(demo: Settings) -> None:
    several = replace(demo, partitions=4)
    await run_sql(demo, "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 12)")
    async with edge_of(several, demo=False) as client:
        for n in range(12):
            answer = await client.get("/offer/3?affiliate_id=513", headers={"User-Agent": f"{DESKTOP} {n}"})
            assert answer.status_code == 302
    assert demo.redis_url
    assert len(await waiting_clicks(demo.redis_url)) > 1
    now = int(time.time() * 1000)
    for amount, status in ((12, "rejected"), (13, "accepted")):
        await run_sql(demo, "UPDATE cap SET amount = $1", amount)
        for n in range(4):
            told = await told_of(several, LINK, user_agent=f"{DESKTOP} new {n}", millis=now)
            assert (told["caps"][0]["count"], told["caps"][0]["limit"]) == (12, amount)
            assert told["answer"]["status"] == status


async def test_unknown_link_names_its_unknown_part(demo: Settings) -> None:
    told = await told_of(demo, "http://go.test/offer/99?affiliate_id=98&sub2=x")
    assert told["unknown"] == ["offer", "affiliate"]
    assert told["link"] == {"offer_id": 99, "affiliate_id": 98, "aff_sub2": "x"}
    assert told["answer"] == {"http_status": 404, "location": "", "recorded": False}


@pytest.mark.parametrize(
    "url", ["", "offer/3", "ftp://x.test/", "http://", "http://[x/", f"http://x/{'a' * 9000}"]
)
async def test_invalid_url_is_refused(demo: Settings, url: str) -> None:
    with pytest.raises(UnreadableUrlError):
        await told_of(demo, url)


async def test_explanation_works_without_the_stream(demo: Settings) -> None:
    away = replace(demo, redis_url="unix:///nonexistent/valkey.sock")
    told = await told_of(away, LINK)
    assert told["stream"].startswith("the stream server cannot be reached: ")
    assert told["outcomes"]["unique"]["status"] == "accepted"
    assert "answer" not in told


async def test_explain_leaves_no_entry_on_the_stream(demo: Settings) -> None:
    assert demo.redis_url
    await told_of(demo, LINK)
    assert (await server_info.ask(demo.redis_url)).server == "valkey"
    assert await recorded(demo) == []


API_CASES: list[tuple[dict[str, str], int, str]] = [
    ({"url": LINK}, 200, ""),
    ({"url": LINK, "at": "2026-11-23 12:00:00", "tz": "Europe/Berlin", "ip": "8.8.8.8"}, 200, ""),
    ({}, 422, "url"),
    ({"url": "nonsense"}, 422, "url"),
    ({"url": LINK, "at": "noon"}, 422, "at"),
    ({"url": LINK, "at": "1960-01-01"}, 422, "at"),
    ({"url": LINK, "tz": "Mars/Base"}, 422, "tz"),
    ({"url": LINK, "user_agent": "x" * 9000}, 422, "user_agent"),
    ({"url": LINK, "colour": "red"}, 422, "colour"),
]


async def test_api_explains_and_names_unreadable_parameters(demo: Settings) -> None:
    async with api_of(demo, scopes=("offers:read",)) as client:
        for parameters, status, field in API_CASES:
            answer = await client.get(PATH, params=parameters)
            assert answer.status_code == status, parameters
            assert list(answer.json().get("errors", {})) == ([field] if field else []), parameters
        answer = await client.get(
            PATH, params={"url": LINK, "at": "2026-11-23 12:00:00", "tz": "Europe/Berlin"}
        )
        assert answer.json()["at"] == "2026-11-23T11:00:00+00:00"
        assert answer.json()["answer"]["status"] == "accepted"
    async with api_of(demo, scopes=("clicks:read",)) as client:
        assert (await client.get(PATH, params={"url": LINK})).status_code == 403


GEO = {
    "GeoLite2-City": {"country": {"iso_code": "NL"}, "city": {"names": {"en": "Delft"}}},
    "GeoIP2-ISP": {"isp": "KPN", "mobile_network_code": "08"},
    "GeoLite2-ASN": {"autonomous_system_organization": "KPN B.V."},
}
PLACE = {"country_code": "NL", "region_code": None, "city": "Delft", "isp": "KPN", "mobile_carrier": "KPN"}


async def test_place_comes_from_city_isp_and_asn_databases(
    demo: Settings, importer: Importer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = [write_mmdb(tmp_path / f"{kind}.mmdb", kind, {"192.0.2.0/24": GEO[kind]}) for kind in GEO]
    bad = tmp_path / "bad.mmdb"
    monkeypatch.setenv("TRACKER_GEOIP_DB", ",".join(map(str, [*paths, bad])))
    done = await importer.command("explain", LINK, "--ip", "192.0.2.7", "--json")
    assert done.code == 0
    assert {name: json.loads(done.out)["visitor"][name] for name in PLACE} == PLACE
    async with api_of(replace(demo, geoip_db=(*paths, bad)), scopes=("offers:read",)) as client:
        answer = await client.get(PATH, params={"url": LINK, "ip": "192.0.2.7"})
        assert {name: answer.json()["visitor"][name] for name in PLACE} == PLACE


@pytest.mark.usefixtures("demo")
async def test_command_warns_of_unreadable_databases(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for setting, warning in (
        ("", "no geo database: the visitor's country, region, city and ISP stay unknown"),
        (str(tmp_path / "none"), f"geo database not read: {tmp_path / 'none'}: No such file or directory"),
    ):
        caplog.clear()
        monkeypatch.setenv("TRACKER_GEOIP_DB", setting)
        assert (await importer.command("explain", LINK)).code == 0
        assert [record.message for record in caplog.records] == [warning]


async def test_visitor_of_a_country_is_explained_without_an_address(demo: Settings) -> None:
    await run_sql(demo, """UPDATE offer SET targeting = '{"country": ["DE"]}'""")
    async with api_of(demo, scopes=("offers:read",)) as client:
        for country, reason in (("de", "none"), ("Austria", "off_target")):
            answer = (await client.get(PATH, params={"url": LINK, "country": country})).json()
            assert (country, answer["answer"]["reason_name"]) == (country, reason)
            assert answer["visitor"]["country_code"] == {"de": "DE", "Austria": "AT"}[country]
        assert (await client.get(PATH, params={"url": LINK, "country": "Nowhere"})).status_code == 422
