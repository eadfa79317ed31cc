"""Parameters of a link that an offer passes on, at every door where a link is read or a click is made."""

from __future__ import annotations

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of, recorded
from tests.integration.metrics_client import metrics_of
from tests.integration.test_create_clicks import api, create_one
from tracker.domain.test_links import sign
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.catalogue.read import visitor_secret
from tracker.store.db import connect

READ, WRITE = "offers:read", "offers:write"
pytestmark = pytest.mark.anyio

OFFERS = "/backend/open-api/v1/users/offers"
EXPLAIN = "/backend/open-api/v1/explain"
CHANGES = """
UPDATE offer SET pass_through = '{utm_*,gclid}' WHERE id = 3;
UPDATE offer_url SET url = 'https://ad.example/land?g={param:gclid}&x={param:x}' WHERE id = 132;
INSERT INTO link_form (path, parameters) VALUES ('/click', '{"pid": "affiliate_id", "o": "offer_id"}')
"""
PAGE = "https://ad.example/land?g=a%20b&x=1&utm_source=mail&gclid=a%20b"
PASSED = ["gclid=a+b", "x=1", "utm_source=mail"]
SENT = f"x=1&utm_source=mail&{PASSED[0]}&other=2"


async def settled(client: AsyncClient, link: str) -> str:
    """The Location of a link. HEAD and GET agree."""
    answer, head = await client.get(link), await client.head(link)
    assert (answer.status_code, head.headers["location"]) == (302, answer.headers["location"]), link
    return str(answer.headers["location"])


async def test_every_door_passes_the_same_parameters_on(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, CHANGES)
    connection = await connect(database.postgres_dsn)
    signature = sign(await visitor_secret(connection), 3, 513, 4_000_000_000)
    await connection.close()
    links = [
        f"/offer/3?affiliate_id=513&{SENT}",
        f"/backend/api/v3/offer/3/?aff_id=513&{SENT}",
        f"/offer/3?affiliate_id=513&{SENT.replace('&', '&amp;')}",
        f"/offer/3?affiliate_id=513&test={signature}&{SENT}",
        f"/offer/3?affiliate_id=513.&{SENT}",  # read leniently
        f"/click?o=3&pid=513&{SENT}",
    ]
    async with edge_of(database, demo=False) as client, api_of(database, scopes=(READ,)) as api:
        for link in links:
            assert await settled(client, link) == PAGE, link
            explained = (await api.get(EXPLAIN, params={"url": f"http://go.test{link}"})).json()
            assert explained["answer"]["location"] == PAGE, link
            assert explained["macros"] == {"param:gclid": "a b", "param:x": "1"}
        clicks = await recorded(database)
        assert [row.redirected_link for row in clicks] == [PAGE] * len(links)
        left = f"/offer/3?affiliate_id=513&utm_a={'/' * 3000}&utm_b=1"  # three bytes each, once encoded
        assert await settled(client, left) == "https://ad.example/land?g=&x=&utm_b=1"
        assert 'tracker_parameters_left_out_total{edge="0"} 1\n' in await metrics_of(database)


async def test_created_click_passes_nothing_on(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, CHANGES + "; UPDATE offer SET pass_through = '{utm_*,aff_sub}' WHERE id = 3")
    async with api(database) as client:
        created = await create_one(client, aff_sub="utm")
    assert created["redirected_link"] == "https://ad.example/land?g=&x="


WRONG = [
    (["*"], "'*': the name of a parameter has 1 to 50 letters"),
    (["utm*a"], "'utm*a': the name of a parameter"),
    (["test"], "'test': the signature of test links stays here"),
    (["a"] * 21, "20 items"),
]


async def test_list_that_an_edge_could_not_use_is_refused(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=(READ, WRITE)) as client:
        for listed, why in WRONG:
            answer = await client.patch(f"{OFFERS}/3", json={"pass_through": listed})
            assert answer.status_code == 422
            assert why in answer.json()["errors"]["pass_through"][0]
        url = {"url": "https://ad.example/?a={param:test}"}
        answer = await client.patch(f"{OFFERS}/3/urls/132", json=url)
        assert "{param:test}: the signature of test links stays here" in answer.json()["errors"]["url"][0]
        answer = await client.patch(f"{OFFERS}/3", json={"pass_through": ["utm_*"]})
        assert (answer.status_code, answer.json()["pass_through"]) == (200, ["utm_*"])
