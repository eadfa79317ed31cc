"""Rows of imported files: their forms and errors."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tracker.domain.click_id import hash_at, hash_for, is_click_hash, millis_of
from tracker.domain.csv_rows import Columns
from tracker.errors import UserError
from tracker.importing import entries
from tracker.importing.catalogue import RESOURCES
from tracker.importing.clicks import REQUIRED, ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.files import LONGEST, RowFile, _Items
from tracker.importing.values import RowError
from tracker.store.imports.progress import Known, KnownOffer

_KNOWN = Known({3: KnownOffer(1, 9)}, {513: 7})
_HEAD = "legacy_id,offer_id,affiliate_id,created_at"
_ROW = "c1,3,513,2024-07-08 13:40:00"
_MILLIS = 1_720_446_000_000  # 2024-07-08 13:40:00 UTC
_HASH = hash_for(_MILLIS, "earlier\0c1")
_CONVERSION = {"click_hash": "c1", "status": "paid", "created_at": "2024-07-09 13:40:00"}
_OBJECT = {"legacy_id": "c1", "offer_id": 3, "affiliate_id": 513, "created_at": "2024-07-08 13:40:00"}
_BERLIN = ZoneInfo("Europe/Berlin")
_THEIRS = "click;Offer;aff;when;junk\nc1;3;513;2024-07-08 15:40:00;x\n"
_NAMES = {"click": "legacy_id", "Offer": "offer_id", "aff": "affiliate_id", "when": "created_at", "junk": ""}


def _csv(*rows: str, head: str = _HEAD) -> str:
    return "\n".join([head, *rows, ""])


def _file(directory: Path, content: str | bytes, names: dict[str, str] | None = None) -> RowFile:
    path = directory / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return RowFile(path, Columns(ClickReader.of("", UTC, _KNOWN).readers, REQUIRED, names or {}, "--map it"))


_FORMS: list[tuple[str | bytes, tzinfo, dict[str, str]]] = [
    (_csv(_ROW), UTC, {}),
    ("\ufeff" + _csv(_ROW).replace("\n", "\r\n"), UTC, {}),
    (gzip.compress(_csv(_ROW).encode(), mtime=0), UTC, {}),
    (json.dumps(_OBJECT), UTC, {}),
    (json.dumps(_OBJECT) + "\n\n", UTC, {}),
    (json.dumps([_OBJECT], indent=2), UTC, {}),
    (json.dumps({"data": [_OBJECT], "total": 1}, indent=2), UTC, {}),
    (json.dumps({"data": [_OBJECT], "total": 1}) + "\n" + json.dumps({"data": [], "total": 1}), UTC, {}),
    (_csv("c1,3,513,2024-07-08T15:40:00+02:00"), UTC, {}),
    (_csv("c1,3,513,2024-07-08T13:40:00.000Z"), UTC, {}),
    (_csv("c1,3,513,1720446000"), UTC, {}),
    (_csv("c1,3,513,1720446000000"), UTC, {}),
    (_csv("c1,3,513,2024-07-08 15:40:00"), _BERLIN, {}),
    (_THEIRS, _BERLIN, _NAMES),
    (json.dumps({**_OBJECT, "click": "c1", "legacy_id": None}), UTC, {"legacy_id": "", "click": "hash"}),
]


@pytest.mark.parametrize(("content", "zone", "names"), _FORMS)
def test_forms_of_a_file_are_read_alike(
    tmp_path: Path, content: str | bytes, zone: tzinfo, names: dict[str, str]
) -> None:
    reader = ClickReader.of("earlier", zone, _KNOWN)
    (line,) = _file(tmp_path, content, names).lines()
    click = reader.read(line.fields)
    assert (click.row.hash, click.row.offer_id, click.row.affiliate_id, click.earlier) == (
        *(_HASH, 3, 513, ("c1", "earlier")),
    )


_WRONG_LINES = [
    (_csv("c1,3,513"), 2, "has 3 columns where the header has 4"),
    (_csv('"c1,3,513,2024-07-08 13:40:00'), 2, "is not CSV: unexpected end of data"),
    (_csv('"a\nb",3,513,x', "c1,3"), 4, "has 2 columns where the header has 4"),
    (json.dumps(_OBJECT) + "\n{", 2, "is not JSON: "),
    ("[3]", 1, "is not a JSON object"),
]


@pytest.mark.parametrize(("content", "number", "why"), _WRONG_LINES)
def test_line_that_is_not_a_row_is_named(tmp_path: Path, content: str, number: int, why: str) -> None:
    (line,) = [line for line in _file(tmp_path, content).lines() if line.error]
    assert (line.number, line.error[: len(why)]) == (number, why)


_NO_FILES = [
    ("a,b\n1,2\n", "no field is called 'a', 'b': --map it"),
    (_csv(_ROW, head="legacy_id,offer_id,offer_id,created_at"), "two columns are offer_id"),
    ("", "names no columns"),
    ("[1, 2", "is not JSON"),
    (gzip.compress(b"x" * 9999, mtime=0)[:-9], "is damaged"),
    (_csv(_ROW, "x" * LONGEST), "file:3: this line is longer than 8 MiB"),
    (_csv(_ROW, '"' + 'a\n","' * (LONGEST // 4) + '"'), "file:3: this row is longer than 8 MiB"),
    (json.dumps(_OBJECT) + '\n"' + "x" * LONGEST, "file:2: this line is longer than 8 MiB"),
    ('{"a":\n"' + "x" * LONGEST, "file:2: this line is longer than 8 MiB"),
    ('{"a":\n' + "[],\n" * (LONGEST // 4), "its JSON object is longer than 8 MiB"),
    ('{"data":[' + "{}," * (LONGEST // 3), r"its JSON object is longer than 8 MiB: .*jq -c '\.data\[\]'"),
    ('["' + "x" * LONGEST, "is not JSON after item 0: the next is longer than 8 MiB"),
    ("[" * 100_000, "is not JSON after item 0: "),
    ("[{},{}}]", "is not JSON after item 1: ',' or ']' is missing"),
    ("[{},]", "is not JSON after item 1: Expecting value"),
    ("[{}][{}]", "is not JSON after item 1: there is more than one list"),
    ('[{},{"a":1', "is not JSON after item 1: "),
    ('[{},"\\ud800"]', "is not JSON after item 2: no low surrogate"),
]


_LISTS = [
    "[]",
    " [ ] \n",
    "[1]",
    "[1,2 , 3]\n",
    '[{"a": "é]}"},{"b":[[],{}]},\n null,"x"]',
    "[-1.5e3,true,12345678901]",
]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("text", _LISTS)
def test_items_of_a_list_are_the_same_in_all_chunkings(text: str, size: int) -> None:
    blocks = iter([text[at : at + size] for at in range(0, len(text), size)])
    assert [json.loads(item) for item in _Items(blocks)] == json.loads(text)


@pytest.mark.parametrize(("content", "why"), _NO_FILES, ids=range(len(_NO_FILES)))
def test_path_that_is_not_a_file_is_refused(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        list(_file(tmp_path, content).lines())


_WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"offer_id": 5}, "offer_id matches no offer"),
    ({"offer_id": None}, "offer_id matches no offer"),
    ({"affiliate_id": "99"}, "affiliate_id matches no affiliate"),
    ({"affiliate_id": "five"}, "affiliate_id is not a whole number from 1 to 999999999999999999"),
    ({"affiliate_id": True}, "affiliate_id is not a whole number"),
    ({"created_at": "08.07.2024"}, "created_at is neither YYYY-MM-DD nor"),
    ({"created_at": "12345"}, "created_at is neither Unix seconds nor milliseconds"),
    ({"created_at": "2024-07-08T13:40:00+99:00"}, "created_at is not a time such as"),
    ({"created_at": ""}, "created_at is missing"),
    ({"created_at": "2099-01-01 00:00:00"}, "created_at is before 2000 or in the future"),
    ({"legacy_id": ""}, "legacy_id is missing"),
    ({"legacy_id": "c\x01d"}, "legacy_id is not a text of 1 to 200"),
    ({"aff_sub": "\udcff"}, "aff_sub is not UTF-8"),
    ({"status": "paid"}, "status is not one of accepted, forwarded, rejected"),
    ({"reason": 7}, "reason is no reason of this tracker"),
    ({"is_unique": "maybe"}, "is_unique is not true or false"),
    ({"visitor_key": "xyz"}, "visitor_key is not sixteen hexadecimal digits"),
    ({"colour": "red"}, "colour is not a field of this object"),
    ({"hash": "other"}, "hash is no hash of this tracker, and legacy_id is another one"),
    ({"hash": hash_at(_MILLIS + 3_600_000)}, "created_at is not the time in its hash"),
    ({"aff_sub": ["x"]}, "aff_sub is not a text"),
]


@pytest.mark.parametrize(("changes", "why"), _WRONG_FIELDS)
def test_wrong_field_of_a_click_is_named(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RowError) as raised:
        ClickReader.of("earlier", UTC, _KNOWN).read({**_OBJECT, **changes})
    assert why in str(raised.value)


@pytest.mark.parametrize("second", [1_729_987_200, 1_729_990_800])  # 2024-10-27 02:00:00 in Berlin, twice
def test_hash_tells_which_of_two_hours_a_time_is_of(second: int) -> None:
    """An export in a zone whose clocks are set back can be imported."""
    own, shown = hash_at(second * 1000 + 7), "2024-10-27 02:00:00"
    fields = {**_OBJECT, "legacy_id": None, "hash": own, "created_at": shown}
    assert ClickReader.of("earlier", _BERLIN, _KNOWN).read(fields).row.hash == own
    fields = {**_CONVERSION, "hash": own, "created_at": shown, "updated_at": shown}
    conversion = ConversionReader.of("earlier", _BERLIN).read(fields)
    assert conversion.created_at.timestamp() == conversion.updated_at.timestamp() == second + 0.007


_GROUPS: list[tuple[dict[str, Any], bool, bool]] = [
    ({}, True, True),
    ({"is_unique": "true"}, True, True),
    ({"is_unique": False}, False, False),
    ({"is_bot": True}, False, False),
    ({"group_hash": "somebody"}, False, False),
    ({"legacy_id": None, "hash": "c1", "group_hash": "c1"}, True, True),
    ({"group_hash": hash_at(_MILLIS)}, False, True),
]


@pytest.mark.parametrize(("changes", "is_unique", "has_group"), _GROUPS)
def test_imported_click_is_the_visitors_first(
    changes: dict[str, Any], is_unique: bool, has_group: bool
) -> None:
    row = ClickReader.of("earlier", UTC, _KNOWN).read({**_OBJECT, **changes}).row
    assert (row.is_unique, row.group_hash is not None) == (is_unique, has_group)
    assert not is_unique or row.group_hash == row.hash


def test_created_texts_are_cropped_as_a_links() -> None:
    row = ClickReader.of("earlier", UTC, _KNOWN).read({**_OBJECT, "aff_sub": "a\x00b" + "c" * 600}).row
    assert row.aff_sub == "ab" + "c" * 498


def test_named_hash_is_deterministic_and_has_its_time() -> None:
    hashes = {hash_for(_MILLIS, f"source\0{n}") for n in range(1000)}
    assert hashes == {hash_for(_MILLIS, f"source\0{n}") for n in range(1000)}
    assert len(hashes) == 1000
    assert all(is_click_hash(hash_) and millis_of(hash_) == _MILLIS for hash_ in hashes)


_WRONG_CONVERSIONS: list[tuple[dict[str, Any], str]] = [
    ({"click_hash": None}, "click_hash is missing"),
    ({"status": ""}, "status is missing"),
    ({"created_at": None}, "created_at is missing"),
    ({"status": "great"}, "status must be one of"),
    ({"payout": "-1"}, "payout must be an amount"),
    ({"payout": "1 000"}, "payout must be an amount"),
    ({"currency": "EURO"}, "currency must be a currency"),
    ({"goal_id": "x"}, "goal_id is not a whole number"),
    ({"hash": hash_at(_MILLIS)}, "created_at is not the time in its hash"),
]


@pytest.mark.parametrize(("changes", "why"), _WRONG_CONVERSIONS)
def test_wrong_field_of_a_conversion_is_named(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RowError) as raised:
        ConversionReader.of("earlier", UTC).read({**_CONVERSION, **changes})
    assert why in str(raised.value)


_LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghij")
)
"""Ten thousand million values in 400 characters."""
_UNREADABLE = [
    ("x.yaml", "offers: [", "x.yaml: "),
    ("x.yaml", "cars: []", "cars is not one of "),
    ("x.yaml", "offers: [3]", r"offers\[0\] is not an object"),
    ("x.yaml", "offers: [{id: 3, id: 4}]", "'id' is there twice"),
    ("x.yaml", "offers: [{3: 4}]", "3 is not text"),
    ("x.yaml", "- 3", "is not an object of "),
    ("cars.csv", "id\n3\n", "name a CSV file after its objects"),
    ("offers.csv", "id,name\n3\n", "has 1 columns where the header has 2"),
    ("x.yaml", "offers: [&a {id: *a}]", "recursive"),
    ("x.yaml", "offers: [*a]", "undefined alias"),
    ("x.yaml", "offers: " + "[" * 100_000, "nesting"),
    ("x.json", '{"offers": ' + '{"a":' * 100_000, "nesting"),
    ("x.yaml", "offers: [{id: " + "9" * 19 + "}]", "a number is too large at line 1, column 15"),
    ("x.yaml", "offers: [{id: " + "9" * 5000 + "}]", "a number is too large"),
    ("x.yaml", _LAUGHS, "x.yaml has more than 1,000,000 values or 64 MiB: split it"),
    ("x.yaml", "a: &a " + "x" * 70_000 + "\nb: [" + "*a, " * 1_000 + "]", "x.yaml has more than"),
    ("x.yaml", "offers: [" + "1," * 1_000_000 + "]", "x.yaml has more than"),
    ("x.json", '{"offers": "' + "x" * (64 << 20), "x.json has more than"),
    ("offers.csv", "id,name" + "\n1,x" * 500_001, "offers.csv has more than"),
]


@pytest.mark.parametrize(("name", "content", "why"), _UNREADABLE, ids=range(len(_UNREADABLE)))
def test_unreadable_catalogue_is_named(tmp_path: Path, name: str, content: str, why: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=why):
        list(entries.read(path, entries.Kinds(RESOURCES)))


def test_yaml_is_of_its_core_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("offers: [{a: NO, b: 09:00, c: 2026-01-01, d: true, e: 3, f: 1.5, g: , h: 0x10, i: ~}]")
    (entry,) = entries.read(path, entries.Kinds(RESOURCES))
    assert list(entry.given.values()) == ["NO", "09:00", "2026-01-01", True, 3, 1.5, None, "0x10", None]


def test_yaml_aliases_stand_for_their_anchors(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("offers: [{id: 1, targeting: &de {country: [DE]}}, {id: 010, targeting: *de}]")
    first, second = entries.read(path, entries.Kinds(RESOURCES))
    assert first.given["targeting"] == second.given["targeting"] == {"country": ["DE"]}
    assert second.given["id"] == 10
