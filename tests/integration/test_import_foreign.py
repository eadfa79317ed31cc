"""`tracker import` of files in other trackers' shapes: their columns, values, times, and JSON."""

from __future__ import annotations

import json

import pytest

from tests.integration.importing import Importer, importer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_FIELDS = {"legacy_id": "c1", "offer_id": 3, "affiliate_id": 513, "created_at": "2024-07-08 13:40:00"}
_ROWS = [{**_FIELDS, "legacy_id": f"c{number}"} for number in range(1, 4)]
_NESTED = [
    {"Click": {"Id": row["legacy_id"], "stamp": row["created_at"]}, "offer": {"id": 3, "who": {"aff": 513}}}
    for row in _ROWS
]
_NAMES = [
    *("--map", "click.id=legacy_id", "--map", "click.stamp=created_at"),
    *("--map", "offer.id=offer_id", "--map", "offer.who.aff=affiliate_id"),
]
_PAGES = {
    "data": [{"data": [_ROWS[0], {"data": [_ROWS[1]], "total": 9}, {"data": []}], "page": 1}, _ROWS[2]],
    "total": 3,
}

_SHAPES: dict[str, tuple[str, list[str]]] = {
    "pages in pages": (json.dumps(_PAGES, indent=1), []),
    "pages in pages on one line": (json.dumps(_PAGES), []),
    "a page a line": ("\n".join(json.dumps({"data": [row], "total": 3}) for row in _ROWS), []),
    "a list of pages": (json.dumps([{"data": _ROWS[:2]}, {"data": None}, {"data": _ROWS[2:]}]), []),
    "rows below": (json.dumps({"status": "ok", "data": {"table": _ROWS}}), ["--rows", "data.table"]),
    "rows in lists": (json.dumps({"d": [{"t": _ROWS[:1]}, {"t": _ROWS[1:]}]}), ["--rows", "d.t"]),
    "rows by id": (json.dumps({"d": {"7": _ROWS[0], "8": _ROWS[1], "9": _ROWS[2]}}), ["--rows", "d"]),
    "rows below, a page a line": (
        "\n".join(json.dumps({"clicks": [row]}) for row in _ROWS),
        ["--rows", "clicks"],
    ),
    "rows at the top although a path is given": (json.dumps(_ROWS), ["--rows", "clicks"]),
    "nested": (json.dumps(_NESTED), _NAMES),
    "nested, a row a line": ("\n".join(map(json.dumps, _NESTED)), _NAMES),
    "nested and below": (json.dumps({"clicks": _NESTED}), ["--rows", "clicks", *_NAMES]),
    "nested with more": (
        json.dumps([{**row, "offer": {**row["offer"], "x": 1}, "y": {"z": 2}} for row in _NESTED]),
        [*_NAMES, "--ignore-rest"],
    ),
}


@pytest.fixture
async def imported(importer: Importer) -> Importer:
    await importer.catalogue()
    return importer


async def test_json_of_any_shape_has_the_same_rows(imported: Importer) -> None:
    """The first is stored, and the others are found again."""
    stored = 3
    for shape, (content, options) in _SHAPES.items():
        done = await imported.run("clicks", imported.file("x.json", content), "--json", *options)
        assert done.code == 0, (shape, done.err)
        assert (done.json["rows"], done.json["stored"], done.json["is_proven"]) == (3, stored, True), shape
        stored = 0


_EMPTY = {
    "null": [],
    "[]": [],
    '{"data": []}': [],
    '{"data": null}': [],
    '{"a": {"b": null}}': ["--rows", "a.b"],
}


async def test_json_without_rows_is_empty(imported: Importer) -> None:
    for content, options in _EMPTY.items():
        done = await imported.run("clicks", imported.file("x.json", content), "--json", *options)
        assert (done.code, done.err) == (0, ""), content
        assert (done.json["rows"], done.json["is_proven"]) == (0, True), content
