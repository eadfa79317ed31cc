"""Absent advertising ids. These visitors were once taken for one."""

from __future__ import annotations

import pytest

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of, recorded
from tests.integration.importing import Importer, importer
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

UUID = "38400000-8cf0-11bd-b23e-10b96e40000d"
NO_IDS = [
    ("{gaid}", "a macro that nobody filled"),
    ("%%GAID%%", "another network's"),
    ("null", "a word for nothing"),
    ("undefined", "another"),
    ("", "nothing"),
    ("0", "tracking refused, in short"),
    ("00000000-0000-0000-0000-000000000000", "tracking refused (the nil UUID of RFC 9562)"),
    ("00000000000000000000000000000000", "the same without hyphens"),
    ("android", "a word"),
    ("12345", "a number"),
    ("9774d56d682e549c", "an ANDROID_ID, which many devices of one model share"),
    ("aebe52e7-03ee-455a-b3c4-e57283966239x", "one character too many"),
    ("38400000-8cf0-11bd-b23e10b96e40000d", "hyphens here and there"),
    ("g8400000-8cf0-11bd-b23e-10b96e40000d", "no hexadecimal digit"),
    ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "the max UUID of RFC 9562"),
    ("d41d8cd98f00b204e9800998ecf8427e", "the MD5 of nothing"),
    ("9F89C84A559F573636A47FF8DAED0D33", "the MD5 of the nil UUID"),
    ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "the SHA-1 of nothing, which has not the form"),
    ("%7B38400000-8cf0-11bd-b23e-10b96e40000d%7D", "braces, as Windows writes another kind of id"),
    ("0000-0000", "some zeros"),
    ("limit_ad_tracking", "a word"),
    ("d41d8cd98f00b204e9800998ecf8427e%00a", "a hash with more behind it"),
]
SAME_ID = [
    (UUID, "as Android gives it"),
    (UUID.upper(), "as iOS would"),
    (UUID.title(), "any case"),
    (UUID.replace("-", ""), "without hyphens"),
    (f"%20{UUID}%20", "blanks around it"),
    (f"{UUID}%E2%80%8B", "a zero-width space"),
]


@pytest.mark.parametrize("name", ["gaid", "idfa"])
async def test_absent_id_makes_no_duplicate(database: Settings, name: str) -> None:
    await block_duplicates(database)
    async with edge_of(database) as client:
        for number, (value, reason) in enumerate(NO_IDS):
            headers = {"User-Agent": f"Mozilla/5.0 (X11; Linux x86_64) {number}"}
            for _ in range(2):  # blocked only on a certain match
                answer = await client.get(f"/offer/3?affiliate_id=513&{name}={value}", headers=headers)
                assert answer.status_code == 302, (value, reason)
            first, second = await recorded(database)
            assert (first.is_unique, second.is_unique) == (True, False), (value, reason)


@pytest.mark.parametrize("name", ["gaid", "idfa"])
async def test_device_is_one_visitor_in_every_spelling_of_its_id(database: Settings, name: str) -> None:
    await block_duplicates(database)
    async with edge_of(database) as client:
        for number, (value, reason) in enumerate(SAME_ID):
            headers = {"User-Agent": f"Mozilla/5.0 (X11; Linux x86_64) {number}"}
            answer = await client.get(f"/offer/3?affiliate_id=513&{name}={value}", headers=headers)
            assert answer.status_code == (302 if number == 0 else 403), (value, reason)
    rows = await recorded(database)
    assert len({row.visitor_key for row in rows}) == 1
    assert [getattr(row, name) for row in rows][:4] == [value for value, _ in SAME_ID][:4], "as it came"


async def test_real_idfa_counts_beside_an_absent_gaid(database: Settings) -> None:
    await block_duplicates(database)
    async with edge_of(database) as client:
        link = f"/offer/3?affiliate_id=513&gaid={{gaid}}&idfa={UUID}"
        statuses = [
            (await client.get(link, headers={"User-Agent": f"Mozilla/5.0 {n}"})).status_code for n in range(2)
        ]
    assert statuses == [302, 403]


async def test_explain_knows_a_visitor_by_a_real_id_only(database: Settings, importer: Importer) -> None:
    await importer.command("demo")
    async with api_of(database, scopes=("offers:read",)) as client:
        for value, known_by in [("{gaid}", "address and User-Agent"), (UUID.upper(), "device id")]:
            url = f"http://t.test/offer/3?affiliate_id=513&gaid={value}"
            told = (await client.get("/backend/open-api/v1/explain", params={"url": url})).json()
            assert told["visitor"]["known_by"] == known_by
            assert told["link"]["gaid"] == value


async def block_duplicates(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, "UPDATE offer SET duplicates = 'block' WHERE id = 3")
