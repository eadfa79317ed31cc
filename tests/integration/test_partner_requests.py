"""What affiliates do themselves: they save URLs for postbacks, and ask to run offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.factories.clicks import a_row
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.fake_affiliate import FakeAffiliate
from tests.integration.test_postback_sender import converts, later, send
from tests.integration.test_webhooks import bodies, receiver, subscribes
from tests.integration.test_webhooks import send as send_webhooks
from tracker.api.partner_access.own_postbacks import MOST_URLS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

__all__ = ["receiver"]

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
OWN, APPLICATIONS = f"{ROOT}/affiliates/postbacks", f"{ROOT}/affiliates/applications"
USERS = f"{ROOT}/users"
URL = "https://partner.example/in?c={aff_sub}&s={status}"

_MORE = """
INSERT INTO affiliate (id, name) VALUES (614, 'Foreign'), (615, 'Second');
INSERT INTO offer (id, name, advertiser_id, visibility, status) VALUES
    (65, 'Approval', 1, 'approval', 'active'), (66, 'Private', 1, 'private', 'active'),
    (67, 'Draft', 1, 'approval', 'draft'), (68, 'Approved', 1, 'private', 'active');
INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (68, 513);
"""


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    """The demo's catalogue and more, and a client without a token."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, _MORE)
    async with api_of(database, scopes=()) as client:
        yield client


async def token(database: Settings, *scopes: str, **owner: Any) -> dict[str, str]:
    dsn = database.postgres_dsn or ""
    secret = await create_token(dsn, scopes, name="Jane", rate_limit="100000/second", **owner)
    return {"Authorization": f"Bearer {secret}"}


def named(answer: Response, status: int = 422) -> dict[str, list[str]]:
    assert answer.status_code == status, answer.text
    errors: dict[str, list[str]] = answer.json()["errors"]
    return errors


async def test_own_postback_is_made_listed_changed_and_archived(
    database: Settings, client: AsyncClient
) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_ids=[513, 615])
    foreign = await token(database, "own-postbacks:write", affiliate_id=614)
    answer = await client.post(OWN, json={"url": URL, "affiliate_id": 615, "offer_id": 3}, headers=mine)
    assert answer.status_code == 201, answer.text
    row, place = answer.json(), answer.headers["location"]
    assert (row["affiliate_id"], row["url_saved_by"], row["statuses"]) == (615, "affiliate", ["approved"])
    assert (await client.get(place, headers=mine)).json() == row
    assert (await client.get(OWN, headers=mine)).json()["data"] == [row]
    for affiliate, total in ((615, 1), (513, 0), (614, 0)):
        listed = await client.get(OWN, params={"affiliate_id": affiliate}, headers=mine)
        assert listed.json()["total"] == total
    for method in ("GET", "PATCH", "DELETE"):
        body = {"status": "paused"} if method == "PATCH" else None
        assert (await client.request(method, place, json=body, headers=foreign)).status_code == 404
    patched = await client.patch(
        place, json={"status": "paused"}, headers=mine | {"If-Match": answer.headers["etag"]}
    )
    assert patched.json()["status"] == "paused"
    assert (await client.patch(place, json={}, headers=mine | {"If-Match": '"1"'})).status_code == 412
    assert (await client.delete(place, headers=mine)).status_code == 204
    assert (await client.get(OWN, headers=mine)).json()["total"] == 0
    admin = await token(database, "admin")
    trail = (
        await client.get(f"{USERS}/audit?path=affiliates/615/postbacks/{row['id']}", headers=admin)
    ).json()
    assert [(change["token_name"], change["action"]) for change in trail["data"]] == [
        ("Jane", "update"),
        ("Jane", "update"),
        ("Jane", "create"),
    ]


# Who makes a change, and the status, whether it is archived and by whom it is off afterwards. None: refused.
SWITCHED: dict[str, list[tuple[str, dict[str, Any], tuple[str, bool, str | None] | None]]] = {
    "own pause": [
        ("affiliate", {"status": "paused"}, ("paused", False, "affiliate")),
        ("affiliate", {"status": "active"}, ("active", False, None)),
    ],
    "pause by the network": [
        ("network", {"status": "paused"}, ("paused", False, "network")),
        ("affiliate", {"status": "active"}, None),
        ("affiliate", {"url": URL + "&x=1", "status": "active"}, None),
        ("affiliate", {"url": URL + "&x=1"}, ("paused", False, "network")),
        ("affiliate", {"is_archived": True}, ("paused", True, "network")),
        ("affiliate", {"is_archived": False}, None),
        ("network", {"is_archived": False}, ("paused", False, "network")),
        ("network", {"status": "active"}, ("active", False, None)),
        ("affiliate", {"status": "paused"}, ("paused", False, "affiliate")),
    ],
    "archived by the network": [
        ("network", {"is_archived": True}, ("active", True, "network")),
        ("affiliate", {"is_archived": False}, None),
    ],
    "own pause that the network eases": [
        ("affiliate", {"status": "paused", "is_archived": True}, ("paused", True, "affiliate")),
        ("network", {"is_archived": False}, ("paused", False, "affiliate")),
        ("affiliate", {"status": "active"}, ("active", False, None)),
    ],
}


@pytest.mark.parametrize("name", SWITCHED)
async def test_affiliate_does_not_switch_on_what_the_network_switched_off(
    database: Settings, client: AsyncClient, name: str
) -> None:
    tokens = {
        "affiliate": await token(database, "own-postbacks:write", affiliate_id=513),
        "network": await token(database, "offers:read", "offers:write"),
    }
    made = await client.post(OWN, json={"url": URL}, headers=tokens["affiliate"])
    places = {
        "affiliate": made.headers["location"],
        "network": f"{USERS}/affiliates/513/postbacks/{made.json()['id']}",
    }
    assert made.json()["paused_by"] is None
    for who, body, after in SWITCHED[name]:
        answer = await client.patch(places[who], json=body, headers=tokens[who])
        if after is None:
            assert "the network switched" in str(named(answer, 409))
        else:
            row = answer.json()
            assert (row["status"], row["is_archived"], row["paused_by"]) == after


# What an affiliate saves beside a URL that the network switched off, and whether it may.
BESIDE: list[tuple[dict[str, Any], bool]] = [
    ({"url": URL}, False),
    ({"url": URL + "&more=1"}, False),
    ({"url": URL.replace("https", "http").replace("partner.example", "Partner.Example:443")}, False),
    ({"url": URL, "offer_id": 3}, False),
    ({"url": URL, "offer_id": 68}, True),
    ({"url": URL.replace("/in", "/other")}, True),
    ({"url": URL, "status": "paused"}, True),
]


@pytest.mark.parametrize("switch", [{"status": "paused"}, {"is_archived": True}])
async def test_affiliate_does_not_save_again_what_the_network_switched_off(
    database: Settings, client: AsyncClient, switch: dict[str, Any]
) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_ids=[513, 615])
    network = await token(database, "offers:read", "offers:write")
    own = {"affiliate_id": 513, "offer_id": 3, "url": URL}
    row = (await client.post(OWN, json=own, headers=mine)).json()
    place = f"{USERS}/affiliates/513/postbacks/{row['id']}"
    assert (await client.patch(place, json=switch, headers=network)).status_code == 200
    for body, may in BESIDE:
        answer = await client.post(OWN, json={"affiliate_id": 513} | body, headers=mine)
        if may:
            assert answer.status_code == 201, answer.text
        else:
            assert f"address of postback {row['id']}" in str(named(answer)["url"]), body
    other = f"{OWN}/{answer.json()['id']}"  # the last one, which is paused
    assert "url" in named(await client.patch(other, json={"status": "active"}, headers=mine))
    for change in ({"url": URL.replace("/in", "/x")}, {"offer_id": 68}):
        answer = await client.patch(f"{OWN}/{row['id']}", json=change, headers=mine)
        assert list(named(answer, 409)) == list(change)
    of_second = await client.post(OWN, json={"url": URL, "affiliate_id": 615}, headers=mine)
    assert of_second.status_code == 201
    assert (
        await client.post(place.rpartition("/")[0], json={"url": URL}, headers=network)
    ).status_code == 201


# Bodies, and the fields that the answer names.
REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({"url": url}, "url")
        for url in (
            "http://127.0.0.1/in",
            "http://10.0.0.1/in",
            "http://[::1]/in",
            "http://169.254.169.254/latest",
            "http://[::ffff:10.0.0.1]/in",
            "https://partner.example:8443/in",
            "http://partner.example:22/in",
            "http://localhost/in",
            "http://intranet/in",
            "http://db.internal/in",
            "ftp://partner.example/in",
            "https://{aff_sub}.example/in",
            "https://partner.example/in?x={revenue}",
        )
    ),
    ({"url": URL, "offer_id": 65}, "offer_id"),
    ({"url": URL, "offer_id": 66}, "offer_id"),
    ({"url": URL, "offer_id": 999}, "offer_id"),
    ({"url": URL, "offer_id": "3"}, "offer_id"),
    ({"url": URL, "offer_id": 10**30}, "offer_id"),
    ({"url": URL, "offer_id": 0}, "offer_id"),
    ({"url": URL, "offer_id": True}, "offer_id"),
    ({"url": URL, "goal_id": 999}, "goal_id"),
    ({"url": URL, "goal_id": -1}, "goal_id"),
    ({"url": URL, "affiliate_id": 614}, "affiliate_id"),
    ({"url": URL, "affiliate_id": 999}, "affiliate_id"),
    ({"url": URL, "url_saved_by": "network"}, "url_saved_by"),
    ({"url": URL, "is_strict": False}, "is_strict"),
    ({}, "url"),
]


async def test_own_postback_goes_to_public_hosts_and_visible_offers(
    database: Settings, client: AsyncClient
) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    hidden = await client.post(OWN, json={"url": URL, "offer_id": 66}, headers=mine)
    unknown = await client.post(OWN, json={"url": URL, "offer_id": 999}, headers=mine)
    assert named(hidden) == named(unknown) == {"offer_id": ["matches no offer"]}
    made = (await client.post(OWN, json={"url": URL, "offer_id": 68}, headers=mine)).json()
    for body, field in REFUSED:
        assert [*named(await client.post(OWN, json=body, headers=mine))] == [field], body
        if body and field != "affiliate_id":
            patched = await client.patch(f"{OWN}/{made['id']}", json=body, headers=mine)
            assert [*named(patched)] == [field], body
    several = await token(database, "own-postbacks:write", affiliate_ids=[513, 615])
    assert [*named(await client.post(OWN, json={"url": URL}, headers=several))] == ["affiliate_id"]
    plain = await token(database, "own-postbacks:write", affiliate_id=513, hides_money=True)
    of_money = await client.post(OWN, json={"url": URL + "&p={payout}"}, headers=plain)
    assert "unknown macro" in str(named(of_money)["url"]).lower()
    assert (await client.post(OWN, json={"url": URL}, headers=plain)).status_code == 201


async def test_affiliate_has_a_bounded_number_of_urls(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    await run_sql(
        database,
        "INSERT INTO affiliate_postback (affiliate_id, url) SELECT 513, 'https://p.example/' || n"
        f" FROM generate_series(1, {MOST_URLS}) AS n",
    )
    assert [*named(await client.post(OWN, json={"url": URL}, headers=mine), 409)] == ["url"]
    assert (await client.delete(f"{OWN}/1", headers=mine)).status_code == 204
    assert (await client.post(OWN, json={"url": URL}, headers=mine)).status_code == 201
    for wanted in (False, None):  # null is the default
        answer = await client.patch(f"{OWN}/1", json={"is_archived": wanted}, headers=mine)
        assert [*named(answer, 409)] == ["is_archived"]
    assert (await client.delete(f"{OWN}/2", headers=mine)).status_code == 204
    restored = await client.patch(f"{OWN}/1", json={"is_archived": False}, headers=mine)
    assert restored.json()["is_archived"] is False


async def test_url_of_an_affiliate_is_sent_to_public_addresses_only(
    database: Settings, client: AsyncClient
) -> None:
    """The operator allows this machine, and every host resolves to it."""
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    network = await token(database, "offers:read", "offers:write")
    log = await token(database, "conversions:read", "conversions:write")
    await store(database, [a_row()])
    async with FakeAffiliate().listening() as partner:
        of_network = {"url": f"http://n.example:{partner.port}/network"}
        place = f"{USERS}/affiliates/513/postbacks"
        made = (await client.post(place, json=of_network, headers=network)).json()
        assert made["url_saved_by"] == "network"
        own = (await client.post(OWN, json={"url": "http://p.example/own"}, headers=mine)).json()
        # Neither a pause by one side nor a copy of the same URL by the other changes whose it is.
        await client.patch(f"{OWN}/{made['id']}", json={"statuses": ["approved", "hold"]}, headers=mine)
        same = {"url": own["url"], "statuses": ["approved", "hold"]}
        await client.patch(f"{place}/{own['id']}", json=same, headers=network)
        editors = [(row["url"][-3:], row["url_saved_by"]) for row in await rows_of(client, place, network)]
        assert editors == [("ork", "network"), ("own", "affiliate")]

        await converts(database)
        await send(database)
        assert [asked.target for asked in partner.asked] == ["/network"]
        sent = {row["url"][-3:]: row for row in await rows_of(client, f"{USERS}/sent-postbacks", log)}
        assert sent["ork"]["state"] == "sent"
        assert (sent["own"]["state"], sent["own"]["last_status"]) == ("waiting", None)
        assert "127.0.0.1 is not a public address" in sent["own"]["last_error"]

        # What was made of an affiliate's URL stays strict, even if the network saves another one.
        await client.patch(
            f"{place}/{own['id']}", json={"url": f"http://m.example:{partner.port}/mine"}, headers=network
        )
        await later(database)
        await client.post(f"{USERS}/sent-postbacks/{sent['own']['id']}/refire", headers=log)
        await send(database)
        assert len(partner.asked) == 1
        await run_sql(database, "DELETE FROM sent_postback; DELETE FROM conversion_change")
        await run_sql(
            database,
            "INSERT INTO conversion_change (conversion_id, status_after, source, author)"
            " VALUES (1, 'approved', 'api', 'x')",
        )
        await send(database)
        assert sorted(asked.target for asked in partner.asked[1:]) == ["/mine", "/network"]


async def rows_of(client: AsyncClient, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.get(path, headers=headers)).json()["data"]
    return sorted(rows, key=lambda row: row["id"])


async def test_affiliate_asks_and_the_network_decides(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "applications:write", "offers:read", affiliate_ids=[513, 615])
    network = await token(database, "offers:read", "offers:write")
    ask = {"offer_id": 65, "affiliate_id": 513, "note": "Newsletter"}
    listed = await rows_of_applications(client, mine)
    assert listed == [(65, 513, None), (65, 615, None)]

    first = await client.post(APPLICATIONS, json=ask, headers=mine)
    assert first.status_code == 201, first.text
    shown = first.json()
    assert (shown["status"], shown["note"], shown["offer_name"]) == ("pending", "Newsletter", "Approval")
    again = await client.post(APPLICATIONS, json=ask | {"note": "other"}, headers=mine)
    assert (again.status_code, again.json()) == (200, shown)
    assert await rows_of_applications(client, mine) == [(65, 513, "pending"), (65, 615, None)]
    inbox = (await client.get(f"{USERS}/applications?status=pending", headers=network)).json()
    assert [(row["affiliate_id"], row["asked_by"]) for row in inbox["data"]] == [(513, "Jane")]
    offers = (await client.get(f"{ROOT}/affiliates/offers", headers=mine)).json()["data"]
    assert 65 not in {row["id"] for row in offers}

    terms = f"{USERS}/offers/65/affiliates/513"
    decided = await client.patch(terms, json={"status": "rejected", "reason": "Too new"}, headers=network)
    assert decided.json()["decided_at"] is not None
    (declined, _) = (await client.get(APPLICATIONS, headers=mine)).json()["data"]
    assert (declined["status"], declined["reason"]) == ("rejected", "Too new")
    early = await client.post(APPLICATIONS, json=ask, headers=mine)
    assert "was declined: you may ask again from 20" in named(early, 409)["offer_id"][0]
    await run_sql(database, "UPDATE offer_affiliate SET decided_at = now() - interval '8 days'")
    assert (await client.post(APPLICATIONS, json=ask, headers=mine)).json()["reason"] == ""

    await client.patch(terms, json={"status": "approved"}, headers=network)
    offers = (await client.get(f"{ROOT}/affiliates/offers", headers=mine)).json()["data"]
    assert (65, 513) in {(row["id"], row["affiliate_id"]) for row in offers}
    assert (await client.post(APPLICATIONS, json=ask, headers=mine)).status_code == 200
    admin = await token(database, "admin")
    trail = await client.get(f"{USERS}/audit?path=offers/65/affiliates/513", headers=admin)
    assert [(change["action"], change["after"]["status"]) for change in trail.json()["data"]] == [
        ("update", "approved"),
        ("update", "pending"),
        ("update", "rejected"),
        ("create", "pending"),
    ]


async def rows_of_applications(
    client: AsyncClient, headers: dict[str, str]
) -> list[tuple[int, int, str | None]]:
    rows = (await client.get(APPLICATIONS, headers=headers)).json()["data"]
    return [(row["offer_id"], row["affiliate_id"], row["status"]) for row in rows]


async def test_application_is_found_and_told(
    database: Settings, client: AsyncClient, receiver: FakeAffiliate
) -> None:
    mine = await token(database, "applications:write", affiliate_id=513)
    network = await token(database, "offers:read")
    async with api_of(database, scopes=("admin",)) as admin:
        await subscribes(admin, receiver, event_types=["application.asked"])
    for _ in range(2):  # the second one changes nothing
        await client.post(APPLICATIONS, json={"offer_id": 65, "note": "Newsletter"}, headers=mine)
    await send_webhooks(database)
    (event,) = bodies(receiver)
    asked = {"offer_id": 65, "affiliate_id": 513, "affiliate_name": "John Doe", "note": "Newsletter"}
    assert (event["type"], event["data"]) == ("application.asked", event["data"] | asked)
    for params, total in (
        ({"offer_id": 65}, 1),
        ({"offer_id": 3}, 0),
        ({"affiliate_id": 513}, 1),
        ({"affiliate_id": 615}, 0),
        ({"status": "approved"}, 0),
    ):
        found = (await client.get(f"{USERS}/applications", params=params, headers=network)).json()
        assert (found["total"], [row["affiliate_name"] for row in found["data"]]) == (
            total,
            ["John Doe"] * total,
        )


async def test_application_needs_an_offer_that_takes_some(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "applications:write", affiliate_id=513)
    unknown = {"offer_id": ["matches no offer"]}
    for offer, status, errors in (
        (66, 422, unknown),  # private
        (67, 422, unknown),  # a draft
        (999, 422, unknown),
        (3, 409, {"offer_id": ["needs no approval: you may run it"]}),
        ("65", 422, None),
    ):
        found = named(await client.post(APPLICATIONS, json={"offer_id": offer}, headers=mine), status)
        assert errors is None or found == errors, offer
    assert (await client.post(APPLICATIONS, json={"offer_id": 68}, headers=mine)).json()[
        "status"
    ] == "approved"
    for body, field in (
        ({"offer_id": 65, "affiliate_id": 614}, "affiliate_id"),
        ({"offer_id": 65, "affiliate_id": 999}, "affiliate_id"),
        ({"offer_id": 65, "status": "approved"}, "status"),
        ({"offer_id": 65, "note": "x" * 501}, "note"),
        ({"offer_id": 65, "note": "a\0b"}, "note"),
        ({}, "offer_id"),
    ):
        assert [*named(await client.post(APPLICATIONS, json=body, headers=mine))] == [field], body
    reader = await token(database, "offers:read", affiliate_id=513)
    assert (await client.post(APPLICATIONS, json={"offer_id": 65}, headers=reader)).status_code == 403
    assert (await client.get(APPLICATIONS, headers=reader)).status_code == 200


async def test_terms_that_a_cap_made_are_no_application(database: Settings, client: AsyncClient) -> None:
    """A full cap of a public offer writes pending terms, and so may the network."""
    mine = await token(database, "applications:write", affiliate_id=513)
    await run_sql(
        database, "INSERT INTO offer_affiliate (offer_id, affiliate_id, status) VALUES (65, 513, 'pending')"
    )
    network = await token(database, "offers:read")
    assert (await client.get(f"{USERS}/applications", headers=network)).json()["total"] == 0
    assert (await client.post(APPLICATIONS, json={"offer_id": 65}, headers=mine)).status_code == 201
    assert (await client.get(f"{USERS}/applications", headers=network)).json()["total"] == 1
