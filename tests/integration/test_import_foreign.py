"""`tracker import` of files in other trackers' shapes: their columns, values, times, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.importing import Importer, importer
from tracker import cli
from tracker.importing import entries, presets
from tracker.importing.catalogue import RESOURCES

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


_PRESET = """
platform: Acme
clicks:
  page: https://acme.example/clicks
  read_on: 2026-11-30
  rows: clicks
  columns:
    {Transaction ID: legacy_id, offer.id: offer_id, partner: affiliate_id, date: created_at, status: ""}
  values: {is_unique: {Unique: "true", Duplicate: false}}
  dates: ["%d.%m.%Y %H:%M"]
  ignore_rest: true
catalogue:
  offers:
    page: https://acme.example/offers
    read_on: 2026-11-30
    rows: offers
    columns: {offer_id: id, title: name, customer.name: advertiser}
    values: {status: {live: active, "on hold": paused}}
    ignore_rest: true
  advertisers:
    page: https://acme.example/customers
    read_on: 2026-11-30
    columns: {Company: name}
forms:
  link_forms:
    - name: Acme
      page: https://acme.example/links
      read_on: 2026-11-30
      path: /go
      parameters: {o: offer_id}
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "presets"
    directory.mkdir()
    (directory / "acme.yaml").write_text(_PRESET)
    monkeypatch.setattr(presets, "DIRECTORY", directory)


_ACME = {
    "transaction_id": "c1",
    "offer": {"id": "3", "colour": "red"},
    "partner": 513,
    "date": "08.07.2024 13:40",
    "status": "converted",
    "is_unique": "duplicate",
}


async def test_preset_says_what_the_rows_of_a_platform_mean(imported: Importer, acme: None) -> None:
    file = imported.file("clicks.json", json.dumps({"clicks": [_ACME], "total": 1}))
    done = await imported.run("clicks", "--from", "acme", file, "--json")
    assert (done.code, done.json["stored"]) == (0, 1), done.err
    assert f"{file}: left out, because they have no meaning here: offer.colour" in done.err
    found = "SELECT source, legacy_id, offer_id, is_unique FROM legacy_click JOIN click USING (hash)"
    assert await imported.fetch(found) == [("acme", "c1", 3, False)]
    own = ["--map", "id=legacy_id", "--map-value", "is_unique:Duplicate=true", "--source", "b"]
    file = imported.file("clicks.json", json.dumps({**_ACME, "id": "c2"}))
    done = await imported.run("clicks", "--from", "acme", file, *own)
    assert done.code == 0, done.err
    assert sorted(await imported.fetch(found))[1] == ("b", "c2", 3, True)  # what the operator says wins


async def test_mapped_column_that_a_file_does_not_have_is_named(importer: Importer) -> None:
    """A CSV says so in its header. Rows of JSON may leave fields out, so it is said at the end."""
    await importer.catalogue()
    row = {"legacy_id": "c1", "offer_id": "3", "affiliate_id": "513", "created_at": "2024-07-08 13:40:00"}
    file = importer.file("c.csv", f"{','.join(row)}\n{','.join(row.values())}\n")
    done = await importer.run("clicks", file, "--map", "Sub 1=aff_sub", "--map", "notes=")
    assert (done.code, done.err) == (
        1,
        f"tracker: {file}: it has no column 'Sub 1', which --map gives a field\n",
    )
    assert await importer.fetch("SELECT FROM click") == []
    rows = [row, {**row, "legacy_id": "c2", "visit": {"sub": "x"}}]
    file = importer.file("c.json", json.dumps(rows))
    done = await importer.run("clicks", file, "--map", "visit.sub=aff_sub", "--map", "visit.os=device_os")
    assert (done.code, done.err) == (0, f"{file}: no row has 'visit.os', which --map gives a field\n")


async def test_preset_says_what_a_catalogue_means(importer: Importer, acme: None) -> None:
    offers = [
        {"offer_id": 7, "title": "Puzzle", "customer": {"name": "PlayGames"}, "status": "Live", "x": 1},
        {"offer_id": "8", "title": "Farm", "customer": {"name": "PlayGames"}, "status": "On hold"},
    ]
    files = [
        importer.file("offers (1).json", json.dumps({"offers": offers, "paging": {"page": 1}})),
        importer.file("advertisers.csv", "company\nPlayGames\n"),
    ]
    own = ["--map-value", "offers.status:live=paused"]
    done = await importer.run("catalogue", "--from", "acme", *files, *own)
    assert done.code == 0, done.err
    assert "left out, because they have no meaning here: offers.x" in done.err
    assert await importer.fetch("SELECT id, name, status FROM offer ORDER BY id") == [
        (7, "Puzzle", "paused"),
        (8, "Farm", "paused"),
    ]


async def test_forms_of_a_preset_come_into_the_catalogue(importer: Importer, acme: None) -> None:
    for words, said in ((["--dry-run"], "1 would be created"), ([], "1 created"), ([], "1 left as they are")):
        done = await importer.run("forms", "--from", "acme", "--host", "go.example", *words)
        assert done.code == 0, done.err
        assert said in done.out
    assert await importer.fetch("SELECT name, host, path FROM link_form") == [("Acme", "go.example", "/go")]


async def test_all_presets_have_forms_and_catalogues_that_are_taken(importer: Importer) -> None:
    kinds = entries.Kinds(RESOURCES)
    expected = 0
    for name in presets.names():
        preset = presets.load(name)
        if "catalogue" in preset.content:
            meanings = entries.meanings_of(preset.catalogue(), kinds, ignore_rest=False)
            assert any(meaning.columns for meaning in meanings.values()), name
        if "forms" in preset.content:
            done = await importer.run("forms", "--from", name, "--host", f"{name}.example", "--source", "s")
            assert (done.code, " 0 left" in done.out) == (0, True), (name, done.err)
            expected += len(preset.forms().get("postback_forms", []))
    assert await importer.fetch("SELECT count(*) FROM postback_form WHERE source = 's'") == [(expected,)]
    assert expected


_ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
_ENDS = ["\n", "\r\n", "\r"]
_CLICKS = [
    ["Click", "offer", "aff", "Time", "aff_sub", "Rest"],
    ["c1", "3", "513", "08.07.2024 13:40", 'say "ä,;|\t"', ""],
    ["c2", "3", "513", "08.07.2024 13:41", "two\nlines", "x"],
]
_OFFERS = [["ID", "Title", "customer"], ["7", "Café ,;|\t", "PlayGames"]]


def _table(rows: list[list[str]], separator: str, end: str) -> str:
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    return end.join([separator.join(row) for row in [rows[0], *quoted[1:]]] + [""])


async def test_tables_are_read_in_all_encodings_separators_and_line_ends(imported: Importer) -> None:
    """All files of one kind are one command, and the rows of the first are found in all others."""
    files: dict[str, list[Path]] = {"clicks": [], "offers": []}
    for kind, rows in (("clicks", _CLICKS), ("offers", _OFFERS)):
        for encoding in _ENCODINGS:
            for separator in ",;\t|":
                for end in _ENDS:
                    content = _table(rows, separator, end).encode(encoding)
                    number = len(files[kind])
                    files[kind].append(imported.file(f"{kind}-{number}.csv", content))
    options = ["--map", "click=legacy_id", "--map", "OFFER=offer_id", "--map", "Aff=affiliate_id"]
    options += ["--map", "time=created_at", "--date-format", "%d.%m.%Y %H:%M", "--ignore-rest", "--json"]
    done = await imported.run("clicks", *files["clicks"], *options)
    assert done.code == 0, done.err
    assert done.err.splitlines() == [
        f"{file}: left out, because they have no meaning here: Rest" for file in files["clicks"]
    ]
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [each["stored"] for each in told] == [2] + [0] * (len(files["clicks"]) - 1)
    assert [each["rows_that_differ"] for each in (row["proof"] for row in told)] == [0] * len(told)
    found = await imported.fetch("SELECT aff_sub FROM click ORDER BY aff_sub")
    assert found == [('say "ä,;|"',), ("twolines",)]  # control characters go, as from links
    names = ["--map", "offers.title=name", "--map", "offers.Customer=advertiser"]
    done = await imported.run("catalogue", *files["offers"], *names)
    left = len(files["offers"]) - 1
    assert (done.code, f"1 created, 0 changed, {left} left as they are" in done.out) == (0, True), done
    assert await imported.fetch("SELECT name FROM offer WHERE id = 7") == [("Café ,;|",)]


_WRONG = {
    "Click;offer;aff;Time\nc1;3;513;13/45/2024\n": (
        "c.csv:2: created_at (column 'Time') '13/45/2024' has no format of %d.%m.%Y, and is no ISO"
    ),
    "Click;offer;aff;Time\nc1;Puzzle;513;08.07.2024\n": (
        "c.csv:2: offer_id (column 'offer') 'Puzzle' is not a whole number from 1 to"
    ),
    "Click;offer;aff;Time;country_code\nc1;3;5;08.07.2024;Atlantis\n": "c.csv:2: country_code 'Atlantis'",
    "Click;offer;aff;Time;Click\n": "two columns are legacy_id ('Click', 'Click')",
    "Click;offer;aff;Time;offer id\n": "two columns are offer_id ('offer', 'offer id')",
    "Click;offer;aff;Time;Payout (USD)\n": "no field is called 'Payout (USD)': use --map",
    "Click;offer;aff;Time;created\n": "no field is called 'created' (is it created_at?)",
}


async def test_wrong_values_of_a_catalogue_are_named_with_their_column(imported: Importer) -> None:
    rows = [{"Title": "A", "State": "gone", "customer": 1}, {"Title": "B", "customer": "5"}]
    names = [
        "--map",
        "offers.title=name",
        "--map",
        "offers.state=status",
        "--map",
        "offers.customer=advertiser_id",
    ]
    table = "Title,State,customer\nA,gone,1\nB,,5\n"
    for name, content, (first, second) in (
        ("offers.json", "\n".join(["[", *(json.dumps(row) + "," for row in rows)])[:-1] + "]", (2, 3)),
        ("offers.csv", table, (2, 3)),
        ("all.yaml", json.dumps({"offers": rows}), (1, 1)),
    ):
        file = imported.file(name, content)
        done = await imported.run("catalogue", file, *names)
        assert done.code == 1, done.out
        wrong, missing, _ = done.err.splitlines()
        assert wrong.startswith(f"{file}:{first}: ")
        assert "status (column 'State') 'gone' must be" in wrong, wrong
        assert missing.startswith(f"{file}:{second}: ")
        assert "advertiser_id (column 'customer') '5' " in missing, missing


async def test_wrong_values_are_named_with_the_column_of_the_file(imported: Importer) -> None:
    names = ["--map", "click=legacy_id", "--map", "offer=offer_id", "--map", "aff=affiliate_id"]
    options = [*names, "--map", "Time=created_at", "--date-format", "%d.%m.%Y"]
    for content, why in _WRONG.items():
        done = await imported.run("clicks", imported.file("c.csv", content), *options)
        assert (done.code, why in done.err) == (1, True), (content, done.err)


_REFUSED = {
    ("clicks", "--from", "nobody"): "--from nobody is not one of acme",
    ("conversions", "--from", "acme"): "--from acme has no conversions, only clicks, catalogue, forms",
    ("catalogue", "--map", "Title=name"): "--map Title=name: put the kind in front, such as offers.Title",
    ("catalogue", "--map", "cars.Title=name"): "'cars' is not one of advertisers, ",
    ("catalogue", "--map", "offers.Title=nam"): "offers have no field 'nam' (is it name?)",
    ("catalogue", "--map-value", "offers.status:a=b"): "status:a=b: status takes no 'b'",
    ("clicks", "--map", "Click=legacy"): "Click=legacy: clicks have no field 'legacy'",
    ("clicks", "--map", "Click=legacyid"): "clicks have no field 'legacyid' (is it legacy_id?)",
    ("clicks", "--map-value", "State:a=b", "--map", "state=status"): "give our name, status",
    ("clicks", "--map-value", "status:a=b"): "status:a=b: status is not one of accepted, ",
    ("clicks", "--map-value", "offer_name:a=b"): "offer_name of clicks is not read",
}


async def test_options_without_a_meaning_are_explained(importer: Importer, acme: None) -> None:
    file = importer.file("x.csv", "a\n1\n")
    for words, why in _REFUSED.items():
        done = await importer.run(*words, file)
        assert (done.code, why in done.err, "Traceback" in done.err) == (1, True, False), (words, done)


_LEFT = {
    ("clicks", "--from", "list"): (0, "  clicks: https://acme.example/clicks, read on 2026-11-30"),
    ("forms", "--dry-run"): (2, "--from"),
    ("clicks", "--map-value", "status=x", "f"): (
        2,
        "is not FIELD:THEIRS=OURS, such as status:Confirmed=approved",
    ),
    ("clicks", "--date-format", "%d/%m", "f"): (2, "'%d/%m' has no whole day"),
    ("clicks", "--date-format", "%Y-%m-%d %I:%M", "f"): (2, "has no whole time"),
    ("clicks", "--date-format", "%c", "f"): (2, "has %c: write its parts"),
    ("clicks", "--date-format", "%s", "f"): (2, "Unix seconds are read without a format"),
    ("clicks", "--date-format", "nonsense", "f"): (2, "has no whole day"),
    ("clicks", "--date-format", "%Z %Y-%m-%d", "f"): (2, "a zone's name is read at the end"),
}


@pytest.mark.parametrize("words", _LEFT, ids=" ".join)
def test_command_line_without_a_meaning_ends_at_once(
    words: tuple[str, ...], acme: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, why = _LEFT[words]
    with pytest.raises(SystemExit) as ended:
        cli.main(["import", *words])
    said = " ".join("".join(capsys.readouterr()).split())
    assert (ended.value.code, " ".join(why.split()) in said) == (code, True), said


_OF_CLICK = '"legacy_id": "1", "offer_id": 3, "affiliate_id": 513, "created_at": "2024-07-08 13:40:00"'


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("clicks", "a.ndjson", f'{{{_OF_CLICK}, "\\u001b]0;x\\u0007": 1}}'),
        ("catalogue", "a.yaml", '"\\e]0;x\\a": []'),
        ("catalogue", "a.yaml", 'offers: [{name: y, "\\e]0;x\\a": 1}]'),
    ],
)
async def test_names_in_a_file_steer_no_terminal(
    importer: Importer, kind: str, name: str, content: str
) -> None:
    await importer.catalogue()
    done = await importer.run(kind, importer.file(name, content))
    assert done.code == 1
    assert "\\x1b]0;x\\x07" in done.err
    assert not {"\x1b", "\x07"} & {*done.out, *done.err}
