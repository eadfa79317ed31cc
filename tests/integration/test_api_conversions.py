"""Reading conversions: lists, filters, pages, cursors, feed and exports equal the table."""

from __future__ import annotations

import csv
import io
import random
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.domain.click_fields import AFF_SUBS
from tracker.settings import Settings
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import KEYS

pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "clicks:read", "money:read")
NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000
HOUR = 3_600_000
CLICK = a_row(hash=hash_at(NOON), country_code="NL")


async def listed(client: AsyncClient, path: str = CONVERSIONS, **query: Any) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_conversion_is_shown_with_its_history_and_its_money(database: Settings) -> None:
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'PlayGamesl')")
    await run_sql(database, "INSERT INTO offer (id, name, advertiser_id) VALUES (3, 'Test Offer', 1)")
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'John Doe')")
    click = CLICK._replace(
        aff_sub2="banner",
        external_id="x-1",
        referrer="https://news.test/",
        requested_offer_id=9,
        aff_group_id=2,
        region_code="NH",
    )
    await store(database, [click])
    conversion = a_conversion(
        click, order_id="A-1", payout="0.123456", revenue="20", sale_amount="125.1", sale_currency="EUR"
    )
    await store_conversions(database, [conversion])
    await run_sql(
        database,
        """INSERT INTO conversion_change (conversion_id, at, status_before, status_after, source, author)
        VALUES (1, '2024-10-10 13:00:00+00', NULL, 'pending', 'postback', ''),
               (1, '2024-10-10 14:00:00+00', 'pending', 'approved', 'api', 'desk')""",
    )
    await run_sql(
        database,
        """INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id,
            advertiser_id, affiliate_id, payout, payout_currency, revenue, revenue_currency)
        VALUES (1, '2024-10-10 13:00:00+00', 'reversal', true, 3, 1, 513, -0.123456, 'USD', -20, 'USD')""",
    )
    row = {
        "id": 1,
        "hash": conversion["hash"],
        "click_id": 1,
        "click_hash": CLICK.hash,
        "offer_id": 3,
        "offer_name": "Test Offer",
        "offer_url_id": 132,
        "goal_id": 1,
        "goal_name": "Conversion",
        "advertiser_id": 1,
        "advertiser_name": "PlayGamesl",
        "affiliate_id": 513,
        "affiliate_name": "John Doe",
        "order_id": "A-1",
        "status": "approved",
        "is_over_cap": False,
        "sale_status": "",
        "sale_amount": "125.10",
        "sale_currency": "EUR",
        "refunded": "0.00",
        "payout": "0.123456",
        "payout_currency": "USD",
        "revenue": "20.00",
        "revenue_currency": "USD",
        **dict.fromkeys(
            ("advertiser_external_id", "adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")
        ),
        "country_code": "NL",
        "device_type": "desktop",
        "device_os": "Windows",
        "browser": "Chrome",
        "affiliate_source": "",
        "is_test": False,
        "created_at": "2024-10-10 15:00:00",
        "updated_at": "2024-10-10 15:00:00",
        "click_created_at": "2024-10-10 14:00:00",
        **dict.fromkeys((*AFF_SUBS, "device_model", "device_brand"), ""),
        "aff_sub2": "banner",
        "external_id": "x-1",
        "is_unique": True,
        "is_bot": False,
        "referrer": "https://news.test/",
        "ip": "192.0.2.7",
        "requested_offer_id": 9,
        "aff_group_id": 2,
        "brand_id": 1,
        "region_code": "NH",
        "city": "Amsterdam",
        "click_legacy_id": None,
        "legacy_id": None,
        "is_unproven": False,
        "click_legacy_source": None,
        "legacy_source": None,
        "seconds_from_click": 3600,
    }
    changes = [
        ("2024-10-10 15:00:00", None, "pending", "postback", ""),
        ("2024-10-10 16:00:00", "pending", "approved", "api", "desk"),
    ]
    names = ("at", "status_before", "status_after", "source", "author")
    money = {"payout": "-0.123456", "payout_currency": "USD", "revenue": "-20.00", "revenue_currency": "USD"}
    entry = {"id": 1, "booked_at": "2024-10-10 15:00:00", "kind": "reversal", "is_adjustment": True, **money}
    entry |= {"author": "", "reason": ""}
    envelope = {"total": 1, "page": 1, "pages": 1, "next_cursor": None}
    async with api_of(database, scopes=SCOPES) as client:
        body = await listed(client, tz="Europe/Berlin")
        assert body == {"data": [row], "per_page": 200, **envelope}
        assert tuple(body["data"][0]) == KEYS
        for key in ("1", conversion["hash"], conversion["hash"].upper()):
            one = await listed(client, f"{CONVERSIONS}/{key}", tz="Europe/Berlin")
            history = {
                "changes": [
                    {**dict(zip(names, change, strict=True)), "postback_hash": None} for change in changes
                ]
            }
            assert one == {
                "data": [{**row, **history, "entries": [entry], "corrections": []}],
                "per_page": 1,
                **envelope,
            }


def varied() -> list[dict[str, Any]]:
    clicks = [
        a_row(hash=hash_at(NOON - n * HOUR, n), offer_id=3 + n % 2, affiliate_id=7 + n, is_test=n == 4)
        for n in range(5)
    ]
    told: list[dict[str, Any]] = [
        {"status": "pending", "order_id": "a"},
        {"goal_id": 2, "is_over_cap": True, "country_code": "DE"},
        {"status": "rejected", "advertiser_external_id": "crm", "click_id": 9},
        {"sale_status": "shipped", "affiliate_source": "fb", "aff_sub20": "b,c", "external_id": "x"},
        {"advertiser_id": 2, "is_unique": False, "is_bot": True},
    ]
    return [
        a_conversion(click, millis=NOON + n * HOUR, **changes)
        for n, (click, changes) in enumerate(zip(clicks, told, strict=True))
    ]


async def test_conversion_filters_find_their_rows(database: Settings) -> None:
    rows = varied()
    table: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [0, 1, 2, 3, 4]),
        ({"id": 2}, [1]),
        ({"hash": rows[3]["hash"]}, [3]),
        ({"click_id": 9}, [2]),
        ({"click_hash": rows[4]["click_hash"].upper()}, [4]),
        ({"offer_id": 4}, [1, 3]),
        ({"goal_id": 2}, [1]),
        ({"advertiser_id": 2}, [4]),
        ({"affiliate_id": 8}, [1]),
        ({"order_id": "a"}, [0]),
        ({"order_id": "A"}, []),
        ({"status": "pending"}, [0]),
        ({"status": "approved", "offer_id": 4}, [1, 3]),
        ({"is_over_cap": "true"}, [1]),
        ({"is_test": "true"}, [4]),
        ({"is_test": "false"}, [0, 1, 2, 3]),
        ({"is_unique": "true"}, [0, 1, 2, 3]),
        ({"is_bot": "true"}, [4]),
        ({"sale_status": "shipped"}, [3]),
        ({"advertiser_external_id": "crm"}, [2]),
        ({"country_code": "de"}, [1]),
        ({"affiliate_source": "fb"}, [3]),
        ({"aff_sub20": "b,c"}, [3]),
        ({"aff_sub20": "", "offer_id": 3}, [0, 2, 4]),
        ({"external_id": "x"}, [3]),
        ({"offer_url_id": 132, "goal_id": 2}, [1]),
        ({"offer_id": "3,4", "exclude_status": "rejected"}, [0, 1, 3, 4]),
        ({"exclude_offer_id": "3"}, [1, 3]),
        ({"status": "pending,rejected"}, [0, 2]),
        ({"order_id": ["a ", "b"]}, [0]),
        ({"exclude_advertiser_external_id": ""}, [2]),
        ({"id": "2,4"}, [1, 3]),
        ({"ip": "192.0.2.0/24", "requested_offer_id": 3, "device_type": "pc", "goal_id": 2}, [1]),
        ({"updated_from": "2024-10-10 14:00:00"}, [2, 3, 4]),
        ({"updated_to": "2024-10-10 14:00:00", "updated_from": "2024-10-10 13:00:00"}, [1, 2]),
        ({"created_from": "2024-10-10 13:00:00"}, [1, 2, 3, 4]),
        ({"created_at_from": "2024-10-10 13:00:01", "created_at_to": "2024-10-10 15:00:00"}, [2, 3]),
        ({"created_from": "2024-10-10", "created_to": "2024-10-10"}, [0, 1, 2, 3, 4]),
        ({"created_to": "2024-10-10 13:00:00", "tz": "Europe/Berlin"}, []),
        ({"created_to": "2024-10-10 11:00:00", "date_basis": "click"}, [1, 2, 3, 4]),
        ({"created_from": "2024-10-10 09:00:00", "date_basis": "click", "offer_id": 3}, [0, 2]),
        ({"created_from": "0001-01-01", "created_to": "9999-12-31"}, [0, 1, 2, 3, 4]),
        ({"created_from": "9999-12-31", "tz": "America/New_York"}, []),
        ({"seconds_from_click_from": 7200}, [1, 2, 3, 4]),
        ({"seconds_from_click_from": "7200", "seconds_from_click_to": 14400}, [1, 2]),
        ({"seconds_from_click_to": 7199}, [0]),
    ]
    await store_conversions(database, rows)
    async with api_of(database, scopes=SCOPES) as client:
        for query, expected in table:
            for sort, step in (("created_at", 1), ("-created_at", -1)):
                body = await listed(client, **query, sort=sort)
                hashes = [row["hash"] for row in body["data"]]
                assert hashes == [rows[at]["hash"] for at in expected][::step], query
                assert body["total"] == len(expected), query


async def test_times_from_click_are_counted_by_step(database: Settings) -> None:
    """The steps of the histogram add up to the list, and each step is a filter of it."""
    waits = [0, 9, 10, 59, 60, 3_599, 3_600, 86_400, 40 * 86_400, -5]
    rows = [
        a_conversion(
            a_row(hash=hash_at(NOON, n)),
            millis=NOON + wait * 1000,
            status="rejected" if n < 3 else "approved",
        )
        for n, wait in enumerate(waits)
    ]
    await store_conversions(database, rows)
    async with api_of(database, scopes=SCOPES) as client:
        body = await listed(client, f"{CONVERSIONS}/times")
        for step in body["data"]:
            ends = {"from": step["seconds_from"], "to": step["seconds_to"]}
            query = {f"seconds_from_click_{name}": end for name, end in ends.items() if end is not None}
            if step["seconds_from"] is not None:
                assert (await listed(client, **query))["total"] == step["conversions"], step
        some = await listed(client, f"{CONVERSIONS}/times", status="rejected")
        none = await listed(client, f"{CONVERSIONS}/times", offer_id=99)
    full = [
        (step["seconds_from"], step["seconds_to"], step["conversions"], step["rejected"])
        for step in body["data"]
        if step["conversions"]
    ]
    assert full == [
        (None, -1, 1, 0),
        (0, 9, 2, 2),
        (10, 29, 1, 1),
        (30, 59, 1, 0),
        (60, 299, 1, 0),
        (900, 3_599, 1, 0),
        (3_600, 14_399, 1, 0),
        (86_400, 259_199, 1, 0),
        (2_592_000, None, 1, 0),
    ]
    assert (body["total"], body["median_seconds"], body["p90_seconds"]) == (10, 59, 86_400)
    assert (some["total"], some["median_seconds"], some["data"][0]["seconds_from"]) == (3, 9, 0)
    assert (none["total"], none["median_seconds"], none["p90_seconds"]) == (0, None, None)


async def test_list_is_sorted_by_the_time_from_the_click(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [60, 5, 86_400, 5, -3, 60, 7]
    rows = [
        a_conversion(a_row(hash=hash_at(NOON, n)), millis=NOON + wait * 1000) for n, wait in enumerate(waits)
    ]
    await store_conversions(database, rows)
    async with api_of(database, scopes=SCOPES) as client:
        for sort, is_reversed in (("seconds_from_click", False), ("-seconds_from_click", True)):
            query: dict[str, Any] = {"sort": sort, "per_page": 2}
            found: list[dict[str, Any]] = []
            while len(found) < len(waits):
                body = await listed(client, **query)
                found += body["data"]
                query["cursor"] = body["next_cursor"]
            assert body["next_cursor"] is None
            assert [row["seconds_from_click"] for row in found] == sorted(waits, reverse=is_reversed)
            assert len({row["id"] for row in found}) == len(waits)
            page = await listed(client, sort=sort, per_page=2, page=2)
            assert page["data"] == found[2:4]
        first = await listed(client, sort="-seconds_from_click", per_page=2)
        for query in ({"sort": "-created_at"}, {"after_id": 0, "sort": "seconds_from_click"}):
            answer = await client.get(CONVERSIONS, params={"cursor": first["next_cursor"], **query})
            assert answer.status_code == 422, query
        monkeypatch.setattr(conversion_list, "MOST_SORTED", 6)
        answer = await client.get(CONVERSIONS, params={"sort": "seconds_from_click"})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["sort"])
        assert (await listed(client, sort="seconds_from_click", seconds_from_click_to=70))["total"] == 6


async def test_unreadable_value_is_refused_by_name(database: Settings) -> None:
    table = {
        "foo=1": ["foo"],
        "adv_sub=x": ["adv_sub"],
        "status=confirmed": ["status"],
        "date_basis=now": ["date_basis"],
        "goal_id=0": ["goal_id"],
        "click_hash=a%01c": ["click_hash"],
        "page=52": ["page"],
        "cursor=abc": ["cursor"],
        "cursor=abc&page=2": ["page"],
        "after_id=1&page=1": ["page"],
        "created_from=2024-01-02&created_to=2024-01-01": ["created_to"],
        "updated_from=2024-01-02&updated_to=2024-01-01": ["updated_to"],
        "updated_from=now": ["updated_from"],
        "exclude_order_id=a": ["exclude_order_id"],
        "status=approved,paid": ["status"],
        "is_test=true&is_test=false": ["is_test"],
    }
    async with api_of(database, scopes=SCOPES) as client:
        for query, fields in table.items():
            answer = await client.get(f"{CONVERSIONS}?{query}")
            assert answer.status_code == 422, query
            assert sorted(answer.json()["errors"]) == sorted(fields), query
        for key in ("999", "f" * 32, "abc", "0", "9" * 400):
            assert (await client.get(f"{CONVERSIONS}/{key}")).status_code == 404


async def test_scope_is_conversions_read(database: Settings) -> None:
    for scopes, status in (((), 401), (("clicks:read",), 403)):
        async with api_of(database, scopes=scopes) as client:
            for path in (CONVERSIONS, f"{CONVERSIONS}/1", f"{CONVERSIONS}/export"):
                assert (await client.get(path)).status_code == status


async def test_pages_cursor_feed_and_exports_give_the_whole_list(database: Settings) -> None:
    chance = random.Random(5)
    clicks = [a_row(hash=hash_at(NOON, n)) for n in range(40)]
    rows = [
        a_conversion(chance.choice(clicks), millis=NOON + chance.randrange(20), goal_id=chance.choice([1, 2]))
        for _ in range(300)
    ]
    ids = await store_conversions(database, rows)
    kept = [(row["created_at"], id_) for row, id_ in zip(rows, ids, strict=True) if row["goal_id"] == 1]
    async with api_of(database, scopes=SCOPES) as client:
        for sort in ("created_at", "-created_at"):
            order = [id_ for _, id_ in sorted(kept, reverse=sort[0] == "-")]
            walked: list[dict[str, Any]] = []
            more: dict[str, Any] = {}
            while True:
                body = await listed(client, goal_id=1, sort=sort, per_page=33, **more)
                paged = await listed(client, goal_id=1, sort=sort, per_page=33, page=body["page"])
                assert paged == body
                assert body["total"] == len(kept)
                walked += body["data"]
                if body["next_cursor"] is None:
                    break
                more = {"cursor": body["next_cursor"]}
            assert [row["id"] for row in walked] == order
            export = await client.get(f"{CONVERSIONS}/export", params={"goal_id": 1, "sort": sort})
            assert [orjson.loads(line) for line in export.text.splitlines()] == walked
            file = await client.get(
                f"{CONVERSIONS}/export", params={"goal_id": 1, "sort": sort, "format": "csv"}
            )
            table = list(csv.DictReader(io.StringIO(file.text, newline="")))
            assert [(int(row["id"]), row["payout"]) for row in table] == [(id_, "1.50") for id_ in order]
        fed: list[int] = []
        while True:
            body = await listed(client, goal_id=1, after_id=fed[-1] if fed else 0, per_page=33)
            fed += [row["id"] for row in body["data"]]
            if not body["data"]:
                break
        assert fed == sorted(id_ for _, id_ in kept)
        assert body["next_after_id"] == fed[-1]


TOLD = [
    (
        {"adv_sub": "", "adv_sub2": "link"},
        [
            {"sale_status": "paid", "adv_sub": "a", "adv_sub2": "x", "advertiser_external_id": "1"},
            {"sale_status": "", "adv_sub": "b", "status": "rejected"},
        ],
        {"sale_status": "paid", "adv_sub": "b", "adv_sub2": "link", "advertiser_external_id": "1"},
    ),
    ({}, [{}], {"sale_status": "New", "adv_sub": None, "advertiser_external_id": None}),
    ({}, [], {"sale_status": "New", "adv_sub": None, "advertiser_external_id": None}),
]


async def test_click_shows_its_conversions(database: Settings) -> None:
    clicks = [a_row(hash=hash_at(NOON, n), **own) for n, (own, _, _) in enumerate(TOLD)]
    await store(database, clicks)
    for click, (_, all_told, _) in zip(clicks, TOLD, strict=True):
        await store_conversions(database, [a_conversion(click, **told) for told in all_told])
    async with api_of(database, scopes=SCOPES) as client:
        for click, (_, all_told, shown) in zip(clicks, TOLD, strict=True):
            (row,) = (await listed(client, f"{CLICKS}/{click.hash}"))["data"]
            assert shown.items() <= row.items()
            assert row["has_conversions"] is bool(all_told)


OTHERS = [{}, {"offer_id": 4}, {"is_bot": "false"}, {"created_from": "2024-10-10 12:00:01"}]


@pytest.mark.parametrize("other", OTHERS)
async def test_clicks_with_and_without_conversions_are_distinguished(
    database: Settings, other: dict[str, Any]
) -> None:
    chance = random.Random(9)
    clicks = [a_row(hash=hash_at(NOON + n % 2 * 1000, n), offer_id=3 + n % 3 % 2) for n in range(120)]
    await store(database, clicks)
    converted = [chance.choice(clicks) for _ in range(40)]
    await store_conversions(database, [a_conversion(click) for click in converted])
    hashes = {click.hash for click in converted}
    async with api_of(database, scopes=SCOPES) as client:
        everything = await listed(client, CLICKS, **other, per_page=1000)
        for wanted in ("true", "false"):
            expected = [row for row in everything["data"] if (row["hash"] in hashes) == (wanted == "true")]
            query = {**other, "has_conversions": wanted}
            first = await listed(client, CLICKS, **query, per_page=5)
            assert first["total"] == len(expected)
            rest = await listed(client, CLICKS, **query, per_page=1000, cursor=first["next_cursor"])
            assert first["data"] + rest["data"] == expected
            assert {row["has_conversions"] for row in expected} <= {wanted == "true"}
            second = await listed(client, CLICKS, **query, per_page=5, page=2, sort="created_at")
            assert second["data"] == expected[::-1][5:10]
            fed = await listed(client, CLICKS, **query, after_id=0, per_page=1000)
            assert sorted(row["id"] for row in fed["data"]) == sorted(row["id"] for row in expected)
            export = await client.get(f"{CLICKS}/export", params=query)
            assert [orjson.loads(line) for line in export.text.splitlines()] == expected
