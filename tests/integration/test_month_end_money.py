"""`tracker statements`, `manual-entries` and `corrections`, on a database."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.factories.clicks import HASH
from tests.integration.api_client import api_of
from tests.integration.importing import Done, Importer, importer
from tests.integration.test_manual_conversions import clicks, told
from tracker.settings import Settings

__all__ = ["clicks", "importer"]
pytestmark = pytest.mark.anyio

SPAN = ("--from", "2026-10", "--to", "2046-09")


@pytest.fixture
async def tool(clicks: Settings, importer: Importer) -> Importer:
    """The command line, with an approved conversion and a pending one."""
    async with api_of(clicks, scopes=("conversions:write",)) as client:
        await told(client, {"click_id": HASH})
    return importer


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


async def test_month_end_on_the_command_line(tool: Importer) -> None:
    trial = await tool.command("corrections", "set", "1", "payout=1.25", "reason=x", "--dry-run", "--json")
    assert rows(trial)[0]["payout"] == "1.25"
    assert "a dry run" in trial.err
    file = tool.file("right.csv", "conversion_id;revenue;reason\n1;2.5;wrong price\n")
    (row,) = rows(await tool.command("corrections", "upload", file, "--json"))
    assert (row["payout"], row["revenue"], row["reason"]) == ("2.00", "2.50", "wrong price")
    assert row["author"].startswith("command line: ")
    entry = ("affiliate_id=513", "kind=payment", "amount=1.5", "currency=eur", "reason=October")
    (paid,) = rows(await tool.command("manual-entries", "add", *entry, "--json"))
    (undone,) = rows(await tool.command("manual-entries", "reverse", paid["id"], "--reason", "x", "--json"))
    payments = tool.file("paid.csv", "affiliate_id,kind,amount,currency,reason\n513,payment,1,EUR,October\n")
    assert len(rows(await tool.command("manual-entries", "upload", payments, "--json", "--dry-run"))) == 1
    (again,) = rows(await tool.command("manual-entries", "upload", payments, "--json"))
    assert [each["change"] for each in (paid, undone, again)] == ["-1.50", "1.50", "-1.00"]
    listed = rows(await tool.command("manual-entries", "list", "--json"))
    assert [each["id"] for each in listed] == [again["id"], undone["id"], paid["id"]]

    (body,) = rows(await tool.command("statements", "--party", "affiliate", *SPAN, "--json"))
    (statement,) = body["data"]
    parts = ("opening", "booked", "payment", "closing", "currency")
    assert [statement[name] for name in parts] == ["0.00", "2.00", "-1.00", "1.00", "EUR"]
    done = await tool.command("statements", "--party", "affiliate", *SPAN, "--csv")
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["affiliate_id"], row["closing"]) == ("513", "1.00")
    done = await tool.command(
        "statements", "--party", "advertiser", "--id", "1", *SPAN, "--group-by", "offer"
    )
    assert [line.split() for line in done.out.splitlines()][-1][-2:] == ["2", "2.50"]
    assert done.err == "tracker: not final: the days are not closed yet\n"

    words = ("statements", "--party", "affiliate", *SPAN, "--lines")
    lines = rows(await tool.command(*words, "--json"))
    amounts = [(line["line"], line["amount"]) for line in lines]
    assert amounts == [("approval", "2.00"), ("payment", "-1.50"), ("payment", "1.50"), ("payment", "-1.00")]
    done = await tool.command(*words)
    shown = [(line["line"], line["amount"]) for line in csv.DictReader(io.StringIO(done.out))]
    assert (shown, done.err) == (amounts, "")


async def test_command_warns_of_an_amount_that_nobody_can_pay(tool: Importer) -> None:
    words = ("affiliate_id=513", "kind=fee", "amount=1.5", "currency=JPY", "reason=x")
    done = await tool.command("manual-entries", "add", *words, "--dry-run")
    warning, trial = done.err.splitlines()
    assert warning == "tracker: warning: amount: 1.50 JPY is finer than the currency's unit of 1"
    assert trial == "tracker: a dry run: nothing was booked"
    lines = ["affiliate_id,kind,amount,currency,reason", *["513,fee,1.5,JPY,x"] * 53]
    done = await tool.command("manual-entries", "upload", tool.file("many.csv", "\n".join(lines)))
    assert done.err.splitlines() == [warning] * 50 + ["tracker: and 3 more warnings"]


WRONG = [
    (("statements", "--party", "affiliate", "--from", "2026-10"), 1, "--to is missing, and so is --until"),
    (("statements", "--party", "affiliate"), 1, "--from is missing"),
    (("statements", "--party", "affiliate", *SPAN, "--id", "999"), 1, "affiliate 999 is not known"),
    (
        ("statements", "--party", "advertiser", *SPAN, "--id", "999", "--lines"),
        1,
        "advertiser 999 is not known",
    ),
    (
        ("statements", "--party", "affiliate", "--from", "2026-10", "--to", "2026-09"),
        1,
        "--to is before --from",
    ),
    (("statements", "--party", "affiliate", "--from", "x", "--to", "2026-10"), 1, "--from is neither a day"),
    (
        ("statements", "--party", "affiliate", *SPAN, "--lines", "--group-by", "day"),
        1,
        "--group-by cannot be combined with --lines",
    ),
    (("statements", "--party", "affiliate", "--id", "x", *SPAN), 1, "--id is not a whole number"),
    (("manual-entries", "add", "affiliate_id=513"), 1, "kind is missing"),
    (("manual-entries", "add", "affiliate_id=513", "kind=gift"), 1, "kind must be 'bonus', 'fee'"),
    (("manual-entries", "add", "affiliate_id=513", "affiliate_id=514"), 1, "affiliate_id is repeated"),
    (("manual-entries", "reverse", "7", "--reason", "x"), 1, "There is no entry with this id"),
    (("manual-entries", "upload", "/absent.csv"), 1, "/absent.csv cannot be read: No such file"),
    (("corrections", "set", "1", "payout=1"), 1, "reason is missing"),
    (("corrections", "set", "99", "payout=1", "reason=x"), 1, "There is no conversion with this id"),
]


async def test_wrong_words_are_named_in_one_line(tool: Importer) -> None:
    for words, code, error in WRONG:
        done = await tool.command(*words)
        assert (done.code, done.out) == (code, ""), words
        assert done.err.startswith(f"tracker: {error}"), (words, done.err)
        assert done.err.count("\n") == 1


async def test_file_with_a_wrong_line_books_nothing(tool: Importer) -> None:
    file = tool.file("f.csv", "affiliate_id,kind,amount,currency,reason\n513,fee,1,EUR,x\n513,fee,,EUR,x\n")
    done = await tool.command("manual-entries", "upload", file)
    assert done.code == 1
    assert "Nothing is booked: 1 of 2 lines are wrong. line 3: amount is missing" in done.err
    assert await tool.fetch("SELECT count(*) FROM manual_entry") == [(0,)]


async def test_times_of_entries_are_in_the_zone_that_they_were_given_in(
    tool: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_TIME_ZONE", "Europe/Berlin")
    entry = ("affiliate_id=513", "kind=fee", "amount=1", "currency=EUR", "reason=x")
    booked = await tool.command("manual-entries", "add", *entry, "booked_at=2026-10-01")
    listed = await tool.command("manual-entries", "list")
    for done in (booked, listed):
        assert "  2026-10-01 00:00:00  " in done.out.splitlines()[1]
    (row,) = rows(await tool.command("manual-entries", "list", "--json"))
    assert row["booked_at"] == "2026-09-30T22:00:00+00:00"

    assert (await tool.command("period-close", "--until", "2026-11-01", "--yes")).code == 0
    late = await tool.command("manual-entries", "add", *entry, "booked_at=2026-10-01")
    assert "the books are closed up to 2026-11-01T00:00:00+01:00" in late.err
