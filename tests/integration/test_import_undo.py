"""`tracker import undo`: what the imports of a source stored goes, with its counts. Nothing else does."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.factories.clicks import a_click, a_row, store
from tests.integration.importing import Done, Importer, answered, importer
from tracker.domain.click_id import Mint, hash_at, hash_for
from tracker.domain.postback import Result, Source, read_postback
from tracker.ops.ledger import ask, minutes_between
from tracker.store import db
from tracker.store.clicks import deltas
from tracker.store.clicks import insert as clicks
from tracker.store.conversions import apply_postback
from tracker.store.imports import undo as undo_store
from tracker.store.reports import rollups
from tracker.store.reports import sub_id_pieces as pieces

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_AT = 1_720_446_000_000  # 2024-07-08 13:40:00 UTC
_CLICKS = "legacy_id,offer_id,affiliate_id,created_at,aff_sub\n" + "".join(
    f"c{n},{3 + n % 2},{513 + n % 2},2024-07-{8 + n % 3:02} 13:40:{n:02},b{n % 4}\n" for n in range(30)
)
_HEAD = "click_hash,status,created_at,order_id,payout,revenue,currency\n"
_CONVERSIONS = (
    _HEAD
    + "".join(f"c{n},approved,2024-07-10 10:00:00,o{n},1.25,2.5,EUR\n" for n in range(4))
    + "".join(f"c{n},pending,2024-07-10 10:00:00,o{n},3,4,USD\n" for n in range(4, 8))
)
_UNDECIDED = _HEAD + "".join(f"c{n},pending,2024-07-10 10:00:00,o{n},3,4,USD\n" for n in range(8))

_SUMS = {
    "click_count_part": "dimension, key, slot, sum(clicks)",
    "click_minute_part": "minute, sum(stored), sum(imported)",
    "report_count_part": "quarters, dimension, key, slot, sum(gross), sum(clicks), sum(uniques)",
}
_ROWS = ("click", "legacy_click", "imported_click", "conversion", "conversion_change", "import_run")

_NUMBERS = ["id", "click_id", "conversion_id", "version", "started_at", "at"]


async def _moved(importer: Importer, conversions: str = _CONVERSIONS, *words: str) -> None:
    for kind, content in {"clicks": _CLICKS, "conversions": conversions}.items():
        done = await importer.run(kind, importer.file(f"{kind}.csv", content), *words)
        assert done.code == 0, done.err


async def _undo(importer: Importer, *words: str, source: str = "earlier") -> Done:
    return await importer.run("undo", "--source", source, "--yes", *words)


async def _live(importer: Importer) -> None:
    """Clicks of the live path: of the visitors, offers, days and milliseconds that the imports have, too."""
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await clicks.prepare(connection)
    same = hash_for(_AT, "earlier\0c0")
    rows = [
        a_row(a_click(hash=hash_at(_AT), affiliate_id=513))._replace(visitor_key=_signed(same[16:])),
        a_row(a_click(hash=hash_for(_AT, "created"))),
    ]
    await store(connection, rows)
    await connection.execute("INSERT INTO legacy_click (legacy_id, hash) VALUES ('c99', $1)", rows[1].hash)
    await connection.close()


def _signed(digits: str) -> int:
    number = int(digits, 16)
    return number - (number >> 63 << 64)


async def _everything(importer: Importer) -> dict[str, list[Any]]:
    """All rows without the numbers of their storing, and all counts that are not 0."""
    found = {
        table: await importer.fetch(f"SELECT to_jsonb({table}) - $1::text[] FROM {table}", _NUMBERS)
        for table in _ROWS
    }
    for table, columns in _SUMS.items():
        keys = [column for column in columns.split(", ") if not column.startswith("sum")]
        rows = await importer.fetch(f"SELECT {columns} FROM {table} GROUP BY {', '.join(keys)}")
        found[table] = [row for row in rows if any(row[len(keys) :])]
    return {name: sorted(map(str, rows)) for name, rows in found.items()}


async def _booked(importer: Importer) -> list[tuple[Any, ...]]:
    return await importer.fetch(
        "SELECT payout_currency, sum(payout), sum(revenue) FROM conversion_entry GROUP BY 1"
    )


async def _agrees(importer: Importer) -> None:
    """Counts, sums and the ledger agree with the rows."""
    await importer.check_sums()
    seen, _ = await ask(importer.settings, minutes_between(1_719_792_000, 1_722_000_000), verify=True)
    assert [minute for minute in seen.unbalanced if minute.stored != 2] == []


async def _summed_up(importer: Importer) -> list[tuple[Any, ...]]:
    """Make what the worker makes of clicks: counts, rollups of days, and pieces of sub ids."""
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await deltas.add_up(connection)
    await rollups.build_missing(connection)
    await pieces.begin(connection)
    await pieces.forget_changed(connection)
    for day in await pieces.days(connection):
        for due in await pieces.due(connection, day):
            await pieces.make(connection, due)
    await connection.close()
    return await importer.fetch(
        "SELECT (SELECT sum(gross) FROM offer_day JOIN rolled_up_day USING (day) WHERE is_built),"
        " (SELECT sum(gross) FROM affiliate_day JOIN rolled_up_day USING (day) WHERE is_built),"
        " (SELECT sum(gross) FROM sub_id_piece WHERE hours = 24)"
    )


async def test_undo_leaves_everything_as_before_the_import(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LEAST_CLICKS", 1)
    await importer.catalogue()
    await _live(importer)
    before = await _everything(importer)
    await _moved(importer, _UNDECIDED)
    after = await _everything(importer)
    assert await _summed_up(importer) == [(32, 32, 32)]
    done = await _undo(importer)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("earlier: deleted 30 clicks and 8 conversions\n")
    assert await _everything(importer) == before
    await _agrees(importer)
    assert await _summed_up(importer) == [(2, 2, 2)]
    await _agrees(importer)
    await _moved(importer, _UNDECIDED)
    assert {**await _everything(importer), "import_run": 0} == {**after, "import_run": 0}


async def test_dry_run_says_what_would_go_and_changes_nothing(importer: Importer) -> None:
    await importer.catalogue()
    await _moved(importer)
    before = await _everything(importer)
    done = await _undo(importer, "--dry-run")
    assert (done.code, await _everything(importer)) == (0, before)
    assert done.out == (
        "earlier: would delete 26 clicks and 4 conversions\n"
        "earlier: would reverse 4 booked conversions (5.00 EUR payout and 10.00 EUR revenue)."
        " This needs --reverse-booked\n"
        "earlier: 4 clicks stay, because conversions or postbacks refer to them\n"
    )
    refused = await _undo(importer)
    assert (refused.code, await _everything(importer)) == (1, before)
    assert (
        "4 conversions are booked (5.00 EUR payout and 10.00 EUR revenue). Nothing is taken back"
        in refused.err
    )
    told = (await _undo(importer, "--dry-run", "--reverse-booked", "--json")).json
    really = (await _undo(importer, "--reverse-booked", "--json")).json
    assert {**told, "is_dry_run": False, "legacy_ids": 26} == really


@pytest.mark.parametrize("closed", [False, True])
async def test_reversals_are_booked_and_affiliates_hear_nothing(importer: Importer, closed: bool) -> None:
    await importer.catalogue()
    await _moved(importer)
    if closed:
        await importer.fetch("INSERT INTO period_close (until, author) VALUES ('2024-08-01+00', 'x')")
    kept = await importer.fetch("SELECT * FROM conversion_entry ORDER BY id")
    done = await _undo(importer, "--reverse-booked")
    assert done.code == 0
    entries = await importer.fetch("SELECT * FROM conversion_entry ORDER BY id")
    assert (entries[:4], len(entries)) == (kept, 8)
    assert await _booked(importer) == [("EUR", Decimal(0), Decimal(0))]
    assert await importer.fetch(
        "SELECT DISTINCT kind, is_adjustment, booked_at > '2026-01-01', author LIKE 'command line: %'"
        " FROM conversion_entry WHERE id > 4"
    ) == [("reversal", closed, closed, True)]
    assert await importer.fetch("SELECT status, count(*) FROM conversion GROUP BY 1") == [("rejected", 4)]
    assert await importer.fetch("SELECT count(*) FROM conversion_change WHERE NOT is_announced") == [(0,)]
    await _agrees(importer)
    again = await _undo(importer, "--reverse-booked")
    assert again.out == (
        "earlier: deleted 0 clicks and 0 conversions\n"
        "earlier: 4 clicks stay, because conversions or postbacks refer to them\n"
        "earlier: 4 conversions stay rejected, because they were booked and reversed before\n"
    )
    assert await importer.fetch("SELECT count(*) FROM conversion_entry") == [(8,)]
    assert (
        await importer.fetch("SELECT path, action FROM audit WHERE resource = 'import'")
        == [("imports/earlier", "delete")] * 2
    )


async def _postback(importer: Importer, **parameters: str) -> Result:
    postback = read_postback(Mint().hash(), Source.API, "", None, parameters)
    connection = await db.connect(str(importer.settings.postgres_dsn))
    async with connection.transaction():
        (taken,) = await apply_postback.take(connection, [postback], None)
    await connection.close()
    return taken.result


async def test_what_live_postbacks_made_or_changed_stays(importer: Importer) -> None:
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    await importer.fetch("UPDATE goal SET click_window = NULL")
    assert await _postback(importer, click_id="c9", order_id="new") is Result.STORED
    assert await _postback(importer, click_id="c1", order_id="o1", status="approved") is Result.UPDATED
    assert await _postback(importer, click_id="c2", order_id="o2", status="pending") is Result.UNCHANGED
    assert await _postback(importer, click_id="c10", order_id="o10", goal_name="later") is Result.HELD
    done = await _undo(importer)
    assert done.code == 0
    hashes = [hash_for(_AT + (n % 3) * 86_400_000 + n * 1000, f"earlier\0c{n}") for n in (1, 2, 9)]
    touched = "was touched by a postback or a person since its import"
    assert done.err.splitlines() == [
        f"click {hashes[0]} stays: conversion 2 (approved) {touched}",
        f"click {hashes[1]} stays: conversion 3 (pending) {touched}",
        f"click {hashes[2]} stays: conversion 9 (hold) came by a postback or the API",
    ]
    assert done.out == (
        "earlier: deleted 26 clicks and 6 conversions\n"
        "earlier: 4 clicks stay, because conversions or postbacks refer to them\n"
        "earlier: 2 conversions stay, because postbacks or people have touched them since\n"
    )
    assert await importer.fetch("SELECT order_id FROM conversion ORDER BY id") == [("o1",), ("o2",), ("new",)]
    assert await importer.fetch("SELECT legacy_id FROM legacy_click ORDER BY 1") == [
        ("c1",), ("c10",), ("c2",), ("c9",)
    ]  # fmt: skip
    assert await _postback(importer, click_id="c9", order_id="new", status="rejected") is Result.UPDATED
    await _agrees(importer)


async def test_clicks_of_others_conversions_stay_and_name_their_source(importer: Importer) -> None:
    """Their rows name the source of the clicks, and their import has another --source."""
    await importer.catalogue()
    await _moved(importer, _HEAD)
    named = _UNDECIDED.replace("USD\n", "USD,earlier\n").replace("currency\n", "currency,legacy_source\n")
    file = importer.file("conversions.csv", named)
    assert (await importer.run("conversions", file, "--source", "mistaken")).code == 0
    done = await _undo(importer)
    assert done.err.count("(pending) was imported with --source mistaken\n") == 8
    assert "8 clicks stay" in done.out
    assert (await _undo(importer, source="mistaken")).code == 0
    assert "deleted 8 clicks" in (await _undo(importer)).out


_BY_KIND = {"clicks": (22, 8, 1), "conversions": (30, 0, 1), "all": (0, 0, 0)}


@pytest.mark.parametrize("kind", _BY_KIND)
async def test_kind_limits_the_undo(importer: Importer, kind: str) -> None:
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    deleted, conversions, runs = _BY_KIND[kind]
    done = await _undo(importer, "--kind", kind)
    assert done.code == 0, done.err
    left = 30 - deleted if kind == "clicks" else deleted
    assert await importer.fetch(
        "SELECT (SELECT count(*) FROM click), (SELECT count(*) FROM conversion),"
        " (SELECT count(*) FROM import_run)"
    ) == [(left, conversions, runs)]
    await _agrees(importer)


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 30), (b"yes\n", 0, 0)])
async def test_undo_asks_on_a_terminal(importer: Importer, answer: bytes, code: int, left: int) -> None:
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    done, shown = await answered(["import", "undo", "--source", "earlier"], answer)
    assert (done, await importer.fetch("SELECT count(*) FROM click")) == (code, [(left,)])
    assert "earlier: would delete 30 clicks and 8 conversions\r\nTake it back? [y/N]" in shown


async def test_undo_without_a_terminal_needs_yes(importer: Importer) -> None:
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    before = await _everything(importer)
    for words in ([], ["--json"]):
        done = await importer.run("undo", "--source", "earlier", *words)
        why = "tracker: nothing is taken back. --yes takes it back without asking\n"
        assert (done.code, done.err) == (1, why)
    assert await _everything(importer) == before
    assert (await importer.run("undo", "--source", "earlier", "--dry-run")).code == 0


async def test_other_sources_stay(importer: Importer) -> None:
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    before = await _everything(importer)
    path = importer.file("other.csv", _CLICKS.replace("\nc", "\nd"))
    assert (await importer.run("clicks", path, "--source", "other")).code == 0
    done = await _undo(importer, source="other")
    assert done.out == "other: deleted 30 clicks and 0 conversions\n"
    assert await _everything(importer) == before


async def test_clicks_of_earlier_versions_are_recognised_by_their_hashes(importer: Importer) -> None:
    await importer.catalogue()
    await _live(importer)
    await _moved(importer, _UNDECIDED)
    await importer.fetch("UPDATE legacy_click SET source = ''")
    await importer.fetch("DELETE FROM imported_click")
    await importer.fetch("UPDATE conversion SET import_source = NULL")
    before = await _everything(importer)
    other = await _undo(importer, source="other")
    why = "--source: no import of 'other' has stored anything. Files were imported of 'earlier'"
    assert (other.code, other.err) == (1, f"tracker: {why}\n")
    dry = await _undo(importer, "--dry-run")
    assert dry.out.startswith("earlier: would delete 22 clicks and 0 conversions\n")
    assert await _everything(importer) == before
    done = await _undo(importer)
    assert done.out == (
        "earlier: deleted 22 clicks and 0 conversions\n"
        "earlier: 8 clicks stay, because conversions or postbacks refer to them\n"
        "earlier: 8 conversions stay that an earlier version imported without noting their source\n"
    )
    assert "conversion 1 (pending) was imported by an earlier version" in done.err
    assert await importer.fetch("SELECT count(*) FROM click") == [(10,)]
    await _agrees(importer)


async def test_postbacks_are_applied_between_batches(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A postback that waits for a batch is the next one, and its click is kept or gone for good."""
    await importer.catalogue()
    await _moved(importer, _UNDECIDED)
    await importer.fetch("UPDATE goal SET click_window = NULL")
    monkeypatch.setattr(undo_store, "BATCH", 1)
    undone = asyncio.create_task(_undo(importer))
    results = [await _postback(importer, click_id=f"c{n}", order_id=f"p{n}") for n in range(29, 9, -1)]
    assert (await undone).code == 0
    kept = await importer.fetch("SELECT count(*) FROM click")
    assert kept == [(results.count(Result.STORED),)]
    assert set(results) <= {Result.STORED, Result.REJECTED}
    await _agrees(importer)


async def test_killed_undo_goes_on(importer: Importer) -> None:
    await importer.catalogue()
    rows = [f"c{n},3,513,{1_720_446_000 + n},\n" for n in range(9_000)]
    path = importer.file("many.csv", "".join([_CLICKS.splitlines()[0] + "\n", *rows]))
    assert (await importer.run("clicks", path)).code == 0
    paid = [f"c{n},approved,2024-07-10 10:00:00,o{n},0.01,0.02,EUR\n" for n in range(0, 1500, 2)]
    open_ = [f"c{n},pending,2024-07-10 10:00:00,o{n},1,2,EUR\n" for n in range(1, 1500, 2)]
    path = importer.file("converted.csv", "".join([_HEAD, *paid, *open_]))
    assert (await importer.run("conversions", path)).code == 0
    left = 10_500
    for table in ("conversion", "click"):
        ((first,),) = await importer.fetch(f"SELECT count(*) FROM {table}")
        begun = f"SELECT FROM {table} HAVING count(*) < {first}"
        await importer.kill(begun, "import", "undo", "--source", "earlier", "--reverse-booked", "--yes")
        await _agrees(importer)
        ((now,),) = await importer.fetch(
            "SELECT (SELECT count(*) FROM click) + (SELECT count(*) FROM conversion)"
        )
        assert 1500 < now < left
        left = now
    assert (await _undo(importer, "--reverse-booked")).code == 0
    assert await importer.fetch(
        "SELECT (SELECT count(*) FROM click), (SELECT count(*) FROM conversion WHERE status = 'rejected'),"
        " (SELECT count(*) FROM conversion), (SELECT count(*) FROM imported_click)"
    ) == [(750, 750, 750, 750)]
    assert await _booked(importer) == [("EUR", Decimal(0), Decimal(0))]
    assert await importer.fetch("SELECT count(*) FROM conversion_entry") == [(1500,)]
    await _agrees(importer)
