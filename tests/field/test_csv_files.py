"""CSV as spreadsheets and other programs write it: status uploads, imports of clicks, catalogues."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import SCOPES, UPLOADS, clicks, varied
from tracker.domain.csv_rows import Columns
from tracker.errors import UserError
from tracker.importing import entries
from tracker.importing.catalogue import RESOURCES
from tracker.importing.clicks import REQUIRED
from tracker.importing.files import RowFile
from tracker.importing.meaning import Meaning
from tracker.settings import Settings

__all__ = ["clicks", "importer"]  # fixtures
pytestmark = pytest.mark.anyio

UPLOADED: list[tuple[str | bytes, str]] = [  # a file that rejects the order, the reason for its form
    ("order_id,status\none,rejected\n", "plain"),
    ("order_id;status\r\none;rejected\r\n", "Excel in most of Europe"),
    ("order_id\tstatus\r\none\trejected\r\n", "copied out of a spreadsheet"),
    ("order_id|status\none|rejected\n", "bars"),
    ("order_id,status\rone,rejected\r", "Excel for Mac, CR"),
    ("\ufefforder_id;status\r\none;rejected\r\n".encode("utf-16"), "Excel's Unicode text"),
    ("order_id\tstatus\r\none\trejected\r\n".encode("utf-16"), "UTF-16 with its mark"),
    ("\ufefforder_id,status\none,rejected\n".encode("utf-16-be"), "UTF-16, big end first"),
    ("order_id,status\none,rejected\n".encode("utf-16-le"), "PowerShell, UTF-16 without a mark"),
    ("order_id,status\none,rejected\n".encode("utf-32"), "UTF-32"),
    ("\ufefforder_id,status\none,rejected\n", "UTF-8 with a mark"),
    ("sep=;\r\norder_id;status\r\none;rejected\r\n", "Excel's own first line"),
    ("\n\norder_id,status\n\none,rejected\n\n", "blank lines"),
    ("order_id,status,,\none,rejected,,\n,,,\n,,,\n", "empty columns and rows"),
    (",order_id,,status\n,one,,rejected\n", "empty columns before and between"),
    ("order_id,status,\none,rejected\n", "the last, empty column is left out of rows"),
    ("order_id,status\none,rejected,,,\n", "more empty cells than columns"),
    ('"order_id";"status"\n"one";"rejected"\n', "quoted"),
    ('"Order ID","Status"\none,rejected\n', "spaces and capitals"),
    (" order-id , STATUS \none,rejected\n", "hyphens, spaces around"),
    ("OrderId,Status\none,rejected\n", "no spaces at all"),
    ("tid;status\none;rejected\n", "as a postback may call it"),
    ("conversion_unique_id\tstatus\none\trejected\n", "as another tracker calls it"),
    ("status;order_id;sale_status\nrejected;one;a,b,c,d,e\n", "more commas than semicolons"),
    ('order_id,status\n="one",="rejected"\n', "as programs keep a spreadsheet from reading numbers"),
    ('"=""order_id""",status\n"=""one""",rejected\n', "the same, quoted"),
    ("order_id\u00a0;STATUS\none;rejected\n", "a no-break space"),
    ("order_id,status\rone,rejected\r\n\n", "all line ends"),
    ("order_id,status\none\0,rejected\n", "a NUL at the end"),
    ("order_id;status\n  one  ;\u00a0rejected \n", "white space around values"),
]

REFUSED: list[tuple[str | bytes, str]] = [  # file, text of the 422
    (
        "Bestellnummer;Status\nA;rejected\n",
        "there is no column hash or legacy_id or order_id; no field is called 'Bestellnummer'",
    ),
    ("order_id,sum\none,3\n", "there is no column status; no field is called 'sum'"),
    (
        "order_id;status;amount\none;rejected;3\n",
        "no field is called 'amount': rename it or take it out (of hash, ",
    ),
    ("order_id,Order ID,status\none,one,rejected\n", "two columns are order_id"),
    ('order_id,"status\none,rejected\n', "is a quotation mark not closed?"),
    ("one,rejected\n", "there is no column hash or legacy_id or order_id; there is no column status"),
    (b"\x00\x01\x02\xff\xfe\n", "there is no column hash or legacy_id or order_id"),
    ("," * 5_000 + "\n", "it has more than 1,000 columns"),
    (";;\n;;\n", "it names no columns"),
]


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


async def test_uploads_are_read_however_they_are_written(clicks: Settings) -> None:
    await varied(clicks)
    async with api_of(clicks, scopes=SCOPES) as client:
        for content, why in UPLOADED:
            answer = await client.post(
                f"{UPLOADS}?dry_run=true", content=_bytes(content), headers={"Content-Type": "text/csv"}
            )
            assert answer.status_code == 200, (why, answer.text)
            body = answer.json()
            assert (body["lines"], body["changed"], body["problems"]) == (1, 1, []), (why, body)


async def test_unreadable_uploads_name_the_missing_column(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        for content, why in REFUSED:
            answer = await client.post(UPLOADS, content=_bytes(content), headers={"Content-Type": "text/csv"})
            assert answer.status_code == 422, (content, answer.text)
            assert why in answer.json()["errors"]["body"][0], (content, answer.text)


IN_LINES: list[tuple[str, str, list[tuple[int, str]]]] = [  # media type, file, error by line
    ("text/csv", "order_id,status\n1.23E+17,rejected\n", [(2, "order_id is 1.23E+17, but a spreadsheet")]),
    ("text/csv", "order_id;status\n1,23457E+19;rejected\n", [(2, "has cut off its digits")]),
    (
        "text/csv",
        'order_id,status,sale_status\none,rejected,"a\none,approved,b"\n',
        [(2, "is a part of a cell"), (3, "is a part of a cell")],
    ),
    ("text/csv", 'order_id,status\n"one" x,rejected\n', [(2, "is a quotation mark not closed?")]),
    (
        "application/x-ndjson",
        '{"order_id": "one", "status": "rejected", "status": "approved"}',
        [(1, "has two fields status")],
    ),
    ("application/x-ndjson", '{"order_id": true, "status": "rejected"}', [(1, "order_id is not a text")]),
]


async def test_lines_of_uploads_have_one_meaning_or_are_refused(clicks: Settings) -> None:
    await varied(clicks)
    async with api_of(clicks, scopes=SCOPES) as client:
        for media_type, content, wrong in IN_LINES:
            answer = await client.post(UPLOADS, content=content, headers={"Content-Type": media_type})
            body = answer.json()
            assert (body["changed"], body["refused"]) == (0, len(wrong)), (content, body)
            for problem, (line, reason) in zip(body["problems"], wrong, strict=True):
                assert (problem["line"], reason in problem["reason"]) == (line, True), body


CHARSETS: list[tuple[str, bytes, str]] = [  # what Content-Type says, the file's sale_status, the text
    ("windows-1252", b"\x80 caf\xe9", "€ café"),
    ('"Windows-1252"', b"caf\xe9", "café"),
    ("cp1252", b"\x93so\x94", "“so”"),
    ("iso-8859-1", b"caf\xe9", "café"),
    ("ISO-8859-1; header=present", b"caf\xe9 \x80", "café €"),
    ("windows-1252", b"\x81\xe9", "%81é"),
    ("windows-1252", b"\xef\xbb\xbf", "café"),  # a byte order mark goes first
    ("utf-8", "café".encode(), "café"),
    ("UTF8", b"caf\xe9", "caf%E9"),
    ("us-ascii", b"paid", "paid"),
    ("utf-16", b"\xff\xfe", "café"),
    ("", "café".encode(), "café"),
]


async def test_upload_is_read_by_its_charset(clicks: Settings) -> None:
    await varied(clicks)
    async with api_of(clicks, scopes=SCOPES) as api:
        for charset, said, text in CHARSETS:
            content = b"order_id,status,sale_status\none,pending,%s\n" % said
            if said in (b"\xff\xfe", b"\xef\xbb\xbf"):
                encoding = "utf-16" if said == b"\xff\xfe" else "utf-8-sig"
                content = f"order_id,status,sale_status\none,pending,{text}\n".encode(encoding)
            headers = {"Content-Type": f"text/csv; charset={charset}" if charset else "text/csv"}
            answer = await api.post(UPLOADS, content=content, headers=headers)
            assert (answer.status_code, answer.json()["matched"]) == (200, 1), (charset, answer.text)
            (row,) = (await listed(api, order_id="one"))["data"]
            assert row["sale_status"] == text, charset
        told = b'{"order_id":"one","status":"pending","sale_status":"\xe9"}'
        headers = {"Content-Type": "application/x-ndjson;charset=latin1"}
        assert (await api.post(UPLOADS, content=told, headers=headers)).json()["matched"] == 1
        assert (await listed(api, order_id="one"))["data"][0]["sale_status"] == "é"
        for charset in ("koi8-r", "utf-7", "base64", "x" * 100, "é"):
            headers_ = [(b"content-type", f"text/csv; charset={charset}".encode("latin-1"))]
            answer = await api.post(UPLOADS, content=b"order_id,status\none,approved\n", headers=headers_)
            assert answer.status_code == 415, charset
            assert f"charset {charset[:40]} is not read here" in answer.json()["detail"]


_HEAD = "legacy_id,offer_id,affiliate_id,created_at,aff_sub"
_LINES = [_HEAD, "c1,3,513,2024-07-08 13:40:00,ä", "c2,3,514,2024-07-08 13:41:00,"]
_OBJECTS = [
    '{"legacy_id": "c1", "offer_id": 3, "affiliate_id": 513, "created_at": 1720446000, "aff_sub": "ä"}',
    '{"legacy_id": "c2", "offer_id": 3, "affiliate_id": 514, "created_at": 1720446060}',
]
IMPORTED: list[tuple[str | bytes, str]] = [
    ("\r".join([*_LINES, ""]), "CR"),
    ("\r\n".join(_LINES), "no line end at the end"),
    ("\n".join(_LINES).encode("utf-16"), "UTF-16"),
    (gzip.compress("\r\n".join(_LINES).encode("utf-16")), "UTF-16 in gzip"),
    ("\n".join(_LINES).replace(",", ";"), "semicolons"),
    ("sep=\t\r\n" + "\r\n".join(_LINES).replace(",", "\t"), "Excel's first line"),
    ("\n".join(f"{line},," for line in _LINES) + "\n,,,,,,\n", "empty columns"),
    ("\n\n" + "\n".join(_LINES), "blank lines first"),
    ("\n".join(_LINES).replace("_", " ").title().replace("Ä", "ä"), "other names"),
    ("\n".join(['"legacy_id",' + _HEAD.partition(",")[2], *_LINES[1:]]), "quotation marks"),
    ("\ufeff" + "\r".join(_OBJECTS), "NDJSON with a mark and CR"),
    (f"\n[{','.join(_OBJECTS)}]", "JSON after a blank line"),
    ("\n".join(_LINES).replace("c1,", '="c1",').replace("c2,3", 'c2,="3"'), "cells that stay texts"),
    ("\n".join(_LINES).replace("2024-07-08 13:40:00", "1720446000.0"), "Unix seconds of a program"),
    ("\n".join(_OBJECTS).replace("1720446000", "1720446000.0"), "the same in JSON"),
    ("\n".join(_LINES).replace(":00,", ":00 UTC,"), "the zone in words"),
    ("\n".join(_LINES).replace(":00,", ":00 +0000,"), "an offset after a blank"),
    (
        gzip.compress(_HEAD.encode()) + gzip.compress("\n".join(["", *_LINES[1:]]).encode()),
        "gzip in two parts",
    ),
]
NOT_IMPORTED: list[tuple[str, str | bytes, str]] = [
    ("clicks", f'"{_HEAD}\n{_LINES[1]}\n', "its header is not CSV: unexpected end of data"),
    (
        "clicks",
        f'"{_HEAD}\n' + f"{_LINES[1]}\n" * 9_000,
        "its header is not CSV: field larger than field limit",
    ),
    ("clicks", f'legacy_id,"offer_id\nx",{_HEAD[19:]}\n{_LINES[1]}\n', "no field is called"),
    (
        "clicks",
        "offer_id;affiliate_id;created_at\n3;513;1720446000\n",
        "there is no column legacy_id or hash",
    ),
    ("clicks", "click,Offer\nc1,3\n", "there is no column offer_id; "),
    (
        "clicks",
        b"PK\x03\x04 and what follows in a spreadsheet",
        "is a spreadsheet or a ZIP archive: save it as CSV",
    ),
    ("clicks", b"\x1f\x8b\x08nothing", "is damaged"),
    ("clicks", gzip.compress(_HEAD.encode())[:-9], "is damaged"),
    ("clicks", gzip.compress(b"PK\x03\x04 and so on"), "is a spreadsheet or a ZIP archive"),
    ("clicks", b"BZh91AY&SY", "is compressed by bzip2: unpack it"),
    ("clicks", f"{_HEAD}\n1.23E+17,3,513,1720446000,\n", ":2: legacy_id is 1.23E+17, but a spreadsheet"),
    ("clicks", f"{_HEAD}\nc1,3,513,45991.5,\n", ":2: created_at '45991.5' is neither Unix seconds nor"),
    ("clicks", f"{_HEAD}\nc1,3,513,30.11.2024 13:40,\n", ":2: created_at '30.11.2024 13:40' is not a time"),
    ("clicks", f"{_HEAD}\nc1,3,513,11/30/24,\n", ":2: created_at '11/30/24' is not a time such as"),
    ("clicks", _OBJECTS[0].replace("{", '{"offer_id": 4, '), ":1: two fields are 'offer_id'"),
    (
        "clicks",
        f"[{_OBJECTS[1]}, {_OBJECTS[0]}]".replace("ä", 'ä", "aff_sub": "'),
        ":2: two fields are",
    ),
    ("clicks", _OBJECTS[0].replace("c1", "\\ud83d"), "is not JSON: "),
    ("clicks", '{"offer_id": NaN}\n' + _OBJECTS[0], ":1: is not JSON: "),
    ("clicks", "", "names no columns"),
    ("clicks", "\r\r\r", "names no columns"),
    ("clicks", b"\xff\xfe", "names no columns"),
    ("clicks", b"\x89PNG\r\n\x1a\n\x00\x00", "there is no column offer_id"),
    ("conversions", "click_hash\tstatus\nc1\tpaid\n", "there is no column created_at"),
    ("conversions", "order_id,status\rA,paid\r", "there is no column click_hash"),
    ("catalogue", 'name,"status\nPuzzle,active\n', "its header is not CSV"),
    (
        "catalogue",
        "name,Kommentar\nPuzzle,\n",
        "no field is called 'Kommentar': use --map offers.THEIRS=OURS",
    ),
    ("catalogue", "name,Name\nPuzzle,Puzzle\n", "two columns are name"),
    ("catalogue", "name\nCaf\u00e9\n".encode("cp1252"), "is not UTF-8: save it as UTF-8"),
    ("catalogue", "id,name\n1.23E+17,Puzzle\n", ":2: id is not a whole number from 1 to "),
    ("catalogue", "id,name\n-3,Puzzle\n", ":2: id is not a whole number from 1 to "),
    ("catalogue", "name\rPuzzle\r", "advertiser_id is missing"),
]


async def test_imports_are_read_however_they_are_written(importer: Importer) -> None:
    await importer.catalogue()
    for content, why in IMPORTED:
        done = await importer.run("clicks", importer.file("file", _bytes(content)))
        assert (done.code, done.err) == (0, ""), (why, done.err)
        rows = await importer.fetch("SELECT affiliate_id, aff_sub FROM click ORDER BY hash")
        assert rows == [(513, "ä"), (514, "")], why
        await importer.fetch("TRUNCATE click, legacy_click, import_run")


@pytest.mark.parametrize("number", range(len(NOT_IMPORTED)))
async def test_file_that_cannot_be_imported_is_explained_in_one_line(importer: Importer, number: int) -> None:
    kind, content, why = NOT_IMPORTED[number]
    await importer.catalogue()
    done = await importer.run(kind, importer.file("offers.csv" if kind == "catalogue" else "file", content))
    assert (done.code, why in done.err) == (1, True), done.err
    assert len(done.err.splitlines()) <= 2  # a bad row is named before


async def test_directory_in_place_of_a_file_is_named(importer: Importer) -> None:
    await importer.catalogue()
    good = importer.file("clicks.csv", "\n".join(_LINES))
    for words in (
        ["clicks", importer.tmp_path],
        ["clicks", importer.tmp_path / "nowhere.csv"],
        ["catalogue", importer.tmp_path],
        ["clicks", good, "--map-file", importer.tmp_path],
        ["clicks", importer.file("bad", f"{_HEAD}\nx\n"), "--skip-bad", importer.tmp_path],
    ):
        done = await importer.run(*words)
        assert (done.code, len(done.err.splitlines())) == (1, 1), done.err


_OFFER = """\
{"offers": [{"id": 7, "name": "Caf\\u00e9", "advertiser_id": 1,
\t"visitor_cookie": true, "unique_window": 60}]}"""
_OFFERS = "id,name,advertiser_id,visitor_cookie,unique_window\n7.0,Café,1.0,1,60\n"
CATALOGUES: list[tuple[str, str | bytes]] = [  # each makes offer 7, with a cookie and a window of 60 seconds
    ("offers.csv", "id,name,advertiser_id,visitor_cookie,unique_window\n7,Café,1,true,60\n"),
    ("Offers.CSV", "\ufeffID;Name;Advertiser\u00a0ID;Visitor cookie;UNIQUE-WINDOW\r\n7;Café;1;TRUE;60\r\n"),
    ("offers.csv", 'id,name,advertiser,visitor_cookie,unique_window\n="7","=""Café""",PlayGames,yes,60.0\n'),
    ("offers.tsv", _OFFERS.replace(",", "\t").encode("utf-16")),
    ("all.json", _OFFER),
    ("all.json", _OFFER.encode("utf-16")),
    ("all.json", _OFFER.encode("utf-16-le")),
    ("all.json", _OFFER.encode("utf-8-sig")),
    ("all.json", gzip.compress(_OFFER.encode())),
]


async def test_catalogues_are_read_however_they_are_written(importer: Importer) -> None:
    await importer.catalogue()
    for name, content in CATALOGUES:
        done = await importer.run("catalogue", importer.file(name, _bytes(content)))
        assert done.code == 0, (name, content, done.err)
        rows = await importer.fetch("SELECT name, visitor_cookie, unique_window FROM offer WHERE id = 7")
        assert rows == [("Café", True, 60)], (name, content)
        await importer.fetch("DELETE FROM goal WHERE offer_id = 7")
        await importer.fetch("DELETE FROM offer WHERE id = 7")


@pytest.mark.parametrize("id_", ["NaN", "1e400", "0", "-1", "1.5", '"7"', "true", "null", "[7]", str(10**18)])
async def test_id_of_a_catalogue_is_checked(importer: Importer, id_: str) -> None:
    await importer.catalogue()
    path = importer.file("all.json", f'{{"affiliates": [{{"id": {id_}, "name": "Ann"}}]}}')
    done = await importer.run("catalogue", path)
    assert (done.code, "id is not a whole number from 1 to" in done.err) == (1, True), done.err


async def test_pipe_is_read_as_a_file(importer: Importer) -> None:
    await importer.catalogue()
    path = importer.tmp_path / "pipe"
    os.mkfifo(path)
    writing = asyncio.create_task(asyncio.to_thread(path.write_text, "\n".join(_LINES)))
    done = await importer.run("clicks", path)
    await writing
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT count(*) FROM click") == [(2,)]


async def test_columns_are_not_mapped_twice(importer: Importer) -> None:
    await importer.catalogue()
    for content in ("\n".join(_LINES), "\n".join(_OBJECTS)):
        path = importer.file("file", content)
        done = await importer.run("clicks", path, "--map", "affiliate_id=offer_id", "--dry-run")
        assert (done.code, "two " in done.err) == (1, True), done.err


async def test_bad_rows_go_to_another_file(importer: Importer) -> None:
    await importer.catalogue()
    path = importer.file("clicks.csv", "\n".join([*_LINES, "bad"]))
    done = await importer.run("clicks", path, "--skip-bad", path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "--skip-bad needs another file" in done.err


async def test_bad_row_is_kept_as_it_was_and_hides_no_others(importer: Importer) -> None:
    await importer.catalogue()
    bad_rows = importer.tmp_path / "bad.ndjson"
    wrong = {"clicks.csv": ["c3,3", 'c4,"3"x,513,1720446000,'], "clicks.ndjson": ["{'legacy_id': 'c3'}", "?"]}
    for (name, texts), lines in zip(wrong.items(), (_LINES, _OBJECTS), strict=True):
        path = importer.file(name, "\n".join([*lines, *texts, ""]))
        done = await importer.run("clicks", path, "--skip-bad", bad_rows)
        assert (done.code, done.err) == (0, "")
        kept = [json.loads(line) for line in bad_rows.read_text().splitlines()]
        assert [row["row"][""].strip() for row in kept] == texts
        bad_rows.unlink()
    path = importer.file("open.csv", "\n".join([_HEAD, 'c5,3,513,1720446000,"x', *_LINES[1:]]))
    done = await importer.run("clicks", path, "--skip-bad", bad_rows)
    assert (done.code, "the row that begins on line 2 is not CSV" in done.err) == (1, True)
    assert not bad_rows.exists()


async def test_words_that_are_not_utf_8_are_read_as_files_are(importer: Importer) -> None:
    await importer.catalogue()
    head, *rows = _LINES
    path = importer.file(
        "clicks.csv", "\n".join([head.replace("aff_sub", "caf\u00e9"), *rows]).encode("cp1252")
    )
    done = await importer.run("clicks", path, "--map", "caf\udce9=aff_sub", "--source", "\udce9")
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT aff_sub FROM click ORDER BY affiliate_id") == [("%E4",), ("",)]


ORDERS = ["a\u00a0b", "a\u00adb", "\u202ea", "a\u200db", "o" * 300, '="1"x', "=1+1", "'=1"]


async def test_order_ids_of_live_postbacks_are_imported(importer: Importer) -> None:
    await importer.catalogue()
    assert (await importer.run("clicks", importer.file("clicks.csv", "\n".join(_LINES)))).code == 0
    await importer.fetch("UPDATE goal SET multiple = true")
    head, row = ("click_hash", "status", "created_at", "order_id"), ("c1", "paid", "1720446060")
    for order_id in ORDERS:
        quoted = order_id.replace('"', '""')
        for content in (
            json.dumps(dict(zip(head, (*row, order_id), strict=True))),
            f'{",".join(head)}\n{",".join(row)},"{quoted}"\n',
        ):
            done = await importer.run("conversions", importer.file("file", content))
            assert (done.code, done.err) == (0, ""), (order_id, done.err)
    stored = await importer.fetch("SELECT order_id FROM conversion")
    assert {order_id for (order_id,) in stored} == set(ORDERS)


_PIECES = (
    b'"/\r/\n/\r\n/,/;/\t/\0/\xff\xfe/\xef\xbb\xbf/\xe4/[/{/}/]/:/- /1/sep=;'
    b'/legacy_id/offer_id/affiliate_id/created_at/hash/id/name/null/{"data":/{"offer":[{"id":1}'
).split(b"/")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4), max_size=30).map(b"".join),
    is_gzip=st.booleans(),
)
def test_import_of_any_file_raises_no_traceback(tmp_path: Path, content: bytes, is_gzip: bool) -> None:
    kinds = entries.Kinds(RESOURCES)
    columns = Columns(["legacy_id", "offer_id", "affiliate_id", "created_at", "hash"], REQUIRED)
    names = {"data.name": "hash", "id": "offer_id", "hash": ""}
    theirs = columns._replace(names=names, ignore_rest=True)
    meanings = {"offers": Meaning({"data.id": "name"}, {"name": {"1": "x"}}, rows="data", ignore_rest=True)}
    readings: dict[str, Callable[[Path], Iterator[Any]]] = {
        "file": lambda path: RowFile(path, columns).lines(),
        "offers.csv": lambda path: entries.read(path, kinds),
        "all.yaml": lambda path: entries.read(path, kinds),
        "offers (1).json": lambda path: entries.read(path, kinds, meanings),
        "offers.tsv": lambda path: entries.read(path, kinds, meanings),
        "theirs": lambda path: RowFile(path, theirs, rows="data.offer").lines(),
    }
    for name, read in readings.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if is_gzip else content)
        with suppress(UserError):
            list(read(path))
