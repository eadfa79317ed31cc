"""Ids of earlier trackers name clicks and conversions, and never another one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tests.integration.test_api_conversions import listed
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.domain.click_id import legacy_hash
from tracker.settings import Settings
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

NOON = 1_728_561_600_000
SCOPES = (
    *("clicks:read", "conversions:read", "conversions:write", "reports:read", "money:read", "money:write"),
)
HEX = "ABCDEF0123456789ABCDEF0123456789"
LOWER = "0f7c2d9be1a84c6db2a9e53f70110000"  # as a hash is written, but of no UUIDv7
SEVEN = "0f7c2d9be1a87c6db2a9e53f70110000"  # as a UUIDv7
A, B, C, D = (
    a_row(hash=hash_at(NOON + n * 1000), affiliate_id=514 if n == 2 else 513, advertiser_id=1 + n // 3)
    for n in range(4)
)
BY_HASH = {row.hash: name for name, row in zip("ABCD", (A, B, C, D), strict=True)}
LEGACY = [  # this tracker has the ids 1 to 4 for A to D
    ("2", A, "earlier"),
    *(("77", B, "earlier"), ("77", D, "b"), ("78", B, ""), ("78", D, "b")),
    *(("900", D, "earlier"), ("3", C, "earlier"), ("500", C, "earlier"), ("4", C, "earlier")),
    (HEX, B, "earlier"),
    (LOWER, B, "earlier"),
    (SEVEN, B, "earlier"),
    (C.hash, B, "earlier"),  # a hash of this tracker stays one
]


@pytest.fixture(autouse=True)
async def moved(database: Settings) -> None:
    await run_sql(
        database,
        """
INSERT INTO advertiser (id, name) VALUES (1, 'One'), (2, 'Two');
INSERT INTO offer (id, name, advertiser_id) VALUES (3, 'Offer', 1);
INSERT INTO affiliate (id, name) VALUES (513, 'Own'), (514, 'Foreign')
""",
    )
    await store(database, [A, B, C, D])
    rows = [a_conversion(row, order_id=name) for row, name in ((A, "a"), (B, "b"), (C, "c"))]
    await store_conversions(database, rows)
    await run_sql(
        database, "UPDATE conversion SET import_source = 'earlier', legacy_id = '2' WHERE order_id = 'a'"
    )
    for legacy_id, row, source in LEGACY:
        await run_sql(database, "INSERT INTO legacy_click VALUES ($1, $2, $3)", legacy_id, row.hash, source)


@asynccontextmanager
async def affiliate(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    scopes = ("clicks:read", "conversions:read", "reports:read")
    token = await create_token(database.postgres_dsn, scopes, affiliate_id=513)
    async with api_of(database, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


KEYS: list[tuple[str, dict[str, str], str, str]] = [  # key, parameters, for the network, for affiliate 513
    ("1", {}, "A", "A"),
    ("2", {}, "422", "422"),
    ("2", {"source": "earlier"}, "A", "A"),
    ("2", {"source": "tracker"}, "B", "B"),
    ("2", {"source": "b"}, "404", "404"),
    ("3", {}, "C", "404"),
    ("4", {}, "422", "D"),
    ("77", {}, "422", "422"),
    ("77", {"source": "b"}, "D", "D"),
    ("78", {}, "422", "422"),
    ("900", {}, "D", "D"),
    (" 900 ", {}, "D", "D"),
    ("900", {"source": "tracker"}, "404", "404"),
    ("500", {}, "C", "404"),
    ("501", {}, "404", "404"),
    (HEX, {}, "B", "B"),
    (LOWER, {}, "B", "B"),
    (SEVEN, {}, "B", "B"),
    (SEVEN, {"source": "earlier"}, "B", "B"),
    (SEVEN, {"source": "tracker"}, "404", "404"),
    (HEX.lower(), {}, "404", "404"),
    (A.hash, {}, "A", "A"),
    (A.hash.upper(), {"source": "b"}, "A", "A"),
    (C.hash, {}, "C", "B"),
    (C.hash, {"source": "earlier"}, "B", "B"),
    ("no such id", {}, "404", "404"),
    ("%00", {}, "404", "404"),
    ("90%000", {}, "D", "D"),
    ("%FF%FE", {}, "404", "404"),
]
FILTERS: list[tuple[dict[str, str], str, str]] = [
    ({"hash": "2"}, "A", "A"),
    ({"hash": "2", "source": "tracker"}, "", ""),
    ({"hash": f"900,{A.hash},501"}, "AD", "AD"),
    ({"hash": "77"}, "422", "422"),
    ({"hash": "77,900", "source": "b"}, "D", "D"),
    ({"hash": "500"}, "C", ""),
    ({"hash": HEX}, "B", "B"),
    ({"hash": LOWER}, "B", "B"),
    ({"hash": f"{SEVEN},{A.hash}"}, "AB", "AB"),
    ({"hash": C.hash}, "BC", "B"),
    ({"id": "2"}, "422", "422"),
    ({"id": "2", "source": "tracker"}, "B", "B"),
    ({"id": "2", "source": "earlier"}, "422", "422"),
    ({"id": "1,3"}, "AC", "A"),
]


def _named(answer: Any) -> str:
    if answer.status_code != 200:
        return str(answer.status_code)
    return "".join(sorted(BY_HASH[row["hash"]] for row in answer.json()["data"]))


async def test_click_is_found_by_its_earlier_id(database: Settings) -> None:
    views = ((api_of(database, scopes=SCOPES), CLICKS), (affiliate(database), "/affiliates/clicks"))
    for place, (opened, path) in enumerate(views):
        async with opened as client:
            path = path if place == 0 else CLICKS.replace("/users/", "/affiliates/")
            for key, parameters, *expected in KEYS:
                answer = await client.get(f"{path}/{key}", params=parameters)
                assert _named(answer) == expected[place], (key, parameters)
            for parameters, *expected in FILTERS:
                answer = await client.get(path, params=parameters)
                assert _named(answer) == expected[place], parameters


async def test_source_of_an_earlier_version_is_known_by_the_hash(database: Settings) -> None:
    """Such a version noted none, but made the hash from it."""
    old = a_row(hash=legacy_hash(NOON + 9000, "old", "555"))
    await store(database, [old])
    for row, source in ((old, ""), (A, "b")):
        await run_sql(database, "INSERT INTO legacy_click VALUES ('555', $1, $2)", row.hash, source)
    async with api_of(database, scopes=SCOPES) as client:
        assert (await client.get(f"{CLICKS}/555")).status_code == 422
        for source, row in (("old", old), ("b", A)):
            (found,) = (await client.get(f"{CLICKS}/555?source={source}")).json()["data"]
            assert found["hash"] == row.hash


async def test_ambiguous_id_names_the_ways_out(database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        for path, field, why in (
            (
                f"{CLICKS}/2",
                "id",
                "2 is the id of several: send source=earlier or source=tracker, or the hash",
            ),
            (
                f"{CLICKS}?hash=77",
                "hash",
                "77 is the id of several: send source=b or source=earlier, or the hash",
            ),
            (f"{CONVERSIONS}?click_id=2", "click_id", "send source=earlier or source=tracker"),
        ):
            errors = (await client.get(path)).json()["errors"]
            assert why in errors[field][0]


async def test_answers_show_earlier_ids(database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        rows = (await listed(client, CLICKS, sort="created_at"))["data"]
        assert [(row["legacy_id"], row["legacy_source"]) for row in rows] == [
            *(("2", "earlier"), ("78", None), ("3", "earlier"), ("77", "b"))
        ]
        for path in (f"{CLICKS}/{A.hash}", f"{CLICKS}?after_id=0"):
            row = (await client.get(path)).json()["data"][0]
            assert (row["legacy_id"], row["legacy_source"]) == ("2", "earlier")
        for format_ in ("csv", "excel"):
            export = await client.get(f"{CLICKS}/export?format={format_}&hash=900&sort=created_at")
            assert export.text.rstrip().endswith('"77","b"')
        (line,) = (await client.get(f"{CLICKS}/export?hash=900")).text.splitlines()
        assert line.endswith('"legacy_id":"77","legacy_source":"b"}')
        rows = (await listed(client, sort="created_at"))["data"]
        named = ("click_legacy_id", "click_legacy_source", "legacy_id", "legacy_source")
        assert [tuple(row[name] for name in named) for row in rows] == [
            ("2", "earlier", "2", "earlier"),
            ("78", None, None, None),
            ("3", "earlier", None, None),
        ]
        lines = (await client.get(f"{CONVERSIONS}/export?hash=2")).text.splitlines()
        assert [[json.loads(line)[name] for name in named] for line in lines] == [["2", "earlier"] * 2]


async def test_partners_see_no_names_of_sources(database: Settings) -> None:
    """They see their rows' earlier ids. The names are the network's."""
    async with affiliate(database) as own:
        for path in (CLICKS, CONVERSIONS):
            path = path.replace("/users/", "/affiliates/")
            (row,) = (await own.get(path, params={"hash": "2"})).json()["data"]
            assert row["legacy_id"] == "2"
            assert {name for name in row if name.endswith("legacy_source")} == set()
            export = await own.get(f"{path}/export?hash=2")
            assert ("legacy_id" in export.text, "legacy_source" in export.text) == (True, False)


async def test_conversion_is_found_by_the_source_of_its_own_id(database: Settings) -> None:
    """It may be another than that of the import."""
    await run_sql(database, "UPDATE conversion SET legacy_source = 'b' WHERE order_id = 'a'")
    async with api_of(database, scopes=SCOPES) as client:
        for source, status in (("b", 200), ("earlier", 404)):
            assert (await client.get(f"{CONVERSIONS}/2?source={source}")).status_code == status
        (row,) = (await client.get(f"{CONVERSIONS}/2?source=b")).json()["data"]
        assert (row["click_legacy_source"], row["legacy_source"]) == ("earlier", "b")


CONVERSIONS_FOUND: list[tuple[str, str, str]] = [
    ("/1", "", "a"),
    ("/2", "", "422"),
    ("/2", "source=earlier", "a"),
    ("/2", "source=tracker", "b"),
    ("", "hash=2", "a"),
    ("", "click_hash=77", "422"),
    ("", "click_hash=77&source=earlier", "b"),
    ("", "click_hash=900", ""),
    ("", f"click_hash={HEX},2", "ab"),
    ("", f"click_hash={LOWER},2", "ab"),
    ("", f"click_hash={SEVEN}", "b"),
    ("", "click_id=2", "422"),
    ("", "id=2&source=tracker", "b"),
]


async def test_conversion_is_found_by_earlier_ids(database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        for path, query, expected in CONVERSIONS_FOUND:
            answer = await client.get(f"{CONVERSIONS}{path}?{query}")
            found = str(answer.status_code)
            if answer.status_code == 200:
                found = "".join(sorted(row["order_id"] for row in answer.json()["data"]))
            assert found == expected, (path, query)
        assert (await client.patch(f"{CONVERSIONS}/2", json={"sale_status": "x"})).status_code == 422
        changed = await client.patch(f"{CONVERSIONS}/2?source=earlier", json={"sale_status": "x"})
        assert changed.json()["data"][0]["order_id"] == "a"
        body = {"payout": "1", "reason": "wrong price"}
        assert (await client.post(f"{CONVERSIONS}/2/corrections", json=body)).status_code == 422
        corrected = await client.post(f"{CONVERSIONS}/2/corrections?source=earlier", json=body)
        assert (corrected.status_code, corrected.json()["conversion_id"]) == (201, 1)


UPLOADED: list[tuple[str, str, str]] = [  # file, source, what happens
    ("click_id,status\n900,approved", "", "line 2: 900 matches no conversion"),
    (f"hash,status\n{HEX},rejected", "", "b rejected"),
    (f"hash,status\n{LOWER},rejected", "", "b rejected"),
    (f"hash,status\n{SEVEN},rejected", "", "b rejected"),
    (f"hash,status\n{B.hash},rejected", "", "b rejected"),
    ("click_legacy_id,status\n2,rejected", "", "a rejected"),
    ("click_hash,status\n 2 ,rejected", "b", "line 2: 2 matches no conversion"),
    ("legacy_id,status\n2,rejected", "", "a rejected"),
    ("conversion_legacy_id,status\n2,rejected", "earlier", "a rejected"),
    ("conversion_legacy_id,status\n2,rejected", "b", "line 2: 2 matches no conversion"),
    ("legacy_id,status\n3,rejected", "", "line 2: 3 matches no conversion"),
    (
        "legacy_id,click_id,status\n2,2,rejected",
        "",
        "line 2: needs exactly one of hash, legacy_id and order_id",
    ),
    ("click_id,status\n79,rejected", "", "line 2: is of 2 conversions: give goal_id or advertiser_id too"),
    ("click_id,status\n79,rejected", "b", "b rejected"),
]


@pytest.mark.parametrize(("content", "source", "expected"), UPLOADED)
async def test_month_end_file_with_old_ids(
    database: Settings, content: str, source: str, expected: str
) -> None:
    for row, name in ((A, "earlier"), (B, "b")):
        await run_sql(database, "INSERT INTO legacy_click VALUES ('79', $1, $2)", row.hash, name)
    query = {"source": source} if source else {}
    async with api_of(database, scopes=SCOPES) as client:
        for is_dry in ("true", "false"):
            answer = await client.post(
                UPLOADS,
                params={**query, "dry_run": is_dry},
                content=content,
                headers={"Content-Type": "text/csv"},
            )
            body = answer.json()
            said = [f"line {one['line']}: {one['reason']}" for one in body["problems"]]
            ids = {1: "a", 2: "b", 3: "c"}
            said += [f"{ids[one['conversion_id']]} {one['status_after']}" for one in body["changes"]]
            assert said == [expected], (is_dry, body)


async def test_report_filters_by_earlier_ids(database: Settings) -> None:
    path = CLICKS.replace("/clicks", "/reports")
    async with api_of(database, scopes=SCOPES) as client:
        for query, clicks in (("hash=2", 1), (f"hash=900,{HEX}", 2), ("hash=501", 0)):
            report = (await client.get(f"{path}?group_by=offer&{query}")).json()
            assert report["totals"]["clicks"] == clicks, query
        assert (await client.get(f"{path}?group_by=offer&hash=77")).status_code == 422
