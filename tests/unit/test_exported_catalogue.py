"""Files of an exported catalogue: the import reads every value as it was, and counts them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tracker.domain.spreadsheet import meant
from tracker.exporting.catalogue import KINDS, Csv, Json, Layout, Limit, Writer, Yaml
from tracker.importing import catalogue, yaml_file
from tracker.importing.entries import Kinds, read

_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30
) | st.sampled_from(
    [
        *(
            "NO",
            "on",
            "y",
            "~",
            "null",
            "",
            " ",
            "1e3",
            "0x1F",
            "0123",
            "1_000",
            "2026-11-30",
            "09:00",
            "12:30:45",
        ),
        *(
            ".inf",
            "- a",
            "? b",
            "a: b",
            "#c",
            "a #b",
            "&a",
            "*a",
            "!t",
            "%d",
            "@",
            "`",
            "|",
            ">",
            "{hash}",
            "[x]",
        ),
        *(
            "\x85",
            "\u2028x\u2029",
            "\ufeff",
            "\x7f",
            "\uffff",
            "\r",
            "\n",
            "a\r\nb\n\n",
            "\t",
            '"',
            "'",
            '""',
            "\\",
        ),
        *(
            "\\ud83d\\ude00",
            "\\\\ud83d",
            "😀",
            "\\u0041",
            "=1+1",
            '="12"',
            "'=x",
            "---",
            "...",
            "a,b;c|d",
            "sep=;",
        ),
    ]
)
_SCALAR = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | _TEXT
_SCALAR |= st.floats(allow_nan=False, allow_infinity=False)
_VALUE = st.recursive(_SCALAR, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=6)
_ROWS = st.lists(st.fixed_dictionaries({"id": st.integers(1, 10**18), "name": _TEXT, "targeting": _VALUE}))
_LIMITS = st.builds(Limit, st.integers(60, 200), st.just(1 << 20))


def _files(layout: Layout, rows: Mapping[str, list[dict[str, Any]]], limit: Limit) -> list[bytes]:
    files: list[BytesIO] = []

    def open_file(_stem: str, part: int) -> IO[bytes]:
        files.append(BytesIO())
        return files[-1]

    writer = Writer(layout, open_file, limit)
    for kind, own in rows.items():
        for row in own:
            writer.add(kind, row)
    writer.end()
    return [file.getvalue() for file in files]


def _read(path: Path, files: list[bytes]) -> list[tuple[str, dict[str, Any]]]:
    names = {resource.table.name: name for name, resource in KINDS.items()}
    found = []
    for content in files:
        path.write_bytes(content)
        entries = read(path, Kinds(catalogue.RESOURCES))
        found += [(names[entry.resource.table.name], entry.given) for entry in entries]
    return found


@pytest.mark.parametrize(("layout", "name"), [(Yaml, "x.yaml"), (Json, "x.json")])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(offers=_ROWS, blocks=_ROWS, limit=_LIMITS)
@example([{"id": 1, "name": "\x85", "targeting": {"\u2028": [], "a": {}}}], [], Limit())
def test_values_come_back_through_the_import(
    tmp_path: Path,
    layout: Callable[[], Layout],
    name: str,
    offers: list[dict[str, Any]],
    blocks: list[dict[str, Any]],
    limit: Limit,
) -> None:
    files = _files(layout(), {"offers": offers, "blocks": blocks}, limit)
    assert _read(tmp_path / name, files) == [
        *(("offers", row) for row in offers),
        *(("blocks", row) for row in blocks),
    ]


_CELL = _TEXT.filter(lambda text: meant(text) == text)
_CELLS = st.builds(
    lambda *values: dict(zip(_COLUMNS, values, strict=True)),
    *(st.integers(1, 10**18 - 1), st.integers(1, 10**18 - 1), _CELL, st.booleans()),
    *(st.lists(_TEXT), st.dictionaries(_TEXT, _VALUE), _CELL),
)
_COLUMNS = ("id", "advertiser_id", "name", "visitor_cookie", "tags", "targeting", "note")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=12)
@given(rows=st.lists(_CELLS, min_size=1, max_size=10))
def test_cells_come_back_through_the_import(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    class Narrow(Csv):
        def heading(self, kind: str, *, is_first: bool) -> str:
            return ",".join(_COLUMNS) + "\r\n"

    found = _read(tmp_path / "offers.csv", _files(Narrow(), {"offers": rows}, Limit()))
    said = [{name: value for name, value in row.items() if value != ""} for row in rows]
    assert found == [("offers", row) for row in said]


@pytest.mark.parametrize("layout", [Yaml, Json])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(rows=_ROWS, limit=_LIMITS)
def test_files_stay_within_the_limits_of_the_import(
    layout: Callable[[], Layout], rows: list[dict[str, Any]], limit: Limit
) -> None:
    """An object that is beyond the limit by itself has its own file."""
    for content in _files(layout(), {"offers": rows}, limit):
        size = yaml_file._size(content)
        assert size.values <= limit.values or content.count(b'"name"') + content.count(b"  name: ") == 1
