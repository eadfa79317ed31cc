"""`tracker demo` with a history: it comes in as an import, once, and the books and counts agree with it."""

from __future__ import annotations

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import count_sub_ids_now, run_sql, store
from tests.integration.importing import Importer, importer
from tracker.ops.doctor import report

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

UNTIL = "2026-11-28T12:00:00Z"
WORDS = ("--days", "5", "--clicks", "2000", "--until", UNTIL)


async def numbers(importer: Importer) -> list[tuple[int, ...]]:
    return await importer.fetch(
        "SELECT (SELECT count(*) FROM click), (SELECT count(*) FROM conversion), (SELECT count(*) FROM offer)"
    )


async def test_history_is_stored_once_and_the_books_agree(importer: Importer) -> None:
    done = await importer.command("demo", *WORDS)
    assert done.code == 0, done.err
    assert done.out.startswith("2,000 clicks and ")
    assert "from 2026-11-23 12:00 to 2026-11-28 12:00 UTC" in done.out
    assert "/dashboard/\n" in done.out
    (stored,) = await numbers(importer)
    assert stored[0] == 2_000
    assert stored[1] > 20
    for words in (WORDS, WORDS[:4]):  # the end of the history is known
        assert (await importer.command("demo", *words)).code == 0
        assert await numbers(importer) == [stored]
    await importer.check_sums()
    booked = "SELECT payout_currency, sum(payout), sum(revenue) FROM {} GROUP BY 1 ORDER BY 1"
    book = await importer.fetch(booked.format("conversion_entry"))
    assert [each[0] for each in book] == ["EUR", "USD"]
    assert book == await importer.fetch(booked.format("conversion WHERE status = 'approved'"))
    await count_sub_ids_now(importer.settings)
    findings = await report.examine(importer.settings, "ledger")
    assert [each.level for each in findings] == ["ok"]
    assert (await importer.command("ledger")).code == 0


async def test_history_that_is_killed_goes_on(importer: Importer) -> None:
    for begun in (
        "SELECT FROM import_run WHERE kind = 'clicks' AND rows BETWEEN 100 AND 1900",
        "SELECT FROM import_run WHERE kind = 'conversions'",
    ):
        await importer.kill(begun, "demo", *WORDS[:4])
    done = await importer.command("demo", *WORDS[:4])
    assert done.code == 0, done.err
    assert (await numbers(importer))[0][0] == 2_000
    await importer.check_sums()
    undo = ("import", "undo", "--source", "demo", "--reverse-booked", "--yes")
    assert (await importer.command(*undo)).code == 0
    done = await importer.command("demo", *WORDS)
    assert done.code == 0, done.err  # beside the clicks of the conversions that were booked


@pytest.mark.parametrize(
    "words", [("--seed", "2"), ("--clicks", "3000"), ("--until", "2026-11-28T13:00:00Z"), ("--days", "6")]
)
async def test_another_history_is_refused(importer: Importer, words: tuple[str, str]) -> None:
    await run_sql(
        importer.settings,
        "INSERT INTO import_run (digest, kind, source, file)"
        " VALUES ('', 'clicks', 'demo', 'demo-clicks-5d-2000-seed1-20261128T120000Z')",
    )
    done = await importer.command("demo", *WORDS, *words)
    assert done.code == 1
    assert "this tracker has another demo history, demo-clicks-5d-2000-seed1-20261128T120000Z" in done.err
    assert await numbers(importer) == [(0, 0, 0)]


async def test_tracker_with_clicks_of_its_own_needs_a_word(importer: Importer) -> None:
    await store(importer.settings, [a_row()])
    before = await numbers(importer)
    done = await importer.command("demo", *WORDS)
    assert (done.code, await numbers(importer)) == (1, before)
    assert "this tracker has clicks of its own: nothing is stored. --into-existing" in done.err
    assert (await importer.command("demo", *WORDS, "--into-existing")).code == 0
    assert (await numbers(importer))[0][0] == before[0][0] + 2_000


async def test_objects_of_the_same_name_are_not_changed(importer: Importer) -> None:
    await run_sql(importer.settings, "INSERT INTO affiliate (id, name) VALUES (77, 'Couponary')")
    done = await importer.command("demo", *WORDS)
    assert done.code == 1
    assert "the demo would change affiliates/77, because they have names of its objects" in done.err
    assert await numbers(importer) == [(0, 0, 0)]


async def test_small_network_needs_no_history(importer: Importer) -> None:
    assert (await importer.command("demo")).out == "offers 1 to 5, affiliates 501 to 520\n"
    assert await numbers(importer) == [(0, 0, 5)]
    assert (await importer.command("demo", *WORDS)).code == 0, "both fit into one tracker"


@pytest.mark.parametrize("until", ["tomorrow", "2099-01-01"])
async def test_end_of_the_history_is_a_time_that_is_over(importer: Importer, until: str) -> None:
    with pytest.raises(SystemExit):
        await importer.command("demo", "--until", until)
