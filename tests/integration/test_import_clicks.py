"""`tracker import clicks`: every row of a file is stored once, with proof."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.factories.clicks import a_row, store
from tests.integration.engines import until
from tests.integration.importing import Importer, importer, rows_of
from tracker import cli
from tracker.domain.click_id import hash_at, hash_for
from tracker.ops.ledger import ask, minutes_between
from tracker.store import db, locks
from tracker.store.clicks import export as click_export
from tracker.store.clicks import insert as clicks
from tracker.store.clicks import kept, partitions
from tracker.store.clicks import ledger as clicks_ledger
from tracker.store.clicks.columns import KEYS
from tracker.store.clicks.list import ClickFilter
from tracker.store.imports import progress as imports
from tracker.store.paging import Order

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_HEAD = "legacy_id,offer_id,affiliate_id,created_at"
_ROW = "c1,3,513,2024-07-08 13:40:00"
_MILLIS = 1_720_446_000_000  # 2024-07-08 13:40:00 UTC


def _csv(*rows: str, head: str = _HEAD) -> str:
    return "\n".join([head, *rows, ""])


async def _stored(importer: Importer) -> list[tuple[Any, ...]]:
    return await importer.fetch(
        "SELECT encode(uuid_send(hash), 'hex'), offer_id, affiliate_id, click_time(hash)"
        " FROM click ORDER BY hash"
    )


_HASH = hash_for(_MILLIS, "earlier\0c1")
_THEIRS = "click;Offer;aff;when;junk\nc1;3;513;2024-07-08 15:40:00;x\n"


async def test_click_is_stored_with_its_earlier_id(importer: Importer) -> None:
    await importer.catalogue()
    done = await importer.run("clicks", importer.file("clicks", _csv(_ROW)))
    assert (done.code, done.err) == (0, "")
    assert await _stored(importer) == [(_HASH, 3, 513, datetime(2024, 7, 8, 13, 40, tzinfo=UTC))]
    assert await importer.fetch("SELECT legacy_id, encode(uuid_send(hash), 'hex') FROM legacy_click") == [
        ("c1", _HASH)
    ]


async def test_mapping_may_be_a_file(importer: Importer) -> None:
    await importer.catalogue()
    names = importer.file("map.yaml", "{click: legacy_id, Offer: offer_id, aff: affiliate_id, junk: null}")
    path = importer.file("theirs.csv", _THEIRS)
    done = await importer.run("clicks", path, "--map-file", names, "--map", "when=created_at")
    assert (done.code, done.err) == (0, "")


async def test_wrong_rows_are_named_and_nothing_is_stored(importer: Importer) -> None:
    await importer.catalogue()
    rows = [_ROW, "c2,5,513,2024-07-08 13:40:00", "c3,3,513", *(f"d{n},3,1,1720446000" for n in range(30))]
    done = await importer.run("clicks", importer.file("bad.csv", _csv(*rows)))
    named = done.err.splitlines()
    assert (done.code, len(named)) == (1, 14)
    assert named[0] == "bad.csv:3: offer_id '5' matches no offer"
    assert named[1] == "bad.csv:4: has 3 columns where the header has 4"
    assert named[11:] == [
        "bad.csv:14: affiliate_id '1' matches no affiliate",
        "bad.csv: and 20 more rows as 5: affiliate_id '1' matches no affiliate",
        "tracker: bad.csv: 32 rows are wrong. Nothing is stored",
    ]
    assert await _stored(importer) == []


async def test_absent_fields_of_a_row_are_unknown(importer: Importer) -> None:
    await importer.catalogue()
    await importer.run("clicks", importer.file("one.csv", _csv(_ROW)))
    ((row,),) = await importer.fetch("SELECT to_json(click)::text FROM click")
    found = json.loads(row)
    expected = {
        "status": "accepted", "is_unique": True, "is_bot": False, "advertiser_id": 1, "brand_id": 9,
        "aff_group_id": 7, "requested_offer_id": 3, "device_os": "UNK", "country_code": None, "aff_sub": "",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert found["group_hash"] == found["hash"]


async def test_rows_imported_twice_are_stored_once(importer: Importer) -> None:
    await importer.catalogue()
    rows = [f"c{n},3,513,2024-07-08 13:40:{n:02}" for n in range(20)]
    first = await importer.run("clicks", importer.file("one.csv", _csv(*rows[:15])), "--json")
    other = await importer.run("clicks", importer.file("two.csv", _csv(*rows[10:], rows[19])), "--json")
    again = await importer.run("clicks", importer.file("two.csv", _csv(*rows[10:], rows[19])), "--json")
    told = [
        {name: done.json[name] for name in ("rows", "stored", "present", "refused")}
        for done in (first, other)
    ]
    assert told == [
        {"rows": 15, "stored": 15, "present": 0, "refused": 0},
        {"rows": 11, "stored": 5, "present": 6, "refused": 0},
    ]
    assert again.json == other.json
    assert len(await _stored(importer)) == 20


async def test_dry_run_stores_nothing(importer: Importer) -> None:
    await importer.catalogue()
    path = importer.file("one.csv", _csv(_ROW))
    done = await importer.run("clicks", path, "--dry-run")
    assert (done.code, done.out) == (0, f"{path}: 1 rows can be read. 0 of 1 clicks are there already\n")
    assert await _stored(importer) == []
    await importer.run("clicks", path)
    done = await importer.run("clicks", path, "--dry-run")
    assert done.out == f"{path}: 1 rows can be read. 1 of 1 clicks are there already\n"


_TAKEN = "legacy_id taken is the earlier id of another click, of source 'earlier' at 2024-07-01 00:00:00 UTC"


async def test_bad_rows_are_put_aside_with_skip_bad(importer: Importer) -> None:
    await importer.catalogue()
    other = hash_at(1_719_792_000_000)
    await importer.fetch("INSERT INTO legacy_click VALUES ('taken', $1, 'earlier')", other)
    content = _csv(_ROW, "c2,99,513,2024-07-08 13:40:00", "taken,3,513,2024-07-08 13:40:00")
    aside = importer.tmp_path / "aside.ndjson"
    words = ("clicks", importer.file("some.csv", content), "--skip-bad", aside)
    done = await importer.run(*words, "--dry-run")
    assert (done.code, aside.exists(), await _stored(importer)) == (0, False, [])
    assert "3 rows: 1 would be stored, 0 are there already, 2 put aside\n" in done.out
    assert "some.csv:3: offer_id '99' matches no offer\n" in done.err
    done = await importer.run(*words)
    assert done.code == 0
    assert "3 rows: 1 stored, 0 there already, 2 refused" in done.out
    found = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(row["line"], row["why"]) for row in found] == [
        (3, "offer_id '99' matches no offer"),
        (4, f"{_TAKEN}: another --tz? `tracker import undo` takes that import back"),
    ]
    assert found[0]["row"]["legacy_id"] == "c2"
    assert len(await _stored(importer)) == 1


async def test_rows_that_were_put_aside_are_tried_again(importer: Importer) -> None:
    """The same command brings them when their offer is there."""
    await importer.catalogue()
    file = importer.file("some.csv", _csv(_ROW, "c2,99,513,2024-07-08 13:40:00"))
    words = ("clicks", file, "--skip-bad", importer.tmp_path / "aside.ndjson")
    assert "2 rows: 1 stored, 0 there already, 1 refused" in (await importer.run(*words)).out
    await importer.run(
        "catalogue", importer.file("o.yaml", "offers: [{id: 99, name: Late, advertiser_id: 1}]")
    )
    done = await importer.run(*words)
    assert done.code == 0
    assert "2 rows: 1 stored, 1 there already, 0 refused" in done.out
    assert len(await _stored(importer)) == 2


async def test_earlier_id_of_another_click_ends_the_import(importer: Importer) -> None:
    await importer.catalogue()
    done = await importer.run("clicks", importer.file("two.csv", _csv(_ROW, "c1,3,513,2024-07-09 13:40:00")))
    assert done.code == 1
    why = "legacy_id c1 is the earlier id of another click, of source 'earlier' at 2024-07-08 13:40:00 UTC"
    assert f"two.csv:3: {why}\n" in done.err
    assert await _stored(importer) == []


async def test_differing_stored_click_fails_the_proof(importer: Importer) -> None:
    await importer.catalogue()
    await importer.run("clicks", importer.file("one.csv", _csv(_ROW)))
    done = await importer.run("clicks", importer.file("two.csv", _csv(_ROW.replace("3,513", "4,513"))))
    assert done.code == 1
    assert "they differ on 2024-07-08" in done.out


async def test_id_of_another_source_at_the_same_time_is_refused(importer: Importer) -> None:
    await importer.catalogue()
    path = importer.file("one.csv", _csv(_ROW))
    assert (await importer.run("clicks", path)).code == 0
    done = await importer.run("clicks", path, "--source", "another")
    why = "is the earlier id of another click, of source 'earlier' at 2024-07-08 13:40:00 UTC"
    assert (done.code, f"{why}\n" in done.err) == (1, True)
    done = await importer.run("clicks", path, "--tz", "Asia/Tokyo")
    assert (done.code, f"{why}: another --tz? `tracker import undo` takes" in done.err) == (1, True)


_DAY_LATER = _ROW.replace("07-08", "07-09")
_OWN = hash_at(_MILLIS)
SOURCES: dict[str, tuple[str, str, dict[str, str]]] = {
    "once more": ("earlier", _csv(_ROW), {}),
    "another source with the same id": (
        "b",
        _csv(_DAY_LATER),
        {"b": hash_for(_MILLIS + 86_400_000, "b\0c1")},
    ),
    "another source with another id": (
        "b",
        _csv(_ROW.replace("c1", "c2")),
        {"b": hash_for(_MILLIS, "b\0c2")},
    ),
    "an export of this tracker": (
        "b",
        _csv(f"{_OWN},c9,3,513,2024-07-08 13:40:00", head=f"hash,{_HEAD}"),
        {"b": _OWN},
    ),
}


@pytest.mark.parametrize("case", SOURCES)
async def test_each_source_has_its_own_ids(importer: Importer, case: str) -> None:
    source, content, more = SOURCES[case]
    await importer.catalogue()
    assert (await importer.run("clicks", importer.file("a.csv", _csv(_ROW)))).code == 0
    done = await importer.run("clicks", importer.file("b.csv", content + "\n"), "--source", source)
    assert done.code == 0, done.err
    wanted = sorted({"earlier": _HASH, **more}.items(), reverse=True)
    for table in ("legacy_click", "imported_click"):
        assert (
            await importer.fetch(
                f"SELECT source, encode(uuid_send(hash), 'hex') FROM {table} ORDER BY 1 DESC"
            )
            == wanted
        )


_OF_SOURCES = f"{_HEAD},legacy_source,country_code"
_SOURCES = (f"{_ROW},a,", f"{_ROW},b,", f"{_DAY_LATER},,")


async def test_rows_name_the_sources_of_their_ids(importer: Importer) -> None:
    """The import's own source says what --replace and undo take."""
    await importer.catalogue()
    path = importer.file("merged.csv", _csv(*_SOURCES, head=_OF_SOURCES))
    for stored, there in ((3, 0), (0, 3)):
        path.write_text(path.read_text() + "\n" * there)  # another file
        done = await importer.run("clicks", path, "--json")
        assert (done.err, done.json["stored"], done.json["present"]) == ("", stored, there)
        assert done.json["is_proven"]
    named = [
        ("a", hash_for(_MILLIS, "a\0c1")),
        ("b", hash_for(_MILLIS, "b\0c1")),
        ("earlier", hash_for(_MILLIS + 86_400_000, "earlier\0c1")),
    ]
    noted = "SELECT source, encode(uuid_send(hash), 'hex') FROM legacy_click ORDER BY 1"
    assert await importer.fetch(noted) == named
    assert await importer.fetch("SELECT DISTINCT source FROM imported_click") == [("earlier",)]
    alone = await importer.run("clicks", importer.file("a.csv", _csv(_ROW)), "--source", "a", "--json")
    assert (alone.err, alone.json["present"], alone.json["is_proven"]) == ("", 1, True)

    changed = importer.file("changed.csv", _csv(*(f"{row}DE" for row in _SOURCES), head=_OF_SOURCES))
    done = await importer.run("clicks", changed, "--replace", "--json")
    assert (done.err, done.json["replaced"], done.json["is_proven"]) == ("", 3, True)
    assert await importer.fetch(noted) == named

    undone = await importer.run("undo", "--source", "earlier", "--json", "--yes")
    assert (undone.err, undone.json["clicks"], undone.json["legacy_ids"]) == ("", 3, 3)
    for table in ("click", "legacy_click", "imported_click"):
        assert await importer.fetch(f"SELECT FROM {table}") == []


OTHER_SOURCES: list[tuple[tuple[str, ...], str]] = [
    ((f"{_ROW},b,", f"{_DAY_LATER},b,"), "3: legacy_id c1 is the earlier id of another click"),
    ((f"{_DAY_LATER},,", f"{_ROW},earlier,"), "3: legacy_id c1 is the earlier id of another click"),
    ((f"{_DAY_LATER},taken,",), "2: legacy_id c1 is the earlier id of another click"),
    ((f"{_ROW},tracker,",), "2: legacy_source 'tracker' is this tracker, and no earlier one"),
]


@pytest.mark.parametrize(("rows", "why"), OTHER_SOURCES)
async def test_id_of_another_click_of_the_named_source_is_refused(
    importer: Importer, rows: tuple[str, ...], why: str
) -> None:
    await importer.catalogue()
    taken = importer.file("taken.csv", _csv(_ROW))
    assert (await importer.run("clicks", taken, "--source", "taken")).code == 0
    before = await _stored(importer)
    done = await importer.run("clicks", importer.file("m.csv", _csv(*rows, head=_OF_SOURCES)))
    assert (done.code, f"m.csv:{why}" in done.err) == (1, True), done.err
    assert await _stored(importer) == before


async def test_source_of_a_row_is_noted_beside_another(importer: Importer) -> None:
    """The same click may have been imported before under another name."""
    await importer.catalogue()
    exported = f"{_OWN},c1,3,513,2024-07-08 13:40:00"
    first = importer.file("first.csv", _csv(exported, head=f"hash,{_HEAD}"))
    assert (await importer.run("clicks", first)).code == 0
    again = importer.file("again.csv", _csv(f"{exported},x", head=f"hash,{_HEAD},legacy_source"))
    done = await importer.run("clicks", again, "--json")
    assert (done.err, done.json["present"], done.json["is_proven"]) == ("", 1, True)
    noted = await importer.fetch("SELECT source, encode(uuid_send(hash), 'hex') FROM legacy_click ORDER BY 1")
    assert noted == [("earlier", _OWN), ("x", _OWN)]


async def test_click_that_an_earlier_version_imported_is_there(importer: Importer) -> None:
    """Such a version notes no source. Its hash tells it."""
    await importer.catalogue()
    assert (await importer.run("clicks", importer.file("a.csv", _csv(_ROW)))).code == 0
    await importer.fetch("UPDATE legacy_click SET source = ''")
    await importer.fetch("TRUNCATE imported_click, import_run")
    done = await importer.run("clicks", importer.file("a.csv", _csv(_ROW)), "--json")
    assert (done.code, done.json["present"], done.json["is_proven"]) == (0, 1, True)
    done = await importer.run("clicks", importer.file("b.csv", _csv(_DAY_LATER)))
    assert (done.code, "c1 is the earlier id of another click" in done.err) == (1, True)
    done = await importer.run("clicks", importer.file("b.csv", _csv(_DAY_LATER)), "--source", "b")
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT source FROM legacy_click ORDER BY 1") == [("",), ("b",)]
    assert await importer.fetch("SELECT source FROM imported_click") == [("b",)]


async def test_no_earlier_tracker_has_the_name_of_this_one(
    importer: Importer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await importer.run("clicks", importer.file("a.csv", _csv(_ROW)), "--source", "tracker")
    assert "tracker is this tracker: give the earlier one another name" in capsys.readouterr().err


async def test_counts_and_the_ledger_balance(importer: Importer) -> None:
    """Imported clicks were not on the stream, recorded ones of the same minutes were."""
    await importer.catalogue()
    rows = [f"c{n},{3 + n % 2},513,2024-07-{1 + n % 28:02} 13:40:{n % 60:02}" for n in range(300)]
    assert (await importer.run("clicks", importer.file("many.csv", _csv(*rows)))).code == 0
    check = await asyncio.to_thread(cli.main, ["rebuild-stats", "--check"])
    assert check == 0
    assert await importer.fetch("SELECT sum(stored)::int, sum(imported)::int FROM click_minute_part") == [
        (300, 300)
    ]
    assert await importer.fetch("SELECT count(*) FROM click_default") == [(0,)]
    seen, _ = await ask(importer.settings, minutes_between(1_719_792_000, 1_722_000_000), verify=True)
    assert seen.minutes == []
    await importer.fetch("DELETE FROM click WHERE hash = (SELECT hash FROM click ORDER BY hash LIMIT 1)")
    seen, _ = await ask(importer.settings, minutes_between(1_719_792_000, 1_722_000_000), verify=True)
    assert len(seen.unbalanced) == 1


async def test_minute_with_recorded_clicks_is_judged(importer: Importer) -> None:
    await importer.catalogue()
    minute = _MILLIS // 60_000
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await clicks.prepare(connection)
    await store(connection, [a_row()._replace(hash=hash_at(_MILLIS))])
    assert (await importer.run("clicks", importer.file("one.csv", _csv(_ROW)))).code == 0
    counted, rows = await clicks_ledger.stored_and_rows(connection, range(minute, minute + 1))
    assert (counted, rows.of) == ({minute: 1}, {minute: 1})
    await connection.execute("DELETE FROM click WHERE hash = $1", _HASH)
    counted, rows = await clicks_ledger.stored_and_rows(connection, range(minute, minute + 1))
    assert (counted, rows.of) == ({minute: 1}, {})
    await connection.close()


_PLACES = [
    ("2024-02-10", "click_202402"),
    ("2024-02-29", "click_202402"),
    ("2024-03-05", "click_20240305"),  # the third has a partition of its own already
    ("2024-12-31", "click_202412"),
]


async def test_history_gets_a_partition_a_month(importer: Importer) -> None:
    await importer.catalogue()
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await partitions.create_ahead(connection, date(2024, 3, 4))
    today = datetime.now(UTC).date()
    rows = [f"{day},3,513,{day} 00:00:00" for day in (*(day for day, _ in _PLACES), str(today))]
    assert (await importer.run("clicks", importer.file("days.csv", _csv(*rows)))).code == 0
    found = await importer.fetch("SELECT tableoid::regclass::text FROM click ORDER BY hash")
    assert found == [*((name,) for _, name in _PLACES), (partitions.name_of(today),)]
    assert await partitions.create_ahead(connection, date(2024, 2, 15)) == []
    assert {date(2024, 2, 1), date(2024, 2, 29), date(2024, 12, 1)} <= await partitions.days(connection)
    await connection.close()


async def _export(importer: Importer) -> list[dict[str, Any]]:
    async with await db.open_pool(str(importer.settings.postgres_dsn)) as source:
        chunks = click_export.export(source, ClickFilter(), Order(False, UTC), KEYS)
        return [{**row, "id": 0} for row in await rows_of(chunks, KEYS)]


def _ndjson(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _exported_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row.values()])
    return text.getvalue()


async def test_export_is_imported_unchanged(importer: Importer) -> None:
    await importer.catalogue()
    before = datetime.now(UTC) - timedelta(days=400)
    hashes = [hash_at(int(before.timestamp() * 1000) + n * 60_007) for n in range(40)]
    rows = [
        a_row()._replace(
            hash=hash_,
            group_hash=None if n % 4 == 1 else hashes[n - n % 4],
            is_unique=n % 4 == 0,
            is_bot=n % 4 == 1,
            bot_reason="list" if n % 4 == 1 else None,
            aff_sub=f'a "quoted", {n}',
            aff_sub2="ümläut",
            brand_id=None,
            visitor_key=-n,
            country_code="DE" if n % 3 else None,
        )
        for n, hash_ in enumerate(hashes)
    ]
    async with (
        await db.open_pool(str(importer.settings.postgres_dsn)) as source,
        source.acquire() as connection,
    ):
        await clicks.prepare(connection)
        await store(connection, rows)
    exported = await _export(importer)
    assert len(exported) == 40
    for write in (_ndjson, _exported_csv):
        await importer.fetch("TRUNCATE click, click_count, click_minute, report_count")
        done = await importer.run("clicks", importer.file(write.__name__, write(exported)))
        assert (done.code, done.err) == (0, "")
        assert await _export(importer) == exported


async def test_standard_input_is_a_file_too(importer: Importer) -> None:
    await importer.catalogue()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", "import", "clicks", "-"), stdin=asyncio.subprocess.PIPE
    )
    await process.communicate(_csv(_ROW).encode())
    assert process.returncode == 0
    assert len(await _stored(importer)) == 1
    assert list((importer.tmp_path / "var").iterdir()) == []


async def test_import_that_is_killed_goes_on_where_it_was(importer: Importer) -> None:
    await importer.catalogue()
    rows = [f"c{n},3,513,{1_720_446_000 + n}" for n in range(15_000)]
    path = importer.file("many.csv", _csv(*rows))
    command = (sys.executable, "-m", "tracker", "import", "clicks", str(path))
    process = await asyncio.create_subprocess_exec(*command)
    await until(lambda: importer.fetch("SELECT FROM import_run WHERE rows > 0"))
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    ((done, stored),) = await importer.fetch("SELECT rows, (SELECT count(*) FROM click) FROM import_run")
    assert 0 < done == stored < 15_000
    told = await importer.run("clicks", path, "--json")
    assert {name: told.json[name] for name in ("rows", "stored", "present", "is_proven")} == {
        "rows": 15_000,
        "stored": 15_000,
        "present": 0,
        "is_proven": True,
    }
    assert await importer.fetch("SELECT count(*) FROM click") == [(15_000,)]


async def test_import_refuses_to_run_beside_another(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await importer.catalogue()
    monkeypatch.setattr(imports, "LONGEST_WAIT", "50ms")
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await locks.take(connection, locks.Lock.IMPORT)
    done = await importer.run("clicks", importer.file("one.csv", _csv(_ROW)))
    await connection.close()
    assert (done.code, done.err) == (1, "tracker: another import is running\n")


async def test_click_of_a_day_that_is_not_kept_is_refused(importer: Importer) -> None:
    await importer.catalogue()
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await kept.begin_at(connection, date(2024, 7, 9))
    await connection.close()
    old, new = "c1,3,513,2024-07-08 23:59:59", "c2,3,513,2024-07-09 00:00:00"
    done = await importer.run("clicks", importer.file("clicks", _csv(new, old)))
    assert done.code == 1
    assert "clicks before 2024-07-09 are not kept any more (TRACKER_KEEP_DAYS)" in done.out + done.err
    assert await _stored(importer) == []
    assert (await importer.run("clicks", importer.file("clicks", _csv(new)))).code == 0
    assert [row[3] for row in await _stored(importer)] == [datetime(2024, 7, 9, tzinfo=UTC)]
    assert await importer.fetch("SELECT legacy_id FROM legacy_click") == [("c2",)]
