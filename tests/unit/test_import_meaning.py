"""What foreign files mean: names, values, times, and where rows stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker.domain.csv_rows import Columns, CsvError, plain_name
from tracker.domain.normalise import word
from tracker.errors import UserError
from tracker.importing import meaning, values, yaml_file
from tracker.importing.date_formats import DateFormat
from tracker.importing.files import RowFile
from tracker.importing.json_rows import FieldNames, lists_in, rows_in
from tracker.importing.meaning import Meaning, translated

_FIELDS = ("legacy_id", "offer_id", "affiliate_id", "created_at")
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=12)
_NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


def _never(_: Mapping[str, Any]) -> bool:
    return False


# Columns


@given(st.lists(_NAMES, min_size=4, max_size=8, unique_by=plain_name), st.sampled_from(" -_"), st.booleans())
def test_columns_mean_what_they_are_mapped_to_however_they_are_spelled(
    names: list[str], between: str, is_upper: bool
) -> None:
    mapped = dict(zip(names, _FIELDS, strict=False))
    columns = Columns(_FIELDS, names=mapped, ignore_rest=True)
    spelled = [between.join(name.upper() if is_upper else name) for name in names]
    named = columns.named([f" {name} " for name in spelled])
    assert list(named.ours[:4]) == list(_FIELDS)
    assert named.twice() == ""
    assert set(named.left_out) <= set(spelled[4:])


_HEADERS: list[tuple[list[str], dict[str, str], bool, list[str], list[str], str]] = [
    # header, map, ignore_rest, our names, left out, twice
    (["a", "b"], {}, True, ["", ""], ["a", "b"], ""),
    (["Status", "status"], {"Status": ""}, False, ["", "status"], [], ""),
    (["Status"], {"status": ""}, False, [""], [], ""),
    (["status", "State"], {"State": "status"}, True, ["", "status"], ["status"], ""),
    (
        *(["status", "State"], {"State": "status"}, False, ["status", "status"], []),
        "two columns are status ('status', 'State')",
    ),
    (
        ["Payout ($)", "payout "],
        {},
        False,
        ["payout", "payout"],
        [],
        "two columns are payout ('Payout ($)', 'payout')",
    ),
    (["offer", ""], {"offer": "status"}, True, ["status", ""], [], ""),
]


@pytest.mark.parametrize(("header", "names", "ignore", "ours", "left_out", "twice"), _HEADERS)
def test_headers_are_named(
    header: list[str], names: dict[str, str], ignore: bool, ours: list[str], left_out: list[str], twice: str
) -> None:
    named = Columns(["status", "payout"], names=names, ignore_rest=ignore).named(header)
    assert (list(named.ours), list(named.left_out), named.twice()) == (ours, left_out, twice)


def test_unknown_columns_are_named_with_the_fields_that_they_look_like() -> None:
    columns = Columns(["payout", "created_at", "country_code"])
    with pytest.raises(CsvError) as raised:
        columns.check(columns.named(["Payout (USD)", "created at [UTC]", "Created_att", "Nonsense"]))
    why = str(raised.value)
    assert "'Payout (USD)' (is it payout?), 'created at [UTC]' (is it created_at?)" in why
    assert "'Created_att' (is it created_at?), 'Nonsense': " in why


# Values


@given(
    st.dictionaries(_TEXTS, _TEXTS, max_size=5), _TEXTS, st.sampled_from([str.upper, str.lower, str.title])
)
@example({"Confirmed": "approved", "": "hold"}, "", str.upper)
def test_values_are_translated_by_their_word(ours: dict[str, str], other: str, spell: Any) -> None:
    translation = Meaning(values={"status": ours}).translation
    for theirs in ours:
        found = translated({"status": f" {theirs} ", "order_id": theirs}, translation)
        assert found["order_id"] == theirs
        assert word(found["status"]) in {word(each) for each in ours.values()}
    row = {"status": other}
    if word(other) not in map(word, ours):
        assert translated(row, translation) is row


@pytest.mark.parametrize(
    ("value", "theirs"), [(True, "true"), (False, "False"), (None, ""), (1, "1"), (1.5, "1.5"), ("Ä ", "ä")]
)
def test_values_of_json_are_translated_as_their_text(value: Any, theirs: str) -> None:
    assert translated({"a": value}, Meaning(values={"a": {theirs: "x"}}).translation) == {"a": "x"}


# Times


_PARTS = ["%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d %b %Y %H.%M.%S", "%Y%m%d%H%M%S", "%y-%j %H:%M:%S"]
_MOMENTS = st.datetimes(datetime(2001, 1, 1), datetime(2024, 12, 31)).map(
    lambda each: each.replace(microsecond=0)
)


@given(st.sampled_from(_PARTS), _MOMENTS, st.sampled_from(["", "%z", " %z"]))
def test_times_are_read_as_they_were_written(form: str, moment: datetime, offset: str) -> None:
    format_ = DateFormat.of(form + offset)
    written = moment.replace(tzinfo=UTC).strftime(form + offset)
    assert values.moment(UTC, (format_,))(f" {written} ") == moment.replace(tzinfo=UTC).timestamp() * 1000


_BERLIN = ZoneInfo("Europe/Berlin")
_NOON = 1_720_440_000_000  # 2024-07-08 12:00:00 UTC
_READ = [
    ("08.07.2024 14:00", ["%d.%m.%Y %H:%M"], _NOON),
    ("8.7.2024 14:00", ["%-d.%-m.%Y %H:%M"], _NOON),
    ("07/08/2024 12:00 UTC", ["%m/%d/%Y %H:%M %Z"], _NOON),
    ("07/08/2024 08:00 America/New_York", ["%m/%d/%Y %H:%M %Z"], _NOON),
    ("07/08/2024 08:00 -0400", ["%m/%d/%Y %H:%M %z"], _NOON),
    ("08.07.2024", ["%d.%m.%Y"], _NOON - 14 * 3_600_000),
    ("08.07.2024 14:00:00.250", ["%d.%m.%Y %H:%M:%S.%f"], _NOON + 250),
    ("2024-07-08 14:00:00", ["%d.%m.%Y %H:%M"], _NOON),  # read without the format, too
    ("1720440000", ["%d.%m.%Y %H:%M"], _NOON),
    ("2024070814", ["%Y%m%d%H"], _NOON),  # the format goes before Unix seconds
    ("08/08/2024 14:00", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"], _NOON + 31 * 86_400_000),
    ("07/20/2024 14:00", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"], _NOON + 12 * 86_400_000),
]
_NOT_READ = [
    (
        "07/08/2024 14:00",
        ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"],
        "is another time by each of the formats %d/%m/",
    ),
    ("07/08/2024 08:00 PDT", ["%m/%d/%Y %H:%M %Z"], "has the zone 'PDT', which is not a zone of IANA"),
    ("31.02.2024", ["%d.%m.%Y"], "has no format of %d.%m.%Y, and is no ISO or Unix time"),
    ("08.07.2024 14:00 x", ["%d.%m.%Y %H:%M"], "has no format of %d.%m.%Y %H:%M, and is"),
]


@pytest.mark.parametrize(("text", "formats", "millis"), _READ)
def test_times_have_the_formats_of_the_operator(text: str, formats: list[str], millis: int) -> None:
    assert values.moment(_BERLIN, [*map(DateFormat.of, formats)])(text) == millis


@pytest.mark.parametrize(("text", "formats", "why"), _NOT_READ)
def test_times_without_one_meaning_are_errors(text: str, formats: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        values.moment(_BERLIN, [*map(DateFormat.of, formats)])(text)
    assert why in str(raised.value)


# JSON


_LEAVES = st.none() | st.booleans() | st.integers() | _TEXTS
_ROWS = st.lists(st.dictionaries(_NAMES.filter(lambda name: name != "data"), _LEAVES, min_size=1), max_size=5)


@given(_ROWS, st.lists(st.sampled_from(["a", "b", "c"]), max_size=3), st.integers(0, 3))
def test_rows_are_found_wherever_they_stand(rows: list[dict[str, Any]], path: list[str], pages: int) -> None:
    """Inside any path, and inside any number of pages."""
    content: Any = rows
    for _ in range(pages):
        content = {"data": content if isinstance(content, list) else [content], "total": len(rows)}
    for name in reversed(path):
        content = {name: content, "status": "ok"}
    if isinstance(content, dict):
        assert rows_in(content, ".".join(path), _never) == rows
    assert rows_in([content] if isinstance(content, dict) else content, ".".join(path), _never) == rows


_NO_ENVELOPES: list[tuple[Any, str, list[Any]]] = [
    ({"clicks": 5, "id": 1}, "clicks", [{"clicks": 5, "id": 1}]),  # a count, not rows
    ({"data": {"a": 1}}, "", [{"data": {"a": 1}}]),
    ({"data": "x"}, "", [{"data": "x"}]),
    (None, "", []),
    ([None], "", [None]),
    ([[1]], "", [[1]]),
    ({"a": {"7": {"x": 1}, "8": {"x": 2}}}, "a", [{"x": 1}, {"x": 2}]),
    ({"a": {"x": 1}}, "a", [{"x": 1}]),
    ({"a": []}, "a.b", []),
    ({"a": None}, "a", []),
]


@pytest.mark.parametrize(("content", "path", "rows"), _NO_ENVELOPES)
def test_objects_are_told_from_answers(content: Any, path: str, rows: list[Any]) -> None:
    assert rows_in(content, path, _never) == rows


def test_row_with_data_is_no_answer() -> None:
    """A row that has all fields keeps its place, whatever it has beside them."""
    columns = Columns(_FIELDS, [(name,) for name in _FIELDS])
    row = {**dict.fromkeys(_FIELDS, "1"), "data": None}
    is_row = FieldNames(columns, lambda _: None).is_row
    assert rows_in(row, "", is_row) == [row]
    assert rows_in({"data": [row]}, "", is_row) == [row]


def test_pages_may_stand_in_many_pages() -> None:
    content: Any = {"legacy_id": "c1"}
    for _ in range(900):
        content = {"data": [content]}
    assert rows_in(content, "", _never) == [{"legacy_id": "c1"}]


def test_nested_names_lead_to_our_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"Relationship": {"Offer": {"Id": 3, "x": 1}}, "rest": {"y": 2}, "a.b": 4}]))
    names = {"relationship.offer.id": "offer_id", "a.b": "affiliate_id"}
    file = RowFile(path, Columns(_FIELDS, (), names, ignore_rest=True))
    (line,) = file.lines()
    assert line.fields == {"offer_id": 3, "affiliate_id": 4}
    assert list(file.left_out) == ["Relationship.Offer.x", "rest"]
    assert file.theirs == {"offer_id": "Relationship.Offer.Id", "affiliate_id": "a.b"}


def test_lists_that_may_be_rows_are_found() -> None:
    assert lists_in({"a": {"b": [{"x": 1}], "c": []}, "d": [{"y": 1}], "e": [3]}) == ["d", "a.b"]


def test_rows_below_the_top_are_pointed_at(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for form in (None, 1):
        path.write_text(json.dumps({"status": "ok", "a": {"clicks": [{"offer_id": 3}]}}, indent=form))
        with pytest.raises(UserError, match=r"its rows are not at the top: use --rows a\.clicks"):
            list(RowFile(path, Columns(_FIELDS)).lines())


# Files of meanings


_FILES: list[tuple[str, Meaning | str]] = [
    ("{a: legacy_id, b: , c: null}", Meaning({"a": "legacy_id", "b": "", "c": ""})),
    (
        "{columns: {a: b}, values: {s: {x: true, y: 5, z: }}}",
        Meaning({"a": "b"}, {"s": {"x": "true", "y": "5", "z": ""}}),
    ),
    (
        "{dates: ['%d.%m.%Y'], rows: a.b, ignore_rest: true}",
        Meaning({}, {}, (DateFormat.of("%d.%m.%Y"),), "a.b", True),
    ),
    ("[a]", "x.yaml is not an object: {theirs: ours}, or {columns: "),
    ("{columns: {a: b}, value: {}}", "x.yaml: value is not a part of {theirs: ours}, or"),
    ("{columns: {a: [b]}}", "x.yaml: columns: a is not a text"),
    ("{values: {a: b}, columns: {}}", "x.yaml: values of a is not an object"),
    ("{dates: ['%d'], columns: {}}", "x.yaml: dates: '%d' has no whole day"),
    ("{dates: ['%d.%m.%Y %d'], columns: {}}", "x.yaml: dates: '%d.%m.%Y %d' is not a format of times"),
    ("{dates: x, columns: {}}", "x.yaml: dates is not a list of formats"),
]


@pytest.mark.parametrize(("text", "found"), _FILES)
def test_file_of_meanings_is_read(tmp_path: Path, text: str, found: Meaning | str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    if isinstance(found, Meaning):
        assert meaning.read(yaml_file.read(path), "x.yaml") == found
        return
    with pytest.raises(UserError) as raised:
        meaning.read(yaml_file.read(path), "x.yaml")
    assert str(raised.value).startswith(found)


def test_what_is_said_first_wins() -> None:
    own = Meaning({"Click ID": "legacy_id", "x": "offer_id"}, {"status": {"a": "1"}}, rows="r")
    preset = Meaning(
        {"click_id": "", "offer": "offer_id", "y": "ip"}, {"status": {"a": "2", "b": "3"}, "ip": {"-": ""}}
    )
    both = own.over(preset)
    assert both.columns == {"offer": "", "y": "ip", "Click ID": "legacy_id", "x": "offer_id"}
    assert both.values == {"status": {"a": "1", "b": "3"}, "ip": {"-": ""}}
    assert both.rows == "r"


_DIFFERENT = [
    Meaning(),
    Meaning({"a": "b"}),
    Meaning(values={"a": {"b": "c"}}),
    Meaning(values={"a": {"b": "d"}}),
    Meaning(dates=(DateFormat.of("%d.%m.%Y"),)),
    Meaning(dates=(DateFormat.of("%d.%m.%Y %Z"),)),
    Meaning(rows="a"),
    Meaning(ignore_rest=True),
]


def test_every_part_of_a_meaning_is_shown() -> None:
    """A file that is read in another way is another import."""
    assert len({each.shown for each in _DIFFERENT}) == len(_DIFFERENT)
