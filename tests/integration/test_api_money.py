"""The money scopes: prices, terms, secrets, checks and the ledger of money."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, run_sql, store
from tracker.api.conversions.affiliate_postbacks import PATH as SENT
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.conversions.status_upload import UPLOADS
from tracker.domain.access import OF_NETWORK
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.db import connect
from tracker.store.migrate import migrate
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"


@pytest.fixture
async def demo(database: Settings) -> Settings:
    await load_demo(database.postgres_dsn or "")
    await run_sql(
        database,
        "INSERT INTO advertiser_secret (id, advertiser_id, secret_hash) OVERRIDING SYSTEM VALUE"
        " VALUES (77, 1, '\\x00')",
    )
    await run_sql(
        database, "INSERT INTO goal_terms (id, goal_id, country_code, payout) VALUES (77, 3, 'FR', 1)"
    )
    return database


MONEY: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "advertisers", {"name": "A", "postback_check": "none"}),
    ("POST", "advertisers", {"name": "A", "postback_addresses": ["0.0.0.0/0"]}),
    ("PATCH", "advertisers/1", {"postback_check": "none"}),
    ("PATCH", "advertisers/1", {"postback_addresses": ["192.0.2.1"]}),
    ("PATCH", "advertisers/1", {"name": "Acme", "postback_check": "none"}),
    ("POST", "advertisers/1/postback-secrets", {}),
    ("PATCH", "advertisers/1/postback-secrets/77", {"expires_at": "2099-01-01T00:00:00+00:00"}),
    ("DELETE", "advertisers/1/postback-secrets/77", {}),
    ("POST", "offers/3/goals", {"name": "G", "payout": "1"}),
    ("POST", "offers/3/goals", {"name": "G", "takes_payout": True}),
    ("POST", "offers/3/goals", {"name": "G", "currency": "EUR"}),
    ("PATCH", "offers/3/goals/3", {"payout": "9"}),
    ("PATCH", "offers/3/goals/3", {"revenue": "9"}),
    ("PATCH", "offers/3/goals/3", {"payout_type": "percent"}),
    ("PATCH", "offers/3/goals/3", {"revenue_type": "percent"}),
    ("PATCH", "offers/3/goals/3", {"currency": "EUR"}),
    ("PATCH", "offers/3/goals/3", {"takes_payout": True}),
    ("PATCH", "offers/3/goals/3", {"takes_revenue": False}),
    ("PATCH", "offers/3/goals/3", {"initial_status": "hold"}),
    ("PATCH", "offers/3/goals/3", {"pixel": True}),
    ("POST", "goals/3/terms", {"country_code": "DE", "payout": "9"}),
    ("PATCH", "goals/3/terms/77", {"payout": "9"}),
    ("DELETE", "goals/3/terms/77", {}),
    ("PATCH", "offers/3", {"advertiser_id": 2}),
]
"""Changes about money: they need money:write, and offers:write for other fields."""

NO_MONEY: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "advertisers", {"name": "A"}),
    ("POST", "advertisers", {"name": "A", "postback_check": "required", "postback_addresses": []}),
    ("PATCH", "advertisers/1", {"name": "Acme"}),
    ("PATCH", "advertisers/1", {"name": "Acme", "postback_check": "required"}),
    ("POST", "offers", {"name": "O", "advertiser_id": 2}),
    ("PATCH", "offers/3", {"name": "O", "advertiser_id": 1}),
    ("POST", "offers/3/goals", {"name": "G"}),
    ("POST", "offers/3/goals", {"name": "G", "payout": "0", "revenue": "0.0", "multiple": True}),
    ("PATCH", "offers/3/goals/3", {"name": "G", "payout": "0", "status": "paused", "click_window": 60}),
    ("DELETE", "advertisers/2", {}),
]
"""Changes without money, which may repeat money fields: they need offers:write only."""


async def ask(client: AsyncClient, method: str, path: str, body: dict[str, Any]) -> tuple[int, list[str]]:
    answer = await client.request(method, f"{USERS}/{path}", json=None if method == "DELETE" else body)
    return answer.status_code, sorted(answer.json()["errors"]) if answer.status_code == 403 else []


async def test_money_is_not_decided_with_offers_write(demo: Settings) -> None:
    before = await contents(demo)
    async with api_of(demo, scopes=tuple({*OF_NETWORK} - {"admin", "money:write"})) as client:
        for method, path, body in MONEY:
            status, fields = await ask(client, method, path, body)
            assert status == 403, (method, path, body)
            assert fields == [] or set(fields) <= set(body), (method, path, fields)
        answer = await client.patch(f"{USERS}/offers/3/goals/3", json={"name": "x", "payout": "9"})
        assert answer.json()["errors"] == {"payout": ["needs the scope money:write"]}
        assert 'scope="money:write"' in answer.headers["www-authenticate"]
    assert await contents(demo) == before


ANSWERED: list[tuple[tuple[str, ...], str, dict[str, Any], set[str]]] = [
    (("offers:write",), "advertisers/1", {}, {"id", "version"}),
    (("offers:write",), "advertisers/1", {"name": "Acme"}, {"id", "version", "name"}),
    (("money:write",), "offers/3/goals/3", {"payout": "9"}, {"offer_id", "id", "version", "payout"}),
]


async def test_change_without_read_scope_is_answered_its_own_fields(demo: Settings) -> None:
    for scopes, path, body, seen in ANSWERED:
        async with api_of(demo, scopes=scopes) as client:
            answer = await client.patch(f"{USERS}/{path}", json=body)
        assert (answer.status_code, set(answer.json())) == (200, seen), path
        async with api_of(demo, scopes=(*scopes, "offers:read")) as client:
            answer = await client.patch(f"{USERS}/{path}", json=body)
        assert set(answer.json()) > seen, path


@pytest.mark.parametrize("scopes", [("money:write", "offers:write"), ("admin",)])
async def test_money_is_decided_with_money_write(demo: Settings, scopes: tuple[str, ...]) -> None:
    async with api_of(demo, scopes=scopes) as client:
        for method, path, body in MONEY:
            status, _ = await ask(client, method, path, body)
            assert status == {"POST": 201, "PATCH": 200, "DELETE": 204}[method], (method, path, body)


async def test_money_write_alone_changes_money_only(demo: Settings) -> None:
    async with api_of(demo, scopes=("money:write",)) as client:
        for method, path, body in MONEY:
            is_more = "name" in body
            status, fields = await ask(client, method, path, body)
            assert (status == 403) == is_more, (method, path, body)
            assert fields == (["name"] if is_more and method == "PATCH" else []), (method, path, body)
        for method, path, body in NO_MONEY:
            status, _ = await ask(client, method, path, body)
            assert status == 403, (method, path, body)


async def test_fields_without_money_need_offers_write_only(demo: Settings) -> None:
    await run_sql(demo, "UPDATE offer SET is_archived = true WHERE advertiser_id = 2")
    async with api_of(demo, scopes=("offers:write",)) as client:
        for method, path, body in [row for row in NO_MONEY if row[1] != "offers"]:
            status, _ = await ask(client, method, path, body)
            assert status == {"POST": 201, "PATCH": 200, "DELETE": 204}[method], (method, path, body)


async def test_offer_is_made_with_offers_write(demo: Settings) -> None:
    async with api_of(demo, scopes=("offers:write",)) as client:
        assert await ask(client, "POST", "offers", {"name": "O", "advertiser_id": 2}) == (201, [])


async def contents(settings: Settings) -> list[Any]:
    connection = await connect(settings.postgres_dsn or "")
    try:
        tables = ("advertiser", "advertiser_secret", "offer", "goal", "goal_terms", "goal_price", "audit")
        return [
            list(map(tuple, await connection.fetch(f"SELECT * FROM {table} ORDER BY 1"))) for table in tables
        ]
    finally:
        await connection.close()


SEEN = [
    (("offers:read",), {"advertiser", "goal"}),
    (("offers:read", "money:read"), {"advertiser", "goal", "period_close"}),
    (("offers:read", "conversions:read"), {"advertiser", "goal", "sent_postback"}),
    (tuple({*OF_NETWORK} - {"admin"}), {"advertiser", "goal", "period_close", "sent_postback"}),
    (("admin",), {"advertiser", "goal", "period_close", "sent_postback", "token", "user"}),
]


async def test_audit_shows_only_rows_within_the_scopes(demo: Settings) -> None:
    kinds = SEEN[-1][1]
    for number, kind in enumerate(sorted(kinds)):
        await run_sql(
            demo,
            "INSERT INTO audit (token_name, action, resource, path, after)"
            " VALUES ('x', 'create', $1, $2, $3)",
            *(kind, f"{kind}/{number}", f'{{"name": "secret of a {kind}"}}'),
        )
    for scopes, seen in SEEN:
        async with api_of(demo, scopes=scopes) as client:
            page = (await client.get(f"{USERS}/audit")).json()
            assert {row["resource"] for row in page["data"]} == seen, scopes
            assert page["total"] == len(page["data"])
            for number, kind in enumerate(sorted(kinds)):
                for query in ({"resource": kind}, {"path": f"{kind}/{number}"}):
                    answer = await client.get(f"{USERS}/audit", params=query)
                    assert (answer.json()["total"] > 0) == (kind in seen), (scopes, query)
                    assert kind in seen or f"secret of a {kind}" not in answer.text


@pytest.fixture
async def converted(demo: Settings) -> Settings:
    """Conversion 1, pending, with an entry and a sent postback."""
    await store(demo, [a_row()])
    await store_conversions(demo, [a_conversion(a_row(), goal_id=3, status="pending", order_id="A-1")])
    await run_sql(
        demo,
        "INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id,"
        " advertiser_id, affiliate_id, payout, payout_currency, revenue, revenue_currency)"
        " VALUES (1, now(), 'approval', false, 3, 1, 513, 1.5, 'USD', 2, 'USD')",
    )
    await run_sql(
        demo,
        "INSERT INTO conversion_change (conversion_id, status_after, source) VALUES (1, 'pending', 'api')",
    )
    await run_sql(
        demo, "INSERT INTO affiliate_postback (id, affiliate_id, url) VALUES (1, 513, 'https://p.example/')"
    )
    await run_sql(
        demo,
        "INSERT INTO sent_postback (change_id, conversion_id, affiliate_postback_id, affiliate_id, url, host)"
        " VALUES (1, 1, 1, 513, 'https://p.example/', 'p.example')",
    )
    return demo


async def test_book_is_seen_with_money_read(converted: Settings) -> None:
    for scopes, entries in ((("conversions:read",), None), (("conversions:read", "money:read"), ["1.50"])):
        async with api_of(converted, scopes=("conversions:write", *scopes)) as client:
            for answer in (
                await client.get(f"{CONVERSIONS}/1"),
                await client.patch(f"{CONVERSIONS}/1", json={"sale_status": "x"}),
            ):
                (row,) = answer.json()["data"]
                shown = row["entries"] and [entry["payout"] for entry in row["entries"]]
                assert (row["payout"], len(row["changes"]), shown) == ("1.50", 1, entries)
            assert (await client.get(CLOSES)).status_code == (200 if entries else 403)


async def test_token_that_only_writes_conversions_gets_the_result(converted: Settings) -> None:
    lines = "order_id,status\r\nA-1,rejected\r\n"
    async with api_of(converted, scopes=("conversions:write",)) as client:
        answer = await client.patch(f"{CONVERSIONS}/1", json={"status": "approved"})
        assert answer.json() == {"id": 1, "status": "approved", "sale_status": None}
        answer = await client.patch(f"{CONVERSIONS}/1", json={"sale_status": "shipped"})
        assert answer.json() == {"id": 1, "status": "approved", "sale_status": "shipped"}
        answer = await client.post(f"{SENT}/1/refire")
        assert answer.json() == {"id": 1, "state": "waiting"}
        answer = await client.post(
            f"{UPLOADS}?dry_run=true", content=lines, headers={"Content-Type": "text/csv"}
        )
        assert answer.json()["changes"] == [
            {"line": 2, "conversion_id": 1, "status_before": None, "status_after": "rejected"}
        ]
    async with api_of(converted, scopes=("conversions:write", "conversions:read")) as client:
        answer = await client.post(f"{SENT}/1/refire")
        assert answer.json()["url"] == "https://p.example/"


async def test_doctor_names_tokens_with_lost_rights(database: Settings) -> None:
    dsn = database.postgres_dsn or ""
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'Jane')")
    every = [scope for scope in OF_NETWORK if scope != "admin" and not scope.startswith("money:")]
    table: list[tuple[str, list[str], str]] = [
        ("all", every, "the book (money:read), the audit trail of tokens (admin), "
         "prices, terms, postback secrets and checks (money:write)"),
        ("desk", ["conversions:write"], "to see whole conversions (conversions:read)"),
        ("clicks", ["clicks:read", "reports:read"], ""),
        ("admin", ["admin", "offers:write"], ""),
    ]  # fmt: skip
    for name, scopes, _ in table:
        await create_token(dsn, scopes, name)
    for name in ("new", "unused", "long ago", "revoked", "expired"):
        await create_token(dsn, every, name)
    await create_token(dsn, ["conversions:read"], "bound", affiliate_id=513)
    for change in (
        "UPDATE token SET predates_money = name <> 'new'",
        "UPDATE token SET last_used_at = now() - interval '29 days' WHERE name <> 'unused'",
        "UPDATE token SET last_used_at = now() - interval '31 days' WHERE name = 'long ago'",
        "UPDATE token SET revoked_at = now() WHERE name = 'revoked'",
        "UPDATE token SET expires_at = now() WHERE name = 'expired'",
    ):
        await run_sql(database, change)
    findings = [
        finding for finding in await report.examine(database, "tokens") if "no longer" in finding.text
    ]
    assert [finding.level for finding in findings] == ["warn", "warn"]
    for finding, (name, _, lost) in zip(findings, table, strict=False):
        assert f"({name}), " in finding.text
        assert finding.text.endswith(f" no longer has: {lost}")
        assert "tracker token create --scope" in finding.advice


async def test_token_made_before_the_scopes_of_money_is_known(database: Settings) -> None:
    """The statements of the migration on a table as it was before."""
    await create_token(database.postgres_dsn or "", ["admin"], "old")
    await run_sql(database, "ALTER TABLE token DROP predates_money")
    await run_sql(database, "DELETE FROM migration WHERE name = '0019_money_scopes.sql'")
    assert await migrate(database.postgres_dsn or "") == ["0019_money_scopes.sql"]
    await create_token(database.postgres_dsn or "", ["admin"], "new")
    connection = await connect(database.postgres_dsn or "")
    rows = await connection.fetch("SELECT name, predates_money FROM token ORDER BY id")
    await connection.close()
    assert list(map(tuple, rows)) == [("old", True), ("new", False)]
