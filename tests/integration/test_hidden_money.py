"""Tokens that hide money: no amount and no currency anywhere, and no parameter that is about one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from starlette.routing import Route

from tests.integration.api_client import api_of, run_sql
from tests.integration.pages_client import site_of
from tests.integration.test_partner_access import OWN_CLICK, OWN_CONVERSION, partners
from tests.integration.test_token_command import Shell, shell
from tracker.api.app import create_api
from tracker.api.http.endpoint import Contract, contract_of
from tracker.dashboard.app import PAGES
from tracker.domain.access import BOUND_SCOPES, HIDING_SCOPES, OF_NETWORK
from tracker.settings import Settings
from tracker.store.tokens import create_token

__all__ = ["partners", "shell"]

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
OWNERS: list[tuple[str, dict[str, Any]]] = [
    ("users", {}),
    ("affiliates", {"affiliate_ids": [513, 515]}),
    ("advertisers", {"advertiser_id": 1}),
]
IDS = ("1", "3", OWN_CONVERSION["hash"], OWN_CLICK.hash)
_BOUND = [("affiliate", {"affiliate_ids": [513]}), ("advertiser", {"advertiser_ids": [1]})]
# Every amount is a number of its own, so that each can be found wherever it comes out.
_AMOUNTS = """
INSERT INTO affiliate (id, name) VALUES (515, 'Other');
UPDATE goal SET payout = 5.55, revenue = 5.56, is_priced = true, currency = 'CHF';
INSERT INTO goal_terms (id, goal_id, affiliate_id, payout) VALUES (1, (SELECT min(id) FROM goal), 513, 4.44);
INSERT INTO cap (id, offer_id, counts, period, amount, currency) VALUES
    (1, 3, 'payout', 'day', 333333, 'CHF'), (2, 3, 'clicks', 'day', 1000, NULL);
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
VALUES (1, now(), 'approval', true, 3, 1, 513, 7.77, 'CHF', 8.88, 'CHF');
INSERT INTO period_close (until, author) VALUES ('2025-01-01', 'x');
INSERT INTO conversion_correction (conversion_id, payout_before, payout, revenue_before, revenue, reason,
    author)
VALUES (1, 1.11, 2.22, 1.12, 2.23, 'x', 'x');
INSERT INTO conversion_change (conversion_id, status_after, source, author)
VALUES (1, 'approved', 'api', 'x');
INSERT INTO postback (hash, source, ip, parameters, result) VALUES
    ('01927632a6c870008000000000000001', 'postback', '',
    '{"order_id": "O-1", "payout": "3.21", "sum": "1.23", "currency": "CHF"}', 'stored');
INSERT INTO postback_form (name, path, constants, "values") VALUES
    ('moved', '/p/{payout}', '{"revenue": "3.21"}', '{"currency": {"2": "CHF"}}');
INSERT INTO postback (hash, source, ip, parameters, form, result, reason) VALUES
    ('01927632a6c870008000000000000002', 'postback', '',
        '{"order_id": "O-2", "payout": "3.21", "currency": "CHF"}',
        '{"name": "moved", "path": "/p/3.21", "sent": {"goal": "3.21", "adv_sub": "1.23"}}', 'unchanged',
        'payout 1.23 CHF changes nothing: it is approved with 3.21 CHF; over a cap'),
    ('01927632a6c870008000000000000003', 'postback', '', '{"order_id": "O-3"}', NULL, 'held',
        'the refund is in CHF, its order in EUR'),
    ('01927632a6c870008000000000000004', 'postback', '', '{"goal": "3.21"}', '{"name": "moved"}', 'refused',
        '403: token is not an advertiser''s, or has expired');
UPDATE postback SET request = 'GET /p/3.21' WHERE result = 'refused';
INSERT INTO affiliate_postback (id, affiliate_id, url) VALUES (1, 513, 'https://p.test/?sum={payout}');
INSERT INTO sent_postback (change_id, conversion_id, affiliate_postback_id, affiliate_id, url, host)
VALUES ((SELECT max(id) FROM conversion_change), 1, 1, 513, 'https://p.test/?sum=7.77', 'p.test');
"""
_AMOUNT = re.compile(
    r"\b(7\.77|8\.88|99\.99|5\.5[56]|4\.44|1\.1[12]|2\.2[23]|3\.21|1\.23|333333|6\.66)\b|USD|CHF|EUR"
)
_KEY = re.compile(r"payout|revenue|profit|margin|epc|rpc|amount|currency|refunded|entries|corrections")
_MAY_TAKE = ("takes_payout", "takes_revenue", "amount")  # of a goal, and of a cap on clicks


@pytest.fixture(autouse=True)
async def amounts(database: Settings, partners: None) -> None:
    await run_sql(database, _AMOUNTS)


async def hiding(database: Settings, owner: dict[str, Any]) -> dict[str, str]:
    kind = next(iter(owner), "").split("_")[0]
    scopes = [scope for scope in BOUND_SCOPES.get(kind, OF_NETWORK) if scope in HIDING_SCOPES]  # type: ignore[call-overload]
    token = await create_token(
        database.postgres_dsn or "", scopes, hides_money=True, rate_limit="100000/second", **owner
    )
    return {"Authorization": f"Bearer {token}"}


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return {*value}.union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def gets(settings: Settings) -> Iterator[tuple[str, str, Contract]]:
    """The paths of GETs as they are declared and with some ids, and what they promise."""
    for route in create_api(settings).routes:
        contract = contract_of(route) if isinstance(route, Route) else None
        if contract and "GET" in (route.methods or ()):
            for path in {re.sub(r"\{[^}]*\}", id_, route.path) for id_ in IDS}:
                yield route.path, path, contract


@pytest.mark.parametrize(("root", "owner"), OWNERS, ids=[root for root, _ in OWNERS])
async def test_no_answer_has_an_amount(database: Settings, root: str, owner: dict[str, Any]) -> None:
    queries = (
        "",
        "?format=csv",
        "?group_by=offer",
        "?group_by=offer&format=csv",
        "?group_by=goal&totals=true",
    )
    answered = set()
    async with api_of(database, scopes=()) as client:
        headers = await hiding(database, owner)
        for declared, path, contract in gets(database):
            for query in queries:
                answer = await client.get(path + query, headers=headers)
                case = f"{path}{query}: {answer.status_code} {answer.text[:500]}"
                assert not _AMOUNT.search(answer.text), case
                if answer.status_code in (403, 404):
                    break  # other queries of this path have the same answer
                if answer.status_code != 200:
                    continue
                answered.add(declared.removeprefix(f"{ROOT}/"))
                assert contract.without_money is not None, case
                if "json" in answer.headers["content-type"]:
                    keys = set().union(*map(keys_of, map(orjson.loads, answer.text.splitlines())))
                    assert not {key for key in keys if _KEY.search(key)} - {*_MAY_TAKE}, case
    nouns = ("clicks", "clicks/{id}", "clicks/export", "conversions", "conversions/{id}", "reports")
    assert answered >= {f"{root}/{noun}" for noun in (*nouns, "conversions/export")}
    if root == "users":
        shown = {"offers/{offer_id}/goals", "offers/{offer_id}/caps", "postbacks", "sent-postbacks"}
        shown |= {"postback-forms", "postback-forms/{id}"}
        assert answered >= {f"users/{path}" for path in (*shown, "catalogue-changes")}
        refused = ("audit", "statements", "goals/{goal_id}/terms", "period-closes", "webhooks")
        assert not answered & {f"users/{path}" for path in refused}


async def test_rows_without_amounts_stay_whole(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        client.headers.update(await hiding(database, {}))
        one = (await client.get(f"{ROOT}/users/conversions/1")).json()["data"][0]
        assert (one["order_id"], [change["status_after"] for change in one["changes"]]) == (
            "hidden-of-advertiser",
            ["approved"],
        )
        caps = (await client.get(f"{ROOT}/users/offers/3/caps")).json()
        assert ([cap["id"] for cap in caps["data"]], caps["total"]) == ([2], 1)
        assert (await client.get(f"{ROOT}/users/offers/3/caps/1")).status_code == 404
        assert (await client.get(f"{ROOT}/users/offers/3/caps/2")).json()["amount"] == 1000
        log = (await client.get(f"{ROOT}/users/postbacks")).json()["data"]
        logged = {
            (row["result"], row["reason"], row["request"], str(row["parameters"]), str(row["read_as"]))
            for row in log
        }
        assert logged == {
            ("stored", "", "", "{'order_id': 'O-1'}", "None"),
            ("unchanged", "about an amount; over a cap", "", "{}", "{'order_id': 'O-2'}"),
            ("held", "about an amount", "", "{'order_id': 'O-3'}", "None"),
            ("refused", "403: token is not an advertiser's, or has expired", "", "{}", "None"),
        }
        sent = (await client.get(f"{ROOT}/users/sent-postbacks/1")).json()
        assert ("url" in sent, sent["state"]) == (False, "waiting")
        report = (await client.get(f"{ROOT}/users/reports?group_by=offer")).json()
        assert report["totals"]["conversions_approved"] == 2
        changes = (await client.get(f"{ROOT}/users/catalogue-changes?per_page=1000")).json()["data"]
        kinds = {change["resource"] for change in changes}
        assert {"goal", "cap"} <= kinds
        assert "goal_terms" not in kinds


# Paths, parameters about amounts, and the same with a name that nobody knows.
HIDDEN: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("reports", {"group_by": "offer", "measures": "payout"}, {"group_by": "offer", "measures": "nonsense"}),
    ("reports", {"group_by": "offer", "measures": "epc"}, {"group_by": "offer", "measures": "nonsense"}),
    ("reports", {"group_by": "offer", "sort": "-payout_USD"}, {"group_by": "offer", "sort": "nonsense"}),
    ("reports", {"group_by": "offer", "sort": "revenue_USD"}, {"group_by": "offer", "sort": "nonsense"}),
    ("reports", {"group_by": "payout"}, {"group_by": "nonsense"}),
    ("conversions", {"payout": "7.77"}, {"nonsense": "7.77"}),
    ("conversions", {"sort": "payout"}, {"sort": "nonsense"}),
    ("conversions/export", {"revenue": "7.77"}, {"nonsense": "7.77"}),
]


async def test_hidden_column_is_refused_as_an_unknown_one(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        for root, owner in OWNERS:
            headers = await hiding(database, owner)
            for path, query, unknown in HIDDEN:
                answers = [
                    await client.get(f"{ROOT}/{root}/{path}", params=each, headers=headers)
                    for each in (query, unknown)
                ]
                assert [answer.status_code for answer in answers] == [422, 422], (root, path, query)
                (of_hidden, of_unknown) = ([*answer.json()["errors"].values()] for answer in answers)
                assert of_hidden == of_unknown, (root, path, query)
                assert not _KEY.search(str(of_hidden)), (root, path, query)


async def test_scopes_about_amounts_do_not_go_with_hidden_money(database: Settings, shell: Shell) -> None:
    async with api_of(database, scopes=("admin",)) as client:
        for scope in OF_NETWORK:
            fields = {"scopes": [scope], "hides_money": True}
            answer = await client.post(f"{ROOT}/users/tokens", json=fields)
            assert answer.status_code == (201 if scope in HIDING_SCOPES else 422), scope
            assert answer.json().get("hides_money", True)
    secret = await shell("create", "--scope", "reports:read", "--hide-money", "--affiliate", "513")
    assert "affiliate 513 without money: reports:read" in await shell("list")
    assert secret
    assert "scopes: money:read" in await shell(
        "create", "--scope", "money:read", "--hide-money", "--affiliate", "513", code=1
    )


@pytest.mark.parametrize(
    ("role", "owner"), [("manager", {}), *_BOUND], ids=["network", "affiliate", "advertiser"]
)
async def test_no_page_has_an_amount(database: Settings, role: str, owner: dict[str, Any]) -> None:
    async with site_of(database) as site:
        await site.add_user("sees@less.test", role, hides_money=True, **owner)
        browser = site.browser()
        await browser.sign_in("sees@less.test")
        opened = set()
        for page in (page for page in PAGES if page.show and page.who == "signed in"):
            for path in {re.sub(r"\{[^}]*\}", id_, page.path) for id_ in IDS}:
                answer = await browser.get(path)
                case = f"{path}: {answer.status_code} {answer.text[-500:]}"
                assert answer.status_code in (200, 303, 403, 404, 422), case
                assert not _AMOUNT.search(answer.text), case
                opened |= {page.path} if answer.status_code == 200 else set()
        nouns = {
            "clicks",
            "clicks/{id}",
            "conversions",
            "conversions/{id}",
            "reports",
            "search",
            "reports/share",
        }
        assert opened >= {f"/dashboard/{noun}" for noun in nouns}
        assert ("/dashboard/offers/{id}" in opened) == (role == "manager")
