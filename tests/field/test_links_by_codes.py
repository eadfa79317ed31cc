"""Links of another tracker that name offer and affiliate by codes, from the file of codes to the click."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import PATIENCE, edge_of, recorded
from tests.integration.importing import Importer, importer
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream import unmatched

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

EXPLAIN = "/backend/open-api/v1/explain"
CODES = """kind,code,offer_id,offer_url_id,affiliate,host
offer,2CTPL,3,,,
offer,55555,3,133,,
offer,GONE,5,,,
affiliate,28KL6,,,John Doe,
affiliate,28KL6,,,Ann Moe,old.test
"""
ANN = "INSERT INTO affiliate (id, name) VALUES (590, 'Ann Moe')"
ADD_FORM = "INSERT INTO link_form (path, parameters) VALUES ('/{affiliate_code}/{offer_code}', '{}')"

LINKS = [
    ("/28KL6/2CTPL/?sub1=a", "", (3, 513, 132)),
    ("/28KL6/55555", "", (3, 513, 133)),
    ("/28KL6/2CTPL/", "old.test", (3, 590, 132)),
]
UNKNOWN = [  # newest first
    ("/28KL6/GONE", "unknown offer"),
    ("/nobody/2CTPL", "unknown affiliate code nobody"),
    ("/28KL6/DEF45?sub1=x", "unknown offer code DEF45"),
]


async def test_links_by_codes_of_a_file_are_followed(database: Settings, importer: Importer) -> None:
    assert database.postgres_dsn
    assert database.redis_url
    await load_demo(database.postgres_dsn)
    await run_sql(database, ANN)
    path = importer.file("link_codes.csv", CODES)
    assert (await importer.run("catalogue", path)).code == 0
    assert (await importer.run("catalogue", path, "--json")).json == {"created": [], "changed": {}, "left": 5}
    await run_sql(database, "UPDATE offer SET is_archived = true WHERE id = 5")
    await run_sql(database, ADD_FORM)
    async with (
        edge_of(database, demo=False) as client,
        api_of(database, scopes=("offers:read", "offers:write")) as api,
    ):
        for link, host, ids in LINKS:
            headers = {"Host": host} if host else {}
            assert (await client.get(link, headers=headers)).status_code == 302
            assert (await client.head(link, headers=headers)).status_code == 302
            (row,) = await recorded(database)
            assert (row.offer_id, row.affiliate_id, row.offer_url_id) == ids
            url = f"http://{host or 'go.test'}{link}"
            answer = (await api.get(EXPLAIN, params={"url": url})).json()["answer"]
            assert (answer["status"], answer["offer_url_id"]) == ("accepted", ids[2])
        assert row.redirected_link.startswith("https://ad.example/land?")
        for link, _ in reversed(UNKNOWN):
            assert (await client.get(link)).status_code == 404
        assert (await client.get("/wp-admin/setup.php")).status_code == 404
        explained = (await api.get(EXPLAIN, params={"url": "http://go.test/28KL6/DEF45"})).json()
        assert (explained["unknown"], explained["unknown_codes"]) == (["offer"], ["offer code DEF45"])
        seen = await unmatched.read(database.redis_url, 10)
        async with asyncio.timeout(PATIENCE):
            while len(seen) < len(UNKNOWN):
                await asyncio.sleep(0.05)
                seen = await unmatched.read(database.redis_url, 10)
        assert [(each.requested_link.partition("://")[2].partition("/")[2], each.why) for each in seen] == [
            (link.removeprefix("/"), why) for link, why in UNKNOWN
        ], "nothing of the scanner"
        code = {"kind": "offer", "code": "DEF45", "offer_id": 1}
        assert (await api.post("/backend/open-api/v1/users/link-codes", json=code)).status_code == 201
        async with asyncio.timeout(PATIENCE):
            while (await client.head("/28KL6/DEF45")).status_code != 302:
                await asyncio.sleep(0.05)
