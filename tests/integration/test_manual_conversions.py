"""Manual conversions through the API: results, refusals and repeats."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from httpx import AsyncClient, Response

from tests.factories.clicks import HASH, a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.test_api_conversions import listed
from tracker.api.conversions import status_upload
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.domain.click_id import Mint
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "conversions:write", "clicks:read")
OTHER_HASH = HASH[:-1] + "2"


@pytest.fixture
async def clicks(database: Settings) -> Settings:
    """Two clicks of offer 3, whose base goal is 30."""
    assert database.postgres_dsn is not None
    await load_demo(database.postgres_dsn)
    await run_sql(
        database,
        "UPDATE goal SET (id, payout, revenue, currency, click_window) = (30, 2, 3, 'EUR', NULL)"
        " WHERE offer_id = 3",
    )
    await run_sql(database, "UPDATE goal_price SET valid_from = '2024-01-01'")
    await store(database, [a_row(), a_row(a_click(hash=OTHER_HASH))])
    return database


async def told(client: AsyncClient, body: Any, **headers: str) -> Any:
    answer = await client.post(CONVERSIONS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_conversion_is_stored_before_it_is_answered_and_logged(clicks: Settings) -> None:
    said = {"click_id": HASH, "order_id": "A-1", "sale_amount": "10", "external_id": "crm", "status": "new"}
    async with api_of(clicks, scopes=SCOPES) as client:
        result = await told(client, said | {"goal_id": 30, "payout": None, "adv_sub": "x"})
        (row,) = (await listed(client))["data"]
        (logged,) = (await listed(client, POSTBACKS))["data"]
        (click,) = (await listed(client, "/backend/open-api/v1/users/clicks", has_conversions="true"))["data"]
    assert result == {"hash": row["hash"], "result": "stored", "reason": "", "conversion_id": row["id"]}
    assert (row["click_hash"], row["order_id"], row["status"]) == (HASH, "A-1", "pending")
    assert (row["payout"], row["payout_currency"], row["sale_amount"]) == ("2.00", "EUR", "10.00")
    assert logged["parameters"] == said | {"goal_id": "30", "adv_sub": "x"}
    assert (logged["source"], logged["click_id"], logged["result"]) == ("api", HASH, "stored")
    assert (click["adv_sub"], click["advertiser_external_id"]) == ("x", "crm")


async def test_list_items_have_a_result_each(clicks: Settings) -> None:
    table = [
        ({"click_id": HASH, "status": "pending"}, ("stored", "", 1)),
        ({"click_id": HASH, "status": "paid"}, ("updated", "", 1)),
        ({"click_id": HASH}, ("unchanged", "nothing new", 1)),
        ({"click_id": "gone"}, ("rejected", "unknown click", None)),
        ({"click_id": Mint().hash()}, ("parked", "its click is not stored yet", None)),
        ({"click_id": OTHER_HASH, "payout": "0.5", "revenue": "7"}, ("stored", "", 2)),
    ]
    async with api_of(clicks, scopes=SCOPES) as client:
        body = await told(client, {"conversions": [said for said, _ in table]})
        results = [(row["result"], row["reason"], row["conversion_id"]) for row in body["data"]]
        assert results == [expected for _, expected in table]
        second = (await listed(client, f"{CONVERSIONS}/2"))["data"][0]
    assert (second["payout"], second["revenue"], second["status"]) == ("0.50", "7.00", "approved")


@pytest.mark.parametrize("is_list", [False, True])
async def test_unreadable_field_is_named_and_no_conversion_is_changed(
    clicks: Settings, is_list: bool
) -> None:
    good = {"click_id": HASH}
    table: list[tuple[Any, str]] = [
        ({}, "click_id"),
        ({"click_id": ""}, "click_id"),
        ({"click_id": 5}, "click_id"),
        ({"click_id": "x" * 501}, "click_id"),
        (good | {"goal_id": "30"}, "goal_id"),
        (good | {"goal_id": 0}, "goal_id"),
        (good | {"status": "done"}, "status"),
        (good | {"payout": 1.5}, "payout"),
        (good | {"payout": "1 000"}, "payout"),
        (good | {"revenue": "-1"}, "revenue"),
        (good | {"sale_amount": "1,5"}, "sale_amount"),
        (good | {"currency": "XYZ"}, "currency"),
        (good | {"order_id": "a\tb"}, "order_id"),
        (good | {"token": "secret"}, "token"),
    ]
    async with api_of(clicks, scopes=SCOPES) as client:
        for body, field in table:
            asked = {"conversions": [good, body]} if is_list else body
            answer = await client.post(CONVERSIONS, json=asked)
            assert answer.status_code == 422, body
            named = f"conversions.1.{field}" if is_list else field
            assert list(answer.json()["errors"]) == [named], body
        for asked in ({"conversions": []}, {"conversions": [good] * 101}, {"conversions": [good], "x": 1}):
            assert (await client.post(CONVERSIONS, json=asked)).status_code == 422
        assert (await client.post(CONVERSIONS, content=b"x")).status_code == 415
        assert (await listed(client))["total"] == (await listed(client, POSTBACKS))["total"] == 0


async def test_repeat_under_the_same_key_does_nothing_again(clicks: Settings) -> None:
    body = {"conversions": [{"click_id": HASH, "status": "pending"}, {"click_id": HASH, "status": "hold"}]}
    key = {"Idempotency-Key": "file-17"}
    async with api_of(clicks, scopes=SCOPES) as client:
        answers = await asyncio.gather(*(told(client, body, **key) for _ in range(4)))
        assert [row["result"] for row in answers[0]["data"]] == ["stored", "updated"]
        assert all(answer == answers[0] for answer in answers)
        other = await client.post(CONVERSIONS, json={"click_id": HASH}, headers=key)
        assert (other.status_code, list(other.json()["errors"])) == (422, ["Idempotency-Key"])
        assert (await listed(client, POSTBACKS))["total"] == 2


CHANGES: list[tuple[str, dict[str, Any], int, str]] = [
    ("pending", {"status": "approved"}, 200, "approved"),
    ("hold", {"status": "pending"}, 200, "pending"),
    ("approved", {"status": "rejected"}, 200, "rejected"),
    ("rejected", {"status": "approved"}, 200, "approved"),
    ("approved", {"status": "approved"}, 200, "approved"),
    ("approved", {"status": "hold"}, 409, "approved"),
    ("rejected", {"status": "pending", "sale_status": "x"}, 409, "rejected"),
    ("rejected", {"sale_status": "fraud"}, 200, "rejected"),
    ("pending", {}, 422, "pending"),
    ("pending", {"status": "paid"}, 422, "pending"),
    ("pending", {"payout": "5"}, 422, "pending"),
]


async def test_operator_changes_a_conversion(clicks: Settings) -> None:
    rows = [a_conversion(a_row(), status=before) for before, *_ in CHANGES]
    ids = await store_conversions(clicks, rows)
    async with api_of(clicks, scopes=SCOPES) as client:
        for id_, row, (before, patch, status, after) in zip(ids, rows, CHANGES, strict=True):
            answer = await client.patch(f"{CONVERSIONS}/{row['hash']}", json=patch)
            assert answer.status_code == status, (before, patch, answer.text)
            (shown,) = (await listed(client, f"{CONVERSIONS}/{id_}"))["data"]
            if status == 200:
                assert answer.json()["data"] == [shown]
            assert shown["status"] == after
            assert shown["sale_status"] == (patch.get("sale_status", "") if status == 200 else "")
            statuses = [(each["status_before"], each["status_after"]) for each in shown["changes"]]
            assert statuses == ([(before, after)] if before != after else [])
        assert (await client.patch(f"{CONVERSIONS}/999", json={"status": "hold"})).status_code == 404
        assert (await client.patch(f"{CONVERSIONS}/x", json={"status": "hold"})).status_code == 404


PIXELS: list[tuple[dict[str, Any], dict[str, Any], int, tuple[str, str, str]]] = [
    ({}, {"status": "approved"}, 409, ("pending", "1000.00", "100.00")),
    ({"status": "rejected"}, {"status": "approved"}, 409, ("rejected", "1000.00", "100.00")),
    ({}, {"status": "rejected"}, 200, ("rejected", "1000.00", "100.00")),
    ({}, {"sale_status": "paid"}, 200, ("pending", "1000.00", "100.00")),
    ({}, {"status": "approved", "sale_amount": "1000"}, 200, ("approved", "1000.00", "100.00")),
    ({}, {"status": "approved", "sale_amount": "50", "currency": "USD"}, 200, ("approved", "50.00", "5.00")),
    ({}, {"sale_amount": "50"}, 200, ("pending", "50.00", "5.00")),
    ({"status": "rejected"}, {"status": "approved", "sale_amount": "50"}, 200, ("approved", "50.00", "5.00")),
    ({"status": "rejected"}, {"sale_amount": "50"}, 409, ("rejected", "1000.00", "100.00")),
    ({"status": "approved"}, {"sale_amount": "50"}, 409, ("approved", "1000.00", "100.00")),
    (
        {"status": "approved"},
        {"status": "hold", "sale_amount": "1000"},
        409,
        ("approved", "1000.00", "100.00"),
    ),
    ({}, {"status": "approved", "sale_amount": "99999999999999"}, 409, ("pending", "1000.00", "100.00")),
    ({}, {"sale_amount": "{amount}"}, 422, ("pending", "1000.00", "100.00")),
    ({}, {"status": "approved", "currency": "USD"}, 422, ("pending", "1000.00", "100.00")),
]


async def test_operator_confirms_the_amount_a_browser_sent(clicks: Settings) -> None:
    """Also with a goal with `multiple`, whose conversions are only named by order id."""
    await run_sql(
        clicks, "UPDATE goal_price SET payout_type = 'percent', payout = 10, valid_from = '2024-01-01'"
    )
    sold = {"sale_amount": "1000", "sale_currency": "EUR", "payout": "100", "sale_by_browser": True}
    rows = [
        a_conversion(a_row(), goal_id=30, **{"status": "pending", **sold, **changes})
        for changes, *_ in PIXELS
    ]
    ids = await store_conversions(clicks, rows)
    async with api_of(clicks, scopes=(*SCOPES, "money:read")) as client:
        for id_, (changes, patch, status, expected) in zip(ids, PIXELS, strict=True):
            if patch.get("sale_amount", "").startswith("999"):
                await run_sql(clicks, "UPDATE goal_price SET payout = 1000")
            answer = await client.patch(f"{CONVERSIONS}/{id_}", json=patch)
            await run_sql(clicks, "UPDATE goal_price SET payout = 10")
            assert answer.status_code == status, (changes, patch, answer.text)
            (shown,) = (await listed(client, f"{CONVERSIONS}/{id_}"))["data"]
            assert (shown["status"], shown["sale_amount"], shown["payout"]) == expected, (changes, patch)
            sources = {change["source"] for change in shown["changes"]}
            assert sources == ({"api"} if status == 200 and patch.get("status") else set())
            booked = [entry["payout"] for entry in shown["entries"]]
            assert booked == ([expected[2]] if (status, expected[0]) == (200, "approved") else [])
        refused = (await client.patch(f"{CONVERSIONS}/{ids[0]}", json={"status": "approved"})).json()
        assert refused["detail"] == "It stays pending: a percentage of a sale_amount that nobody has proven."
        assert list(refused["errors"]) == ["sale_amount"]


async def test_file_approves_no_percentage_of_a_browsers_amount(clicks: Settings) -> None:
    await run_sql(
        clicks, "UPDATE goal_price SET payout_type = 'percent', payout = 10, valid_from = '2024-01-01'"
    )
    sold = {
        "status": "pending",
        "sale_amount": "1000",
        "sale_currency": "EUR",
        "payout": "100",
        "goal_id": 30,
    }
    rows = [
        a_conversion(a_row(), **sold, order_id="browser", sale_by_browser=True),
        a_conversion(a_row(), **sold, order_id="server"),
    ]
    await store_conversions(clicks, rows)
    async with api_of(clicks, scopes=SCOPES) as client:
        body = (await upload(client, ["order_id,status", "browser,approved", "server,approved"])).json()
        found = {row["order_id"]: row["status"] for row in (await listed(client))["data"]}
    assert [(row["line"], row["status_after"]) for row in body["changes"]] == [(3, "approved")]
    assert body["problems"] == [
        {
            "line": 2,
            "result": "refused",
            "reason": "it is on hold: a percentage of a sale_amount that nobody has proven",
        }
    ]
    assert found == {"browser": "hold", "server": "approved"}


async def test_money_of_a_closed_period_is_adjusted_later(clicks: Settings) -> None:
    ids = await store_conversions(clicks, [a_conversion(a_row(), status="pending") for _ in range(2)])
    async with api_of(clicks, scopes=("admin",)) as client:
        await client.patch(f"{CONVERSIONS}/{ids[0]}", json={"status": "approved"})
        for until, status in (
            ("2024-11-01", 422),
            ("2999-01-01T00:00:00+00:00", 422),
            ("infinity", 422),
            ("2026-01-01T00:00:00+01:00", 201),
            ("2025-12-31T23:00:00+00:00", 409),
            ("2026-01-02T00:00:00+00:00", 201),
        ):
            answer = await client.post(CLOSES, json={"until": until})
            assert answer.status_code == status, (until, answer.text)
            assert until == "infinity" or "infinity" not in answer.text, "it is never allowed"
        body = await listed(client, CLOSES)
        assert [row["until"] for row in body["data"]] == [
            "2026-01-02T00:00:00+00:00",
            "2025-12-31T23:00:00+00:00",
        ]
        for id_ in ids:
            await client.patch(f"{CONVERSIONS}/{id_}", json={"status": "approved"})
            await client.patch(f"{CONVERSIONS}/{id_}", json={"status": "rejected"})
        first, second = [(await listed(client, f"{CONVERSIONS}/{id_}"))["data"][0] for id_ in ids]
        (change, *_) = (await listed(client, "/backend/open-api/v1/users/audit"))["data"]
    assert (change["path"], change["after"]["until"]) == ("period-closes/2", "2026-01-02T00:00:00+00:00")
    kinds = [("approval", False, "1.50"), ("reversal", True, "-1.50")]
    assert [(entry["kind"], entry["is_adjustment"], entry["payout"]) for entry in first["entries"]] == kinds
    assert [entry["is_adjustment"] for entry in second["entries"]] == [True, True]
    assert first["entries"][0]["booked_at"] == first["created_at"] < "2026" < first["entries"][1]["booked_at"]


async def upload(client: AsyncClient, lines: list[str], query: str = "", kind: str = "text/csv") -> Response:
    body = "\r\n".join(lines).encode()
    return await client.post(f"{UPLOADS}{query}", content=body, headers={"Content-Type": kind})


async def varied(settings: Settings) -> list[dict[str, Any]]:
    rows = [
        a_conversion(a_row(), status="pending", order_id="one"),
        a_conversion(a_row(), status="pending", order_id="two"),
        a_conversion(a_row(), status="approved", order_id="two", goal_id=2),
        a_conversion(a_row(a_click(hash=OTHER_HASH)), status="approved", order_id='say "hi", you'),
    ]
    await store_conversions(settings, rows)
    return rows


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_file_of_statuses(clicks: Settings, query: str) -> None:
    rows = await varied(clicks)
    lines = [
        "\ufefforder_id,hash,goal_id,status,sale_status",
        "one,,,confirmed,paid out",
        "two,,2,approved,",
        f",{rows[1]['hash'].upper()},,declined,returned",
        "",
        f",{OTHER_HASH},,rejected,lost",
        f",{HASH},,approved,",
        "one,,,hold,",
        "gone,,,approved,",
        "one,,9,approved,",
        "two,,,approved,",
        "one,,,lost,",
        ",,,approved,",
        "one",
        '"one,,,approved,',
        f"one,{HASH},,approved,",
        "one,,x,approved,",
    ]
    refused = {
        7: "is of 3 conversions: give goal_id or advertiser_id too",
        8: "is of the same conversion as line 2",
        11: "is of 2 conversions: give goal_id or advertiser_id too",
        12: "status must be one of",
        13: "needs exactly one of hash, legacy_id and order_id",
        14: "has 1 columns where the header has 5",
        15: "is not CSV",
        16: "needs exactly one of hash, legacy_id and order_id",
        17: "goal 'x' is the code or name of no goal of its offer",
    }
    async with api_of(clicks, scopes=SCOPES) as client:
        body = (await upload(client, lines, query)).json()
        changes = [(row["line"], row["conversion_id"], row["status_after"]) for row in body["changes"]]
        assert changes == [(2, 1, "approved"), (4, 2, "rejected"), (6, 4, "rejected")]
        problems = {row["line"]: (row["result"], row["reason"]) for row in body["problems"]}
        assert {n for n, (result, _) in problems.items() if result == "unmatched"} == {9, 10}
        for number, reason in refused.items():
            assert problems[number][0] == "refused"
            assert problems[number][1].startswith(reason)
        counts = ("lines", "matched", "changed", "unchanged", "unmatched", "refused")
        assert [body[name] for name in counts] == [15, 4, 3, 1, 2, 9]
        assert body["dry_run"] == bool(query)
        now = {row["id"]: (row["status"], row["sale_status"]) for row in (await listed(client))["data"]}
        assert now[1] == (("pending", "") if query else ("approved", "paid out"))
        assert now[2] == (("pending", "") if query else ("rejected", "returned"))
        assert now[4] == (("approved", "") if query else ("rejected", "lost"))


async def test_file_of_json_lines(clicks: Settings) -> None:
    await varied(clicks)
    given: list[Any] = [
        {"order_id": "two", "goal_id": 2, "status": "rejected", "sale_status": "fraud"},
        {"order_id": "two", "goal_id": "1", "advertiser_id": 1, "status": "approved"},
        {"order_id": 'say "hi", you', "status": "hold"},
        {"order_id": "one", "status": "approved", "payout": "1"},
        {"order_id": "one", "status": True},
        [],
    ]
    async with api_of(clicks, scopes=SCOPES) as client:
        lines = [*(orjson.dumps(each).decode() for each in given), "{"]
        body = (await upload(client, lines, kind="application/x-ndjson")).json()
    assert [(row["line"], row["conversion_id"]) for row in body["changes"]] == [(1, 3), (2, 2)]
    assert [(row["line"], row["result"]) for row in body["problems"]] == [(n, "refused") for n in range(3, 8)]
    assert body["problems"][0]["reason"] == "it stays approved"


async def test_lines_without_end_are_refused_and_stop_nothing(clicks: Settings) -> None:
    await varied(clicks)
    endless = "x" * (3 << 20)
    for kind, first, good in (
        ("text/csv", ["order_id,status"], "one,approved"),
        ("application/x-ndjson", [], '{"order_id": "one", "status": "approved"}'),
    ):
        async with api_of(clicks, scopes=SCOPES) as client:
            body = (await upload(client, [*first, endless, good, endless], kind=kind)).json()
        assert (body["lines"], body["matched"], body["refused"]) == (3, 1, 2)
        at = len(first)
        assert [row["line"] for row in body["problems"]] == [at + 1, at + 3]
        assert all("4096 characters" in row["reason"] for row in body["problems"])


async def test_files_that_are_refused_whole(clicks: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_upload, "MAX_LINES", 2)
    table: list[tuple[list[str], str, int]] = [
        (["order_id,status", "a,hold", "b,hold", "c,hold"], "text/csv", 413),
        (["order_id,colour", "a,hold"], "text/csv", 422),
        (["order_id", "a"], "text/csv", 422),
        (["status", "hold"], "text/csv", 422),
        (["status,status,hash", "hold"], "text/csv", 422),
        (['"status', "hold"], "text/csv", 422),
        (["status,hash"], "application/json", 415),
        (["status,hash"], "text/csv", 200),
        ([], "text/csv", 200),
    ]
    async with api_of(clicks, scopes=SCOPES) as client:
        for lines, kind, status in table:
            answer = await upload(client, lines, kind=kind)
            assert answer.status_code == status, (lines, answer.text)
        assert (await upload(client, [], "?dry=1")).status_code == 422


async def test_scopes_of_manual_conversions(clicks: Settings) -> None:
    async with api_of(clicks, scopes=("conversions:read",)) as client:
        for method, path in (("POST", CONVERSIONS), ("PATCH", f"{CONVERSIONS}/1"), ("POST", UPLOADS)):
            assert (await client.request(method, path)).status_code == 403
        assert (await client.get(CLOSES)).status_code == 403
    async with api_of(clicks, scopes=("money:read",)) as client:
        assert (await client.get(CLOSES)).status_code == 200
        assert (await client.post(CLOSES, json={})).status_code == 403
    async with api_of(clicks, scopes=("conversions:write",)) as client:
        assert (await client.post(CLOSES, json={})).status_code == 403
        assert (await client.get(POSTBACKS)).status_code == 403


async def test_log_is_filtered_and_walked(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        said = [{"click_id": HASH, "status": "pending"}, {"click_id": OTHER_HASH}, {"click_id": "gone"}]
        body = await told(client, {"conversions": [*said, {"click_id": HASH, "status": "hold"}]})
        hashes = [row["hash"] for row in body["data"]]
        table: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [0, 1, 2, 3]),
            ({"result": "stored"}, [0, 1]),
            ({"result": "rejected"}, [2]),
            ({"click_id": HASH}, [0, 3]),
            ({"conversion_id": 2}, [1]),
            ({"source": "api"}, [0, 1, 2, 3]),
            ({"source": "pixel"}, []),
            ({"advertiser_id": 1}, []),
            ({"hash": hashes[2]}, [2]),
            ({"created_from": "2999-01-01"}, []),
            ({"created_from": "2024-01-01", "result": "updated"}, [3]),
        ]
        for query, expected in table:
            newest = await listed(client, POSTBACKS, **query)
            assert [row["hash"] for row in newest["data"]] == [hashes[n] for n in expected][::-1], query
            assert newest["total"] == len(expected)
        first = await listed(client, POSTBACKS, per_page=3, sort="created_at")
        rest = await listed(client, POSTBACKS, per_page=3, sort="created_at", cursor=first["next_cursor"])
        assert [row["hash"] for row in first["data"] + rest["data"]] == hashes
        assert (rest["page"], rest["pages"], rest["next_cursor"]) == (2, 2, None)
        for query in ({"result": "lost"}, {"source": "mail"}, {"after_id": 1}, {"page": 2, "cursor": "x"}):
            assert (await client.get(POSTBACKS, params=query)).status_code == 422
