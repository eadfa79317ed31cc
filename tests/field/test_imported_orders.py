"""Imported conversions whose order id is absent: a postback that comes later is of the same one."""

from __future__ import annotations

import pytest

from tests.field.advertiser import advertiser_of
from tests.integration.importing import Importer, importer
from tracker.domain.click_id import hash_for

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_MILLIS = 1_720_519_200_000
_AT = "2024-07-09 10:00:00"  # the same
_CLICKS = "legacy_id,offer_id,affiliate_id,created_at\nc1,3,513,2024-07-08 13:40:00\n"

# The order ids of a file's rows, what a postback says then, and what becomes of that.
RETRIES: list[tuple[list[str], str, str]] = [
    (["{o}"], "order_id={o}", "unchanged"),
    (["{o}"], "order_id=", "unchanged"),
    ([""], "tid=null", "unchanged"),
    (["null", "{o}", ""], "order_id={o}", "unchanged"),  # one of them is meant, and all are stored
    (["A", "{o}"], "order_id={o}", "unchanged"),
    (["A"], "order_id={o}", "stored"),
    (["{o}"], "order_id=B", "stored"),
    (["{o}"], "adv_sub=x", "stored"),  # none was sent: each makes one
]


def _file(orders: list[str]) -> str:
    rows = [f"c1,pending,{_AT},{order},{place}" for place, order in enumerate(orders)]
    return "\n".join(["click_hash,status,created_at,order_id,legacy_id", *rows, ""])


async def test_postback_of_an_absent_order_id_finds_the_imported_conversion(importer: Importer) -> None:
    async with advertiser_of(importer.settings) as advertiser:
        await importer.fetch("UPDATE goal SET multiple = true, click_window = NULL WHERE id = 30")
        assert (await importer.run("clicks", importer.file("clicks.csv", _CLICKS))).code == 0
        for orders, said, result in RETRIES:
            done = await importer.run("conversions", importer.file("some.csv", _file(orders)), "--json")
            assert (done.code, done.json["stored"]) == (0, len(orders)), done.err
            told = await advertiser.calls(f"click_id=c1&status=pending&{said}")
            assert (told.result, told.reason) == (
                result,
                "nothing new" if result == "unchanged" else "",
            ), (orders, said)
            await importer.fetch("DELETE FROM conversion_change")
            await importer.fetch("DELETE FROM conversion")
            await importer.fetch("DELETE FROM import_run")


async def test_absent_order_id_of_the_second_file_is_of_the_first(importer: Importer) -> None:
    await importer.catalogue()
    await importer.fetch("UPDATE goal SET multiple = true")
    assert (await importer.run("clicks", importer.file("clicks.csv", _CLICKS))).code == 0
    assert (await importer.run("conversions", importer.file("a.csv", _file(["{o}"])))).code == 0
    assert (await importer.run("conversions", importer.file("b.csv", _file(["{o}", "{o}"])))).code == 0
    found = await importer.fetch("SELECT order_id, order_absent FROM conversion ORDER BY id")
    assert found == [(None, True), (None, False)]


async def test_macro_that_an_earlier_version_took_for_an_order_id_is_not_doubled(importer: Importer) -> None:
    await importer.catalogue()
    await importer.fetch("UPDATE goal SET multiple = true")
    assert (await importer.run("clicks", importer.file("clicks.csv", _CLICKS))).code == 0
    (goal,) = (await importer.fetch("SELECT id FROM goal WHERE offer_id = 3"))[0]
    text = f"click_hash,status,created_at,order_id,goal_id\nc1,pending,{_AT},{{o}},{goal}\n"
    file = importer.file("some.csv", text)
    assert (await importer.run("conversions", file)).code == 0
    await importer.fetch(
        "UPDATE conversion SET hash = $1, order_id = '{o}', order_absent = false",
        hash_for(_MILLIS, f"earlier\0conversion\0c1\0{goal}\0{{o}}"),
    )
    await importer.fetch("DELETE FROM import_run")
    done = await importer.run("conversions", file, "--json")
    assert (done.code, done.json["stored"], done.json["is_proven"]) == (0, 0, True), done.err
