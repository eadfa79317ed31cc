"""Managing the catalogue through the API on a real Postgres. Tests with edges stand below."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import PATIENCE, edge_of
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.catalogue.demo import load_demo
from tracker.store.db import connect

pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
URL = "https://ad.example/x?click={hash}"
POSTBACK = "https://partner.example/in?click={aff_sub}&sum={payout}"

CREATE: dict[str, dict[str, Any]] = {
    "advertisers": {"name": "Acme"},
    "offers": {"name": "Fresh", "advertiser_id": 1},
    "offers/3/urls": {"url": URL},
    "offers/3/affiliates": {"affiliate_id": 513},
    "offers/3/free-values": {"n": 2, "value": "summer", "affiliate_id": 513},
    "offers/3/caps": {"period": "day", "amount": 5},
    "offers/3/goals": {"name": "Deposit", "payout": "12.50", "currency": "EUR"},
    "goals/3/terms": {"country_code": "DE", "payout": "0.10"},
    "advertisers/1/postback-secrets": {"name": "server"},
    "status-words": {"word": "lead", "status": "approved"},
    "affiliates/513/postbacks": {"url": POSTBACK},
    "affiliates": {"name": "Jane"},
    "blocks": {"field": "source", "value": "popunder"},
    "bot-rules": {"field": "user_agent", "value": "AcmeTool"},
    "tracking-hosts": {"host": "go.example"},
    "link-forms": {"path": "/click", "parameters": {"o": "offer_id", "pid": "affiliate_id"}},
    "postback-forms": {"name": "TUNE", "path": "/aff_goal", "match": {"a": "lsr"}},
    "link-codes": {"kind": "offer", "code": "2CTPL", "offer_id": 3},
}
"""The fields that suffice to create each kind of object."""

CHANGE: dict[str, dict[str, Any]] = {
    "advertisers": {"name": "Acme & Co"},
    "offers": {
        "targeting": {"country": ["DE"]},
        "pass_through": ["utm_*"],
        "starts_at": "2026-11-01T00:00:00+01:00",
    },
    "offers/3/urls": {"weight": 7, "fallback_offer_id": 1},
    "offers/3/affiliates": {"closed_until": "infinity", "status": "rejected"},
    "offers/3/free-values": {"value": "autumn"},
    "offers/3/caps": {"amount": 6},
    "offers/3/goals": {"parent_goal_id": 3, "payout_type": "percent", "payout": "7", "code": "dep"},
    "goals/3/terms": {"affiliate_id": 513, "payout": None, "revenue": "3.25"},
    "advertisers/1/postback-secrets": {"expires_at": "2026-12-01T00:00:00+01:00"},
    "status-words": {"advertiser_id": 1, "status": "pending"},
    "affiliates/513/postbacks": {"offer_id": 3, "goal_id": 3, "statuses": ["pending", "approved"]},
    "affiliates": {"group_id": 9, "status": "pending"},
    "blocks": {"offer_id": 3, "affiliate_id": 513},
    "bot-rules": {"field": "ip", "value": "198.51.100.0/24"},
    "tracking-hosts": {"status": "burned", "brand_id": 1},
    "link-forms": {"host": "go.example", "parameters": {"o": None, "offer": "offer_id"}},
    "postback-forms": {
        "path": "/{secret}/goal",
        "parameters": {"sub": "click_id"},
        "values": {"status": {"lead": "pending"}},
        "constants": {"currency": "EUR"},
        "advertiser_id": 1,
        "source": "tune",
    },
    "link-codes": {"host": "go.example", "code": "2ctpl", "offer_id": 3, "offer_url_id": 133},
    "network": {"fallback_url": "https://network.example/sorry?offer={offer_id}"},
}

ARCHIVED = (
    *("advertisers", "offers", "offers/3/urls", "offers/3/goals", "affiliates", "affiliates/513/postbacks"),
)


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read", "offers:write", "money:write")) as client:
        yield client


async def created(client: AsyncClient, kind: str, **fields: object) -> Response:
    answer = await client.post(f"{USERS}/{kind}", json={**CREATE[kind], **fields})
    assert answer.status_code == 201, answer.text
    return answer


def problem(answer: Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    errors: dict[str, Any] = answer.json()["errors"]
    return errors


async def catalogue_of(settings: Settings) -> Catalogue:
    """The catalogue as an edge builds it."""
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    try:
        catalogue = Catalogue()
        await catalogue.load(b"secret", stored_catalogue.read_all(connection))
        return catalogue
    finally:
        await connection.close()


@pytest.mark.parametrize("path", CREATE)
async def test_object_is_created_read_changed_and_deleted(
    client: AsyncClient, database: Settings, path: str
) -> None:
    before = (await client.get(f"{USERS}/{path}")).json()["total"]
    answer = await created(client, path)
    place, row = answer.headers["location"], answer.json()
    if path.endswith("secrets"):
        row.pop("secret")  # shown to its maker alone
    row.pop("warnings", None)  # told to whom it concerns
    assert row.items() >= CREATE[path].items()
    assert answer.headers["etag"] == f'"{row["version"]}"'
    assert (await client.get(place)).json() == row
    listed = (await client.get(f"{USERS}/{path}")).json()
    assert row in listed["data"]
    assert listed["total"] == before + 1

    answer = await client.patch(place, json=CHANGE[path], headers={"If-Match": answer.headers["etag"]})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    changed.pop("warnings", None)
    assert changed["version"] > row["version"]
    assert (await client.get(place)).json() == changed
    assert (await catalogue_of(database)).problems == {}

    assert (await client.delete(place)).status_code == 204
    assert row["version"] not in [
        one["version"] for one in (await client.get(f"{USERS}/{path}")).json()["data"]
    ]
    assert (await client.get(f"{USERS}/{path}")).json()["total"] == before
    gone = await client.get(place)
    if path in ARCHIVED:
        assert gone.json()["is_archived"] is True
        assert (await client.get(f"{USERS}/{path}?is_archived=true")).json()["data"] == [gone.json()]
    else:
        assert gone.status_code == 404
    trail = (await client.get(f"{USERS}/audit", params={"path": place.removeprefix(f"{USERS}/")})).json()
    assert [entry["after"] for entry in trail["data"]][1:] == [changed, row]
    assert [entry["before"] for entry in trail["data"]] == [changed, row, None]


async def test_network_has_a_fallback(client: AsyncClient, database: Settings) -> None:
    answer = await client.patch(f"{USERS}/network", json=CHANGE["network"])
    assert answer.json() == {
        **CHANGE["network"],
        "fallback_offer_id": None,
        "version": int(answer.headers["etag"].strip('"')),
    }
    assert (await client.get(f"{USERS}/network")).json() == answer.json()
    assert (await catalogue_of(database)).fallback is not None
    assert (await client.post(f"{USERS}/network", json={})).headers["allow"] == "GET, HEAD, PATCH"


REFUSED = [
    ("offers", {"name": ""}, "name"),
    ("offers", {"name": "a\0b"}, "name"),
    ("offers", {"name": 5}, "name"),
    ("offers", {"advertiser_id": "1"}, "advertiser_id"),
    ("offers", {"advertiser_id": 77}, "advertiser_id"),
    ("offers", {"advertiser_id": None}, "advertiser_id"),
    ("offers", {"advertiser_id": 10**18}, "advertiser_id"),
    ("offers", {"advertiser_id": True}, "advertiser_id"),
    ("offers", {"id": 5}, "id"),
    ("offers", {"nonsense": 5}, "nonsense"),
    ("offers", {"status": "archived"}, "status"),
    ("offers", {"time_zone": "Mars/Olympus"}, "time_zone"),
    ("offers", {"targeting": {"planet": ["Mars"]}}, "targeting"),
    ("offers", {"targeting": {"country": []}}, "targeting"),
    ("offers", {"targeting": {"unique": True}}, "targeting"),
    ("offers", {"targeting": ["DE"]}, "targeting"),
    ("offers", {"starts_at": "2026-11-01T00:00:00"}, "starts_at"),
    ("offers", {"starts_at": "9999-12-31T23:59:59-01:00"}, "starts_at"),
    ("offers", {"starts_at": "1969-12-31T23:59:59Z"}, "starts_at"),
    ("offers", {"starts_at": 1_700_000_000}, "starts_at"),
    ("offers", {"starts_at": "2026-11-02T00:00:00Z", "ends_at": "2026-11-02T01:00:00+01:00"}, "ends_at"),
    ("offers", {"fallback_url": "ftp://ad.example"}, "fallback_url"),
    ("offers", {"fallback_url": URL, "fallback_offer_id": 1}, "fallback_offer_id"),
    ("offers", {"fallback_offer_id": 77}, "fallback_offer_id"),
    ("offers", {"unique_window": 59}, "unique_window"),
    ("offers", {"redirect_status": 301}, "redirect_status"),
    ("offers", {"deep_link_hosts": ["shop"]}, "deep_link_hosts"),
    ("offers", {"deep_link_hosts": [1]}, "deep_link_hosts"),
    ("offers", {"visitor_cookie": "yes"}, "visitor_cookie"),
    ("offers/3/urls", {"url": "https://ad.example/{nonsense}"}, "url"),
    ("offers/3/urls", {"url": "https://{hash}.example/"}, "url"),
    ("offers/3/urls", {"url": "https://ad.example/" + "x" * 8192}, "url"),
    ("offers/3/urls", {"weight": -1}, "weight"),
    ("offers/3/urls", {"weight": 1.0}, "weight"),
    ("offers/3/urls", {"fallback_offer_id": 3}, "fallback_offer_id"),
    ("offers/3/urls", {"targeting": {"schedule": ["always"]}}, "targeting"),
    ("offers/3/affiliates", {"affiliate_id": 77}, "affiliate_id"),
    ("offers/3/affiliates", {"closed_until": "soon"}, "closed_until"),
    ("offers/3/free-values", {"n": 11}, "n"),
    ("offers/3/free-values", {"value": "a b"}, "value"),
    ("offers/3/free-values", {"value": "../"}, "value"),
    ("offers/3/caps", {"amount": -1}, "amount"),
    ("offers/3/caps", {"period": "week"}, "period"),
    ("offers/3/caps", {"affiliate_id": 77}, "affiliate_id"),
    ("offers/3/caps", {"counts": "payout"}, "currency"),
    ("offers/3/caps", {"counts": "payout", "currency": "XXX"}, "currency"),
    ("offers/3/caps", {"counts": "conversions", "currency": "EUR"}, "currency"),
    ("offers/3/caps", {"on_reached": "mark"}, "on_reached"),
    ("offers/3/goals", {"name": None}, "name"),
    ("offers/3/goals", {"payout": 12.5}, "payout"),
    ("offers/3/goals", {"payout": "-1"}, "payout"),
    ("offers/3/goals", {"revenue": "1 000"}, "revenue"),
    ("offers/3/goals", {"code": " \u200b"}, "code"),
    ("status-words", {"word": " "}, "word"),
    ("status-words", {"word": "{status}"}, "word"),
    ("status-words", {"word": "N/A"}, "word"),
    ("status-words", {"status": "paid"}, "status"),
    ("status-words", {"advertiser_id": 77}, "advertiser_id"),
    ("offers/3/goals", {"currency": "EURO"}, "currency"),
    ("offers/3/goals", {"click_window": 0}, "click_window"),
    ("offers/3/goals", {"parent_goal_id": 4}, "parent_goal_id"),
    ("offers/3/goals", {"is_base": True}, "is_base"),
    ("goals/3/terms", {"country_code": None}, "affiliate_id"),
    ("goals/3/terms", {"country_code": "Congo"}, "country_code"),
    ("goals/3/terms", {"payout": None}, "payout"),
    ("goals/3/terms", {"affiliate_id": 77}, "affiliate_id"),
    ("advertisers", {"postback_addresses": ["192.0.2.7/8"]}, "postback_addresses"),
    ("advertisers", {"postback_check": "maybe"}, "postback_check"),
    ("advertisers/1/postback-secrets", {"expires_at": "soon"}, "expires_at"),
    ("advertisers/1/postback-secrets", {"secret": "trs_mine"}, "secret"),
    ("affiliates/513/postbacks", {"url": "https://partner.example/?r={revenue}"}, "url"),
    ("affiliates/513/postbacks", {"url": "https://partner.example/?ip={ip}"}, "url"),
    ("affiliates/513/postbacks", {"url": "https://{hash}.example/"}, "url"),
    ("affiliates/513/postbacks", {"url": "https://me:pass@partner.example/"}, "url"),
    ("affiliates/513/postbacks", {"statuses": []}, "statuses"),
    ("affiliates/513/postbacks", {"statuses": ["paid"]}, "statuses"),
    ("affiliates/513/postbacks", {"goal_id": 77}, "goal_id"),
    ("affiliates/513/postbacks", {"offer_id": 4, "goal_id": 3}, "goal_id"),
    ("affiliates", {"status": "asleep"}, "status"),
    ("blocks", {"field": "ip", "value": "192.0.2.0/33"}, "value"),
    ("blocks", {"field": "aff_sub21"}, "field"),
    ("blocks", {"offer_id": 77}, "offer_id"),
    ("bot-rules", {"value": "  "}, "value"),
    ("bot-rules", {"field": "ip"}, "value"),
    ("tracking-hosts", {"host": "Go.Example"}, "host"),
    ("tracking-hosts", {"affiliate_id": 77}, "affiliate_id"),
    ("link-forms", {"path": "/offer/x"}, "path"),
    ("link-forms", {"path": "/c/{nonsense}"}, "path"),
    ("link-forms", {"parameters": {"o": "nonsense"}}, "parameters"),
    ("link-forms", {"parameters": {"o\0": "source"}}, "parameters"),
    ("link-forms", {"constants": {"offer_id": "x"}}, "constants"),
    ("link-forms", {"host": "go example"}, "host"),
    ("link-forms", {"parameters": {"offer_id": "source"}}, "parameters"),
    *(
        ("postback-forms", {"path": path, "match": {}}, "path")
        for path in ("/postback", "/offer/1", "/pixel", "/health/x", "/api/v3/goal/x", "/backend", "/metrics")
    ),
    ("postback-forms", {"path": "/hosts/{click_id}"}, "path"),
    ("postback-forms", {"path": "/", "match": {}}, "path"),
    ("postback-forms", {"path": "/{secret}/{click_id}"}, "path"),
    ("postback-forms", {"path": "/p/{token}"}, "path"),
    ("postback-forms", {"match": {"a": ""}}, "match"),
    ("postback-forms", {"parameters": {"a": "affiliate_id"}}, "parameters"),
    ("postback-forms", {"constants": {"click_id": "5"}}, "constants"),
    ("postback-forms", {"constants": {"status": "paid"}}, "constants"),
    ("postback-forms", {"constants": {"payout": "much"}}, "constants"),
    ("postback-forms", {"values": {"status": {"lead": "paid"}}}, "values"),
    ("postback-forms", {"values": {"order_id": {"a": "b"}}}, "values"),
    ("postback-forms", {"values": {"goal": {"a": "b"}, "event": {"a": "b"}}}, "values"),
    ("postback-forms", {"values": {"currency": {"2": "XYZ"}}}, "values"),
    ("postback-forms", {"secret": "{secret}"}, "secret"),
    ("postback-forms", {"secret": "k", "parameters": {"k": "order_id"}}, "secret"),
    ("postback-forms", {"host": "go example"}, "host"),
    ("postback-forms", {"advertiser_id": 77}, "advertiser_id"),
    ("link-forms", {"path": "/{offer_code}/{offer_id}"}, "path"),
    ("link-codes", {"kind": "goal"}, "kind"),
    ("link-codes", {"code": " "}, "code"),
    ("link-codes", {"code": "a\0b"}, "code"),
    ("link-codes", {"code": "x" * 65}, "code"),
    ("link-codes", {"host": "go example"}, "host"),
    ("link-codes", {"offer_id": 77}, "offer_id"),
    ("link-codes", {"offer_id": None}, "offer_id"),
    ("link-codes", {"offer_url_id": 101}, "offer_url_id"),  # of another offer
    ("link-codes", {"affiliate_id": 513}, "affiliate_id"),
    ("offers", {"pass_through": ["utm_*", "a*b"]}, "pass_through"),
    ("offers", {"pass_through": ["test"]}, "pass_through"),
    ("offers", {"fallback_url": "https://x.test/?a={param:a*}"}, "fallback_url"),
]


BESIDE: list[tuple[str, dict[str, Any], str]] = [
    ("postback-forms", {"name": "Same place", "path": "/aff_goal/", "match": {"a": "lsr"}}, "match"),
    ("postback-forms", {"name": "Any value", "path": "/aff_goal", "match": {"b": "x"}}, "match"),
    ("postback-forms", {"name": "Link's", "path": "/c/{secret}/", "match": {}}, "path"),
    ("link-forms", {"path": "/lsr/"}, "path"),
    ("link-forms", {"path": "/lsr", "host": "go.example"}, "path"),
    ("postback-forms", {"name": "Other word", "path": "/aff_goal", "match": {"a": "lsr2"}}, ""),
    ("postback-forms", {"name": "Asks more", "path": "/aff_goal", "match": {"a": "lsr", "b": "*"}}, ""),
    ("postback-forms", {"name": "Asks nothing", "path": "/aff_goal", "match": {}}, ""),
    ("postback-forms", {"name": "Of a host", "host": "go.example", "path": "/lsr", "match": {}}, ""),
    ("postback-forms", {"name": "Asks", "path": "/c/{secret}", "match": {"b": "*"}}, ""),
    ("link-forms", {"path": "/aff_click"}, ""),
]


async def test_forms_of_one_path_need_a_match_that_separates_them(client: AsyncClient) -> None:
    await created(client, "postback-forms")
    await created(client, "postback-forms", name="LSR", path="/lsr", match={})
    await created(client, "link-forms", path="/c/{offer_id}")
    for path, fields, field in BESIDE:
        answer = await client.post(f"{USERS}/{path}", json={**CREATE[path], **fields})
        assert answer.status_code == (422 if field else 201), (fields, answer.text)
        assert not field or list(answer.json()["errors"]) == [field], fields
    moved = await client.patch(f"{USERS}/postback-forms/1", json={"match": {"a": "lsr2"}})
    assert list(problem(moved, 422)) == ["match"]
    same = await client.patch(f"{USERS}/postback-forms/1", json={"source": "tune"})
    assert same.status_code == 200


async def test_rows_that_edges_would_leave_out_are_not_saved(client: AsyncClient) -> None:
    for path, fields, field in REFUSED:
        answer = await client.post(f"{USERS}/{path}", json={**CREATE[path], **fields})
        assert {name.partition(".")[0] for name in problem(answer, 422)} == {field}, (path, fields)
    assert (await client.get(f"{USERS}/audit")).json()["total"] == 0


async def test_change_is_held_to_the_same_rules(client: AsyncClient) -> None:
    table = [
        ("offers/3", {"fallback_offer_id": 3}, "fallback_offer_id"),
        ("offers/3", {"name": None}, "name"),
        ("offers/3", {"id": 4}, "id"),
        ("offers/3", {"version": "1"}, "version"),
        ("offers/3", {"nonsense": None, "name": "x", "other": 1}, "other"),
        ("offers/3/urls/132", {"offer_id": 4}, "offer_id"),
        ("offers/3/urls/132", {"url": "javascript:alert(1)"}, "url"),
        ("network", {"fallback_offer_id": 77}, "fallback_offer_id"),
    ]
    for path, fields, field in table:
        assert problem(await client.patch(f"{USERS}/{path}", json=fields), 422).keys() == {field}, fields


async def test_simultaneous_writers_never_lose_an_update(client: AsyncClient) -> None:
    place = f"{USERS}/offers/3"
    etag = (await client.get(place)).headers["etag"]

    async def change(n: int, **headers: str) -> Response:
        return await client.patch(place, json={"targeting": {"region": [f"US-{n}"]}}, headers=headers)

    answers = await asyncio.gather(*(change(n, **{"If-Match": etag}) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
    won = next(answer.json() for answer in answers if answer.status_code == 200)
    assert (await client.get(place)).json() == won

    fields = ("visitor_cookie", "duplicates_forced")
    patches = [{name: True} for name in fields] + [{"unique_window": 60}, {"name": "Both"}]
    await asyncio.gather(*(client.patch(place, json=patch) for patch in patches))
    now = (await client.get(place)).json()
    assert now.items() >= {**patches[0], **patches[1], **patches[2], **patches[3]}.items()
    trail = (await client.get(f"{USERS}/audit?path=offers/3")).json()["data"]
    assert len(trail) == 5
    for later, earlier in pairwise(trail):
        assert later["before"] == earlier["after"]


async def test_stale_change_is_refused_with_the_current_version(
    client: AsyncClient, database: Settings
) -> None:
    place = f"{USERS}/offers/3"
    old = (await client.get(place)).json()
    await run_sql(database, "UPDATE offer SET name = 'By hand' WHERE id = 3")
    now = (await client.get(place)).json()
    assert now["version"] > old["version"], "a change by SQL counts, too"
    stale, current = f'"{old["version"]}"', f'"{now["version"]}"'
    for condition, status in (
        (stale, 412),
        (f"W/{current}", 412),
        (f"x{current}", 412),
        ("", 412),
        (f"{stale}, {current}", 200),
        (current, 412),  # the version before the last change is stale
        ("*", 200),
    ):
        patch = {"unique_window": now["unique_window"] + len(condition) + 1}
        answer = await client.patch(place, json=patch, headers={"If-Match": condition})
        assert answer.status_code == status, condition
        assert answer.headers["etag"] == (await client.get(place)).headers["etag"]
    version = (await client.get(place)).json()["version"]
    for asked, status in ((old["version"], 409), (version, 200)):
        answer = await client.patch(place, json={"name": "Mine", "version": asked})
        assert answer.status_code == status
        if status == 409:
            assert answer.json()["errors"] == {
                "version": [f"is not current: the current version is {version}"]
            }
    assert problem(await client.delete(place, headers={"If-Match": stale}), 412)


async def test_locked_row_is_503_without_partial_changes(
    client: AsyncClient, database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit, "_LONGEST_WAIT_SECONDS", 0.05)
    place = f"{USERS}/offers/3"
    before = (await client.get(place)).json()
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM offer WHERE id = 3 FOR UPDATE")
            answer = await client.patch(place, json={"status": "paused"})
            assert answer.headers["retry-after"] == "1"
            problem(answer, 503)
        async with connection.transaction():
            await connection.execute("LOCK TABLE audit")  # the last that a change writes
            problem(await client.patch(place, json={"status": "paused"}), 503)
    finally:
        await connection.close()
    assert (await client.get(place)).json() == before
    assert (await client.patch(place, json={"status": "paused"})).status_code == 200


async def test_object_can_be_sent_back_unchanged(client: AsyncClient) -> None:
    for path in ("offers/3", "offers/3/urls/132", "network"):
        row = (await client.get(f"{USERS}/{path}")).json()
        without_nulls = {name: value for name, value in row.items() if value is not None}
        answer = await client.patch(f"{USERS}/{path}", json=without_nulls)
        assert answer.json() == row
    assert (await client.get(f"{USERS}/audit")).json()["total"] == 0, "nothing was changed"


async def test_recreated_row_has_another_version(client: AsyncClient) -> None:
    first = await created(client, "offers/3/affiliates")
    assert (await client.delete(first.headers["location"])).status_code == 204
    second = await created(client, "offers/3/affiliates")
    assert second.headers["location"] == first.headers["location"]
    stale = {"If-Match": first.headers["etag"]}
    assert problem(await client.delete(second.headers["location"], headers=stale), 412)


async def test_duplicate_value_is_named(client: AsyncClient) -> None:
    for path in (
        "offers/3/affiliates",
        "offers/3/free-values",
        "offers/3/caps",
        "goals/3/terms",
        "tracking-hosts",
        "link-forms",
        "link-codes",
    ):
        await created(client, path)
        assert problem(await client.post(f"{USERS}/{path}", json=CREATE[path]), 409)


async def test_offers_have_one_base_goal(client: AsyncClient) -> None:
    offer = (await created(client, "offers")).json()["id"]
    place = f"{USERS}/offers/{offer}/goals"
    (base,) = (await client.get(f"{place}?is_base=true")).json()["data"]
    assert (base["is_base"], base["payout"], base["click_window"]) == (True, "0.00", 2_592_000)
    assert problem(await client.delete(f"{place}/{base['id']}"), 409).keys() == {"is_archived"}
    other = (await client.post(place, json={"name": "Other"})).json()
    answer = await client.patch(f"{place}/{base['id']}", json={"parent_goal_id": other["id"]})
    assert problem(answer, 409).keys() == {"parent_goal_id"}
    changed = await client.patch(f"{place}/{base['id']}", json={**base, "name": "Sale"})
    assert changed.json() == {**base, "name": "Sale", "version": changed.json()["version"]}
    assert problem(await client.patch(f"{place}/{base['id']}", json={"is_base": False}), 422)


async def test_goals_never_lead_back_to_themselves(client: AsyncClient) -> None:
    async def goal(parent: int | None) -> int:
        answer = await created(client, "offers/3/goals", parent_goal_id=parent)
        id_: int = answer.json()["id"]
        return id_

    first = await goal(None)
    second = await goal(first)
    third = await goal(second)
    place = f"{USERS}/offers/3/goals"
    for id_, parent in ((first, third), (first, first), (second, third)):
        answer = await client.patch(f"{place}/{id_}", json={"parent_goal_id": parent})
        assert problem(answer, 422).keys() == {"parent_goal_id"}
    assert problem(await client.delete(f"{place}/{second}"), 409).keys() == {"is_archived"}
    for id_ in (third, second, first):
        assert (await client.delete(f"{place}/{id_}")).status_code == 204


async def test_goal_with_a_parent_has_a_window_only_if_set(client: AsyncClient) -> None:
    for given, kept in (
        ({}, 2_592_000),
        ({"parent_goal_id": 3}, None),
        ({"parent_goal_id": 3, "click_window": 60}, 60),
        ({"click_window": None}, 2_592_000),
    ):
        assert (await created(client, "offers/3/goals", **given)).json()["click_window"] == kept


async def test_secret_is_shown_once_and_kept_as_its_hash(client: AsyncClient, database: Settings) -> None:
    answer = await created(client, "advertisers/1/postback-secrets")
    made, place = answer.json(), answer.headers["location"]
    secret = made.pop("secret")
    assert secret.startswith("trs_")
    assert (await client.get(place)).json() == made
    assert secret not in (await client.get(f"{USERS}/audit")).text
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        kept = await connection.fetchval("SELECT secret_hash FROM advertiser_secret")
    finally:
        await connection.close()
    assert kept == sha256(secret.encode()).digest()
    assert (await created(client, "advertisers/1/postback-secrets")).json()["secret"] != secret


async def test_postbacks_goal_is_of_its_offer_after_a_change_too(client: AsyncClient) -> None:
    place = (await created(client, "affiliates/513/postbacks", offer_id=3, goal_id=3)).headers["location"]
    assert problem(await client.patch(place, json={"offer_id": 4}), 422).keys() == {"goal_id"}
    for patch in ({"offer_id": None}, {"offer_id": 3}, {"offer_id": 4, "goal_id": None}):
        assert (await client.patch(place, json=patch)).status_code == 200


async def test_referenced_row_is_not_archived_and_archived_row_not_referenced(client: AsyncClient) -> None:
    await client.patch(f"{USERS}/offers/5", json={"fallback_offer_id": 4})
    await client.patch(f"{USERS}/network", json={"fallback_offer_id": 4})
    errors = problem(await client.delete(f"{USERS}/offers/4"), 409)
    assert errors == {"is_archived": ["is used by offers/5, network"]}
    assert problem(await client.delete(f"{USERS}/advertisers/2"), 409)
    for path in ("offers/5", "network"):
        await client.patch(f"{USERS}/{path}", json={"fallback_offer_id": None})
    for path in ("offers/4", "offers/5", "advertisers/2"):
        assert (await client.delete(f"{USERS}/{path}")).status_code == 204
        assert (await client.delete(f"{USERS}/{path}")).status_code == 204, "again changes nothing"
    assert problem(await client.patch(f"{USERS}/offers/3", json={"fallback_offer_id": 4}), 422)
    assert problem(await client.post(f"{USERS}/offers/4/urls", json={"url": URL}), 404)
    assert (await client.get(f"{USERS}/offers/4/urls")).json()["total"] == 1
    restored = await client.patch(f"{USERS}/offers/4", json={"is_archived": False})
    assert problem(restored, 422).keys() == {"advertiser_id"}
    for path in ("advertisers/2", "offers/4"):
        answer = await client.patch(f"{USERS}/{path}", json={"is_archived": False})
        assert answer.status_code == 200


async def test_lists_are_filtered_and_paged(client: AsyncClient) -> None:
    table = [
        ("offers", {}, 5),
        ("offers", {"advertiser_id": "2"}, 2),
        ("offers", {"name": "Test Offer", "status": "active"}, 1),
        ("offers", {"is_archived": "true"}, 0),
        ("offers/2/urls", {}, 2),
        ("affiliates", {"status": "blocked"}, 1),
        ("affiliates", {"is_test": "true"}, 1),
        ("affiliates", {"group_id": "7"}, 5),
    ]
    for path, parameters, total in table:
        answer = (await client.get(f"{USERS}/{path}", params=parameters)).json()
        assert (answer["total"], len(answer["data"])) == (total, total), (path, parameters)
    page = (await client.get(f"{USERS}/affiliates?per_page=5&page=2")).json()
    assert [row["id"] for row in page.pop("data")] == [506, 507, 508, 509, 510]
    assert page == {"total": 22, "per_page": 5, "page": 2, "pages": 5}
    for query in ("nonsense=1", "page=0", "per_page=1001", "status=odd", "advertiser_id=x", "page=1&page=2"):
        assert problem(await client.get(f"{USERS}/offers?{query}"), 422).keys() == {query.partition("=")[0]}


async def test_audit_trail_names_author_and_change(database: Settings, client: AsyncClient) -> None:
    await client.patch(f"{USERS}/affiliates/513", json={"status": "blocked"})
    await client.delete(f"{USERS}/affiliates/514")
    await created(client, "blocks")
    trail = (await client.get(f"{USERS}/audit")).json()
    assert trail["total"] == 3
    assert [(entry["action"], entry["resource"]) for entry in trail["data"]] == [
        ("create", "block"),
        ("update", "affiliate"),
        ("update", "affiliate"),
    ]
    blocked = trail["data"][2]
    assert blocked["path"] == "affiliates/513"
    assert (blocked["before"]["status"], blocked["after"]["status"]) == ("active", "blocked")
    assert blocked["token_id"] == 1
    for query, total in (("resource=affiliate", 2), ("action=create", 1), ("token_id=2", 0)):
        assert (await client.get(f"{USERS}/audit?{query}")).json()["total"] == total


async def test_bodies_are_read_in_bounds(client: AsyncClient) -> None:
    place, kind = f"{USERS}/offers", {"Content-Type": "application/json"}
    table: list[tuple[bytes, dict[str, str], int]] = [
        (b"{}", {}, 415),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/merge-patch+json"}, 415),
        (b"", kind, 422),
        (b"[]", kind, 422),
        (b"{", kind, 422),
        (b"\xff", kind, 422),
        (b'{"name": "\\ud800"}', kind, 422),
        (b"[" * 10_000, kind, 422),
        (b'{"name": ' + b"[" * 900 + b"]" * 900 + b"}", kind, 422),
        (b'{"targeting": ' + b'{"os": ' * 900 + b"1" + b"}" * 900 + b"}", kind, 422),
        (b'{"name": 1e999}', kind, 422),
        (b'{"advertiser_id": 100000000000000000000000000}', kind, 422),
        (b" " * (256 * 1024 + 1), kind, 413),
    ]
    for body, headers, status in table:
        problem(await client.post(place, content=body, headers=headers), status)
    body = b'{"name": "Charset", "advertiser_id": 1}'
    for given in ("application/json; charset=utf-8", "Application/JSON"):
        answer = await client.post(place, content=body, headers={"Content-Type": given})
        assert answer.status_code == 201
    patched = await client.patch(
        f"{place}/3", content=b'{"name": "x"}', headers={"Content-Type": "application/merge-patch+json"}
    )
    assert patched.status_code == 200


async def test_missing_row_is_404(client: AsyncClient) -> None:
    for path in (
        *("offers/77", "offers/0", "offers/x", "offers/77/urls", "offers/3/urls/101", "offers/3/urls/x"),
        *(
            "offers/3/affiliates/513",
            "tracking-hosts/nowhere.example",
            "tracking-hosts/%00",
            "caps",
            "affiliates/%F0%9F%A6%8A",
        ),
    ):
        for method in ("GET", "PATCH", "DELETE"):
            if method != "GET" and path == "offers/77/urls":
                continue
            problem(await client.request(method, f"{USERS}/{path}", json={}), 404)
    problem(await client.post(f"{USERS}/offers/77/urls", json={"url": URL}), 404)


async def test_scopes_are_enforced(database: Settings) -> None:
    for scopes, read, write in (
        (("offers:read",), 200, 403),
        (("offers:write",), 403, 201),
        (("admin",), 200, 201),
        (("clicks:read",), 403, 403),
        ((), 401, 401),
    ):
        async with api_of(database, scopes=scopes) as client:
            assert (await client.get(f"{USERS}/affiliates")).status_code == read
            assert (await client.get(f"{USERS}/audit")).status_code == read
            answer = await client.post(f"{USERS}/affiliates", json={"name": "Jane"})
            assert answer.status_code == write


async def test_links_are_made(client: AsyncClient) -> None:
    place = f"{USERS}/offers/3/affiliate/513/link"
    assert (await client.get(place)).json()["link"].endswith("/offer/3?affiliate_id=513")
    await created(client, "tracking-hosts")
    link = "https://go.example/offer/3?affiliate_id=513"
    assert (await client.get(place)).json() == {"link": link}
    assert (await client.get(f"{place}?offer_url_id=132")).json() == {"link": f"{link}&url_id=132"}
    assert (await client.delete(f"{USERS}/offers/3/urls/132")).status_code == 204
    for path in ("3/affiliate/513/link?offer_url_id=132", "77/affiliate/513/link", "3/affiliate/x/link"):
        problem(await client.get(f"{USERS}/offers/{path}"), 404)
    assert problem(await client.get(f"{place}?url_id=132"), 422).keys() == {"url_id"}


CARRIED: list[tuple[dict[str, str], str | set[str]]] = [
    ({"aff_sub": "a b&c", "aff_sub20": "z"}, "?affiliate_id=513&aff_sub=a+b%26c&aff_sub20=z"),
    ({"source": "x", "offer_url_id": "132"}, "?affiliate_id=513&url_id=132&source=x"),
    ({"url": "https://shop.example/p?q=1"}, "?affiliate_id=513&url=https%3A%2F%2Fshop.example%2Fp%3Fq%3D1"),
    ({"host": "own.example"}, "http://own.example/offer/3?affiliate_id=513"),
    ({"url": "https://evil.example/"}, {"url"}),
    ({"url": "http://shop.example/", "host": "none.example"}, {"url", "host"}),
    ({"host": "burned.example"}, {"host"}),
    ({"host": "jane.example"}, {"host"}),
    ({"host": "brand.example"}, {"host"}),
    ({"aff_sub21": "x"}, {"aff_sub21"}),
]


async def test_links_carry_what_is_asked_for(client: AsyncClient, database: Settings) -> None:
    await run_sql(
        database,
        """UPDATE offer SET deep_link_hosts = '{shop.example}' WHERE id = 3;
        INSERT INTO tracking_host (host, scheme, status, affiliate_id, brand_id) VALUES
            ('own.example', 'http', 'active', 513, 1), ('burned.example', 'https', 'burned', NULL, NULL),
            ('jane.example', 'https', 'active', 514, NULL), ('brand.example', 'https', 'active', NULL, 2)""",
    )
    for query, expected in CARRIED:
        answer = await client.get(f"{USERS}/offers/3/affiliate/513/link", params=query)
        if isinstance(expected, str):
            assert (query, answer.json()["link"].endswith(expected)) == (query, True)
        else:
            assert (query, problem(answer, 422).keys()) == (query, expected)


async def test_edges_take_a_change(client: AsyncClient, database: Settings) -> None:
    async with edge_of(database) as edge:

        async def until(status: int, location: str = "") -> None:
            async with asyncio.timeout(PATIENCE):
                while True:
                    answer = await edge.get("/offer/1?affiliate_id=513")
                    if answer.status_code == status and answer.headers.get("location", "").startswith(
                        location
                    ):
                        return
                    await asyncio.sleep(0.01)

        await until(302, "https://ad.example/puzzle")
        await client.patch(f"{USERS}/offers/1/urls/101", json={"url": "https://new.example/{hash}"})
        await until(302, "https://new.example/")
        await client.patch(f"{USERS}/offers/1", json={"status": "paused"})
        await until(410)
        await client.patch(f"{USERS}/network", json={"fallback_url": "https://sorry.example/"})
        await until(302, "https://sorry.example/")
        await client.patch(f"{USERS}/network", json={"fallback_url": None})
        await client.delete(f"{USERS}/offers/1")
        await until(404)
        await client.patch(f"{USERS}/offers/1", json={"is_archived": False, "status": "active"})
        await until(302, "https://new.example/")
        await client.delete(f"{USERS}/offers/1/urls/101")
        await until(403)
