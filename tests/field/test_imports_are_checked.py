"""Imports are checked before the first write, and proven by all fields of a file."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.integration.importing import Importer, importer
from tracker.domain.click_id import hash_for
from tracker.importing import run

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_CLICKS = """\
legacy_id,offer_id,affiliate_id,created_at
c1,3,513,2024-07-08 13:40:00
c2,3,514,2024-07-08 13:41:00
c3,4,514,2024-07-08 13:42:00
"""
_HEAD = "click_hash,status,created_at,order_id,goal_id,legacy_id"
_AT = "2024-07-09 10:00:00"


async def _moved(importer: Importer) -> dict[int, int]:
    """The base goals of offers 3 and 4."""
    await importer.catalogue()
    done = await importer.run("clicks", importer.file("clicks.csv", _CLICKS))
    assert done.code == 0, done.err
    return dict(await importer.fetch("SELECT offer_id, id FROM goal"))  # type: ignore[arg-type]


def _csv(*rows: str, head: str = _HEAD) -> str:
    return "\n".join([head, *rows, ""])


def _good(number: int) -> list[str]:
    """Equal rows are right and make one conversion."""
    return [f"c2,paid,{_AT},good,,"] * number


WRONG: list[tuple[list[str], dict[int, str]]] = [  # rows, error by line
    ([*_good(12), f"nobody,paid,{_AT},,,"], {14: "click_hash nobody matches no click"}),
    (
        [f"nobody,paid,{_AT},,,", *_good(12), f"noone,paid,{_AT},,,"],
        {2: "matches no click", 15: "matches no click"},
    ),
    ([*_good(12), f"c1,paid,{_AT},,999,"], {14: "goal_id 999 matches no goal"}),
    (
        [f"c1,paid,{_AT},,{{3}},", *_good(12), f"c1,paid,{_AT},,{{4}},"],
        {15: "matches no goal of its click's offer"},
    ),
    # Of two rows that exclude each other the second is wrong, in any batch.
    (
        [f"c1,paid,{_AT},o1,,a", *_good(12), f"c1,paid,{_AT},o2,,b"],
        {15: "that another conversion is of already"},
    ),
    (
        [f"c1,paid,{_AT},o1,,a", *_good(12), f"c2,paid,{_AT},o1,,b"],
        {15: "that another conversion is of already"},
    ),
    ([f"c1,paid,{_AT},o1,,a", f"c2,paid,{_AT},o1,,b"], {3: "that another conversion is of already"}),
    # A wrong row takes no order id: the third row is right.
    (
        [f"c1,paid,{_AT},o1,,a", f"c1,paid,{_AT},o2,,b", f"c2,paid,{_AT},o2,,c"],
        {3: "that another conversion is of already"},
    ),
    ([*_good(12), f"c1,great,{_AT},,,"], {14: "status 'great' must be one of"}),
    ([*_good(12), "c1"], {14: "has 1 columns where the header has 6"}),
    (
        [f"nobody,paid,{_AT},,,", "c1", f"c1,great,{_AT},,,", *_good(12), f"noone,paid,{_AT},,,"],
        {2: "matches no click", 3: "has 1 columns", 4: "status 'great' must be", 17: "matches no click"},
    ),
]

# Rows of one id and time, and the line whose row says otherwise; the last of each is it, but for those of 0.
_TWICE = "is in the file before, with another"
CONVERSIONS_TWICE: list[tuple[str, list[str], str]] = [  # header, rows, why
    (f"{_HEAD},payout", [f"c1,paid,{_AT},o,,a,2", f"c1,paid,{_AT},o,,a,3"], f"{_TWICE} payout"),
    (f"{_HEAD},payout", [f"c1,paid,{_AT},o,,a,2", f"c1,new,{_AT},o,,a,2"], f"{_TWICE} status"),
    (
        f"{_HEAD},payout",
        [f"c1,paid,{_AT},o,,a,2", *[f"c2,paid,{_AT},p,,b,2"] * 9, f"c1,new,{_AT},o,,a,3"],
        f"{_TWICE} payout, status",
    ),
    (f"{_HEAD},payout", [f"c1,paid,{_AT},o,,a,2", f"c1,approved,{_AT},o,,a,2.00"], ""),
    (f"{_HEAD},adv_sub", [f"c1,paid,{_AT},o,,a,2", f"c1,paid,{_AT},o,,a,"], f"{_TWICE} adv_sub"),
]
CLICKS_TWICE: list[tuple[str, list[str], str]] = [
    ("aff_sub", ["x1,3,513,2024-07-08 13:40:00,a", "x1,3,513,2024-07-08 13:40:00,b"], f"{_TWICE} aff_sub"),
    (
        "aff_sub",
        ["x1,3,513,2024-07-08 13:40:00,a", "x1,4,514,2024-07-08 13:40:00,a"],
        f"{_TWICE} offer_id, affiliate_id",
    ),
    ("country_code", ["x1,3,513,2024-07-08 13:40:00,DE", "x1,3,513,2024-07-08 13:40:00,Germany"], ""),
    (
        "is_bot",
        [
            "x1,3,513,2024-07-08 13:40:00,",
            *["y1,3,513,2024-07-08 13:40:00,"] * 9,
            "x1,3,513,2024-07-08 13:40:00,true",
        ],
        f"{_TWICE} is_bot",
    ),
]


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["stored", "dry"])
async def test_rows_of_one_id_that_say_otherwise_are_named_before_the_first_write(
    importer: Importer, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 5)
    await _moved(importer)
    heads = [(f"{_CLICKS.partition(chr(10))[0]},{more}", rows, why) for more, rows, why in CLICKS_TWICE]
    for kind, cases, stored in (("conversions", CONVERSIONS_TWICE, 0), ("clicks", heads, 3)):
        for head, rows, why in cases:
            if not why and not words:
                continue
            done = await importer.run(kind, importer.file("some.csv", _csv(*rows, head=head)), *words)
            told = f"some.csv:{len(rows) + 1}: {why}\n" if why else ""
            assert (done.code, done.err.startswith(told), bool(done.err)) == (
                int(bool(why)),
                True,
                bool(why),
            ), (rows, done.err)
        table = kind.removesuffix("s")
        assert await importer.fetch(f"SELECT count(*) FROM {table}") == [(stored,)]


async def test_row_that_says_less_than_the_first_of_its_id_is_right(importer: Importer) -> None:
    await _moved(importer)
    row = f'{{"click_hash":"c1","status":"paid","created_at":"{_AT}","legacy_id":"a"'
    for more, code in ((',"payout":"2"', 0), ("", 0), (',"payout":"3"', 1)):
        text = f'{row},"payout":"2"}}\n{row}{more}}}\n'
        done = await importer.run("conversions", importer.file("a.ndjson", text), "--dry-run")
        assert done.code == code, done.err


@pytest.mark.parametrize(
    ("sale", "refunded", "why"),
    [
        ("100", "100.01", "refunded '100.01' is more than the sale_amount"),
        ("", "5", "refunded '5' is more than the sale_amount"),
        ("0", "1E-2", "refunded '1E-2' is more than the sale_amount"),
        ("100", "100", ""),
        ("", "0.00", ""),
        ("null", "null", ""),
    ],
)
async def test_refund_is_at_most_the_sale(importer: Importer, sale: str, refunded: str, why: str) -> None:
    await _moved(importer)
    head = "click_hash,status,created_at,order_id,sale_amount,refunded"
    file = importer.file("c.csv", _csv(f"c1,paid,{_AT},o,{sale},{refunded}", head=head))
    done = await importer.run("conversions", file)
    assert (done.code, why in done.err) == (1 if why else 0, True), done.err
    assert await importer.fetch("SELECT count(*) FROM conversion") == [(0 if why else 1,)]


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["stored", "dry"])
async def test_wrong_rows_are_named_before_the_first_write(
    importer: Importer, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 5)
    goals = await _moved(importer)
    for rows, wrong in WRONG:
        text = _csv(*rows).replace("{3}", str(goals[3])).replace("{4}", str(goals[4]))
        done = await importer.run("conversions", importer.file("some.csv", text), *words)
        *named, last = done.err.splitlines()
        assert done.code == 1, rows
        assert {
            int(line.split(":")[1]): why in line for line, why in zip(named, wrong.values(), strict=True)
        } == (dict.fromkeys(wrong, True)), named
        assert f"{len(wrong)} row" in last, last
        assert ". Nothing is stored" in last, last
    assert await importer.fetch("SELECT count(*) FROM conversion") == [(0,)]
    done = await importer.run("conversions", importer.file("good.csv", _csv(*_good(12))), *words)
    assert (done.code, done.err) == (0, "")  # checks of other files are forgotten


async def test_rows_that_the_table_has_already_exclude_others(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 5)
    await _moved(importer)
    assert (await importer.run("conversions", importer.file("a.csv", _csv(f"c1,paid,{_AT},o1,,a")))).code == 0
    rows = [*_good(12), f"c1,paid,{_AT},o1,,a", f"c2,paid,{_AT},o1,,b", f"c1,paid,{_AT},o9,,c"]
    done = await importer.run("conversions", importer.file("b.csv", _csv(*rows)), "--dry-run")
    assert [line.split(":")[1] for line in done.err.splitlines()[:-1]] == ["15", "16"]


CLICKS = [  # rows whose last is wrong
    ["a,3,513,2024-07-08 13:40:00", "a,3,513,2024-07-09 13:40:00"],  # one id, two clicks
    ["a,3,513,2024-07-08 13:40:00", *["b,3,513,2024-07-08 13:40:00"] * 12, "a,3,514,2024-07-08 13:40:01"],
    ["c1,3,513,2024-07-08 13:40:07"],  # the earlier id of one that is there
    ["a,3,513,2024-07-08 13:40:00", "b,9,513,2024-07-08 13:40:00"],
]


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["stored", "dry"])
async def test_wrong_click_is_named_before_the_first_write(
    importer: Importer, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 5)
    await _moved(importer)
    for rows in CLICKS:
        text = _csv(*rows, head=_CLICKS.partition("\n")[0])
        done = await importer.run("clicks", importer.file("some.csv", text), *words)
        assert done.code == 1
        assert done.err.startswith(f"some.csv:{len(rows) + 1}: "), done.err
        assert done.err.count("some.csv:") == 2, done.err  # the last line has the number
    assert await importer.fetch("SELECT count(*) FROM click") == [(3,)]


async def test_last_wrong_row_of_thousands_stops_the_import(importer: Importer) -> None:
    await _moved(importer)
    await importer.fetch("UPDATE goal SET multiple = true")
    rows = [f"c1,paid,{_AT},,,{number}" for number in range(5_200)]
    path = importer.file("many.csv", _csv(*rows, f"nobody,paid,{_AT},,,"))
    for words in (["--dry-run"], []):
        done = await importer.run("conversions", path, *words)
        said = [line for line in done.err.splitlines() if " rows checked, " not in line]  # of a slow machine
        why = "click_hash nobody matches no click: import clicks first, with the same --source"
        assert (done.code, said[0]) == (1, f"many.csv:5202: {why}")
    assert await importer.fetch("SELECT count(*) FROM conversion") == [(0,)]


# The proof

MENDED: list[tuple[str, str, list[str]]] = [  # imported file, corrected file, difference
    ("country_code", "US", ["country_code"]),
    ("country_code", "", ["country_code"]),
    ("aff_sub", "banner-8", ["aff_sub"]),
    ("user_agent", "Opera", ["user_agent"]),
    ("is_bot", "true", ["is_bot"]),
    ("status", "rejected", ["status"]),
    ("affiliate_id", "514", ["affiliate_id"]),
    ("adv_sub3", "x", ["adv_sub3"]),
]
_ROW = {
    "legacy_id": "d1",
    "offer_id": "3",
    "affiliate_id": "513",
    "created_at": "2024-07-08 13:40:00",
    "country_code": "DE",
    "aff_sub": "banner-7",
    "user_agent": "Mozilla",
    "is_bot": "false",
    "status": "accepted",
    "adv_sub3": "",
}


def _file(row: dict[str, str]) -> str:
    return f"{','.join(row)}\n{','.join(row.values())}\n"


async def test_corrected_file_of_clicks_is_not_proven(importer: Importer) -> None:
    await importer.catalogue()
    assert (await importer.run("clicks", importer.file("a.csv", _file(_ROW)))).code == 0
    for field, value, differing in MENDED:
        path = importer.file("b.csv", _file(_ROW | {field: value}))
        dry = await importer.run("clicks", path, "--dry-run")
        assert (dry.code, f"b.csv:2: is there with another {field}" in dry.err) == (0, True), dry.err
        done = await importer.run("clicks", path, "--json")
        assert (done.code, done.json["is_proven"]) == (1, False), field
        assert list(done.json["proof"]["fields_that_differ"]) == differing
        told = await importer.run("clicks", path)
        assert f"1 are there with other values ({field} of 1). These stay" in told.out
    fewer = {name: text for name, text in _ROW.items() if name not in ("country_code", "aff_sub")}
    done = await importer.run("clicks", importer.file("fewer.csv", _file(fewer)))
    assert (done.code, done.err) == (0, "")  # an absent field is not a difference


_CONVERSION: dict[str, str] = {
    "click_hash": "c1",
    "status": "pending",
    "created_at": _AT,
    "order_id": "o1",
    "payout": "2.50",
    "revenue": "4",
    "currency": "EUR",
    "sale_amount": "40",
    "sale_status": "new",
    "legacy_id": "a",
}
MENDED_CONVERSIONS: list[tuple[dict[str, str], list[str]]] = [
    ({"status": "approved"}, ["status"]),
    ({"payout": "2.51"}, ["payout"]),
    ({"currency": "USD"}, ["payout_currency", "revenue_currency", "sale_currency"]),
    ({"sale_amount": ""}, ["sale_amount", "sale_currency"]),
    ({"sale_status": "paid"}, ["sale_status"]),
    ({"order_id": "o2"}, ["order_id"]),
    ({"click_hash": "c2"}, ["click_hash"]),
]


async def test_corrected_file_of_conversions_is_not_proven(importer: Importer) -> None:
    await _moved(importer)
    first = importer.file("a.csv", _file(_CONVERSION))
    assert (await importer.run("conversions", first)).code == 0
    for changes, differing in MENDED_CONVERSIONS:
        path = importer.file("b.csv", _file(_CONVERSION | changes))
        done = await importer.run("conversions", path, "--json")
        assert (done.code, sorted(done.json["proof"]["fields_that_differ"])) == (1, differing), done.err
    again = importer.file(
        "c.csv", _file({**_CONVERSION, "payout": "2.5", "status": "new", "revenue": "4.000000"})
    )
    assert (await importer.run("conversions", again)).code == 0


async def test_change_since_an_import_is_not_a_difference(importer: Importer) -> None:
    await _moved(importer)
    first = importer.file("a.csv", _file(_CONVERSION))
    assert (await importer.run("conversions", first)).code == 0
    await importer.fetch(
        "WITH changed AS (UPDATE conversion SET status = 'approved', payout = 3, sale_status = 'paid',"
        " updated_at = now() RETURNING id, status)"
        " INSERT INTO conversion_change (conversion_id, status_after, source)"
        " SELECT id, status, 'api' FROM changed"
    )
    for changes, code in (
        ({}, 0),
        ({"status": "approved"}, 0),
        ({"status": "rejected"}, 1),
        ({"order_id": "x"}, 1),
    ):
        content: dict[str, Any] = _CONVERSION | changes
        path = importer.file("again.csv", _file(content) + "\n" * len(changes))
        assert (await importer.run("conversions", path)).code == code, changes


# Rows of earlier versions: ids with a space at an end, and hashes made of them.


def _millis(at: str) -> int:
    return int(datetime.fromisoformat(f"{at}+00:00").timestamp() * 1000)


async def test_clicks_of_an_earlier_version_are_found_by_the_id_as_it_was_written(importer: Importer) -> None:
    await importer.catalogue()
    at = "2024-07-08 13:40:00"
    head = "legacy_id,offer_id,affiliate_id,created_at"
    file = importer.file("clicks.csv", _csv(f"c ,3,513,{at}", head=head))
    assert (await importer.run("clicks", file)).code == 0
    earlier = hash_for(_millis(at), "earlier\0c ")
    await importer.fetch("UPDATE click SET hash = $1, group_hash = $1", earlier)
    await importer.fetch("UPDATE legacy_click SET legacy_id = 'c ', hash = $1", earlier)
    await importer.fetch("DELETE FROM import_run")
    for _ in range(2):
        done = await importer.run("clicks", file, "--json")
        assert (done.code, done.json["is_proven"], done.json["stored"]) == (0, True, 0), done
    other = importer.file("b.csv", _csv(f"c,3,513,{at}", head=head))
    assert (await importer.run("clicks", other)).code == 0
    assert await importer.fetch("SELECT legacy_id FROM legacy_click ORDER BY 1") == [("c",), ("c ",)]


async def test_conversions_of_an_earlier_version_are_found_by_the_ids_as_they_were_written(
    importer: Importer,
) -> None:
    await _moved(importer)
    await importer.fetch("UPDATE goal SET multiple = true")
    file = importer.file("conversions.csv", _csv(f"c1,paid,{_AT},o1 ,,a ", f"c1,paid,{_AT},o2 ,,"))
    assert (await importer.run("conversions", file)).code == 0
    await importer.fetch(
        "UPDATE conversion SET hash = $1, order_id = 'o1 ' WHERE order_id = 'o1'",
        hash_for(_millis(_AT), "earlier\0conversion\0a "),
    )
    await importer.fetch("UPDATE conversion SET order_id = 'o2 ' WHERE order_id = 'o2'")
    await importer.fetch("DELETE FROM import_run")
    for _ in range(2):
        done = await importer.run("conversions", file, "--json")
        assert (done.code, done.json["is_proven"], done.json["stored"]) == (0, True, 0), done
    orders = await importer.fetch("SELECT order_id FROM conversion ORDER BY 1")
    assert orders == [("o1 ",), ("o2 ",)]
    second = importer.file("second.csv", _csv(f"c2,paid,{_AT},o1 ,,z"))
    done = await importer.run("conversions", second)
    assert (done.code, "that another conversion is of already" in done.err) == (1, True)
