"""Partner access: own rows with reduced columns, on every route."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient
from starlette.routing import Route

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tracker.api.app import create_api
from tracker.api.http.auth import VIEWS
from tracker.api.partner_access.schema import CLICKS, CONVERSIONS
from tracker.domain.access import BOUND_SCOPES
from tracker.settings import Settings
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

OWNER: dict[str, dict[str, int]] = {"affiliate": {"affiliate_id": 513}, "advertiser": {"advertiser_id": 1}}
NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000

_PARTNERS = """
INSERT INTO advertiser (id, name) VALUES (1, 'hidden-advertiser'), (2, 'foreign-advertiser');
INSERT INTO offer (id, name, advertiser_id, visibility) VALUES
    (3, 'Own', 1, 'public'), (4, 'foreign-offer', 2, 'private'), (5, 'Approved', 2, 'approval'),
    (6, 'Asked for', 2, 'approval'), (7, 'Declined', 1, 'approval');
INSERT INTO affiliate (id, name) VALUES (513, 'hidden-affiliate'), (514, 'foreign-affiliate');
INSERT INTO offer_affiliate (offer_id, affiliate_id, status) VALUES
    (4, 514, 'approved'), (5, 513, 'approved'), (6, 513, 'pending'), (7, 513, 'rejected');
INSERT INTO tracking_host (host) VALUES ('go.example');
"""

OWN_CLICK = a_row(
    hash=hash_at(NOON),
    ip="203.0.113.99",
    aff_sub="hidden-of-affiliate",
    affiliate_source="hidden-of-affiliate",
    requested_link="https://hidden-of-affiliate.test/offer/3",
    referrer="https://hidden-of-affiliate.test",
    external_id="hidden-of-affiliate",
    redirected_link="https://hidden-of-advertiser.test/land",
    adv_sub="hidden-of-advertiser",
    bot_reason="hidden-verdict",
    isp="hidden-isp",
    visitor_key=0x1DDE,
)
FOREIGN_CLICK = a_row(
    hash=hash_at(NOON + 1000),
    offer_id=4,
    advertiser_id=2,
    affiliate_id=514,
    aff_sub="foreign",
    affiliate_source="foreign",
    requested_link="https://foreign.test",
    redirected_link="https://foreign.test",
    user_agent="foreign",
)
OWN_CONVERSION = a_conversion(
    OWN_CLICK,
    order_id="hidden-of-advertiser",
    sale_status="hidden-of-advertiser",
    payout="7.77",
    revenue="8.88",
    sale_amount="99.99",
    sale_currency="EUR",
)
FOREIGN_CONVERSION = a_conversion(FOREIGN_CLICK, order_id="foreign", payout="6.66", revenue="6.66", goal_id=2)

HIDDEN = {
    "affiliate": r"hidden-(advertiser|of-advertiser|verdict|isp)|203\.0\.113\.99|1dde|8\.88|99\.99",
    "advertiser": r"hidden-(affiliate|of-affiliate|verdict|isp)|203\.0\.113\.99|1dde|7\.77",
}


@pytest.fixture(autouse=True)
async def partners(database: Settings) -> None:
    await run_sql(database, _PARTNERS)
    await store(database, [OWN_CLICK, FOREIGN_CLICK])
    await store_conversions(database, [OWN_CONVERSION, FOREIGN_CONVERSION])


@asynccontextmanager
async def client_of(database: Settings, kind: str, *scopes: str) -> AsyncIterator[AsyncClient]:
    """A client with a token of 513's or of advertiser 1's."""
    assert database.postgres_dsn
    token = await create_token(
        database.postgres_dsn, scopes or BOUND_SCOPES[kind], rate_limit="100000/second", **OWNER[kind]
    )
    async with api_of(database, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


_KEPT = ("views", "views/{id}", "shares", "shares/{id}")
WRITTEN = {
    "affiliate": {
        f"{VIEWS['affiliate']}/{path}"
        for path in ("applications", "postbacks", "postbacks/{id}", "postbacks/{id}/test", *_KEPT)
    },
    "advertiser": {f"{VIEWS['advertiser']}/{path}" for path in _KEPT},
}
"""The paths under which a partner may change something."""
PUBLIC = ("/health/", "/openapi.json", "/docs")
IDS = ("1", "2", OWN_CLICK.hash, OWN_CONVERSION["hash"], FOREIGN_CLICK.hash, FOREIGN_CONVERSION["hash"])


@pytest.mark.parametrize("kind", OWNER)
async def test_routes_show_no_foreign_or_hidden_field(database: Settings, kind: str) -> None:
    routes = [route for route in create_api(database).routes if isinstance(route, Route)]
    assert len(routes) > 40
    async with client_of(database, kind) as client:
        for route in routes:
            is_own = route.path.startswith(f"{VIEWS[kind]}/")
            for path in {re.sub(r"\{[^}]*\}", id_, route.path) for id_ in (IDS if is_own else IDS[:1])}:
                for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                    answer = await client.request(method, path, json={} if method[0] == "P" else None)
                    said = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
                    if path.startswith(PUBLIC):
                        continue
                    assert is_own or answer.status_code in (403, 405), said
                    is_read = not is_own or method == "GET" or route.path in WRITTEN[kind]
                    assert is_read or answer.status_code == 405, said
                    assert "foreign" not in answer.text, said
                    assert not re.search(HIDDEN[kind], answer.text), said


@pytest.mark.parametrize("kind", OWNER)
@pytest.mark.parametrize(
    ("noun", "seen", "own", "foreign"),
    [
        ("clicks", CLICKS, OWN_CLICK.hash, FOREIGN_CLICK.hash),
        ("conversions", CONVERSIONS, OWN_CONVERSION["hash"], FOREIGN_CONVERSION["hash"]),
    ],
    ids=["clicks", "conversions"],  # hashes are other ones in each process
)
async def test_partner_sees_own_rows_with_the_documented_keys(
    database: Settings, kind: str, noun: str, seen: dict[str, tuple[str, ...]], own: str, foreign: str
) -> None:
    path = f"{VIEWS[kind]}/{noun}"
    async with client_of(database, kind) as client:
        listed = (await client.get(path)).json()
        (row,) = listed["data"]
        assert (tuple(row), row["hash"], listed["total"]) == (seen[kind], own, 1)
        for one in (row["id"], own, own.upper()):
            assert (await client.get(f"{path}/{one}")).json()["data"] == [row]
        for other in (foreign, "2", "999", "0", "x"):
            assert (await client.get(f"{path}/{other}")).status_code == 404
        for query in ({"after_id": 0}, {"cursor": ""}, {"has_conversions": "true"}, {"sort": "created_at"}):
            answer = await client.get(path, params=query)
            assert answer.status_code == 422 or answer.json()["data"] == [row], query
        exported = (await client.get(f"{path}/export")).json()
        assert exported == row
        table = list(csv.reader(io.StringIO((await client.get(f"{path}/export?format=csv")).text)))
        assert table[0] == list(seen[kind])
        assert len(table) == 2


async def test_pages_and_cursors_give_own_rows(database: Settings) -> None:
    mine = [a_row(hash=hash_at(NOON + n * 10_000, n)) for n in range(2, 7)]
    foreign = [a_row(hash=hash_at(NOON + n * 10_000 + 1, n), affiliate_id=514) for n in range(2, 7)]
    await store(database, [*mine, *foreign])
    path = f"{VIEWS['affiliate']}/clicks"
    async with client_of(database, "affiliate") as client:
        found: list[str] = []
        query: dict[str, Any] = {"per_page": 2, "sort": "created_at"}
        while True:
            page = (await client.get(path, params=query)).json()
            assert page["total"] == 6
            found += [row["hash"] for row in page["data"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert found == [OWN_CLICK.hash, *(row.hash for row in mine)]
        third = (await client.get(path, params={"per_page": 2, "page": 3})).json()
        assert [row["hash"] for row in third["data"]] == found[1::-1]
        feed = (await client.get(path, params={"after_id": 0})).json()["data"]
        assert {row["hash"] for row in feed} == set(found)


async def test_cursor_of_another_token_leads_nowhere(database: Settings) -> None:
    await store(database, [a_row(hash=hash_at(NOON + 9), affiliate_id=514, offer_id=4, advertiser_id=2)])
    dsn = database.postgres_dsn or ""
    other = await create_token(dsn, ["clicks:read"], affiliate_id=514)
    path = f"{VIEWS['affiliate']}/clicks"
    async with client_of(database, "affiliate") as client:
        theirs = await client.get(path, params={"per_page": 1}, headers={"Authorization": f"Bearer {other}"})
        answer = await client.get(path, params={"per_page": 1, "cursor": theirs.json()["next_cursor"]})
        assert answer.status_code == 422
        assert set(answer.json()["errors"]) == {"cursor"}


UNSEEN = [
    ("/affiliates/clicks", ("advertiser_id", "ip", "visitor_key", "tests")),
    ("/affiliates/clicks/export", ("advertiser_id", "page")),
    ("/affiliates/conversions", ("order_id", "sale_status", "is_over_cap", "ip", "brand_id")),
    ("/advertisers/clicks", ("aff_sub", "aff_sub20", "affiliate_source", "external_id")),
    ("/advertisers/conversions", ("affiliate_source", "is_over_cap", "aff_sub2", "ip")),
    ("/advertisers/conversions/export", ("affiliate_source",)),
]


async def test_hidden_columns_cannot_be_filtered(database: Settings) -> None:
    for path, hidden in UNSEEN:
        async with client_of(database, path.split("/")[1].removesuffix("s")) as client:
            names = (*hidden, *(f"exclude_{name}" for name in hidden))
            for name in names:
                answer = await client.get(f"/backend/open-api/v1{path}", params={name: "1"})
                assert answer.status_code == 422, (path, name)
                assert answer.json()["errors"] == {name: ["is not a parameter of this endpoint"]}
            spec = (await client.get("/openapi.json")).json()["paths"][f"/backend/open-api/v1{path}"]["get"]
            assert {item["name"] for item in spec["parameters"]}.isdisjoint(names)


async def test_filters_and_zones_are_those_of_the_network(database: Settings) -> None:
    path = f"{VIEWS['affiliate']}/clicks"
    async with client_of(database, "affiliate") as client:
        for query, total in (
            ({"offer_id": 3}, 1),
            ({"offer_id": 4}, 0),
            ({"aff_sub": "hidden-of-affiliate"}, 1),
            ({"is_test": "true"}, 0),
            ({"created_from": "2024-10-10", "created_to": "2024-10-10"}, 1),
            ({"created_from": "2024-10-11"}, 0),
            ({"hash": FOREIGN_CLICK.hash}, 0),
            ({"id": 2}, 0),
        ):
            assert (await client.get(path, params=query)).json()["total"] == total, query
        row = (await client.get(path, params={"tz": "Asia/Tokyo"})).json()["data"][0]
        assert row["created_at"] == "2024-10-10 21:00:00"
        assert "Complete-Until" not in (await client.get("/health/live")).headers


async def test_affiliate_sees_its_offers_with_its_links(database: Settings) -> None:
    await run_sql(database, "UPDATE offer SET ends_at = '2027-01-01', starts_at = 'infinity' WHERE id = 5")
    async with client_of(database, "affiliate") as client:
        page = (await client.get(f"{VIEWS['affiliate']}/offers")).json()
        no_times = {"starts_at": None, "ends_at": None}
        of = {"status": "active", "affiliate_id": 513, "payouts": []}
        own = {"id": 3, "name": "Own", "visibility": "public", **of, **no_times}
        approved = {"id": 5, "name": "Approved", "visibility": "approval", **of}
        times = {"starts_at": "infinity", "ends_at": "2027-01-01T00:00:00+00:00"}
        assert page["data"] == [
            {**own, "link": "https://go.example/offer/3?affiliate_id=513"},
            {**approved, **times, "link": "https://go.example/offer/5?affiliate_id=513"},
        ]
        assert page["total"] == 2
        second = (await client.get(f"{VIEWS['affiliate']}/offers?per_page=1&page=2")).json()
        assert [offer["id"] for offer in second["data"]] == [5]


COUNTS = {"clicks": 1, "uniques": 1, "duplicates": 0, "invalid": 0, "gross": 1}
CONVERTED = {f"conversions_{status}": 0 for status in ("approved", "pending", "hold", "rejected")}
MONEY = {
    "affiliate": {"payout": {"USD": "7.77"}, "pending_payout": {}, "epc": {"USD": "7.770000"}},
    "advertiser": {"revenue": {"USD": "8.88"}, "pending_revenue": {}, "rpc": {"USD": "8.880000"}},
}
RATES = {"cr": "1.000000", "approval_rate": "1.000000", "invalid_rate": "0.000000"}


@pytest.mark.parametrize("kind", OWNER)
async def test_report_sums_own_rows_and_own_money(database: Settings, kind: str) -> None:
    await run_sql(database, "UPDATE click SET bot_reason = NULL WHERE NOT is_bot")
    groups = ("day", "hour", "offer", "offer_url", "country", "device_type", "os", "browser", "status")
    sums = {**COUNTS, **CONVERTED, "conversions_approved": 1, **MONEY[kind], **RATES}
    path = f"{VIEWS[kind]}/reports"
    async with client_of(database, kind) as client:
        for group in (*groups, "offer,day", "country,os"):
            answer = await client.get(path, params={"group_by": group})
            assert answer.status_code == 200, answer.text
            report = answer.json()
            assert report["totals"] == sums, group
            (row,) = report["data"]
            assert row.items() >= sums.items()
            assert "foreign" not in answer.text
            assert not re.search(HIDDEN[kind], answer.text)
        text = (await client.get(path, params={"group_by": "offer", "format": "csv"})).text
        header, row = csv.reader(io.StringIO(text))
        own, per_click = ("payout", "epc") if kind == "affiliate" else ("revenue", "rpc")
        assert header == [
            *("offer_id", "offer_name", *COUNTS, *CONVERTED, *RATES, f"{own}_USD", f"{per_click}_USD")
        ]
        amounts = [MONEY[kind][name]["USD"] for name in (own, per_click)]
        assert row == ["3", "Own", *"110011000", *RATES.values(), *amounts]
        for query in ({"sort": "-profit_USD"}, {"measures": "margin"}, {"sort": "-conversions_over_cap"}):
            answer = await client.get(path, params={"group_by": "offer", **query})
            assert (answer.status_code, set(answer.json()["errors"])) == (422, set(query))


@pytest.mark.parametrize(
    ("kind", "seen", "unseen"),
    [
        (
            "affiliate",
            ("affiliate", "affiliate_source", "reason", "aff_sub20", "requested_offer", "referrer_host"),
            (
                "adv_sub",
                "advertiser",
                "brand",
                "affiliate_group",
                "sale_status",
                "isp",
                "bot_reason",
            ),
        ),
        (
            "advertiser",
            ("affiliate", "advertiser", "adv_sub5", "sale_status", "region", "month", "city", "week"),
            (
                "affiliate_source",
                "reason",
                "aff_sub",
                "requested_offer",
                "referrer_host",
                "brand",
            ),
        ),
    ],
)
async def test_reports_are_grouped_by_visible_columns(
    database: Settings, kind: str, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    path = f"{VIEWS[kind]}/reports"
    async with client_of(database, kind) as client:
        for group in seen:
            report = (await client.get(path, params={"group_by": group})).json()
            assert not any("foreign" in str(row.get("requested_offer_name")) for row in report["data"])
            names = {"affiliate_name", "advertiser_name"} - {f"{kind}_name"}
            assert not any(names & row.keys() for row in report["data"])
        for group in unseen:
            answer = await client.get(path, params={"group_by": group})
            assert answer.status_code == 422
            assert set(answer.json()["errors"]) == {"group_by"}
        foreign = (await client.get(path, params={"group_by": "day", f"{kind}_id": "2"})).json()
        assert (foreign["data"], foreign["totals"]["gross"]) == ([], 0)


@pytest.mark.parametrize("kind", OWNER)
async def test_first_click_of_a_visitor_is_named_only_to_its_owner(database: Settings, kind: str) -> None:
    first, unstored = hash_at(NOON + 30_000), hash_at(NOON - 1)
    first_click = a_row(hash=first, group_hash=first)
    later = first_click._replace(is_unique=False)
    table = [
        (first_click, first),
        (later._replace(hash=hash_at(NOON + 31_000), group_hash=first), first),
        (later._replace(hash=hash_at(NOON + 32_000), group_hash=FOREIGN_CLICK.hash), None),
        (later._replace(hash=hash_at(NOON + 33_000), group_hash=unstored), None),
        (later._replace(hash=hash_at(NOON + 34_000), group_hash=None), None),
    ]
    await store(database, [click for click, _ in table])
    path = f"{VIEWS[kind]}/clicks"
    async with client_of(database, kind) as client:
        for click, expected in table:
            for place in (f"?hash={click.hash}", f"/{click.hash}", f"/export?hash={click.hash}"):
                answer = (await client.get(f"{path}{place}")).json()
                (row,) = answer.get("data") or [answer]
                assert row["group_hash"] == expected, (place, click)
        for place in ("", "?after_id=0", "?has_conversions=false", "/export", "/export?format=csv"):
            answer = await client.get(f"{path}{place}")
            assert first in answer.text
            assert FOREIGN_CLICK.hash not in answer.text
            assert unstored not in answer.text


NAMED_TO_AFFILIATE = [
    ("UPDATE offer SET visibility = 'public' WHERE id = 3", True),
    ("UPDATE offer SET is_archived = true WHERE id = 3", True),
    ("UPDATE offer SET visibility = 'approval' WHERE id = 3", False),
    ("INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (3, 513)", True),
    ("UPDATE offer SET visibility = 'private' WHERE id = 3", True),
    ("UPDATE offer_affiliate SET status = 'pending' WHERE offer_id = 3", False),
    ("UPDATE offer_affiliate SET status = 'rejected' WHERE offer_id = 3", False),
    ("INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (3, 514)", False),
]
NAMED_TO_ADVERTISER = [
    ("UPDATE offer SET visibility = 'private' WHERE id = 3", True),
    ("UPDATE offer SET advertiser_id = 2 WHERE id = 3", False),
]


@pytest.mark.parametrize(
    ("kind", "table"), [("affiliate", NAMED_TO_AFFILIATE), ("advertiser", NAMED_TO_ADVERTISER)]
)
async def test_offer_name_is_visible_only_to_permitted_affiliates(
    database: Settings, kind: str, table: list[tuple[str, bool]]
) -> None:
    await run_sql(database, "UPDATE goal SET id = id + 100")
    await run_sql(database, "UPDATE goal SET id = 1, name = 'Own goal' WHERE offer_id = 3")
    places = (
        *("clicks", f"clicks/{OWN_CLICK.hash}", "clicks?after_id=0", "clicks/export"),
        *("clicks/export?format=csv", "conversions", f"conversions/{OWN_CONVERSION['hash']}"),
        *("conversions?after_id=0", "conversions/export", "reports?group_by=offer"),
        *("reports?group_by=day,offer", "reports?group_by=offer&format=csv"),
    )
    async with client_of(database, kind) as client:
        for change, is_named in table:
            await run_sql(database, change)
            for place in places:
                answer = await client.get(f"{VIEWS[kind]}/{place}")
                assert answer.status_code == 200
                # The goal's name begins with the offer's.
                assert ('"Own' in answer.text) == is_named, (change, place, answer.text)


async def test_advertisers_do_not_see_where_the_network_sends_refused_clicks(database: Settings) -> None:
    fallback = {"status": "forwarded", "reason": 14, "redirected_link": "https://hidden-fallback.test"}
    clicks = [
        (a_row(hash=hash_at(NOON + 5_000), offer_url_id=None, **fallback), None),
        (a_row(hash=hash_at(NOON + 6_000), offer_url_id=132, **fallback), "https://hidden-fallback.test"),
        (a_row(hash=hash_at(NOON + 7_000), status="rejected", offer_url_id=None, redirected_link=""), None),
    ]
    await store(database, [click for click, _ in clicks])
    path = f"{VIEWS['advertiser']}/clicks"
    async with client_of(database, "advertiser") as client:
        for click, expected in clicks:
            for query in (f"/{click.hash}", f"?hash={click.hash}", f"/export?hash={click.hash}"):
                answer = (await client.get(f"{path}{query}")).json()
                (row,) = answer.get("data") or [answer]
                assert row["redirected_link"] == expected, (query, click)


WANTED = [
    ("affiliate", "clicks", "clicks:read"),
    ("affiliate", "conversions", "conversions:read"),
    ("affiliate", "offers", "offers:read"),
    ("affiliate", "reports?group_by=offer", "reports:read"),
    ("affiliate", "statements?from=2024-10&to=2024-10", "money:read"),
    ("affiliate", "statements/lines?from=2024-10&to=2024-10", "money:read"),
    ("advertiser", "statements?from=2024-10&to=2024-10", "money:read"),
    ("advertiser", "statements/lines?from=2024-10&to=2024-10", "money:read"),
    ("advertiser", "clicks", "clicks:read"),
    ("advertiser", "conversions", "conversions:read"),
    ("advertiser", "reports?group_by=offer", "reports:read"),
]


async def test_views_need_their_scope(database: Settings) -> None:
    for kind, path, scope in WANTED:
        for given in BOUND_SCOPES[kind]:
            async with client_of(database, kind, given) as client:
                status = (await client.get(f"{VIEWS[kind]}/{path}")).status_code
                assert status == (200 if given == scope else 403), (path, given)


async def test_refused_token_learns_which_paths_it_may_read(database: Settings) -> None:
    for kind, root in VIEWS.items():
        async with api_of(database, scopes=("admin",)) as client:
            answer = await client.get(f"{root}/clicks")
            assert answer.status_code == 403
            assert answer.json()["detail"] == f"This path needs a token of one {kind}."
        async with client_of(database, kind) as client:
            answer = await client.get("/backend/open-api/v1/users/clicks")
            assert answer.status_code == 403
            assert root in answer.json()["detail"]


CHANGES = [
    ("affiliate", "UPDATE affiliate SET status = 'blocked'", 403),
    ("affiliate", "UPDATE affiliate SET is_archived = true", 403),
    ("affiliate", "UPDATE affiliate SET status = 'pending'", 200),
    ("advertiser", "UPDATE advertiser SET is_archived = true", 403),
]


async def test_token_is_suspended_and_restored_with_its_owner(database: Settings) -> None:
    for kind, change, status in CHANGES:
        async with client_of(database, kind) as client:
            await run_sql(database, change)
            assert (await client.get(f"{VIEWS[kind]}/clicks")).status_code == status, change
            await run_sql(database, "UPDATE affiliate SET status = 'active', is_archived = false")
            await run_sql(database, "UPDATE advertiser SET is_archived = false")
            assert (await client.get(f"{VIEWS[kind]}/clicks")).status_code == 200
