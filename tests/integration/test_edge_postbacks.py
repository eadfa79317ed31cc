"""Postbacks over HTTP: accepted ones on the stream, and answers to the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.factories.clicks import HASH
from tests.integration.api_client import run_sql
from tests.integration.edge_client import edge_of, raw
from tests.integration.metrics_client import metrics_of
from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.postback import Postback, Source
from tracker.edge import postbacks as edge_postback
from tracker.settings import Settings
from tracker.stream import postbacks as stream_postbacks
from tracker.stream.client import open_client
from tracker.stream.postbacks import PostbackStream, decode

pytestmark = pytest.mark.anyio

SECRETS = """
INSERT INTO advertiser_secret (advertiser_id, secret_hash, expires_at) VALUES
    (1, sha256('one'), NULL), (1, sha256('soon'), now() + interval '1 hour'),
    (2, sha256('two'), NULL), (1, sha256('old'), now() - interval '1 second')
"""


async def received(settings: Settings) -> list[Postback]:
    """The new postbacks on the stream."""
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        deliveries = await stream.oldest(1000)
        if deliveries:
            await stream.remove([delivery.id for delivery in deliveries])
    return [decode(delivery.record) for delivery in deliveries]


ID = {"click_id": HASH}
QUERY = f"click_id={HASH}"
GOAL = {"goal_id": "30", "hash": HASH}


def a_json(said: str) -> dict[str, Any]:
    return {"content": f'{{"click_id": "{HASH}", {said}}}', "type": "json"}


TAKEN: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (f"/postback?{QUERY}", {}, ID),
    (f"/postback/?{QUERY}&payout=1.50&unknown=x&fbclid=y", {}, {**ID, "payout": "1.50"}),
    (f"/postback?{QUERY}&status=&status=approved&click_id=other", {}, {**ID, "status": ""}),
    (
        f"/postback?{QUERY}&adv_sub=%C3%A4+b%00c&adv_sub2=%FF",
        {},
        {**ID, "adv_sub": "ä bc", "adv_sub2": "%FF"},
    ),
    (f"/postback?{QUERY}&sale_status={'x' * 501}", {}, {**ID, "sale_status": "x" * 500}),
    (f"/api/v3/goal/30?hash={HASH}&goal_id=31", {}, GOAL),
    (f"/api/v3/goal/30/?hash={HASH}", {"data": {"status": "hold"}}, {**GOAL, "status": "hold"}),
    ("/postback", {"data": {**ID, "revenue": "7"}}, {**ID, "revenue": "7"}),
    (f"/postback?{QUERY}&tid=1", {"data": {"tid": "7", "payout": "2"}}, {**ID, "tid": "1", "payout": "2"}),
    (f"/postback?{QUERY}", {"data": {}}, ID),
    (
        "/postback",
        a_json('"payout": 0.10, "tid": 7, "revenue": null, "x": [1]'),
        {**ID, "payout": "0.10", "tid": "7"},
    ),
    ("/postback", a_json('"payout": 99999999999999.000001'), {**ID, "payout": "99999999999999.000001"}),
    ("/postback", a_json(r'"adv_sub": "\ud800"'), {**ID, "adv_sub": "?"}),
    ("/postback", a_json('"payout": true, "revenue": NaN'), {**ID, "payout": "true", "revenue": "NaN"}),
    (f"/api/v3/goal/x?hash={HASH}", {}, {"goal_id": "x", "hash": HASH}),
    (f"/postback?{QUERY}&payout=-1&currency=XXX", {}, {**ID, "payout": "-1", "currency": "XXX"}),
]


async def send(client: AsyncClient, path: str, body: dict[str, Any]) -> Response:
    if not body:
        return await client.get(path)
    if body.get("type") == "json":
        headers = {"content-type": "application/json; charset=utf-8"}
        return await client.post(path, content=body["content"], headers=headers)
    headers = {"content-type": body["type"]} if "type" in body else {}
    return await client.post(path, data=body.get("data"), content=body.get("content"), headers=headers)


async def test_answered_postback_is_on_the_stream(database: Settings) -> None:
    async with edge_of(database) as client:
        for path, body, parameters in TAKEN:
            answer = await send(client, path, body)
            assert (answer.status_code, answer.json()) == (200, {"status": "success"}), path
            assert answer.headers["cache-control"] == "no-store, private"
            (postback,) = await received(database)
            assert dict(postback.parameters) == parameters
            assert (postback.source, postback.ip, postback.advertiser_id) == (
                Source.POSTBACK,
                "127.0.0.1",
                None,
            )
        counted = f'tracker_postbacks_total{{edge="0",status="200"}} {len(TAKEN)}\n'
        assert counted in await metrics_of(database)


LONG = "x" * 70_000
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("/postback", {}, 422, "click_id"),
    ("/postback?order_id=5&token=one", {}, 422, "click_id"),
    ("/api/v3/goal/?hash=5", {}, 422, "goal_id"),
    ("/api/v3/goal//?hash=5", {}, 422, "goal_id"),
    ("/api/v3/goal/%20/?hash=5", {}, 422, "goal_id"),
    (f"/postback?{QUERY}&status=great", {}, 422, "status"),
    ("/postback", {"data": {"click_id": "x" * 501}}, 422, "click_id"),
    ("/postback", {"data": {**ID, "transaction_id": "x" * 501}}, 422, "transaction_id"),
    ("/postback", {"data": {**ID, "tid": "x" * 501}}, 422, "tid"),
    (f"/postback?{QUERY}&token=nobodys", {}, 403, "token"),
    (f"/postback?{QUERY}&token=old", {}, 403, "token"),
    ("/postback", {"content": "{", "type": "json"}, 422, "body"),
    ("/postback", {"content": "[" * 60_000, "type": "json"}, 422, "body"),
    ("/postback", {"content": "[]", "type": "json"}, 422, "click_id"),
    ("/postback", {"content": '{"click_id": {}}', "type": "json"}, 422, "click_id"),
    ("/postback", {"content": "x", "type": "text/plain"}, 422, "click_id"),
    ("/postback", {"content": "<x/>", "type": "text/xml"}, 415, ""),
    ("/postback", {"content": LONG, "type": "application/x-www-form-urlencoded"}, 413, ""),
    (f"/postback?{QUERY}&adv_sub={'x' * 8200}", {}, 414, ""),
    ("/pixel", {"data": ID}, 405, ""),
]


async def test_unreadable_postback_is_refused_and_not_recorded(database: Settings) -> None:
    async with edge_of(database, demo=True) as client:
        await run_sql(database, SECRETS)
        for path, body, status, field in REFUSED:
            answer = await send(client, path, body)
            said = answer.json()
            assert (answer.status_code, said["status"]) == (status, "error"), path
            assert list(said.get("errors", {})) == ([field] if field else []), path
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await client.request(method, f"/postback?{QUERY}")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert await received(database) == []


async def test_head_records_nothing(database: Settings) -> None:
    async with edge_of(database) as client:
        for path in (f"/postback?{QUERY}", f"/pixel?{QUERY}", f"/api/v3/goal/30?{QUERY}"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
    assert await received(database) == []


async def test_secret_identifies_the_advertiser_and_is_not_stored(database: Settings) -> None:
    async with edge_of(database) as client:
        await run_sql(database, SECRETS)
        for secret, owner in (("one", 1), ("soon", 1), ("two", 2)):
            while (await client.post("/postback", data={**ID, "token": secret})).status_code != 200:
                pass  # the edge knows it within a second
            (postback,) = await received(database)
            assert (postback.advertiser_id, "token" in postback.parameters) == (owner, False)
        await run_sql(database, "DELETE FROM advertiser_secret WHERE advertiser_id = 2")
        while (await client.get(f"/postback?{QUERY}&token=two")).status_code != 403:
            await received(database)


async def test_edge_knows_the_secrets_while_postgres_is_away(database: Settings) -> None:
    async with edge_of(database) as client:
        await run_sql(database, SECRETS)
        while (await client.get(f"/postback?{QUERY}&token=one")).status_code != 200:
            pass
    snapshot = database.data_dir / "catalogue" / "0.ndjson"
    async with edge_of(database, demo=False):  # serves from the former snapshot, and leaves its own
        while b'["secret",[[' not in snapshot.read_bytes():
            await asyncio.sleep(0.01)
    away = replace(database, postgres_dsn="postgresql://127.0.0.1:1/nowhere")
    async with edge_of(away, demo=False) as client:
        assert (await client.get(f"/postback?{QUERY}&token=one")).status_code == 200
        assert (await client.get(f"/postback?{QUERY}&token=old")).status_code == 403


async def test_pixel_answers_with_an_image_and_no_secret(database: Settings) -> None:
    async with edge_of(database) as client:
        answer = await client.get(f"/pixel?{QUERY}&token=anything&status=approved")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
        assert answer.content.startswith(b"GIF89a")
        assert answer.headers["cache-control"] == "no-store, private"
        assert (await client.get("/pixel?payout=1")).status_code == 422
    (postback,) = await received(database)
    assert (postback.source, postback.advertiser_id) == (Source.PIXEL, None)
    assert "token" not in postback.parameters


async def test_address_comes_from_a_trusted_proxy(database: Settings) -> None:
    told = {"X-Forwarded-For": "203.0.113.7, 198.51.100.9"}
    async with edge_of(database) as client:
        await client.get(f"/postback?{QUERY}", headers=told)
    async with edge_of(replace(database, trusted_proxies=(ip_network("127.0.0.0/8"),))) as client:
        await client.get(f"/postback?{QUERY}", headers=told)
    assert [postback.ip for postback in await received(database)] == ["127.0.0.1", "198.51.100.9"]


async def test_unstorable_postback_is_not_answered_as_stored(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database.redis_url
    async with edge_of(database) as client, open_client(database.redis_url) as server:
        limit = (await server.config_get("maxmemory"))["maxmemory"]
        await server.config_set("maxmemory", 1)
        full = await client.get(f"/postback?{QUERY}")
        await server.config_set("maxmemory", limit)
        with monkeypatch.context() as patch:
            patch.setattr(edge_postback, "MAX_WAITING", 0)
            busy = await client.get(f"/postback?{QUERY}")
        monkeypatch.setattr(stream_postbacks, "MAX_BYTES", 0)
        too_many = await client.get(f"/postback?{QUERY}")
        for answer in (full, busy, too_many):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert await received(database) == []


async def test_large_postbacks_leave_the_clicks_their_memory(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_postbacks, "MAX_BYTES", 256 << 10)
    said = {**ID, **dict.fromkeys(ADV_SUBS, "\U0001f600" * 500)}  # 10 KB
    async with edge_of(database) as client:
        for _ in range(2):  # removed entries make room
            answers = [(await client.post("/postback", data=said)).status_code for _ in range(30)]
            assert answers == [200] * 25 + [503] * 5
            assert len(await received(database)) == 25


async def test_body_that_is_cut_off_leaves_nothing(database: Settings) -> None:
    async with edge_of(database) as client:
        head = b"POST /postback?%b HTTP/1.1\r\nHost: t\r\nConnection: close\r\n" % QUERY.encode()
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        answer = await raw(client, head + kind + b"Content-Length: 70000\r\n\r\n" + b"a=1&" * 17_000)
        assert answer.startswith(b"HTTP/1.1 413 ")
    assert await received(database) == []
