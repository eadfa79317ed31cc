"""The history of bench-reads and bench-pages is one that the tracker could have made."""

from __future__ import annotations

from contextlib import closing

import pytest

from loadtests import bench_pages, bench_reads, fill_history
from loadtests.budgets import PAGE
from tests.e2e.running import free_port
from tests.integration.api_client import api_process
from tracker.dashboard.navigation import MENU
from tracker.settings import Settings
from tracker.store.clicks import recount
from tracker.store.db import connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

CLICKS = 2_000


async def test_history_is_counted_and_answers_all_queries(database: Settings) -> None:
    assert database.postgres_dsn
    await fill_history.fill(database.postgres_dsn, CLICKS, days=2)
    connection = await connect(database.postgres_dsn)
    for day in await recount.days(connection):
        assert [wrong async for wrong in recount.differences(connection, day)] == []
    assert await connection.fetchval("SELECT sum(stored)::int FROM click_minute_part") == CLICKS
    assert (
        await connection.fetchval("SELECT count(*) FROM conversion")
        > CLICKS // fill_history.CONVERTED_OF // 2
    )
    await connection.close()
    token, port = await create_token(database.postgres_dsn, ["admin"], "bench"), free_port()
    async with api_process(database, port):
        with closing(bench_reads.Client(port, token)) as client:
            known = bench_reads.known_of(client)
            for question in bench_reads.questions(known):
                assert bench_reads.timed(client, question.path, 2).p50 > 0
            assert known["pages"] == CLICKS // 200
            places = bench_pages.known_of(client)
        admin = await bench_pages.sign_in(database.postgres_dsn, "admin", [])
        affiliate = await bench_pages.sign_in(
            database.postgres_dsn, "affiliate", [fill_history.BIG_AFFILIATE]
        )
        opened = [*bench_pages.pages_of_admin(places)]
        assert menu_of_the_network() <= {page.path for page in opened}
        for secret, pages in ((admin, opened), (affiliate, bench_pages.pages_of_affiliate(places))):
            with closing(bench_pages.Browser(port, secret)) as browser:
                for page in pages:
                    assert browser.open(f"/dashboard{page.path}")
                assert browser.files('<link href="/dashboard/static/style.css?x">') > 1_000


def menu_of_the_network() -> set[str]:
    """The pages of the menu, as the benchmark writes them, without those of partners."""
    paths = {path.removeprefix("/dashboard") for section in MENU.values() for path in section}
    return {path for path in paths if not path.startswith("/own-")} - {"/", "/reports"}


def test_row_of_a_page_names_a_missed_budget() -> None:
    page = bench_pages.Opened("offers", "/offers")
    for whole, p50, words in (
        (150_000, 150.0, "≤ 150 ok"),
        (150_001, 151.0, "≤ 150 OVER, bytes ≤ 150,000 OVER"),
    ):
        taken = bench_pages.Measured(140.0, p50, 200.0, 9.0, 3.0, 40_000, whole)
        assert bench_pages.row(page, taken).endswith(f"  {words}")


def test_sizes_stand_side_by_side() -> None:
    fast, slow = bench_reads.Timed(4.0, 5.0), bench_reads.Timed(12.0, 15.0)
    limits = {"page 1": PAGE, "a click": None}
    sizes = [
        bench_reads.Size(clicks, 1.0, {"page 1": answer, "a click": answer}, limits, 1e5, 1 << 20)
        for clicks, answer in ((1_000_000, fast), (10_000_000, slow))
    ]
    said = bench_reads.report(sizes)
    page, click = (line.split() for line in said.splitlines()[2:4])
    assert page[2:] == ["4.0", "5.0", "12.0", "15.0", "3.00", "≤", "10", "OVER"]
    assert click[2:] == ["4.0", "5.0", "12.0", "15.0", "3.00", "-"]
    assert "10,000,000 clicks: filled in 1 s; export of 1,000,000 rows: 100,000 a second" in said


def test_machine_without_room_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_reads, "_BYTES_A_CLICK", 1 << 40)
    assert bench_reads.main(["--sizes", "100k"]) == 2
    assert "GiB free" in capsys.readouterr().err
