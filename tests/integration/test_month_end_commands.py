"""The commands of a month end: conversions, reports, status-upload and period-close."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.factories.clicks import HASH, a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.importing import Importer, answered, importer
from tracker import cli
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.http.routing import ROOT
from tracker.api.reports import PATH as REPORTS
from tracker.domain.click_id import millis_of
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
SCOPES = ("conversions:read", "reports:read", "money:read", "offers:read")


@pytest.fixture
async def month(importer: Importer) -> Importer:
    """A click with five conversions, one an hour. The last is of a test."""
    settings = importer.settings
    assert settings.postgres_dsn
    await load_demo(settings.postgres_dsn)
    row = a_row()
    await store(settings, [row, a_row(a_click(hash=HASH[:-1] + "2"))])
    euro = {"payout_currency": "EUR", "revenue_currency": "EUR"}
    each: list[dict[str, Any]] = [
        {"order_id": "=1+1", "sale_amount": "10", "sale_currency": "USD"},
        {"order_id": "A-2", "status": "pending", "payout": "0.25", **euro},
        {"order_id": "A-3", "status": "hold", "payout": "7", **euro},
        {"order_id": "A-4", "status": "rejected"},
        {"order_id": "A-5", "status": "pending", "is_test": True},
    ]
    conversions = [
        a_conversion(row, millis=millis_of(row.hash) + n * HOUR, goal_id=3, **changes)
        for n, changes in enumerate(each, 1)
    ]
    await store_conversions(settings, conversions)
    return importer


# conversions


async def test_conversions_are_a_table_of_the_newest(month: Importer) -> None:
    done = await month.command("conversions", "is_test=false", "--limit", "3")
    heading, *lines = done.out.splitlines()
    assert heading.split() == [
        *("id", "created_at", "status", "offer_id", "affiliate_id", "order_id", "payout", "revenue", "sale"),
    ]
    assert [line.split()[3] for line in lines] == ["rejected", "hold", "pending"]
    assert "A-3       7.00 EUR  2.00 EUR  -" in lines[1]
    assert done.err == "tracker: 3 of 4 are shown: --limit N shows more, --csv writes all\n"
    assert (await month.command("conversions", "status=hold", "offer_id=3")).err == ""


FILES = [("--json", "ndjson"), ("--csv", "csv"), ("--excel", "excel")]


@pytest.mark.parametrize(("option", "format_"), FILES)
async def test_file_of_conversions_is_the_export_of_the_api(
    month: Importer, option: str, format_: str
) -> None:
    async with api_of(month.settings, scopes=SCOPES) as api:
        query = {"format": format_, "created_from": "2024-01-01", "sort": "created_at", "tz": "Asia/Tokyo"}
        export = await api.get(f"{CONVERSIONS}/export", params=query)
    done = await month.command(
        *("conversions", "sort=created_at", "--from", "2024-01-01", "--tz", "Asia/Tokyo", option)
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == export.content.decode()
    assert len(done.out.splitlines()) == 5 + (format_ != "ndjson")
    assert ('"=1+1"' in done.out) == (format_ != "excel")


async def test_file_of_conversions_ends_at_its_limit(month: Importer) -> None:
    done = await month.command("conversions", "--csv", "--limit", "2")
    assert [row["order_id"] for row in csv.DictReader(io.StringIO(done.out))] == ["A-5", "A-4"]
    assert done.err == ""


# reports


async def test_report_has_the_rows_of_the_api(month: Importer) -> None:
    words = ("reports", "--group-by", "offer,day", "--from", "2024-01-01", "affiliate_id=513")
    async with api_of(month.settings, scopes=SCOPES) as api:
        query = {"group_by": "offer,day", "created_from": "2024-01-01", "affiliate_id": "513"}
        answer = await api.get(REPORTS, params={**query, "format": "csv"})
        (row,) = (await api.get(REPORTS, params=query)).json()["data"]
    assert (await month.command(*words, "--csv")).out == answer.text
    (line,) = map(json.loads, (await month.command(*words, "--json")).out.splitlines())
    assert line.items() >= {name: row[name] for name in ("offer_id", "day", "clicks", "uniques")}.items()
    assert (line["payout_USD"], line["pending_payout_EUR"]) == ("1.50", "7.25")
    heading, cells = (await month.command(*words)).out.splitlines()
    shown = dict(zip(heading.split(), cells.replace("Test Offer", "Test-Offer").split(), strict=True))
    assert (shown["clicks"], shown["payout_USD"]) == (str(row["clicks"]), "1.50")


# status-upload


LINES = (
    b"order_id,status,sale_status\r\nA-2,approved,paid\r\nA-3,declined,\r\nA-4,rejected,\r\nA-9,approved,\r\n"
)


async def statuses(month: Importer) -> list[str]:
    rows = await month.fetch("SELECT status FROM conversion WHERE NOT is_test ORDER BY id")
    return [status for (status,) in rows]


async def test_statuses_are_uploaded_after_a_dry_run(month: Importer) -> None:
    file = month.file("october.csv", LINES)
    done = await month.command("status-upload", file, "--dry-run")
    assert (done.code, done.out.splitlines()) == (
        1,
        [
            "line 2: conversion 2: pending -> approved",
            "line 3: conversion 3: hold -> rejected",
            "line 5: unmatched: matches no conversion",
            "4 lines: 2 would be changed, 1 had the status, 1 match no conversion, 0 are refused",
        ],
    )
    assert await statuses(month) == ["approved", "pending", "hold", "rejected"]
    done = await month.command("status-upload", file, "--json")
    assert (
        json.loads(done.out).items() >= {"changed": 2, "unchanged": 1, "unmatched": 1, "refused": 0}.items()
    )
    assert await statuses(month) == ["approved", "approved", "rejected", "rejected"]
    changes = await month.fetch("SELECT source, author FROM conversion_change WHERE conversion_id = 2")
    assert [(source, author[:14]) for source, author in changes][-1] == ("upload", "command line: ")
    (again,) = (await month.command("status-upload", file)).out.splitlines()[-1:]
    assert again == "4 lines: 0 changed, 3 had the status, 1 match no conversion, 0 are refused"


UPLOADS: list[tuple[bytes, list[str], int, str]] = [
    (b'{"order_id": "A-2", "status": "approved"}\n', [], 0, ""),
    (
        "order_id;status;sale_status\nA-2;approved;bezahlt f\u00fcr".encode("cp1252"),
        ["--charset", "cp1252"],
        0,
        "",
    ),
    (b"order_id,colour\nA-2,red\n", [], 1, "there is no column status; no f"),
    (b"", [], 0, ""),
]


@pytest.mark.parametrize(("content", "words", "code", "error"), UPLOADS)
async def test_uploaded_file_is_read_as_the_api_reads_it(
    month: Importer, content: bytes, words: list[str], code: int, error: str
) -> None:
    done = await month.command("status-upload", *words, month.file("file", content))
    assert done.code == code, done
    assert error in done.err
    assert done.err.count("\n") == (1 if error else 0)
    if content and not error:
        assert (await statuses(month))[1] == "approved"


# period-close


async def closes(month: Importer) -> list[tuple[Any, ...]]:
    return await month.fetch(
        "SELECT until::text, author LIKE 'command line: %' FROM period_close ORDER BY id"
    )


async def test_period_is_closed_after_a_look_at_what_is_undecided(
    month: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_TIME_ZONE", "Europe/Berlin")
    words = ("period-close", "--until", "2025-06-01")
    shown = [
        "undecided before 2025-06-01T00:00:00+02:00:",
        "status   conversions  payout    revenue",
        "pending  1            0.25 EUR  2.00 EUR",
        "hold     1            7.00 EUR  2.00 EUR",
    ]
    done = await month.command(*words, "--dry-run")
    assert (done.code, done.out.splitlines(), done.err) == (
        0,
        shown,
        "tracker: a dry run: nothing was closed\n",
    )
    done = await month.command(*words)
    assert (done.code, done.err) == (1, "tracker: nothing was closed. --yes closes the books for good\n")
    assert await closes(month) == []
    done = await month.command(*words, "--yes")
    assert (done.code, done.out.splitlines()) == (0, [*shown, "closed until 2025-06-01T00:00:00+02:00"])
    assert await closes(month) == [("2025-05-31 22:00:00+00", True)]
    async with api_of(month.settings, scopes=SCOPES) as api:
        (close,) = (await api.get(CLOSES)).json()["data"]
        trail = (await api.get(f"{ROOT}/audit", params={"path": f"period-closes/{close['id']}"})).json()
    assert trail["data"][0]["after"] == close
    done = await month.command(*words, "--dry-run")
    assert (done.code, done.out) == (1, "")
    assert "--until: 2025-06-01T00:00:00+02:00 is not later than 2025-06-01T00:00:00+02:00" in done.err


async def test_close_as_json_names_what_is_undecided(month: Importer) -> None:
    held = "INSERT INTO postback (hash, source, ip, parameters, result) VALUES ($1, 'api', '', '{}', 'held')"
    await run_sql(month.settings, held, HASH[:-1] + "9")
    words = ("period-close", "--until", "2025-06-01", "--json")
    done = await month.command(*words)
    assert (done.code, done.out) == (1, "")
    done = await month.command(*words, "--yes")
    close = done.json
    assert close["until"] == "2025-06-01T00:00:00+00:00"
    assert close["closed"]["until"] == close["until"]
    assert close["undecided"]["postbacks"] == {"held": 1}
    assert [group["payout"] for group in close["undecided"]["conversions"]] == ["0.25", "7.00"]


# Errors


WRONG: list[tuple[list[str], str]] = [
    (["conversions", "statsu=hold"], "statsu is not a field of this command"),
    (["conversions", "status=late"], "status is not one of: pending"),
    (["conversions", "status=hold", "--from", "yesterday"], "--from is neither YYYY-MM-DD nor"),
    (["conversions", "created_from=2026-01-01", "--from", "2026-01-01"], "--from is repeated"),
    (["conversions", "--from", "2026-02-01", "--to", "2026-01-01"], "--to is before --from"),
    (["conversions", "separator=;", "--csv"], "separator needs format=excel"),
    (["conversions", "--limit", "10001"], "a table has at most 10,000 rows"),
    (["reports", "--group-by", "colour"], "--group-by is not one"),
    (["reports", "--group-by", "offer", "--tz", "Mars"], "tz is not the name of an IANA time zone"),
    (["status-upload", "/nowhere.csv"], "/nowhere.csv: no such file or directory"),
    (["period-close", "--until", "2999-01-01", "--yes"], "2999-01-01T00:00:00+00:00 is in the future"),
]
MISPLACED: list[tuple[list[str], str]] = [
    (["conversions", "hold"], "'hold' is not FIELD=VALUE"),
    (["conversions", "status=hold", "--csv", "offer_id=3"], "offer_id=3: FIELD=VALUE words stand together"),
    (["conversions", "--no-such-option=3"], "unrecognized arguments: --no-such-option=3\n"),
    (["conversions", "--csv", "--json"], "not allowed with argument"),
    (["reports"], "required: --group-by"),
    (["period-close", "--until", "0001-01-01"], "'0001-01-01' is before 2000 or in the future"),
    (["period-close", "--until", "soon"], "'soon' is neither YYYY-MM-DD"),
]


@pytest.mark.parametrize(("words", "line"), WRONG)
async def test_wrong_value_is_one_line(importer: Importer, words: list[str], line: str) -> None:
    done = await importer.command(*words)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert line in done.err


@pytest.mark.parametrize(("words", "line"), MISPLACED)
async def test_wrong_argument_is_named(
    capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(words)
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "code", "number", "last"),
    [
        (b"n\n", 1, 0, "tracker: nothing was closed. --yes closes the books for good"),
        (b"Yes\n", 0, 1, "closed until 2025-06-01T00:00:00+00:00"),
    ],
)
async def test_period_is_closed_when_its_user_agrees(
    month: Importer, answer: bytes, code: int, number: int, last: str
) -> None:
    done, shown = await answered(["period-close", "--until", "2025-06-01"], answer)
    assert (done, len(await closes(month))) == (code, number)
    assert shown.rstrip().endswith(last)
    assert "Close the books before 2025-06-01T00:00:00+00:00 for good? [y/N]" in shown
    assert "pending  1            0.25 EUR  2.00 EUR" in shown


async def test_table_is_cut_to_the_terminal(month: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, shown = await answered(["offer-urls", "list", "3"], b"")
    _, *lines = shown.splitlines()
    assert (code, len(lines)) == (0, 2)
    assert all(len(line) == 60 and line.endswith("…") for line in lines)
