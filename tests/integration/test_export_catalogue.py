"""`tracker export catalogue`: what is imported again is the same."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.integration.exporting import Two, importer, two
from tests.integration.importing import Done, Importer
from tracker.exporting import catalogue
from tracker.exporting.catalogue import KINDS, Limit
from tracker.store import db

__all__ = ["importer", "two"]
pytestmark = pytest.mark.anyio

_WHOLE = Path(__file__).with_name("every_kind.yaml").read_text()
_EVERYTHING = "SELECT json_agg(row_to_json(t) ORDER BY t::text) FROM (SELECT {} FROM {}) AS t"


async def _filled(two: Two) -> None:
    await two.at(two.first, "import", "catalogue", two.first.file("whole.yaml", _WHOLE))


async def _tables(tracker: Importer) -> dict[str, object]:
    """All fields of all objects, from the tables."""
    found = {}
    for kind, resource in KINDS.items():
        columns = ", ".join(catalogue.columns_of(resource))
        ((found[kind],),) = await tracker.fetch(_EVERYTHING.format(columns, resource.table.name))
    return found


def _files(done: Done) -> list[Path]:
    """The files of an export, as it says to import them."""
    return [Path(word) for word in done.out.split("tracker import catalogue ")[1].split()]


def _contents(path: Path) -> dict[Path, bytes]:
    """The files of a directory and its directories, or one file."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {file: file.read_bytes() for file in sorted(files) if file.is_file()}


def test_kinds_of_objects_have_a_sample() -> None:
    sample = [line.partition(":")[0] for line in _WHOLE.splitlines() if line[:1].isalpha()]
    assert sorted(sample) == sorted(KINDS)


_FORMATS = (("yaml", "network.yaml"), ("json", "network.json"), ("csv-dir", "network"))


@pytest.mark.parametrize(("format_", "name"), _FORMATS)
async def test_catalogue_comes_back_the_same(two: Two, tmp_path: Path, format_: str, name: str) -> None:
    await _filled(two)
    if format_ == "csv-dir":  # of ="1"
        await two.first.fetch("""UPDATE affiliate SET contact = '="1' WHERE id = 513""")
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    words = ("export", "catalogue", "--with-archived", "--format", format_)
    done = await two.at(two.first, *words, path)
    files = _files(done)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    same = await two.at(two.first, "import", "catalogue", *files)
    objects = int(done.out.split()[0])
    assert same.out == f"0 created, 0 changed, {objects} left as they are\n"
    await two.at(two.second, "import", "catalogue", *files)
    assert await _tables(two.second) == await _tables(two.first)

    await two.at(two.second, *words, again)
    assert list(_contents(again).values()) == [file.read_bytes() for file in sorted(files)]


async def test_archived_objects_are_left_out_with_their_parts(two: Two, tmp_path: Path) -> None:
    await _filled(two)
    done = await two.at(two.first, "export", "catalogue", "--format", "json")
    found = {
        kind: [row.get("id", row.get("affiliate_id")) for row in rows]
        for kind, rows in json.loads(done.out).items()
    }
    assert found["advertisers"] == [1, 3]
    assert found["affiliates"] == [513, 514, 516]
    assert found["offers"] == [3, 4, 6]
    assert found["offer_urls"] == [132]
    assert found["offer_affiliates"] == [513, 514]
    assert found["offer_goals"] == [60, 61, 77, 70, 68]
    assert found["goal_terms"] == [21, 22]
    assert found["affiliate_postbacks"] == [31, 33, 34, 35]
    assert found["blocks"] == [51]
    await two.at(two.second, "import", "catalogue", two.second.file("current.json", done.out))


async def test_secrets_stay(two: Two) -> None:
    await _filled(two)
    secret = json.loads((await two.at(two.first, "postback-secrets", "add", "1", "--json")).out)["secret"]
    token = (await two.at(two.first, "token", "create", "--scope", "admin")).out.strip()
    text = (await two.at(two.first, "export", "catalogue", "--with-archived")).out
    hashes = [
        *await two.first.fetch("SELECT encode(secret_hash, 'hex') FROM advertiser_secret"),
        *await two.first.fetch("SELECT encode(secret_hash, 'hex') FROM token"),
        *await two.first.fetch("SELECT encode(visitor_key, 'hex') FROM deployment"),
    ]
    assert len(hashes) == 3
    assert [word for word in (secret, token, *(hash_ for (hash_,) in hashes)) if word in text] == []
    assert "postback secrets, API tokens and webhooks" in text


@pytest.mark.parametrize("kinds", [("offers",), ("blocks", "affiliates")])
async def test_kinds_are_chosen(two: Two, kinds: tuple[str, ...]) -> None:
    await _filled(two)
    words = [word for kind in kinds for word in ("--kind", kind)]
    done = await two.at(two.first, "export", "catalogue", "--format", "json", *words)
    assert json.loads(done.out).keys() == {*kinds}


async def test_network_without_objects_is_a_file_too(two: Two) -> None:
    for format_ in ("yaml", "json"):
        done = await two.at(two.first, "export", "catalogue", "--kind", "offers", "--format", format_)
        path = two.second.file(f"empty.{format_}", done.out)
        again = await two.at(two.second, "import", "catalogue", path)
        assert again.out == "0 created, 0 changed, 0 left as they are\n"


@pytest.mark.parametrize(("format_", "name"), _FORMATS)
async def test_large_catalogue_becomes_several_files_of_one_import(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, name: str
) -> None:
    await _filled(two)
    await two.first.fetch("INSERT INTO affiliate (name) SELECT 'No. ' || n FROM generate_series(1, 40) AS n")
    await two.first.fetch("""UPDATE affiliate SET contact = '' WHERE id = 513""")
    monkeypatch.setattr("tracker.commands.export.Limit", lambda: Limit(250, 5_000))
    words = ("export", "catalogue", "--with-archived", "--format", format_)
    done = await two.at(two.first, *words, tmp_path / name)
    files = _files(done)
    assert len(files) >= 10
    assert max(file.stat().st_size for file in files) <= 5_000
    for limit, most in (("MOST_VALUES", 250), ("LARGEST", 5_000)):
        monkeypatch.setattr(f"tracker.importing.yaml_file.{limit}", most)
    await two.at(two.second, "import", "catalogue", *files)
    assert await _tables(two.second) == await _tables(two.first)

    monkeypatch.setattr("tracker.commands.export.Limit", Limit)
    await two.at(two.first, *words, tmp_path / name, "--force")
    assert not [path for path in _contents(tmp_path) if "network" in str(path) and path.name.count(".") > 1]


async def test_catalogue_is_that_of_one_moment(two: Two) -> None:
    await _filled(two)
    reading = await db.connect(str(two.first.settings.postgres_dsn))
    try:
        async with reading.transaction(isolation="repeatable_read", readonly=True):
            found = catalogue.objects(reading, with_archived=False)
            kind, _ = await anext(found)
            await two.at(two.first, "blocks", "add", "field=source", "value=later")
            await two.at(two.first, "offers", "rm", "6")
            rest = [(kind, row["id"]) async for kind, row in found if kind in ("blocks", "offers")]
    finally:
        await reading.close()
    assert kind not in ("blocks", "offers")
    assert rest == [("offers", 3), ("offers", 4), ("offers", 6), ("blocks", 51)]


_REFUSED = [
    (["network.yaml"], "network.yaml is there already: --force replaces it"),
    (["other.yaml"], "other.2.yaml is there already: --force replaces it"),
    (["."], " is not a file: write to stdout (-) instead"),
    (["nowhere/network.yaml"], "nowhere takes no file: No such file or directory"),
    (["--format", "csv-dir"], "--format csv-dir needs the name of a directory"),
    (["--format", "csv-dir", "new"], 'affiliates 513: contact is ="…", which in CSV means'),
]


async def test_export_that_cannot_be_written_leaves_nothing(importer: Importer, tmp_path: Path) -> None:
    await importer.fetch("""INSERT INTO affiliate (id, name, contact) VALUES (513, 'x', '="12"')""")
    (tmp_path / "network.yaml").write_text("mine")
    (tmp_path / "other.2.yaml").write_text("mine")
    before = _contents(tmp_path)
    for words, why in _REFUSED:
        files = [word if word.startswith("-") or word == "csv-dir" else tmp_path / word for word in words]
        done = await importer.command("export", "catalogue", *files)
        assert (words, done.code, done.out) == (words, 1, "")
        assert why in done.err
        assert _contents(tmp_path) == before
