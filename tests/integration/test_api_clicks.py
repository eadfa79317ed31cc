from __future__ import annotations

import asyncio
import csv
import io
import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.factories.filters import random_filter
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tracker.domain.click_id import millis_of
from tracker.domain.model import ClickRow
from tracker.reading.cursor import Cursor, write_cursor
from tracker.settings import Settings
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks.columns import KEYS
from tracker.store.clicks.counts import CountScope
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import connect, open_pool
from tracker.store.paging import reading
from tracker.store.time_span import ALL_TIME, SLOT_MILLIS, SLOTS_A_DAY, Span

pytestmark = pytest.mark.anyio


def _words(text: str) -> list[str]:
    return text.split()


SEED_KEYS = _words("""
id hash group_hash offer_id offer_name offer_url_id advertiser_id advertiser_name aff_group_id brand_id
affiliate_id affiliate_name device_model device_brand sale_status advertiser_external_id adv_sub adv_sub2
adv_sub3 adv_sub4 adv_sub5 device_os aff_sub aff_sub2 aff_sub3 aff_sub4 aff_sub5 aff_sub6 aff_sub7 aff_sub8
aff_sub9 aff_sub10 aff_sub11 aff_sub12 aff_sub13 aff_sub14 aff_sub15 aff_sub16 aff_sub17 aff_sub18 aff_sub19
aff_sub20 affiliate_source user_agent browser ip device_os_version platform mobile_carrier country_code
region_code external_id has_conversions requested_link redirected_link is_unique created_at
""")
OWN_KEYS = _words("""
status reason is_bot bot_reason is_test verdict_late requested_offer_id requested_url_id referrer host
language client_hints gaid idfa device_type browser_version city isp fetch_dest fetch_user visitor_key
legacy_id legacy_source
""")

NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000


async def listed(client: AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(CLICKS, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_click_is_shown_as_the_example_page_shows_it(database: Settings) -> None:
    hash_ = hash_at(int(datetime(2024, 10, 10, 11, 24, 9, tzinfo=UTC).timestamp()) * 1000 + 999)
    example = {
        "hash": hash_,
        "group_hash": hash_,
        "offer_id": 3,
        "offer_name": "Test Offer",
        "offer_url_id": 132,
        "advertiser_id": 1,
        "advertiser_name": "PlayGamesl",
        "aff_group_id": None,
        "brand_id": 1,
        "affiliate_id": 513,
        "affiliate_name": "John Doe",
        **dict.fromkeys(("device_model", "device_brand", "platform", "affiliate_source"), ""),
        "sale_status": "New",
        "advertiser_external_id": None,
        **dict.fromkeys(("adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")),
        **dict.fromkeys(("device_os", "device_os_version", "mobile_carrier"), "UNK"),
        **dict.fromkeys(("aff_sub", *(f"aff_sub{n}" for n in range(2, 21))), ""),
        "user_agent": "Google Chrome",
        "browser": "Google Chrome",
        "ip": "111.222.333.444",
        "country_code": "NL",
        "region_code": "NH",
        "external_id": None,
        "has_conversions": False,
        "requested_link": "http://example.com/offer/3?affiliate_id=513",
        "redirected_link": "https://second.example.net/1?aff_id=2",
        "is_unique": True,
        "created_at": "2024-10-10 11:24:09",
    }
    stored = {key: value for key, value in example.items() if key in ClickRow._fields}
    absent = dict.fromkeys(("external_id", "adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5"), "")
    await store(database, [a_row(**{**stored, **absent, "visitor_key": -2})])
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'PlayGamesl')")
    await run_sql(database, "INSERT INTO offer (id, name, advertiser_id) VALUES (3, 'Test Offer', 1)")
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'John Doe')")
    async with api_of(database) as client:
        body = await listed(client)
        envelope = {"total": 1, "per_page": 200, "page": 1, "pages": 1, "next_cursor": None}
        row = body["data"][0]
        assert body == {"data": [row], **envelope}
        assert list(body) == ["data", *envelope]
        assert list(row) == [*SEED_KEYS, *OWN_KEYS] == list(KEYS)
        assert {key: row[key] for key in SEED_KEYS[1:]} == example
        assert row["visitor_key"] == "fffffffffffffffe"
        for key in (row["id"], hash_, hash_.upper()):
            one = (await client.get(f"{CLICKS}/{key}", params={"tz": "Asia/Tokyo"})).json()
            assert one["data"] == [{**row, "created_at": "2024-10-10 20:24:09"}]
            assert (one["total"], one["page"], one["pages"]) == (1, 1, 1)


FILTERED = [
    a_row(hash=hash_at(NOON), group_hash=None, aff_sub="plain"),
    a_row(hash=hash_at(NOON + 1000), offer_id=4, advertiser_id=2, offer_url_id=7, is_unique=False),
    a_row(hash=hash_at(NOON + 2000), affiliate_id=9, is_bot=True, bot_reason="list", country_code=None),
    a_row(
        hash=hash_at(NOON + 3000), is_test=True, external_id="é&x", affiliate_source="fb", aff_sub20="last"
    ),
    a_row(hash=hash_at(NOON + 4999), status="rejected", reason=20, redirected_link="", aff_sub2="'; --"),
]


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
async def test_click_filters_find_their_rows(database: Settings, sort: str) -> None:
    table: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [0, 1, 2, 3, 4]),
        ({"affiliate_id": 9}, [2]),
        ({"offer_id": 4}, [1]),
        ({"offer_id": 3, "affiliate_id": 513}, [0, 3, 4]),
        ({"offer_id": 77}, []),
        ({"offer_url_id": 7}, [1]),
        ({"advertiser_id": 1}, [0, 2, 3, 4]),
        ({"country_code": "nl"}, [0, 1, 3, 4]),
        ({"country_code": "DE"}, []),
        ({"country_code": "Korea, Republic of"}, []),
        ({"country_code": "DE, nl"}, [0, 1, 3, 4]),
        ({"exclude_country_code": "NL"}, [2]),
        ({"offer_id": "3, 4"}, [0, 1, 2, 3, 4]),
        ({"offer_id": ["4", "4"], "is_bot": "false"}, [1]),
        ({"exclude_offer_id": "3", "offer_id": "3"}, []),
        ({"affiliate_source": ["fb", ""]}, [0, 1, 2, 3, 4]),
        ({"exclude_affiliate_source": ""}, [3]),
        ({"aff_sub": "plain,x"}, []),
        ({"hash": ",".join(row.hash for row in FILTERED[1:3])}, [1, 2]),
        ({"ip": "::ffff:192.0.2.7"}, [0, 1, 2, 3, 4]),
        ({"ip": "192.0.2.99/24"}, [0, 1, 2, 3, 4]),
        ({"ip": ["198.51.100.1", "2001:db8::/32"]}, []),
        ({"device_type": "mobile,PC"}, [0, 1, 2, 3, 4]),
        ({"exclude_device_type": "desktop"}, []),
        ({"device_os": "windows"}, []),
        ({"device_os": "Windows"}, [0, 1, 2, 3, 4]),
        ({"browser": "google chrome"}, [0, 1, 2, 3, 4]),
        ({"visitor_key": f"{FILTERED[0].visitor_key:016X}"}, [0, 1, 2, 3, 4]),
        ({"requested_offer_id": 3, "offer_id": 4}, [1]),
        ({"reason": "20"}, [4]),
        ({"affiliate_source": "fb"}, [3]),
        ({"affiliate_source": ""}, [0, 1, 2, 4]),
        ({"external_id": "é&x"}, [3]),
        ({"aff_sub": "plain"}, [0]),
        ({"aff_sub": "PLAIN"}, []),
        ({"aff_sub2": "'; --"}, [4]),
        ({"aff_sub20": "last"}, [3]),
        ({"is_unique": "false"}, [1]),
        ({"is_unique": "1"}, [0, 2, 3, 4]),
        ({"is_bot": "true"}, [2]),
        ({"is_test": "true"}, [3]),
        ({"is_test": "0"}, [0, 1, 2, 4]),
        ({"has_conversions": "true"}, []),
        ({"has_conversions": "false"}, [0, 1, 2, 3, 4]),
        ({"status": "rejected"}, [4]),
        ({"status": "forwarded"}, []),
        ({"hash": FILTERED[2].hash.upper()}, [2]),
        ({"hash": "f" * 32}, []),
        ({"id": 10**18 - 1}, []),
        ({"created_from": "2024-10-10 12:00:01"}, [1, 2, 3, 4]),
        ({"created_at_from": "2024-10-10T12:00:01"}, [1, 2, 3, 4]),
        ({"created_to": "2024-10-10 12:00:04"}, [0, 1, 2, 3, 4]),
        ({"created_at_to": "2024-10-10 12:00:03"}, [0, 1, 2, 3]),
        ({"created_from": "2024-10-10 12:00:01", "created_at_to": "2024-10-10 12:00:02"}, [1, 2]),
        ({"created_from": "2024-10-10", "created_to": "2024-10-10"}, [0, 1, 2, 3, 4]),
        ({"created_from": "2024-10-11"}, []),
        ({"created_to": "2024-10-09"}, []),
        ({"created_from": "0001-01-01", "created_to": "9999-12-31"}, [0, 1, 2, 3, 4]),
        ({"created_to": "0001-01-01"}, []),
        ({"created_from": "2024-10-11", "tz": "Pacific/Kiritimati"}, [0, 1, 2, 3, 4]),
        ({"created_from": "2024-10-10 14:00:02", "tz": "Europe/Berlin"}, [2, 3, 4]),
        ({"created_from": "2024-10-10 12:00:02", "affiliate_id": 513}, [3, 4]),
    ]
    await store(database, FILTERED)
    async with api_of(database) as client:
        for query, expected in table:
            body = await listed(client, **query, sort=sort)
            hashes = [row["hash"] for row in body["data"]]
            step = 1 if sort == "created_at" else -1
            assert hashes == [FILTERED[at].hash for at in expected][::step], query
            assert body["total"] == len(expected), query
            assert body["pages"] == (1 if expected else 0), query
        fourth = (await listed(client, hash=FILTERED[3].hash))["data"][0]
        assert (await listed(client, id=fourth["id"]))["data"] == [fourth]


async def test_list_feed_and_export_have_the_clicks_that_filters_mean(database: Settings) -> None:
    draw = random.Random(23)
    rows = [
        a_row(
            hash=hash_at(NOON + n * 1000, n),
            offer_id=draw.randint(1, 4),
            affiliate_id=draw.randint(1, 3),
            requested_offer_id=draw.randint(1, 3),
            offer_url_id=draw.choice((None, 31, 32)),
            country_code=draw.choice((None, "NL", "DE", "FR")),
            region_code=draw.choice((None, "NH", "ZH")),
            device_type=draw.choice(("", "phone", "desktop")),
            aff_sub=draw.choice(("", "a", "a,b", "!a")),
            affiliate_source=draw.choice(("", "fb")),
            ip=draw.choice(("", "192.0.2.1", "192.0.2.200", "198.51.100.9")),
            visitor_key=draw.choice((-1, 0, 2**62)),
            status=draw.choice(("accepted", "rejected")),
            reason=draw.choice((0, 10, 20)),
        )
        for n in range(120)
    ]
    columns = (
        *("offer_id", "affiliate_id", "requested_offer_id", "offer_url_id", "country_code", "region_code"),
        *("device_type", "aff_sub", "affiliate_source", "ip", "visitor_key", "status", "reason"),
    )
    await store(database, rows)
    async with api_of(database) as client:
        for _ in range(50):
            asked = random_filter(draw, [row._asdict() for row in rows], columns)
            expected = [row.hash for row in rows if asked.means(row._asdict())]
            first = (await client.get(CLICKS, params=[*asked.parameters, ("per_page", "7")])).json()
            assert first["total"] == len(expected), asked.parameters
            whole = (await client.get(CLICKS, params=[*asked.parameters, ("sort", "created_at")])).json()
            assert [row["hash"] for row in whole["data"]] == expected
            feed = (await client.get(CLICKS, params=[*asked.parameters, ("after_id", "0")])).json()
            assert {row["hash"] for row in feed["data"]} == set(expected)
            lines = (await client.get(f"{CLICKS}/export", params=asked.parameters)).text.splitlines()
            assert [orjson.loads(line)["hash"] for line in lines] == expected[::-1]
            if first["next_cursor"]:
                cursor = ("cursor", first["next_cursor"])
                other = [*asked.parameters, ("exclude_offer_id", "99"), ("per_page", "7"), cursor]
                assert (await client.get(CLICKS, params=other)).json()["errors"].keys() == {"cursor"}
                following = await client.get(CLICKS, params=[*asked.parameters, ("per_page", "7"), cursor])
                assert [row["hash"] for row in following.json()["data"]] == expected[::-1][7:14]


async def test_unreadable_value_is_refused_by_name(database: Settings) -> None:
    table = {
        "foo=1": ["foo"],
        "tz=UTC&tz=UTC": ["tz"],
        "is_bot=true&is_bot=true": ["is_bot"],
        "offer_id=3,": ["offer_id"],
        "offer_id=3&offer_id=x": ["offer_id"],
        f"offer_id={','.join(map(str, range(1, 102)))}": ["offer_id"],
        "&".join(f"exclude_aff_sub={n}" for n in range(101)): ["exclude_aff_sub"],
        "country_code=NL,ZZ": ["country_code"],
        "status=accepted,done": ["status"],
        "exclude_is_bot=true": ["exclude_is_bot"],
        "exclude_hash=" + "f" * 32: ["exclude_hash"],
        "exclude_offer_id=": ["exclude_offer_id"],
        "ip=192.0.2.0/33": ["ip"],
        "ip=": ["ip"],
        "ip=192.0.2": ["ip"],
        "device_type=fridge": ["device_type"],
        "visitor_key=9f86": ["visitor_key"],
        "reason=32768": ["reason"],
        "requested_offer_id=abc": ["requested_offer_id"],
        "offer_id=": ["offer_id"],
        "offer_id=0": ["offer_id"],
        "offer_id=03": ["offer_id"],
        "offer_id=-1": ["offer_id"],
        "offer_id=3.0": ["offer_id"],
        "offer_id=%D9%A3": ["offer_id"],
        "affiliate_id=1000000000000000000": ["affiliate_id"],
        "id=abc&hash=x%01z": ["id", "hash"],
        "is_bot=yes": ["is_bot"],
        "country_code=NLX": ["country_code"],
        "status=done": ["status"],
        "sort=id": ["sort"],
        "aff_sub=%00": ["aff_sub"],
        "aff_sub21=x": ["aff_sub21"],
        f"external_id={'x' * 501}": ["external_id"],
        "per_page=0": ["per_page"],
        "per_page=1001": ["per_page"],
        "page=0": ["page"],
        "page=999999999999999999999": ["page"],
        "page=60&is_bot=false": ["page"],
        "cursor=abc": ["cursor"],
        "cursor=": ["cursor"],
        "cursor=abc&page=2": ["page"],
        "after_id=1&page=1": ["page"],
        "after_id=1&sort=created_at&cursor=x": ["cursor", "sort"],
        "after_id=-1": ["after_id"],
        "tz=Mars": ["tz"],
        "created_from=yesterday": ["created_from"],
        "created_from=2024-02-30": ["created_from"],
        "created_from=2024-01-01&created_at_from=2024-01-01": ["created_at_from"],
        "created_from=2024-01-02&created_to=2024-01-01": ["created_to"],
        "&".join(f"x{n}=1" for n in range(500)): [f"x{n}" for n in range(10)],
        "y" * 999: ["y" * 50],
    }
    async with api_of(database) as client:
        for query, fields in table.items():
            answer = await client.get(f"{CLICKS}?{query}")
            problem = answer.json()
            assert answer.status_code == 422, query
            assert answer.headers["content-type"] == "application/problem+json"
            assert sorted(problem["errors"]) == sorted(fields), query
            assert problem["message"] == problem["detail"]
            assert problem["status"] == 422
        assert "cursor" in (await client.get(f"{CLICKS}?page=60&is_bot=false")).json()["message"]


@pytest.mark.parametrize("sort", ["-created_at", "created_at"])
@pytest.mark.parametrize(
    ("last_hash", "total", "status"),
    [
        ("zzz", None, 422),
        ("0" * 40, None, 422),
        ("0" * 32, 10**30, 422),
        ("0" * 32, 10**18 - 1, 200),
        ("f" * 32, None, 200),
    ],
)
async def test_forged_cursor_is_read_or_refused_by_name(
    database: Settings, last_hash: str, total: int | None, status: int, sort: str
) -> None:
    forged = Cursor(last_hash, 2, total)
    async with api_of(database) as client:
        for query, equals in {"": (), "&is_bot=true": (("is_bot", True),)}.items():
            clicks = ClickFilter(equals=equals)
            cursor = write_cursor(forged, clicks, newest_first=sort.startswith("-"))
            answer = await client.get(f"{CLICKS}?sort={sort}&cursor={cursor}{query}")
            assert answer.status_code == status, answer.text
            assert list(answer.json().get("errors", {})) == (["cursor"] if status == 422 else [])


async def test_errors_of_the_click_list(database: Settings) -> None:
    table = [
        ("GET", f"{CLICKS}/999", 404),
        ("GET", f"{CLICKS}/{'f' * 32}", 404),
        ("GET", f"{CLICKS}/0", 404),
        ("GET", f"{CLICKS}/abc", 404),
        ("GET", f"{CLICKS}/%D9%A3", 404),
        ("GET", f"{CLICKS}/{'9' * 400}", 404),
        ("GET", f"{CLICKS}/%00", 404),
        ("GET", f"{CLICKS}/1?offer_id=3", 422),
        ("GET", f"{CLICKS}/export?format=xml", 422),
        ("GET", f"{CLICKS}/export?page=2", 422),
        ("GET", f"{CLICKS}/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/docs/secret", 404),
        ("PUT", CLICKS, 405),
        ("DELETE", f"{CLICKS}/1", 405),
    ]
    async with api_of(database) as client:
        for method, path, status in table:
            answer = await client.request(method, path)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert ("allow" in answer.headers) == (status == 405)
            assert set(answer.json()) == {"type", "title", "status", "detail", "message", "errors"}


def random_rows(count: int) -> list[ClickRow]:
    """Clicks over three days with crowded seconds, so that pages break within them."""
    chance = random.Random(7)
    rows = []
    for n in range(count):
        second = chance.randrange(3 * 86_400) if chance.random() < 0.6 else chance.randrange(1200)
        hash_ = f"{hash_at(NOON + second * 1000)[:17]}{n:015x}"
        rows.append(
            a_row(hash=hash_, offer_id=chance.choice([3, 3, 3, 4, 5]), affiliate_id=chance.randrange(1, 9))
        )
    return rows


async def test_pages_are_exact_slices_of_the_stored_clicks(database: Settings) -> None:
    rows = random_rows(3000)
    await store(database, rows)
    chance = random.Random(8)
    async with api_of(database) as client:
        for _ in range(60):
            query: dict[str, Any] = {"per_page": chance.choice([1, 7, 50, 300, 1000])}
            kept = list(rows)
            for name, most in chance.choice([[], [("offer_id", 6)], [("affiliate_id", 9)]]) or []:
                query[name] = chance.randrange(1, most)
                kept = [row for row in kept if getattr(row, name) == query[name]]
            if chance.random() < 0.3:
                query["aff_sub"] = ""  # counted row by row
            for name in ("created_from", "created_to"):
                if chance.random() < 0.5:
                    second = NOON // 1000 + chance.randrange(-1000, 3 * 86_400)
                    query[name] = datetime.fromtimestamp(second, ZoneInfo("Asia/Kolkata")).strftime("%F %T")
                    query["tz"] = "Asia/Kolkata"
                    is_from = name == "created_from"
                    kept = [
                        row for row in kept if (_second(row) >= second) == is_from or _second(row) == second
                    ]
            if query.get("created_from", "") > query.get("created_to", "x"):
                continue
            newest_first = chance.random() < 0.5
            query["sort"] = "-created_at" if newest_first else "created_at"
            hashes = sorted((row.hash for row in kept), reverse=newest_first)
            query["page"] = chance.randrange(1, len(hashes) // query["per_page"] + 3)
            body = await listed(client, **query)
            start = (query["page"] - 1) * query["per_page"]
            assert [row["hash"] for row in body["data"]] == hashes[start : start + query["per_page"]], query
            assert body["total"] == len(hashes), query
            assert body["pages"] == -(-len(hashes) // query["per_page"])
            assert (body["next_cursor"] is None) == (start + query["per_page"] >= len(hashes)), query


def _second(row: ClickRow) -> int:
    return millis_of(row.hash) // 1000


@pytest.mark.parametrize("query", [{}, {"offer_id": 3}, {"is_bot": "false", "sort": "created_at"}])
async def test_cursor_and_both_exports_give_the_whole_list(database: Settings, query: dict[str, str]) -> None:
    rows = random_rows(2500)
    await store(database, rows)
    kept = [row.hash for row in rows if not query.get("offer_id") or row.offer_id == 3]
    async with api_of(database) as client:
        walked: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            body = await listed(client, **query, per_page=333, **more)
            assert body["total"] == len(kept)
            assert body["page"] == len(walked) // 333 + 1
            walked += body["data"]
            if body["next_cursor"] is None:
                break
            more = {"cursor": body["next_cursor"]}
        assert [row["hash"] for row in walked] == sorted(kept, reverse="sort" not in query)

        export = await client.get(f"{CLICKS}/export", params=query)
        assert export.headers["content-type"] == "application/x-ndjson"
        assert export.headers["content-disposition"] == 'attachment; filename="clicks.ndjson"'
        assert [orjson.loads(line) for line in export.text.splitlines()] == walked

        export = await client.get(f"{CLICKS}/export", params={**query, "format": "csv"})
        assert export.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        table = list(csv.DictReader(io.StringIO(export.text, newline="")))
        assert table == [{key: _as_csv(value) for key, value in row.items()} for row in walked]


def _as_csv(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("control", ["", "\r\n", "\t", "\x01", "\x1f"])
async def test_exports_keep_every_character(database: Settings, control: str) -> None:
    texts = ['=1+1,"x"', "\\", '\\"', "null", "{}%b%", "ü漢\u2028\x7f\x85", f"a{control}b"]
    subs = {f"aff_sub{number}": text for number, text in enumerate(texts, 2)}
    rows = [a_row(hash=hash_at(NOON + number), aff_sub=str(number), **subs) for number in range(3)]
    await store(database, rows)
    async with api_of(database) as client:
        listing = (await listed(client))["data"]
        export = await client.get(f"{CLICKS}/export")
        assert [orjson.loads(line) for line in export.content.splitlines()] == listing
        export = await client.get(f"{CLICKS}/export?format=csv")
        table = list(csv.DictReader(io.StringIO(export.text, newline="")))
        assert [{key: row[key] for key in subs} for row in table] == [subs] * 3
        head = await client.head(f"{CLICKS}/export?format=csv")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "columns",
    [
        ("hash",),
        ("created_at",),
        ("sale_status", "aff_sub", "has_conversions"),
        ("created_at", "adv_sub", "hash", "id"),
        ("aff_sub", "aff_sub2", "aff_sub"),
        KEYS[::-1],
    ],
)
@pytest.mark.parametrize("control", ["", "\t"])
async def test_export_has_the_chosen_columns(
    database: Settings, columns: tuple[str, ...], control: str
) -> None:
    rows = [a_row(hash=hash_at(NOON + n), aff_sub=f"{n}{control}", aff_sub2='"') for n in range(3)]
    await store(database, rows)
    told = {"sale_status": "paid", "adv_sub": "x"}
    await store_conversions(database, [a_conversion(rows[1], **told)])
    async with api_of(database) as client:
        listing = (await listed(client))["data"]
        query = {"columns": ",".join(columns)}
        export = await client.get(f"{CLICKS}/export", params=query)
        shown = [{name: row[name] for name in columns} for row in listing]
        assert [orjson.loads(line) for line in export.content.splitlines()] == shown
        assert all(list(orjson.loads(line)) == list(shown[0]) for line in export.content.splitlines())
        export = await client.get(f"{CLICKS}/export", params=query | {"format": "csv"})
        table = list(csv.DictReader(io.StringIO(export.text, newline="")))
        assert table == [{name: _as_csv(value) for name, value in row.items()} for row in shown]
        wrong = await client.get(f"{CLICKS}/export", params={"columns": "hash,nonsense"})
        assert wrong.json()["errors"].keys() == {"columns"}


@pytest.mark.parametrize("text", ["'", "$1", "\\", "\\'$2 %s; --"])
async def test_export_takes_a_filter_by_its_letters(database: Settings, text: str) -> None:
    await store(database, [a_row(hash=hash_at(NOON + n), aff_sub=text if n else "b") for n in range(3)])
    async with api_of(database) as client:
        listing = (await listed(client, aff_sub=text))["data"]
        export = await client.get(f"{CLICKS}/export", params={"aff_sub": text})
        assert [orjson.loads(line) for line in export.content.splitlines()] == listing
        assert len(listing) == 2


async def test_empty_export_is_a_header_or_empty(database: Settings) -> None:
    async with api_of(database) as client:
        assert (await client.get(f"{CLICKS}/export")).content == b""
        assert (await client.get(f"{CLICKS}/export?format=csv")).text == ",".join(KEYS) + "\r\n"


async def test_page_at_any_depth_skips_less_than_a_quarter_hour(database: Settings) -> None:
    rows = random_rows(1500)
    await store(database, rows)
    assert database.postgres_dsn is not None
    connection = await connect(database.postgres_dsn)
    low, high = NOON + 777_000, NOON + 2 * 86_400_000 + 1000
    try:
        for tally, span in [
            (CountScope("all", (0,)), ALL_TIME),
            (CountScope("offer", (3,)), Span(low, high)),
            (CountScope("offer", (3, 4)), Span(low, high)),
        ]:
            of_tally = [row for row in rows if tally.dimension == "all" or row.offer_id in tally.keys]
            hashes = sorted(row.hash for row in of_tally if span.low <= millis_of(row.hash) < span.high)
            counted = await click_counts.days(connection, tally, span)
            assert sum(day.clicks for day in counted) == len(hashes)
            assert await click_counts.count(connection, tally, span) == len(hashes)
            for newest_first in (False, True):
                ordered = hashes[::-1] if newest_first else hashes
                for first in [*range(0, len(hashes), 41), len(hashes) - 1]:
                    numbers = range(first, min(first + 30, len(hashes)))
                    place, skipped = await click_counts.locate(
                        connection, tally, counted, numbers, newest_first=newest_first
                    )
                    within = [hash_ for hash_ in ordered if place.low <= millis_of(hash_) < place.high]
                    sought = ordered[first : numbers.stop]
                    assert within[skipped : skipped + len(numbers)] == sought
                    assert {_slot(hash_) for hash_ in within[:skipped]} <= {_slot(sought[0])}
                    assert {_day(hash_) for hash_ in within[skipped + len(numbers) :]} <= {_day(sought[-1])}
    finally:
        await connection.close()


def _slot(hash_: str) -> int:
    return millis_of(hash_) // SLOT_MILLIS


def _day(hash_: str) -> int:
    return _slot(hash_) // SLOTS_A_DAY


async def test_abandoned_read_leaves_no_transaction_open(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert database.postgres_dsn is not None
    pool = await open_pool(database.postgres_dsn, size=1)

    async def read() -> int:
        async with reading(pool, "read_committed") as connection:
            return int(await connection.fetchval("SELECT 7"))

    assert await read() == 7
    for turns in range(12):
        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await read() == 7
    await pool.close()
    assert not caplog.records


async def ids_of(database: Settings) -> dict[str, int]:
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    ids = {row["hash"].hex: row["id"] for row in await connection.fetch("SELECT hash, id FROM click")}
    await connection.close()
    return ids


QUERIES = [
    {},
    {"offer_id": "3"},
    {"is_unique": "true"},
    {"is_unique": "false", "is_bot": "true", "offer_id": "4"},
    {"status": "forwarded"},
    {"aff_sub": "x"},
    {"hash": "of a converted click"},
    {"id": "of a converted click"},
]


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
@pytest.mark.parametrize("has", ["true", "false"])
@pytest.mark.parametrize("query", QUERIES)
async def test_walk_over_converted_clicks_and_over_the_others(
    database: Settings, query: dict[str, str], has: str, sort: str
) -> None:
    draw = random.Random(23)
    rows = [
        a_row(
            hash=hash_at(NOON + draw.randrange(3 * 86_400_000), n),
            offer_id=draw.choice((3, 4)),
            is_unique=draw.random() < 0.5,
            is_bot=draw.random() < 0.5,
            status=draw.choice(("accepted", "forwarded")),
            aff_sub=draw.choice(("x", "")),
        )
        for n in range(60)
    ]
    await store(database, rows)
    converted = draw.sample(rows, 30)
    ids = await ids_of(database)
    conversions = [a_conversion(row, click_id=ids[row.hash]) for row in (*converted, *converted[:7])]
    await store_conversions(database, conversions)
    hashes = {row.hash for row in converted}
    known = {"hash": converted[0].hash, "id": str(ids[converted[0].hash])}
    query = {name: known.get(name, value) for name, value in query.items()}
    expected = sorted(
        row.hash
        for row in rows
        if (row.hash in hashes) == (has == "true")
        and all(
            str(ids[row.hash] if name == "id" else getattr(row, name)).lower() == value
            for name, value in query.items()
        )
    )
    expected = expected if sort == "created_at" else expected[::-1]
    found: list[str] = []
    asked: dict[str, str] = {**query, "has_conversions": has, "sort": sort, "per_page": "7"}
    async with api_of(database) as client:
        cursor = None
        while True:
            body = (await client.get(CLICKS, params=asked | ({"cursor": cursor} if cursor else {}))).json()
            found += [row["hash"] for row in body["data"]]
            assert body["total"] == len(expected)
            cursor = body["next_cursor"]
            if not cursor:
                break
        paged = (await client.get(CLICKS, params=asked | {"page": "2"})).json()
    assert found == expected
    assert [row["hash"] for row in paged["data"]] == expected[7:14]
