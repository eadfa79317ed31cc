"""CSV as spreadsheets and other programs write it: status uploads, imports of clicks, catalogues."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tests.integration.test_tell_conversions import SCOPES, UPLOADS, clicks, varied
from tracker.complaint import Complaint
from tracker.domain.csv_rows import Columns
from tracker.importing import entries
from tracker.importing.catalogue import RESOURCES
from tracker.importing.clicks import REQUIRED
from tracker.importing.files import RowFile
from tracker.settings import Settings

__all__ = ["clicks", "importer"]  # fixtures
pytestmark = pytest.mark.anyio

UPLOADED: list[
    tuple[str | bytes, str]
] = [  # a file that sets the one order to rejected, why it is written so
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
    ("order_id;status\n  one  ;\u00a0rejected \n", "white space around values"),
]

REFUSED: list[tuple[str | bytes, str]] = [  # a file, what the 422 says
    (
        "Bestellnummer;Status\nA;rejected\n",
        "there is no column hash or order_id; no field is called 'Bestellnummer'",
    ),
    ("order_id,sum\none,3\n", "there is no column status; no field is called 'sum'"),
    (
        "order_id;status;amount\none;rejected;3\n",
        "no field is called 'amount': rename it or take it out (of hash, ",
    ),
    ("order_id,Order ID,status\none,one,rejected\n", "two columns are order_id"),
    ('order_id,"status\none,rejected\n', "is a quotation mark not closed?"),
    ("one,rejected\n", "there is no column hash or order_id; there is no column status"),
    (b"\x00\x01\x02\xff\xfe\n", "there is no column hash or order_id"),
    ("," * 5_000 + "\n", "it has more than 1,000 columns"),
    (";;\n;;\n", "it names no columns"),
    (
        "transaction_id,status\none,rejected\n",
        "no field is called 'transaction_id'",
    ),  # of a click or an order?
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


async def test_uploads_that_cannot_be_read_say_which_column_is_wanted(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        for content, why in REFUSED:
            answer = await client.post(UPLOADS, content=_bytes(content), headers={"Content-Type": "text/csv"})
            assert answer.status_code == 422, (content, answer.text)
            assert why in answer.json()["errors"]["body"][0], (content, answer.text)


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
    ("clicks", "", "names no columns"),
    ("clicks", "\r\r\r", "names no columns"),
    ("clicks", b"\xff\xfe", "names no columns"),
    ("clicks", b"\x89PNG\r\n\x1a\n\x00\x00", "there is no column offer_id"),
    ("conversions", "click_hash\tstatus\nc1\tpaid\n", "there is no column created_at"),
    ("conversions", "order_id,status\rA,paid\r", "there is no column click_hash"),
    ("catalogue", 'name,"status\nPuzzle,active\n', "its header is not CSV"),
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
async def test_a_file_that_cannot_be_imported_is_explained_in_one_line(
    importer: Importer, number: int
) -> None:
    kind, content, why = NOT_IMPORTED[number]
    await importer.catalogue()
    done = await importer.run(kind, importer.file("offers.csv" if kind == "catalogue" else "file", content))
    assert (done.code, why in done.err) == (1, True), done.err
    assert len(done.err.splitlines()) <= 2  # a bad row is named before


async def test_what_is_not_a_file_is_said(importer: Importer) -> None:
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


_PIECES = (
    b'"/\r/\n/\r\n/,/;/\t/\0/\xff\xfe/\xef\xbb\xbf/\xe4/[/{/}/]/:/- /1/sep=;'
    b"/legacy_id/offer_id/affiliate_id/created_at/hash/id/name"
).split(b"/")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4), max_size=30).map(b"".join),
    is_gzip=st.booleans(),
)
def test_no_file_is_a_fault_of_ours(tmp_path: Path, content: bytes, is_gzip: bool) -> None:
    kinds = entries.Kinds(RESOURCES)
    columns = Columns(["legacy_id", "offer_id", "affiliate_id", "created_at", "hash"], REQUIRED)
    readings: dict[str, Callable[[Path], Iterator[Any]]] = {
        "file": lambda path: RowFile(path, columns).lines(),
        "offers.csv": lambda path: entries.read(path, kinds),
        "all.yaml": lambda path: entries.read(path, kinds),
    }
    for name, read in readings.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if is_gzip else content)
        with suppress(Complaint):
            list(read(path))
