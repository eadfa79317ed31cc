"""Tokens of several affiliates or advertisers: what they see is the sum of what each of them sees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from httpx import AsyncClient

from tests.conftest import Engines
from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.test_partner_access import NOON
from tests.integration.test_token_command import Shell, shell
from tracker import store as store_package
from tracker.domain.access import BOUND_SCOPES, MOST_OWNERS
from tracker.settings import Settings
from tracker.store.db import connect
from tracker.store.migrate import migrate
from tracker.store.tokens import create_token

__all__ = ["shell"]

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
AFFILIATES, ADVERTISERS, USERS = f"{ROOT}/affiliates", f"{ROOT}/advertisers", f"{ROOT}/users"
DAY = 86_400_000

_CATALOGUE = """
INSERT INTO advertiser (id, name) VALUES (1, 'One'), (2, 'Two'), (3, 'Foreign');
INSERT INTO offer (id, name, advertiser_id, visibility) VALUES
    (3, 'Public', 1, 'public'), (4, 'Of 513', 2, 'approval'), (5, 'Of 514', 3, 'private'),
    (6, 'Of nobody', 3, 'approval');
INSERT INTO affiliate (id, name) VALUES (513, 'A'), (514, 'Foreign'), (515, 'B');
INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (4, 513), (5, 514);
INSERT INTO tracking_host (host) VALUES ('go.example');
"""
# By affiliate, advertiser and offer: rows in different quarter-hours and days.
_CLICKS = [
    a_row(
        hash=hash_at(NOON + n % 3 * DAY + n * 1_100_000, n),
        affiliate_id=(513, 514, 515)[n % 3],
        offer_id=(3, 4, 5, 3)[n % 4],
        advertiser_id=(1, 2, 3, 1)[n % 4],
        aff_sub=f"s{n % 5}",
    )
    for n in range(60)
]
_CONVERSIONS = [
    a_conversion(click, payout=str(n + 1), revenue=str(2 * n + 1), goal_id=1 + n % 2)
    for n, click in enumerate(_CLICKS[::5])
]


@pytest.fixture(autouse=True)
async def rows(database: Settings) -> None:
    await run_sql(database, _CATALOGUE)
    await store(database, _CLICKS)
    await store_conversions(database, _CONVERSIONS)


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    """A client without a token."""
    async with api_of(database, scopes=()) as client:
        yield client


async def token_of(database: Settings, *scopes: str, **owner: Any) -> dict[str, str]:
    """The header of a token. Without scopes it has all that its owner may have."""
    kind = "advertiser" if "advertiser" in next(iter(owner), "") else "affiliate"
    allowed = scopes or (BOUND_SCOPES[kind] if owner else ("admin",))  # type: ignore[index]
    token = await create_token(database.postgres_dsn or "", allowed, rate_limit="100000/second", **owner)
    return {"Authorization": f"Bearer {token}"}


async def test_lists_and_reports_are_those_of_the_network_for_these_owners(
    database: Settings, client: AsyncClient
) -> None:
    network = await token_of(database)
    for root, kind, own, one, third in (
        (AFFILIATES, "affiliate", [513, 515], 515, 514),
        (ADVERTISERS, "advertiser", [1, 2], 2, 3),
    ):
        mine = await token_of(database, **{f"{kind}_ids": own})
        column = f"{kind}_id"
        cases: list[tuple[dict[str, Any], list[int]]] = [
            ({}, own),
            ({column: one}, [one]),
            ({column: f"{one},{third}"}, [one]),
            ({f"exclude_{column}": one}, [id_ for id_ in own if id_ != one]),
            ({column: third}, [999]),
            ({column: one, f"exclude_{column}": one}, [999]),
            ({"offer_id": "3"}, own),
        ]
        for number, (wanted, ids) in enumerate(cases):
            same = {"offer_id": "3"} if "offer_id" in wanted else {}
            of_network = {column: ",".join(map(str, ids)), **same}
            for noun in ("clicks", "conversions"):
                seen = (await client.get(f"{root}/{noun}", params=wanted, headers=mine)).json()
                whole = (await client.get(f"{USERS}/{noun}", params=of_network, headers=network)).json()
                case = (kind, noun, wanted)
                assert seen["total"] == whole["total"] == len(whole["data"]), case
                assert [row["hash"] for row in seen["data"]] == [row["hash"] for row in whole["data"]], case
                assert {row[column] for row in seen["data"]} <= {*ids}, case
                text = (await client.get(f"{root}/{noun}/export", params=wanted, headers=mine)).text
                exported = [json.loads(line)["hash"] for line in text.splitlines()]
                assert exported == [row["hash"] for row in seen["data"]], case
            money = "payout" if kind == "affiliate" else "revenue"
            measures = f"clicks,conversions_approved,{money}"
            for place, group in enumerate((kind, "day", "offer", "country", f"day,{kind}", "aff_sub,day")):
                if kind == "advertiser" and "aff_sub" in group:
                    continue
                basis = ("click", "conversion")[(number + place) % 2]  # each group has both
                query = {"group_by": group, "measures": measures, "date_basis": basis}
                answer = await client.get(f"{root}/reports", params=query | wanted, headers=mine)
                assert answer.status_code == 200, answer.text
                of_all = await client.get(f"{USERS}/reports", params=query | of_network, headers=network)
                seen, whole = answer.json(), of_all.json()
                assert seen["totals"] == whole["totals"], (kind, group, basis, wanted)
                keys = [*measures.split(","), column if kind in group else money]
                assert [[row[key] for key in keys] for row in seen["data"]] == [
                    [row[key] for key in keys] for row in whole["data"]
                ], (kind, group, basis, wanted)


async def test_sums_of_several_owners_are_those_of_their_rows(
    database: Settings, client: AsyncClient
) -> None:
    """Counted by hand, as the network's sums come from the same counts."""
    for root, kind, own, money in (
        (AFFILIATES, "affiliate", [513, 515], "payout"),
        (ADVERTISERS, "advertiser", [1, 2], "revenue"),
    ):
        mine = await token_of(database, **{f"{kind}_ids": own})
        column = f"{kind}_id"
        clicks = Counter(getattr(row, column) for row in _CLICKS if getattr(row, column) in own)
        amounts: Counter[int] = Counter()
        for row in _CONVERSIONS:
            if row[column] in own:
                amounts[row[column]] += int(row[money])
        for basis in ("click", "conversion"):
            query = {"group_by": kind, "date_basis": basis}
            report = (await client.get(f"{root}/reports", params=query, headers=mine)).json()
            rows = {row[column]: row for row in report["data"]}
            assert {id_: row["clicks"] for id_, row in rows.items()} == clicks
            assert {id_: int(row[money].get("USD", "0")[:-3]) for id_, row in rows.items()} == amounts
            assert report["totals"]["clicks"] == clicks.total()
            assert report["totals"][money] == {"USD": f"{amounts.total()}.00"}


async def test_pages_of_several_owners_come_from_the_counts(database: Settings, client: AsyncClient) -> None:
    mine = await token_of(database, affiliate_ids=[513, 515])
    expected = sorted((row.hash for row in _CLICKS if row.affiliate_id != 514), reverse=True)
    path = f"{AFFILIATES}/clicks"
    for number in (1, 3, 6):
        page = (await client.get(path, params={"per_page": 7, "page": number}, headers=mine)).json()
        assert [row["hash"] for row in page["data"]] == expected[7 * number - 7 : 7 * number], number
        assert page["total"] == len(expected)
    found, query = [], {"per_page": 11}
    while True:
        page = (await client.get(path, params=query, headers=mine)).json()
        found += [row["hash"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == expected
    feed = (await client.get(path, params={"after_id": 0}, headers=mine)).json()["data"]
    assert {row["hash"] for row in feed} == {*expected}
    foreign = next(row.hash for row in _CLICKS if row.affiliate_id == 514)
    assert (await client.get(f"{path}/{expected[0]}", headers=mine)).status_code == 200
    assert (await client.get(f"{path}/{foreign}", headers=mine)).status_code == 404


async def test_first_click_of_a_visitor_is_seen_if_it_is_one_of_the_owners(
    database: Settings, client: AsyncClient
) -> None:
    first, second, foreign = _CLICKS[0], _CLICKS[2], _CLICKS[1]
    await store(
        database,
        [
            a_row(hash=hash_at(NOON + 9 * DAY, 1), affiliate_id=515, group_hash=first.hash, is_unique=False),
            a_row(hash=hash_at(NOON + 9 * DAY, 2), affiliate_id=513, group_hash=second.hash, is_unique=False),
            a_row(
                hash=hash_at(NOON + 9 * DAY, 3), affiliate_id=513, group_hash=foreign.hash, is_unique=False
            ),
        ],
    )
    for own, hashes in (([513, 515], [None, second.hash, first.hash]), ([513], [None, None])):
        mine = await token_of(database, affiliate_ids=own)
        query = {"created_from": "2024-10-19"}
        listed = (await client.get(f"{AFFILIATES}/clicks", params=query, headers=mine)).json()["data"]
        assert [row["group_hash"] for row in listed] == hashes


async def test_offers_are_those_of_each_affiliate_with_its_links(
    database: Settings, client: AsyncClient
) -> None:
    mine = await token_of(database, affiliate_ids=[515, 513])
    path = f"{AFFILIATES}/offers"
    page = (await client.get(path, headers=mine)).json()
    link = "https://go.example/offer/{}?affiliate_id={}"
    places = [(3, 513), (3, 515), (4, 513)]
    assert [(row["id"], row["affiliate_id"]) for row in page["data"]] == places
    assert [row["link"] for row in page["data"]] == [link.format(*place) for place in places]
    assert page["total"] == 3
    for affiliate, offers in ((515, [3]), (514, []), (999, [])):
        page = (await client.get(path, params={"affiliate_id": affiliate}, headers=mine)).json()
        assert [row["id"] for row in page["data"]] == offers


async def test_names_are_seen_by_the_owners_that_may_see_the_offer(
    database: Settings, client: AsyncClient
) -> None:
    named: list[tuple[dict[str, Any], set[str]]] = [
        ({"affiliate_ids": [513, 515]}, {"Public", "Of 513"}),
        ({"affiliate_ids": [514, 515]}, {"Public", "Of 514"}),
        ({"affiliate_id": 515}, {"Public"}),
        ({"advertiser_ids": [1, 2]}, {"Public", "Of 513"}),
    ]
    for owner, names in named:
        mine = await token_of(database, **owner)
        root = ADVERTISERS if "advertiser_ids" in owner else AFFILIATES
        for place in ("clicks?per_page=100", "conversions?per_page=100", "reports?group_by=offer"):
            rows = (await client.get(f"{root}/{place}", headers=mine)).json()["data"]
            assert {row["offer_name"] for row in rows} - {None} == names, (owner, place)


async def test_statements_are_of_each_owner(database: Settings, client: AsyncClient) -> None:
    network = await token_of(database)
    for affiliate in (513, 514, 515):
        entry = {"kind": "bonus", "affiliate_id": affiliate, "amount": "10", "currency": "USD"}
        entry |= {"reason": "x", "reference": f"r{affiliate}"}
        answer = await client.post(f"{USERS}/manual-entries", json=entry, headers=network)
        assert answer.status_code == 201, answer.text
    mine = await token_of(database, affiliate_ids=[513, 515])
    for path in ("statements", "statements/lines"):
        for one, expected in ((None, {513, 515}), (515, {515})):
            query: dict[str, Any] = {"from": "2024-01", "to": "2039-12", "format": "csv"}
            query |= {} if one is None else {"affiliate_id": one}
            answer = await client.get(f"{AFFILIATES}/{path}", params=query, headers=mine)
            assert answer.status_code == 200, answer.text
            header, *lines = answer.text.splitlines()
            at = header.split(",").index("affiliate_id")
            assert {int(line.split(",")[at]) for line in lines} == expected
        query["affiliate_id"] = 514
        foreign = await client.get(f"{AFFILIATES}/{path}", params=query, headers=mine)
        unknown = await client.get(f"{AFFILIATES}/{path}", params=query | {"affiliate_id": 999}, headers=mine)
        assert foreign.status_code == unknown.status_code == 422
        assert foreign.json()["errors"] == {"affiliate_id": ["514 is not known"]}
        assert unknown.json()["errors"] == {"affiliate_id": ["999 is not known"]}


async def test_blocked_owner_is_left_out_until_it_is_the_last(
    database: Settings, client: AsyncClient
) -> None:
    mine = await token_of(database, affiliate_ids=[513, 515])
    for change, seen in (
        ("UPDATE affiliate SET status = 'blocked' WHERE id = 513", {515}),
        ("UPDATE affiliate SET is_archived = true WHERE id = 515", None),
        ("UPDATE affiliate SET status = 'active' WHERE id = 513", {513}),
    ):
        await run_sql(database, change)
        answer = await client.get(f"{AFFILIATES}/clicks", headers=mine)
        assert answer.status_code == (200 if seen else 403)
        assert seen is None or {row["affiliate_id"] for row in answer.json()["data"]} == seen


async def test_token_of_several_owners_is_made_and_found(database: Settings, client: AsyncClient) -> None:
    client.headers.update(await token_of(database))
    made: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"affiliate_ids": [515, 513, 515]}, (None, None, [513, 515], [])),
        ({"affiliate_id": 513}, (513, None, [513], [])),
        ({"affiliate_ids": [513]}, (513, None, [513], [])),
        ({"advertiser_ids": [1, 2]}, (None, None, [], [1, 2])),
        ({}, (None, None, [], [])),
    ]
    for owner, shown in made:
        answer = await client.post(f"{USERS}/tokens", json={"scopes": ["clicks:read"], **owner})
        row = answer.json()
        keys = ("affiliate_id", "advertiser_id", "affiliate_ids", "advertiser_ids")
        assert tuple(row[key] for key in keys) == shown, owner
    found = await client.get(f"{USERS}/tokens", params={"affiliate_id": 513})
    assert len(found.json()["data"]) == 3
    assert len((await client.get(f"{USERS}/tokens", params={"advertiser_id": 2})).json()["data"]) == 1
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"affiliate_ids": [513, 999]}, "affiliate_ids"),
        ({"affiliate_ids": [513], "affiliate_id": 515}, "affiliate_ids"),
        ({"affiliate_ids": [513], "advertiser_ids": [1]}, "advertiser_ids"),
        ({"affiliate_ids": list(range(1, MOST_OWNERS + 2))}, "affiliate_ids"),
        ({"affiliate_ids": [513, 515], "scopes": ["clicks:write"]}, "scopes"),
    ]
    for fields, name in wrong:
        answer = await client.post(f"{USERS}/tokens", json={"scopes": ["clicks:read"], **fields})
        assert (answer.status_code, [*answer.json()["errors"]]) == (422, [name]), fields


async def test_command_makes_a_token_of_several_owners(database: Settings, shell: Shell) -> None:
    create = ("create", "--scope", "clicks:read")
    await shell(*create, "--affiliate", "515", "--affiliate", "513")
    assert "…  - affiliates 513, 515: clicks:read" in await shell("list")
    assert await shell(*create, "--affiliate", "9", code=1) == "tracker: there is no affiliate 9"
    assert "not allowed with" in await shell(*create, "--affiliate", "513", "--advertiser", "1", code=2)


async def test_tokens_of_an_earlier_version_keep_their_owner(
    engines: Engines, maintenance: asyncpg.Connection
) -> None:
    await maintenance.execute("CREATE DATABASE earlier OWNER tracker")
    connection = await connect(engines.dsn_of("earlier"))
    await connection.execute(
        "CREATE TABLE migration (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
    )
    migrations = files(store_package) / "migrations"
    for name in sorted(one.name for one in migrations.iterdir() if one.name < "0064"):
        await connection.execute((migrations / name).read_text())
        await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
    await connection.execute("INSERT INTO affiliate (id, name) VALUES (513, 'A')")
    await connection.execute("INSERT INTO advertiser (id, name) VALUES (1, 'A')")
    await connection.execute(
        "INSERT INTO token (secret_hash, scopes, affiliate_id, advertiser_id) VALUES"
        " ('a', '{clicks:read}', 513, NULL), ('b', '{clicks:read}', NULL, 1), ('c', '{admin}', NULL, NULL)"
    )
    versions = await connection.fetch("SELECT version FROM token ORDER BY id")
    await migrate(engines.dsn_of("earlier"))
    columns = "affiliate_id, advertiser_id, affiliate_ids, advertiser_ids"
    after = await connection.fetch(f"SELECT {columns} FROM token ORDER BY id")
    assert [tuple(row) for row in after] == [
        (513, None, [513], []),
        (None, 1, [], [1]),
        (None, None, [], []),
    ]
    assert await connection.fetch("SELECT version FROM token ORDER BY id") == versions
    await connection.close()
    await maintenance.execute("DROP DATABASE earlier WITH (FORCE)")
