"""Webhooks: from a change to the receiver, with a signature that a receiver can verify, and their log."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH, a_click, a_row, an_offer, outcomes_of
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.fake_affiliate import SILENCE, FakeAffiliate, ReceivedRequest, status
from tests.integration.importing import Importer, importer
from tests.integration.stream_client import NOON, append_entries, click_at
from tests.integration.test_postback_sender import (
    HERE,
    TEST_HASH,
    USERS,
    becomes,
    converts,
    until,
    worker,
)
from tracker.domain import caps
from tracker.domain.model import NO_TERMS, Cap, Period
from tracker.domain.postback import ConversionStatus
from tracker.ops.doctor import report
from tracker.outbound_http import Caller
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions import sending
from tracker.store.db import connect
from tracker.stream.record import encode
from workers import housekeeping, watch, webhook_sender

pytestmark = pytest.mark.anyio

__all__ = ["importer"]

HOOKS = f"{USERS}/webhooks"
LOG = f"{USERS}/sent-webhooks"
ALL = ["conversion.created", "conversion.updated", "period.closed"]


@pytest.fixture
async def receiver() -> AsyncIterator[FakeAffiliate]:
    async with FakeAffiliate().listening() as receiver:
        yield receiver


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await store(database, [a_row(), a_row(a_click(hash=TEST_HASH, is_test=True))])
    async with api_of(database, scopes=("admin",)) as client:
        yield client


async def subscribes(
    client: AsyncClient, receiver: FakeAffiliate, host: str = "crm.example", **fields: Any
) -> dict[str, Any]:
    url = f"http://{host}:{receiver.port}/in"
    answer = await client.post(HOOKS, json={"url": url, "event_types": ALL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def send(database: Settings, seconds: float = 5.0, **hosts: str) -> None:
    async def look_up(host: str, _port: int) -> list[str]:
        return [hosts.get(host.partition(".")[0], "127.0.0.1")]

    caller = Caller(HERE, look_up=look_up, answer_seconds=seconds)
    await webhook_sender.run(database, burst=True, caller=caller)


async def later(database: Settings) -> None:
    await run_sql(database, "UPDATE sent_webhook SET next_attempt_at = now() WHERE state = 'waiting'")


async def log(client: AsyncClient, **filters: object) -> list[dict[str, Any]]:
    answer = await client.get(LOG, params={name: str(value) for name, value in filters.items()})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def is_signed(asked: ReceivedRequest, secret: str) -> bool:
    """Whether a request is genuine, written from the text of the specification alone."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    id_, timestamp, signatures = (asked.headers[name] for name in names)
    assert abs(time.time() - int(timestamp)) < 300
    assert "." not in id_
    prefix, _, encoded = secret.partition("_")
    key = base64.b64decode(encoded, validate=True)
    assert prefix == "whsec"
    assert 24 <= len(key) <= 64
    signed = f"{id_}.{timestamp}.".encode() + asked.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(
        version == "v1" and hmac.compare_digest(given, expected)
        for version, _, given in (signature.partition(",") for signature in signatures.split(" "))
    )


def bodies(receiver: FakeAffiliate) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in receiver.asked]


async def test_changes_of_a_conversion_arrive_signed_and_in_order(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver)
    conversion = await converts(database, status="pending", sale_amount="59.97", currency="EUR")
    await becomes(database, conversion, ConversionStatus.APPROVED)
    await becomes(database, conversion, ConversionStatus.REJECTED)
    await send(database)
    assert all(is_signed(asked, made["secret"]) for asked in receiver.asked)
    assert not any(is_signed(asked, "whsec_" + "A" * 44) for asked in receiver.asked)
    assert {(asked.method, asked.headers["Content-Type"]) for asked in receiver.asked} == {
        ("POST", "application/json")
    }
    first, second, third = bodies(receiver)
    assert [event["type"] for event in (first, second, third)] == [
        "conversion.created",
        "conversion.updated",
        "conversion.updated",
    ]
    shown = (await client.get(f"{USERS}/conversions/{conversion}")).json()["data"][0]
    told = first["data"]["conversion"]
    for name in ("hash", "click_hash", "offer_id", "affiliate_id", "payout", "sale_amount", "sale_currency"):
        assert told[name] == shown[name], name
    assert (told["id"], told["status"], told["sale_amount"]) == (conversion, "pending", "59.97")
    assert told["created_at"].endswith("Z")
    assert "previous" not in first["data"]
    assert second["data"]["previous"]["status"] == "pending"
    assert third["data"]["previous"] == {"status": "approved"}
    assert third["data"]["conversion"]["status"] == "rejected"
    assert first["timestamp"] < second["timestamp"] < third["timestamp"]
    rows = await log(client, webhook_id=made["id"])
    assert [(row["state"], row["attempts"], row["last_status"]) for row in rows] == [("sent", 1, 200)] * 3
    assert {f"msg_{row['key']}" for row in rows} == {asked.headers["webhook-id"] for asked in receiver.asked}


async def corrects(client: AsyncClient, ids: list[int], payout: str, *, as_file: bool) -> None:
    path = f"{USERS}/conversions"
    if as_file:
        lines = "".join(f"{id_},{payout},typo\n" for id_ in ids)
        answer = await client.post(
            f"{path}/correction-uploads",
            content=f"conversion_id,payout,reason\n{lines}",
            headers={"Content-Type": "text/csv"},
        )
        assert answer.status_code == 201, answer.text
        return
    for id_ in ids:
        body = {"payout": payout, "reason": "typo"}
        assert (await client.post(f"{path}/{id_}/corrections", json=body)).status_code == 201


async def test_correction_is_one_event_and_one_change_of_the_feed(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    """Whether it is booked or not. It is no change of a status."""

    async def changed(after: int) -> tuple[list[dict[str, Any]], int]:
        answer = await client.get(f"{USERS}/conversions", params={"updated_after": after})
        return answer.json()["data"], answer.json()["next_updated_after"]

    await run_sql(database, "UPDATE goal SET multiple = true")
    await subscribes(client, receiver)
    statuses = ("approved", "pending")
    ids = [await converts(database, n, status=name, order_id=name) for n, name in enumerate(statuses)]
    await send(database)
    (_, after), told = await changed(0), len(receiver.asked)
    for payout, as_file in (("1.50", False), ("1.25", True)):
        await corrects(client, ids, payout, as_file=as_file)
        expected = [(id_, payout) for id_ in ids]
        rows, after = await changed(after)
        assert [(row["id"], row["payout"]) for row in rows] == expected
        assert (await changed(after))[0] == []
        await send(database)
        events, told = bodies(receiver)[told:], len(receiver.asked)
        assert {event["type"] for event in events} == {"conversion.updated"}
        shown = [event["data"]["conversion"] for event in events]
        assert sorted((one["id"], one["payout"]) for one in shown) == expected
        assert all("payout" in event["data"]["previous"] for event in events)


async def test_changes_in_one_transaction_are_one_event(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await subscribes(client, receiver)
    conversion = await converts(database, status="pending")
    await send(database)
    await run_sql(
        database,
        "UPDATE conversion SET payout = 1.5; UPDATE conversion SET payout = 2.25, status = 'hold';"
        "UPDATE conversion SET updated_at = now()",
    )
    await send(database)
    (_, event) = bodies(receiver)
    assert event["data"]["previous"] == {"payout": "0.00", "status": "pending"}
    assert event["data"]["conversion"]["payout"] == "2.25"
    await run_sql(database, "UPDATE conversion SET updated_at = now(), is_unpriced = NOT is_unpriced")
    await send(database)
    assert len(receiver.asked) == 2, "columns of the tracker itself are no news"
    assert [row["subject"] for row in await log(client)] == [f"conversions/{conversion}"] * 2


async def test_tests_and_unwanted_events_are_not_sent(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await converts(database, status="pending")  # nobody wanted it then
    await subscribes(client, receiver, event_types=["conversion.updated"])
    await subscribes(client, receiver, status="paused")
    gone = await subscribes(client, receiver)
    assert (await client.delete(f"{HOOKS}/{gone['id']}")).status_code == 204
    await converts(database, n=1, click_id=TEST_HASH)
    await send(database)
    assert receiver.asked == []
    await run_sql(database, "UPDATE conversion SET status = 'hold'")
    await send(database)
    assert [event["type"] for event in bodies(receiver)] == ["conversion.updated"]


async def test_imported_conversions_make_events_like_any_other(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate, importer: Importer
) -> None:
    await subscribes(client, receiver)
    row = {"click_hash": HASH, "status": "approved", "created_at": "2026-01-02 03:04:05", "payout": "1"}
    done = await importer.run("conversions", importer.file("c.ndjson", json.dumps(row)))
    assert done.code == 0, done.err
    await send(database)
    (event,) = bodies(receiver)
    assert (event["type"], event["data"]["conversion"]["payout"]) == ("conversion.created", "1.00")


async def test_closing_a_period_is_an_event(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await subscribes(client, receiver)
    until = {"until": "2026-01-01T00:00:00+00:00"}
    closed = (await client.post(f"{USERS}/period-closes", json=until)).json()
    assert (await client.post(f"{USERS}/period-closes", json=until)).status_code == 409
    await send(database)
    (event,) = bodies(receiver)
    assert (event["type"], event["data"]) == ("period.closed", closed)


CAP_EVENTS = ["offer.closed_by_cap", "cap.90_percent", "cap.reached"]
CAP = "INSERT INTO cap (offer_id, affiliate_id, counts, period, amount, on_reached, currency) VALUES "
NEARLY, FULL, CLOSED = "cap.90_percent", "cap.reached", "offer.closed_by_cap"


@pytest.mark.parametrize(
    ("cap", "rounds", "used"),
    [
        (
            "(3, NULL, 'conversions', 'day', 10, 'close', NULL)",
            [[]] * 8 + [[NEARLY], [FULL, CLOSED], []],
            "10",
        ),
        ("(3, 0, 'conversions', 'total', 2, 'mark', NULL)", [[], [FULL], []], "2"),
        ("(3, 513, 'payout', 'month', 20, 'close', 'USD')", [[], [FULL, CLOSED], []], "20.00"),
        ("(3, 514, 'conversions', 'day', 1, 'close', NULL)", [[], []], ""),
        ("(3, NULL, 'conversions', 'day', 0, 'close', NULL)", [[], []], ""),
    ],
)
async def test_cap_on_conversions_is_told_of_once_in_its_period(
    client: AsyncClient,
    database: Settings,
    receiver: FakeAffiliate,
    cap: str,
    rounds: list[list[str]],
    used: str,
) -> None:
    await run_sql(database, f"UPDATE goal SET multiple = true, payout = 10; {CAP}{cap}")
    await run_sql(database, "UPDATE goal_price SET valid_from = '2000-01-01'")
    await subscribes(client, receiver, event_types=CAP_EVENTS)
    for n, expected in enumerate(rounds):
        await converts(database, n, order_id=str(n))
        await send(database)
        told = bodies(receiver)
        receiver.asked.clear()
        assert [event["type"] for event in told] == expected, n
        for event in told:
            assert (event["data"]["offer_id"], event["data"]["counts"]) == (3, cap.split("'")[1])
        if FULL in expected:
            assert {event["data"]["used"] for event in told} == {used}
    assert {row["subject"] for row in await log(client)} <= {"offers/3"}


async def test_raised_cap_is_told_of_again(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await run_sql(
        database,
        f"UPDATE goal SET multiple = true; {CAP} (3, NULL, 'conversions', 'day', 1, 'close', NULL)",
    )
    await subscribes(client, receiver, event_types=CAP_EVENTS)
    for n in range(3):
        await converts(database, n, order_id=str(n))
        await run_sql(database, "UPDATE cap SET amount = 3")
    await send(database)
    assert [(event["type"], event["data"]["amount"]) for event in bodies(receiver)] == [
        (FULL, 1),
        (CLOSED, 1),
        (FULL, 3),
        (CLOSED, 3),
    ]


async def test_cap_on_clicks_is_told_of_by_the_watch(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    """Only the stream knows these counts. An affiliate's own cap replaces that of each."""
    await run_sql(
        database,
        f"{CAP} (3, NULL, 'clicks', 'total', 10, 'close', NULL),"
        "(3, 0, 'uniques', 'total', 3, 'close', NULL), (3, 513, 'uniques', 'total', 4, 'close', NULL);"
        "INSERT INTO report_count SELECT 96, 'affiliate', key,"
        " extract(epoch FROM now())::int / 86400 * 96, 1, 1, 1 FROM unnest('{513,514}'::text[]) AS key",
    )
    await subscribes(client, receiver, event_types=CAP_EVENTS)
    offer = an_offer(
        caps=(
            Cap(None, False, Period.TOTAL, 10),
            Cap(0, True, Period.TOTAL, 3),
        )
    )
    terms = NO_TERMS._replace(caps=(Cap(513, True, Period.TOTAL, 4),))
    n = 0
    for affiliate_id, clicks, expected in (
        (513, 3, []),
        (513, 1, [(FULL, 513), (CLOSED, 513)]),
        (514, 3, [(FULL, 514), (CLOSED, 514)]),
        (515, 2, [(NEARLY, None)]),
        (515, 1, [(FULL, None), (CLOSED, None)]),
    ):
        entries = []
        for _ in range(clicks):
            n += 1
            own = caps.counters(offer, terms if affiliate_id == 513 else NO_TERMS, affiliate_id, NOON)
            click = click_at(NOON, n, offer=offer, affiliate_id=affiliate_id, visitor_key=n, counters=own)
            entries.append(encode(click, outcomes_of(click)))
        await append_entries(database, entries)
        for _ in range(2):
            await watch.once(database)
        await send(database)
        told = [(event["type"], event["data"]["affiliate_id"]) for event in bodies(receiver)]
        assert told == expected, affiliate_id
        receiver.asked.clear()


async def test_failed_request_is_repeated_under_the_same_id(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver)
    conversion = await converts(database, status="pending")
    await becomes(database, conversion, ConversionStatus.APPROVED)
    receiver.answers += [status(500), SILENCE, status(302, "Location: http://crm.example/other"), status(404)]
    for attempt in range(1, 5):
        await send(database, seconds=0.3)
        (waiting,) = [row for row in await log(client, state="waiting") if row["attempts"]]
        assert (waiting["type"], waiting["attempts"]) == ("conversion.created", attempt)
        await later(database)
    await send(database)
    ids = [asked.headers["webhook-id"] for asked in receiver.asked]
    assert len(ids) == 6, "the later event waited for the earlier one"
    assert len(set(ids[:5])) == 1
    assert ids[5] != ids[0]
    assert len({asked.body for asked in receiver.asked[:5]}) == 1
    assert all(is_signed(asked, made["secret"]) for asked in receiver.asked)


async def test_rotated_secret_signs_together_with_the_former_one_for_a_day(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver)
    rotated = (await client.post(f"{HOOKS}/{made['id']}/rotate")).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_until"]
    await converts(database, status="pending")
    await send(database)
    (asked,) = receiver.asked
    assert is_signed(asked, made["secret"])
    assert is_signed(asked, rotated["secret"])
    await run_sql(database, "UPDATE webhook SET previous_until = now() - interval '1 second'")
    await run_sql(database, "UPDATE conversion SET status = 'hold'")
    await send(database)
    assert [is_signed(receiver.asked[1], one["secret"]) for one in (made, rotated)] == [False, True]


async def test_secrets_are_shown_once_and_stored_encrypted(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver)
    one = f"{HOOKS}/{made['id']}"
    rotated = (await client.post(f"{one}/rotate")).json()
    seen = [await client.get(path) for path in (HOOKS, one, f"{USERS}/audit")]
    seen.append(await client.patch(one, json={"description": "the CRM"}))
    for answer in seen:
        assert answer.status_code == 200
        assert not any(secret["secret"] in answer.text for secret in (made, rotated))
        assert "whsec_" not in answer.text
    connection = await connect(database.postgres_dsn or "")
    try:
        stored = await connection.fetchrow("SELECT secret, previous_secret FROM webhook")
    finally:
        await connection.close()
    for sealed, clear in zip(stored, (rotated, made), strict=True):
        assert clear["secret"].encode() not in sealed
    actions = [
        (entry["action"], entry["path"])
        for entry in (await client.get(f"{USERS}/audit?resource=webhook")).json()["data"]
    ]
    assert actions == [("update", "webhooks/1"), ("update", "webhooks/1"), ("create", "webhooks/1")]


async def test_lost_key_file_is_said_and_ends_with_a_rotation(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver)
    database.key_file.unlink()
    await converts(database, status="pending")
    await send(database)
    (row,) = await log(client)
    assert (row["state"], row["last_error"]) == ("waiting", webhook_sender.UNREADABLE)
    found = [(one.level, one.text) for one in await report.examine(database, "webhooks")]
    assert found[0] == ("ok", "requests waiting to be sent to webhooks: 1")
    assert found[1] == (
        "fail",
        f"the secret of webhook {made['id']} was encrypted with another key than that in {database.key_file}",
    )
    rotated = (await client.post(f"{HOOKS}/{made['id']}/rotate")).json()
    await later(database)
    await send(database)
    (asked,) = receiver.asked
    assert is_signed(asked, rotated["secret"])
    assert [one.level for one in await report.examine(database, "webhooks")] == ["ok"]


async def test_request_to_an_internal_address_is_not_sent(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await subscribes(client, receiver, host="inner.example")
    await converts(database, status="pending")
    await send(database, inner="10.0.0.1")
    (row,) = await log(client)
    assert (row["state"], row["last_error"]) == ("waiting", "10.0.0.1 is not a public address")
    assert receiver.asked == []


BAD_URLS = [
    "ftp://crm.example/",
    "crm.example/in",
    "https://",
    "HTTPS://crm.example/",
    "https://user:secret@crm.example/",
    "https://crm.example/in#part",
    "https://crm.example/a b",
    "https://crm.ex\u00e4mple/",
    "https://crm.example:99999/",
    "http://169.254.169.254/latest/meta-data",
    "https://crm.example/" + "x" * 2000,
]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_url_that_cannot_be_called_is_refused(client: AsyncClient, url: str) -> None:
    answer = await client.post(HOOKS, json={"url": url, "event_types": ["period.closed"]})
    assert answer.status_code == 422, answer.text
    assert list(answer.json()["errors"]) == ["url"]


async def test_webhook_is_managed(client: AsyncClient, database: Settings, receiver: FakeAffiliate) -> None:
    made = await subscribes(client, receiver, event_types=["period.closed"])
    assert made["warnings"][-1] == "url: is not https: everybody on the way can read the events"
    one = f"{HOOKS}/{made['id']}"
    for body, code in (
        ({"event_types": []}, 422),
        ({"event_types": ["nonsense"]}, 422),
        ({"secret": "whsec_x"}, 422),
        ({"version": 1}, 409),
        ({"url": None}, 422),
        ({"event_types": ["conversion.created"]}, 200),
    ):
        assert (await client.patch(one, json=body)).status_code == code, body
    current = await client.get(one)
    assert current.json()["event_types"] == ["conversion.created"]
    assert (await client.patch(one, json={}, headers={"If-Match": '"1"'})).status_code == 412
    assert (await client.get(f"{HOOKS}?status=paused")).json()["total"] == 0
    assert (await client.post(f"{one}/test")).status_code == 204
    await send(database)
    (event,) = bodies(receiver)
    assert (event["type"], event["data"]) == ("webhook.test", {"webhook_id": made["id"]})
    for path in (f"{HOOKS}/999", f"{HOOKS}/x", f"{LOG}/999", f"{LOG}/0"):
        assert (await client.get(path)).status_code == 404
    await run_sql(
        database,
        "INSERT INTO webhook (url, event_types, secret) SELECT 'https://x.example/', '{period.closed}', ''"
        " FROM generate_series(1, 49)",
    )
    full = await client.post(HOOKS, json={"url": "https://x.example/", "event_types": ["period.closed"]})
    assert (full.status_code, list(full.json()["errors"])) == (409, ["url"])


async def test_waiting_requests_follow_their_webhook(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    made = await subscribes(client, receiver, host="old.example")
    one = f"{HOOKS}/{made['id']}"
    await converts(database, status="pending")
    receiver.answers.append(status(500))
    await send(database)
    moved = {"url": f"http://new.example:{receiver.port}/moved"}
    assert (await client.patch(one, json=moved)).status_code == 200
    await later(database)
    await send(database)
    assert [asked.target for asked in receiver.asked] == ["/in", "/moved"]
    receiver.answers.append(status(500))
    await run_sql(database, "UPDATE conversion SET status = 'hold'")
    await send(database)
    assert (await client.patch(one, json={"status": "paused"})).status_code == 200
    (row,) = await log(client, state="failed")
    assert row["last_error"] == "its webhook is paused or archived"
    assert (await client.post(f"{LOG}/{row['id']}/refire")).status_code == 409
    assert (await client.post(f"{one}/test")).status_code == 409
    assert (await client.patch(one, json={"status": "active"})).status_code == 200
    again = (await client.post(f"{LOG}/{row['id']}/refire")).json()
    assert (again["state"], again["payload"]["type"]) == ("waiting", "conversion.updated")
    await send(database)
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == 2
    assert (await client.get(f"{LOG}/{row['id']}")).json()["state"] == "sent"
    (entry,) = (await client.get(f"{USERS}/audit?resource=sent_webhook")).json()["data"]
    assert entry["path"] == f"sent-webhooks/{row['id']}"


@pytest.mark.parametrize(
    ("change", "targets"),
    [
        ("url = replace(url, '/in', '/moved')", ["/moved"]),
        ("status = 'paused'", []),
        ("is_archived = true", []),
    ],
)
async def test_change_under_way_moves_or_ends_new_requests_too(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate, change: str, targets: list[str]
) -> None:
    await subscribes(client, receiver)
    await converts(database, status="pending")
    assert database.postgres_dsn
    operator = await connect(database.postgres_dsn)
    changing = operator.transaction()
    await changing.start()
    await operator.execute(f"UPDATE webhook SET {change}")
    sending_all = asyncio.create_task(send(database))
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    while not (sending_all.done() or await operator.fetchval(waiting)):
        await asyncio.sleep(0.01)
    await changing.commit()
    await sending_all
    await operator.close()
    assert [asked.target for asked in receiver.asked] == targets


async def test_webhook_that_never_answers_delays_no_other_at_its_host(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    async with FakeAffiliate().listening() as silent:
        silent.answers.extend([SILENCE] * 10)
        dead, alive = await subscribes(client, silent), await subscribes(client, receiver)
        await run_sql(
            database,
            "INSERT INTO webhook_event (type, subject, data, webhook_id)"
            " SELECT 'webhook.test', 'tests/' || n, '{}', $1 FROM generate_series(1, 10) AS n",
            dead["id"],
        )
        assert (await client.post(f"{HOOKS}/{alive['id']}/test")).status_code == 204
        sending_all = asyncio.create_task(send(database, seconds=1.0))
        await until(lambda: len(receiver.asked) == 1)
        assert len(silent.asked) <= 8
        await sending_all


async def test_only_admins_see_webhooks(database: Settings) -> None:
    scopes = ("offers:read", "offers:write", "conversions:read", "conversions:write", "money:write")
    async with api_of(database, scopes=scopes) as client:
        for path in (HOOKS, f"{HOOKS}/1", LOG, f"{LOG}/1"):
            assert (await client.get(path)).status_code == 403
        assert (await client.post(HOOKS, json={})).status_code == 403


async def test_log_and_events_are_forgotten_after_a_month(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await subscribes(client, receiver)
    await converts(database, status="pending")
    await send(database)
    connection = await connect(database.postgres_dsn or "")
    try:
        for days, left in ((29, 1), (31, 0)):
            ago = timedelta(days=days)
            await connection.execute("UPDATE sent_webhook SET created_at = now() - $1::interval", ago)
            await connection.execute("UPDATE webhook_event SET at = now() - $1::interval", ago)
            await housekeeping.once(database)
            for table in ("sent_webhook", "webhook_event"):
                assert await connection.fetchval(f"SELECT count(*) FROM {table}") == left
    finally:
        await connection.close()


async def test_killed_worker_loses_no_event(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await subscribes(client, receiver, host="localhost", event_types=["conversion.created"])
    receiver.answers.append(SILENCE)
    made = {await converts(database, n, order_id=str(n), status="pending") for n in range(20)}
    with worker(database):  # it is killed while one request is under way and others wait
        await until(lambda: len(receiver.asked) >= 5)
    with worker(database) as process:
        told: set[int] = set()
        while told != made or any(row["state"] != "sent" for row in await log(client)):
            await later(database)
            await asyncio.sleep(0.05)
            told = {event["data"]["conversion"]["id"] for event in bodies(receiver)}
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    first, *others = receiver.asked
    assert first.headers["webhook-id"] in {asked.headers["webhook-id"] for asked in others}


@pytest.mark.parametrize(("options", "sent"), [([], 2), (["--drop-earlier"], 1)])
async def test_restored_copy_sends_no_webhooks_until_it_is_told_to(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate, options: list[str], sent: int
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await subscribes(client, receiver)
    await converts(database, 0, order_id="0", status="pending")
    connection = await connect(database.postgres_dsn or "")
    try:
        await sending.hold(connection, await connection.fetchval("SELECT clock_timestamp()"))
    finally:
        await connection.close()
    await converts(database, 1, order_id="1", status="pending")
    await send(database)
    assert receiver.asked == []
    command = [sys.executable, "-m", "tracker", "resume-sending", *options]
    env = os.environ | {
        "TRACKER_POSTGRES_DSN": database.postgres_dsn or "",
        "TRACKER_DATA_DIR": str(database.data_dir),
    }
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, check=True
    )
    assert "2 requests to webhooks wait, 1 of them of events from before" in done.stdout
    await send(database)
    assert len(receiver.asked) == sent
