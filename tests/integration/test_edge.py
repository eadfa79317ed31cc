"""The edge as browsers meet it: real uvicorn, real Valkey, real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories.rows import affiliate_row
from tests.integration.api_client import run_sql
from tests.integration.edge_client import PATIENCE, edge_of, recorded
from tests.integration.metrics_client import metrics_of
from tracker.domain.click_id import ZERO_HASH, is_click_hash
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.snapshot import Chunk
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"
LINK = "/offer/3?affiliate_id=513"
AWAY = "unix:///nonexistent/valkey.sock"


async def test_click_is_redirected_and_recorded_as_it_was_answered(database: Settings) -> None:
    async with edge_of(database) as client:
        headers = {
            "User-Agent": CHROME,
            "Referer": "https://blog.test/a",
            "Accept-Language": "de",
            "Sec-Fetch-Dest": "document",
        }
        answer = await client.get(f"{LINK}&aff_sub=a+b%26c&source=mail", headers=headers)
        link = f"{client.base_url}{LINK}&aff_sub=a+b%26c&source=mail"
    (row,) = await recorded(database)
    assert is_click_hash(row.hash)
    assert answer.status_code == 302
    location = f"https://ad.example/land?click_id={row.hash}&aff_id=513&sub=a%20b%26c"
    assert (
        answer.headers.items()
        >= {
            "location": location,
            "cache-control": "no-store, private",
            "x-robots-tag": "noindex, nofollow",
            "content-length": "0",
        }.items()
    )
    assert not {"server", "critical-ch", "set-cookie", "referrer-policy"} & answer.headers.keys()
    assert (row.redirected_link, row.requested_link) == (location, link)
    assert (row.offer_id, row.offer_url_id, row.affiliate_id, row.advertiser_id, row.brand_id) == (
        3,
        132,
        513,
        1,
        1,
    )
    assert (row.aff_sub, row.affiliate_source, row.ip) == ("a b&c", "mail", "127.0.0.1")
    assert (row.referrer, row.language, row.fetch_dest, row.user_agent) == (
        "https://blog.test/a",
        "de",
        "document",
        CHROME,
    )
    assert (row.device_os, row.browser, row.device_type) == ("Windows", "Chrome", "desktop")
    assert (row.country_code, row.mobile_carrier) == (None, "UNK")
    assert (row.status, row.reason, row.is_unique, row.group_hash, row.is_bot) == (
        "accepted",
        0,
        True,
        row.hash,
        False,
    )


ANSWERS: list[tuple[str, dict[str, Any], int, list[dict[str, Any]]]] = [
    ("GET", {"url": "/backend/api/v3/offer/3/?aff_id=513"}, 302, [{"status": "accepted", "offer_id": 3}]),
    ("GET", {"url": f"{LINK}&url_id=133"}, 302, [{"offer_url_id": 133, "requested_url_id": 133}]),
    (
        "GET",
        {"url": f"{LINK}&url_id=105"},
        302,
        [{"offer_url_id": 132, "requested_url_id": 105}],
    ),  # another offer's
    ("GET", {"url": f"{LINK}&url_id=x"}, 302, [{"offer_url_id": 132, "requested_url_id": None}]),
    (
        "GET",
        {"url": "/offer/3?affiliate_id=599"},
        302,
        [{"is_test": True, "is_unique": False}],
    ),
    (
        "GET",
        {"url": "/offer/3?affiliate_id=598"},
        403,
        [{"status": "rejected", "reason": 20, "redirected_link": ""}],
    ),
    ("GET", {"url": "/offer/99?affiliate_id=513"}, 404, []),
    ("GET", {"url": "/offer/3?affiliate_id=1"}, 404, []),
    ("GET", {"url": "/offer/3"}, 404, []),
    ("GET", {"url": "/offer/abc?affiliate_id=513"}, 404, []),
    ("GET", {"url": "/offer/3/x?affiliate_id=513"}, 404, []),
    ("GET", {"url": "/offer/1000000000000000000?affiliate_id=513"}, 404, []),
    ("GET", {"url": "/nowhere"}, 404, []),
    ("HEAD", {"url": LINK}, 302, []),
    ("HEAD", {"url": "/offer/99?affiliate_id=513"}, 404, []),
    ("POST", {"url": LINK, "content": b"x"}, 405, []),
    ("OPTIONS", {"url": LINK}, 405, []),
    ("DELETE", {"url": LINK}, 405, []),
    ("GET", {"url": LINK, "headers": {"Sec-Purpose": "prefetch;prerender"}}, 503, []),
    ("GET", {"url": LINK, "headers": {"X-Moz": "prefetch"}}, 503, []),
    ("GET", {"url": f"{LINK}&aff_sub={'x' * 8192}"}, 414, []),
    ("GET", {"url": f"{LINK}&aff_sub={'x' * 8000}"}, 302, [{"aff_sub": "x" * 500}]),
]


async def test_requests_get_their_answers_and_rows(database: Settings) -> None:
    async with edge_of(database) as client:
        for method, request, status, rows in ANSWERS:
            answer = await client.request(method, **request)
            case = f"{method} {request['url'][:60]} {request.get('headers', '')}"
            assert answer.status_code == status, case
            stored = await recorded(database)
            assert [
                {name: getattr(row, name) for name in wanted}
                for row, wanted in zip(stored, rows, strict=True)
            ] == rows, case
            if request["url"] != "/nowhere":
                assert "no-store" in answer.headers["cache-control"], case
            if status == 405:
                assert answer.headers["allow"] == "GET, HEAD"
            if method == "HEAD" and status == 302:
                assert (
                    answer.headers["location"]
                    == f"https://ad.example/land?click_id={ZERO_HASH}&aff_id=513&sub="
                )
            if status >= 400:
                assert "513" not in answer.text, "nothing of the request is reflected"
        counted = await metrics_of(database)
    for line in (
        'tracker_speculative_requests_total{edge="0"} 2',
        'tracker_head_requests_total{edge="0"} 1',
        'tracker_orphans_total{edge="0"} 7',
        'tracker_unknown_url_ids_total{edge="0"} 1',
        'tracker_bad_requests_total{edge="0",status="405"} 3',
        'tracker_clicks_recorded_total{edge="0",status="rejected",reason="20"} 1',
    ):
        assert line in counted


async def test_forwarded_addresses_count_from_trusted_peers_only(database: Settings) -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "go.test",
    }
    async with edge_of(database) as client:
        await client.get(LINK, headers=headers)
    trusting = replace(database, trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with edge_of(trusting) as client:
        await client.get(LINK, headers=headers)
    stranger, visitor = await recorded(database)
    assert (stranger.ip, stranger.requested_link[:17]) == ("127.0.0.1", "http://127.0.0.1:")
    assert (visitor.ip, visitor.requested_link) == ("203.0.113.9", f"https://go.test{LINK}")


async def test_change_of_the_catalogue_reaches_the_edge(database: Settings) -> None:
    async def until(status: int, link: str = LINK, location: str = "") -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await client.get(link)
                if answer.status_code == status and answer.headers.get("location", "").startswith(location):
                    return
                await asyncio.sleep(0.01)

    async with edge_of(database) as client:
        await until(302, location="https://ad.example/land")
        await run_sql(
            database, "UPDATE offer_url SET url = 'https://new.example/{affiliate_id}' WHERE id = 132"
        )
        await until(302, location="https://new.example/513")
        await run_sql(database, "UPDATE offer SET status = 'paused' WHERE id = 3")
        await until(410)
        await until(302, "/offer/3?affiliate_id=599")  # a test click is served
        await run_sql(
            database,
            "UPDATE offer SET status = 'active', redirect_status = 307, referrer_policy = 'origin'",
        )
        await until(307)
        assert (await client.get(LINK)).headers["referrer-policy"] == "origin"
        await run_sql(
            database, "UPDATE offer_url SET url = 'https://{aff_sub}.evil.test/' WHERE offer_id = 3"
        )
        await until(403)  # a bad template disables only its URL
        await until(307, "/offer/1?affiliate_id=513")
        await run_sql(database, "DELETE FROM affiliate WHERE id = 513")
        await until(404, "/offer/1?affiliate_id=513")
        await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (77, 'New')")
        await until(307, "/offer/1?affiliate_id=77")


async def test_edge_serves_from_its_snapshot_while_postgres_is_away(
    database: Settings, tmp_path: Path
) -> None:
    async with edge_of(database):
        pass
    assert oct((tmp_path / "catalogue" / "0.ndjson").stat().st_mode & 0o777) == "0o600"
    away = replace(database, postgres_dsn="postgresql://nobody@127.0.0.1:1/none")
    async with edge_of(away, demo=False) as client:
        assert (await client.get(LINK)).status_code == 302


async def test_edge_without_a_catalogue_answers_retry_later(database: Settings) -> None:
    away = replace(database, postgres_dsn="postgresql://nobody@127.0.0.1:1/none")
    (database.data_dir / "catalogue").mkdir()
    (database.data_dir / "catalogue" / "0.ndjson").write_text("torn")
    async with edge_of(away, demo=False, wait=False) as client:
        answer = await client.get(LINK)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.text) == (503, "waiting for: catalogue\n")
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize(("on_loss", "status"), [("refuse", 503), ("redirect", 302)])
async def test_click_without_stream_and_spool_is_refused(
    database: Settings, on_loss: Any, status: int
) -> None:
    (database.data_dir / "spool").write_text("a file in its place")
    async with edge_of(replace(database, redis_url=AWAY, on_loss=on_loss), wait=False) as client:
        await _waits_for_stream(client)
        answers = await asyncio.gather(*(client.get(LINK) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {status}
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.text.partition(":")[0]) == (503, "clicks are lost")
        metrics = await metrics_of(database)
        assert f'tracker_clicks_not_recorded_total{{edge="0",answer="{on_loss}"}} 5' in metrics


async def test_click_while_the_stream_is_away_is_spooled(database: Settings) -> None:
    async with edge_of(replace(database, redis_url=AWAY), wait=False) as client:
        await _waits_for_stream(client)
        answers = await asyncio.gather(*(client.get(LINK) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {302}
        metrics = await metrics_of(database)
        for line in ('clicks_spooled_total{edge="0"} 5', 'stream_up{edge="0"} 0'):
            assert f"tracker_{line}" in metrics
        spooled = sum(path.stat().st_size for path in (database.data_dir / "spool").glob("*.spool"))
        assert f'tracker_spool_bytes{{edge="0"}} {spooled}' in metrics


async def _waits_for_stream(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/health/ready")).text != "waiting for: stream\n":
            await asyncio.sleep(0.01)


async def test_bad_free_text_is_left_out_and_others_are_made_ascii(database: Settings) -> None:
    async with edge_of(database) as client:
        for text, status, path in (("grün", 302, "/second/gr%C3%BCn?"), ("a\r\nb", 302, "/second/?")):
            await run_sql(database, "UPDATE offer_free_value SET value = $1", text)
            async with asyncio.timeout(PATIENCE):
                while path not in (answer := await client.get(f"{LINK}&url_id=133")).headers["location"]:
                    await asyncio.sleep(0.01)
            assert answer.status_code == status


async def test_unwritable_snapshot_does_not_stop_the_edge(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (database.data_dir / "catalogue" / "0.new").mkdir(parents=True)
    async with edge_of(database) as client:
        assert (await client.get(LINK)).status_code == 302
    assert "snapshot" in caplog.text
    assert "cannot be written" in caplog.text


async def test_secret_is_there_before_the_catalogue_serves() -> None:
    async def rows() -> AsyncIterator[Chunk]:
        yield "affiliate", [("1", affiliate_row(1))]
        assert catalogue.affiliates
        assert catalogue.visitor_secret == b"secret"
        assert not catalogue.loaded.is_set()

    catalogue = Catalogue()
    await catalogue.load(b"secret", rows())
    assert catalogue.loaded.is_set()


async def test_lost_visitor_affects_no_other_click(database: Settings) -> None:
    async with edge_of(database) as client:
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"GET {LINK}&aff_sub=gone HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        writer.transport.abort()
        answers = await asyncio.gather(*(client.get(f"{LINK}&aff_sub=stays") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {302}
    rows = await recorded(database)
    assert sum(row.aff_sub == "stays" for row in rows) == 20
    assert len(rows) <= 21, "who left is counted once, or had left before being heard"
