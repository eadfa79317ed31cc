"""Reads of days whose clicks are not kept one by one: lists, exports, single clicks, and reports."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api_client import api_of
from tests.integration.kept_days import A_DAY, FIRST, day_at, drop_before, store_days
from tests.integration.pages_client import site_of
from tests.integration.stream_client import hash_at
from tests.integration.test_click_pages import shown, signed_in
from tests.integration.writer_client import connect_writer
from tracker.api.clicks.endpoints import PATH as CLICKS
from tracker.api.reports import PATH as REPORTS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import kept
from tracker.store.reports import rollups

pytestmark = pytest.mark.anyio

SCOPES = ("clicks:read", "reports:read")
KEPT_FROM = "2026-03-03T00:00:00.000Z"
COVERED: tuple[dict[str, str], ...] = (
    {"group_by": "day"},
    {"group_by": "offer,day"},
    {"group_by": "country"},
    {"group_by": "hour", "tz": "Asia/Kolkata"},
    {"group_by": "offer,affiliate"},
    {"group_by": "affiliate,status", "created_from": "2026-03-02", "created_to": "2026-03-03"},
    {"group_by": "day", "offer_id": "3"},
)
LISTS: tuple[dict[str, str], ...] = (
    {},
    {"offer_id": "3"},
    {"country_code": "NL"},
    {"has_conversions": "false"},
    {"created_from": "2026-03-01", "created_to": "2026-03-02"},
    {"sort": "created_at"},
)


async def test_reports_that_counts_cover_are_the_same_after_the_drop(database: Settings) -> None:
    connection = await connect_writer(database)
    await store_days(connection, 4)
    await rollups.build_missing(connection)
    async with api_of(database, scopes=SCOPES) as client:
        before = [await client.get(REPORTS, params=query) for query in COVERED]
        await drop_before(connection, day_at(2))
        after = [await client.get(REPORTS, params=query) for query in COVERED]
    assert [answer.status_code for answer in before] == [200] * len(COVERED)
    assert [answer.json() for answer in after] == [answer.json() for answer in before]
    assert {answer.headers.get("Rows-Kept-From") for answer in before} == {None}
    assert {answer.headers.get("Rows-Kept-From") for answer in after} == {KEPT_FROM}
    await connection.close()


async def test_lists_and_exports_have_the_kept_rows_and_their_exact_total(database: Settings) -> None:
    connection = await connect_writer(database)
    hashes = await store_days(connection, 4)
    await drop_before(connection, day_at(2))
    async with api_of(database, scopes=SCOPES) as client:
        for query in LISTS:
            rows: list[Any] = []
            cursor: dict[str, str] = {}
            while True:
                answer = await client.get(CLICKS, params={**query, **cursor, "per_page": "7"})
                assert (answer.status_code, answer.headers["Rows-Kept-From"]) == (200, KEPT_FROM), answer.text
                body = answer.json()
                rows += body["data"]
                if not body["next_cursor"]:
                    break
                cursor = {"cursor": body["next_cursor"]}
            assert len(rows) == body["total"], query
            assert {row["hash"] for row in rows} <= {*hashes[2 * A_DAY :]}
            export = await client.get(f"{CLICKS}/export", params=query)
            assert export.headers["Rows-Kept-From"] == KEPT_FROM
            assert len(export.text.splitlines()) == len(rows)
    await connection.close()


async def test_click_of_a_dropped_day_is_gone_and_others_are_not_found(database: Settings) -> None:
    connection = await connect_writer(database)
    hashes = await store_days(connection, 2)
    await connection.execute(
        "INSERT INTO legacy_click (legacy_id, hash, source) VALUES ('old-1', $1, 's')", hashes[0]
    )
    made_up = hash_at(kept.millis_at(FIRST), 0xFFF)
    cases = {hashes[0]: 410, made_up: 410, "old-1": 410, hashes[A_DAY]: 200, "old-2": 404, "9999999": 404}
    async with api_of(database, scopes=SCOPES) as client:
        assert (await client.get(f"{CLICKS}/{made_up}")).status_code == 404
        await drop_before(connection, day_at(1))
        for key, status in cases.items():
            for path in (f"{CLICKS}/{key}", f"{CLICKS}/{key}/story"):
                answer = await client.get(path)
                assert answer.status_code == status, (path, answer.text)
                assert "Rows-Kept-From" in answer.headers
    await connection.close()


async def test_click_of_a_dropped_day_cannot_be_created(database: Settings) -> None:
    connection = await connect_writer(database)
    await load_demo(database.postgres_dsn or "")
    await store_days(connection, 2)
    await drop_before(connection, day_at(1))
    body = {"offer_id": 3, "affiliate_id": 513, "created_at": "2026-03-01 12:00:00"}
    async with api_of(database, scopes=("clicks:write", "clicks:backfill")) as client:
        answer = await client.post(CLICKS, json={"clicks": [body]})
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        {"clicks.0.created_at": ["is of a day whose clicks are not kept any more"]},
    )
    assert await connection.fetchval("SELECT count(*) FROM created_click") == 0
    await connection.close()


async def test_pages_say_from_which_day_on_clicks_are_kept(database: Settings) -> None:
    connection = await connect_writer(database)
    hashes = await store_days(connection, 2)
    async with site_of(database) as site:
        browser = await signed_in(site)
        assert "Clicks kept one by one" not in await shown(browser, "/dashboard/clicks")
        await drop_before(connection, day_at(1))
        for page in ("clicks", "reports?group_by=offer"):
            assert 'from <time datetime="2026-03-02T00:00:00.000Z">' in await shown(
                browser, f"/dashboard/{page}"
            )
        answer = await browser.get(f"/dashboard/clicks/{hashes[0]}")
        assert (answer.status_code, "are not kept one by one" in answer.text) == (410, True)
    await connection.close()
