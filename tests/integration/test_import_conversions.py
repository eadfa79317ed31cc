"""`tracker import conversions`: conversions of an earlier tracker. Late postbacks find their click."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.factories.conversions import NOT_AS_CLICK
from tests.integration.importing import Importer, importer, rows_of
from tracker.domain.click_id import Mint, hash_for
from tracker.domain.postback import Result, Source, read_postback
from tracker.store import db
from tracker.store.conversions import apply_postback
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import KEYS, ConversionFilter
from tracker.store.paging import Order

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_CLICKS = """\
legacy_id,offer_id,affiliate_id,created_at,country_code,is_test
c1,3,513,2024-07-08 13:40:00,DE,
c2,3,514,2024-07-08 13:41:00,NL,
t1,3,514,2024-07-08 13:42:00,NL,true
"""
_HEAD = "click_hash,status,created_at,order_id,payout,revenue,currency,legacy_id"
_HASH = hash_for(1_720_446_000_000, "earlier\0c1")
_AT = "2024-07-09 10:00:00"


async def _moved(importer: Importer) -> None:
    await importer.catalogue()
    done = await importer.run("clicks", importer.file("clicks.csv", _CLICKS))
    assert done.code == 0, done.err


def _csv(*rows: str) -> str:
    return "\n".join([_HEAD, *rows, ""])


_NOT_OF_C = {
    "nobody": "matches no click: import clicks first, with the same --source",
    "t2": "is a click of source 'b', and this import is of 'c': give --source b",
    "c2": "is an id of several clicks, of sources 'b' and 'earlier', and this import is of 'c': "
    "give --source b or --source earlier",
}


async def test_conversion_keeps_its_source_and_its_earlier_id(importer: Importer) -> None:
    """Its click is the one of its own source. A click of another is refused before anything is stored."""
    await _moved(importer)
    clicks = importer.file("others.csv", _CLICKS.replace("t1,", "t2,").replace("07-08", "07-07"))
    assert (await importer.run("clicks", clicks, "--source", "b")).code == 0
    for source in ("earlier", "b"):
        path = importer.file(f"{source}.csv", _csv(f"c1,paid,{_AT},,1,1,USD,90{source}"))
        assert (await importer.run("conversions", path, "--source", source)).code == 0
    again = importer.file("again.csv", _csv(f"c1,paid,{_AT},,1,1,USD,90b", ""))
    assert "0 stored, 1 there already" in (await importer.run("conversions", again, "--source", "b")).out
    for click, why in _NOT_OF_C.items():
        wrong = importer.file(
            "wrong.csv", _csv(f"c1,paid,{_AT},,1,1,USD,91", f"{click},paid,{_AT},,1,1,USD,")
        )
        for words in (["--dry-run"], []):
            done = await importer.run("conversions", wrong, "--source", "c", *words)
            assert (done.code, f"wrong.csv:3: click_hash {click} {why}\n" in done.err) == (1, True), done.err
    assert await importer.fetch(
        "SELECT import_source, legacy_id, encode(uuid_send(click_hash), 'hex') FROM conversion ORDER BY id"
    ) == [
        ("earlier", "90earlier", _HASH),
        ("b", "90b", hash_for(1_720_446_000_000 - 86_400_000, "b\0c1")),
    ]


async def test_row_of_a_conversion_names_the_source_of_its_ids(importer: Importer) -> None:
    """Its click is the one of that source. The import's own source says what --replace and undo take."""
    await _moved(importer)
    clicks = importer.file("others.csv", _CLICKS.replace("07-08", "07-07"))
    assert (await importer.run("clicks", clicks, "--source", "b")).code == 0
    head = f"{_HEAD},legacy_source\n"
    rows = [f"c1,hold,{_AT},,1,1,USD,90,{source}\n" for source in ("earlier", "b")]
    path = importer.file("merged.csv", head + "".join(rows))
    for stored, there in ((2, 0), (0, 2)):
        path.write_text(path.read_text() + "\n" * there)  # another file
        done = await importer.run("conversions", path, "--source", "both", "--json")
        assert (done.err, done.json["stored"], done.json["present"]) == ("", stored, there)
        assert done.json["is_proven"]
    found = await importer.fetch(
        "SELECT import_source, legacy_source, encode(uuid_send(click_hash), 'hex') FROM conversion"
        " ORDER BY id"
    )
    assert found == [
        ("both", "earlier", _HASH),
        ("both", "b", hash_for(1_720_446_000_000 - 86_400_000, "b\0c1")),
    ]
    wrong = importer.file(
        "wrong.csv", f"{head}c1,hold,{_AT},,1,1,USD,91,c\nc1,hold,{_AT},,1,1,USD,92,tracker\n"
    )
    done = await importer.run("conversions", wrong, "--source", "earlier")
    assert "wrong.csv:3: legacy_source 'tracker' is this tracker" in done.err
    wrong = importer.file("wrong.csv", f"{head}c1,hold,{_AT},,1,1,USD,91,c\n")
    done = await importer.run("conversions", wrong, "--source", "earlier")
    why = (
        "click_hash c1 is an id of several clicks, of sources 'b' and 'earlier', and its legacy_source is 'c'"
    )
    assert f"wrong.csv:2: {why}: correct it" in done.err
    paid = importer.file("paid.csv", head + "".join(rows).replace("1,1,USD", "2,2,USD"))
    done = await importer.run("conversions", paid, "--source", "both", "--replace", "--json")
    assert (done.err, done.json["replaced"], done.json["is_proven"]) == ("", 2, True)
    one = importer.file("one.csv", _csv(rows[1].removesuffix(",b\n")))
    done = await importer.run("conversions", one, "--source", "b", "--json")
    assert (done.json["present"], done.json["stored"]) == (1, 0)
    undone = await importer.run("undo", "--source", "both", "--kind", "conversions", "--json", "--yes")
    assert (undone.err, undone.json["conversions"]) == ("", 2)


async def test_conversions_stand_as_they_were(importer: Importer) -> None:
    await _moved(importer)
    rows = [
        f"c1,confirmed,{_AT},o-1,2.5,4.123456,eur,",
        f"c2,new,{_AT},,,,,",
        f"t1,paid,{_AT},o-2,1,1,USD,",
    ]
    path = importer.file("conversions.csv", _csv(*rows))
    done = await importer.run("conversions", path)
    assert (done.code, done.err) == (0, "")
    assert "3 rows: 3 stored, 0 there already, 0 refused" in done.out
    at = datetime(2024, 7, 9, 10, tzinfo=UTC)
    columns = (
        "order_id, status, payout, payout_currency, revenue, revenue_currency, affiliate_id, country_code"
    )
    assert await importer.fetch(f"SELECT {columns}, created_at, is_test FROM conversion ORDER BY id") == [
        ("o-1", "approved", Decimal("2.5"), "EUR", Decimal("4.123456"), "EUR", 513, "DE", at, False),
        (None, "pending", Decimal(0), "USD", Decimal(0), "USD", 514, "NL", at, False),
        ("o-2", "approved", Decimal(1), "USD", Decimal(1), "USD", 514, "NL", at, True),
    ]
    assert await importer.fetch(NOT_AS_CLICK) == [(0,)]
    assert await importer.fetch(
        "SELECT status_before, status_after, source, is_announced FROM conversion_change ORDER BY id"
    ) == [(None, status, "import", True) for status in ("approved", "pending", "approved")]
    assert await importer.fetch("SELECT booked_at, kind, is_adjustment, payout FROM conversion_entry") == [
        (at, "approval", False, Decimal("2.5"))
    ]
    again = await importer.run("conversions", importer.file("more.csv", _csv(*rows, rows[0])), "--json")
    assert {name: again.json[name] for name in ("stored", "present", "refused", "is_proven")} == {
        "stored": 0,
        "present": 4,
        "refused": 0,
        "is_proven": True,
    }


async def test_approval_of_a_closed_period_is_booked_now(importer: Importer) -> None:
    await _moved(importer)
    await importer.fetch("INSERT INTO period_close (until, author) VALUES ('2024-08-01+00', 'x')")
    done = await importer.run("conversions", importer.file("one.csv", _csv(f"c1,paid,{_AT},,1,1,EUR,")))
    assert done.code == 0
    assert await importer.fetch("SELECT is_adjustment, booked_at > '2026-01-01' FROM conversion_entry") == [
        (True, True)
    ]


async def test_export_is_imported_unchanged(importer: Importer) -> None:
    await _moved(importer)
    rows = [f"c1,paid,{_AT},o-1,2.5,4,EUR,", f"c2,hold,{_AT},,0.000001,4,USD,"]
    assert (await importer.run("conversions", importer.file("first.csv", _csv(*rows)))).code == 0
    exported = await _export(importer)
    for table in ("conversion_entry", "conversion_correction"):
        await importer.fetch(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
    await importer.fetch("TRUNCATE conversion RESTART IDENTITY CASCADE")
    path = importer.file("export.ndjson", "".join(json.dumps(row) + "\n" for row in exported))
    done = await importer.run("conversions", path)
    assert (done.code, done.err) == (0, "")
    assert await _export(importer) == exported


async def _export(importer: Importer) -> list[dict[str, Any]]:
    async with await db.open_pool(str(importer.settings.postgres_dsn)) as source:
        chunks = conversion_list.export(source, ConversionFilter(), Order(False, UTC), KEYS)
        return await rows_of(chunks, KEYS)


_REFUSED = [
    ({"click_hash": "nobody"}, "click_hash nobody matches no click"),
    ({"is_unproven": "true"}, "is_unproven goes with the status hold, and not with approved"),
    ({"goal_id": 999}, "goal_id 999 matches no goal of its click's offer"),
    ({"goal_id": 2}, "goal_id 2 matches no goal of its click's offer"),
    ({"created_at": "2024-07-10 10:00:00"}, "is of an order, or a click and goal, that another conversion"),
    ({"click_hash": "c2", "order_id": "o-1"}, "is of an order, or a click and goal, that another conversion"),
]


async def test_unstorable_row_is_named_and_the_rest_is_proven(importer: Importer) -> None:
    await _moved(importer)
    first = {"click_hash": "c1", "status": "paid", "created_at": _AT, "order_id": "o-1"}
    rows = [first, *({**first, **changes} for changes, _ in _REFUSED)]
    path = importer.file("some.json", json.dumps(rows))
    done = await importer.run("conversions", path)
    assert (done.code, await importer.fetch("SELECT count(*) FROM conversion")) == (1, [(0,)])
    assert [why for _, why in _REFUSED if why not in done.err] == []
    aside = importer.tmp_path / "aside.ndjson"
    done = await importer.run("conversions", path, "--skip-bad", aside)
    assert (done.code, done.err) == (0, "")
    assert "7 rows: 1 stored, 0 there already, 6 refused" in done.out
    assert [json.loads(line)["line"] for line in aside.read_text().splitlines()] == [2, 3, 4, 5, 6, 7]


async def test_click_has_several_conversions_if_the_goal_allows(importer: Importer) -> None:
    await _moved(importer)
    await importer.fetch("UPDATE goal SET multiple = true")
    rows = [f"c1,paid,{_AT},,1,1,EUR,{n}" for n in range(3)]
    done = await importer.run("conversions", importer.file("three.csv", _csv(*rows)), "--json")
    assert (done.json["stored"], done.json["is_proven"]) == (3, True)


async def test_late_postback_with_an_old_id_finds_its_click(importer: Importer) -> None:
    await _moved(importer)
    await importer.run("conversions", importer.file("one.csv", _csv(f"c1,pending,{_AT},o-1,1,1,EUR,")))
    parameters = {"click_id": "c1", "order_id": "o-1", "status": "approved"}
    found = await _take(importer, parameters)
    assert found.result is Result.UPDATED, found.reason
    assert await importer.fetch("SELECT status FROM conversion") == [("approved",)]
    assert await importer.fetch("SELECT encode(uuid_send(click_hash), 'hex') FROM conversion") == [(_HASH,)]


async def _take(importer: Importer, parameters: dict[str, str]) -> Any:
    postback = read_postback(Mint().hash(), Source.API, "", None, parameters)
    connection = await db.connect(str(importer.settings.postgres_dsn))
    try:
        async with connection.transaction():
            (taken,) = await apply_postback.take(connection, [postback], None)
    finally:
        await connection.close()
    return taken
