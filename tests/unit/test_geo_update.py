"""`tracker geo update`, from a server on this machine that answers as MaxMind and DB-IP do."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.mmdb import write_mmdb
from tracker import cli
from tracker.edge.enrich.geo import GeoReader
from tracker.ops import geo_update
from tracker.ops.geo_update import GeoUpdateError
from tracker.settings import Settings

_KEY = "abcdefgh_secret"
_CHANGED = "Fri, 27 Nov 2026 10:00:00 GMT"
_RECORD = {"country": {"iso_code": "NL"}}
_NETWORKS = {"8.8.8.0/24": _RECORD, "192.0.2.0/24": _RECORD}
_CITY = "/geoip/databases/GeoLite2-City/download?suffix=tar.gz"


class Publisher:
    """What the server has by path, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.statuses: dict[str, int] = {}
        self.cuts: set[str] = set()
        self.moves: dict[str, str] = {}

    def add_city(self, database: bytes, name: str = "GeoLite2-City_20261127/GeoLite2-City.mmdb") -> None:
        archive = tar_of(name, database)
        self.files[_CITY] = archive
        self.files[f"{_CITY}.sha256"] = (
            f"{hashlib.sha256(archive).hexdigest()}  GeoLite2-City.tar.gz".encode()
        )


def tar_of(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, data in (("GeoLite2-City_20261127/LICENSE.txt", b"licence"), (name, content)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    made = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, dict(self.headers)))
            if self.path in made.moves:
                self.send_response(302)
                self.send_header("Location", made.moves[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = made.files.get(self.path)
            status = made.statuses.get(self.path, 200 if found is not None else 404)
            if status == 200 and self.headers.get("If-Modified-Since") == _CHANGED:
                status = 304
            body = (found or b"") if status == 200 else b""
            self.send_response(status)
            self.send_header("Last-Modified", _CHANGED)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.path in made.cuts else body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(geo_update, "MAXMIND_URL", url)
        monkeypatch.setattr(geo_update, "DB_IP_URL", url)
        yield made
        server.shutdown()


def a_database(tmp_path: Path, kind: str = "GeoLite2-City", **options: Any) -> bytes:
    return write_mmdb(
        tmp_path / "made.mmdb", kind, options.pop("networks", _NETWORKS), **options
    ).read_bytes()


def settings_of(*paths: Path) -> Settings:
    return Settings(geoip_db=paths, maxmind_account_id="77", maxmind_license_key=_KEY)


def update(path: Path, edition: str = "GeoLite2-City") -> geo_update.Update:
    return geo_update.update(settings_of(path), path, edition)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Where the database of cities goes."""
    folder = tmp_path / "geoip"
    folder.mkdir()
    return folder / "GeoLite2-City.mmdb"


def test_maxminds_database_is_fetched_once_and_named_to_nobody_else(
    publisher: Publisher, city: Path, tmp_path: Path
) -> None:
    publisher.add_city(a_database(tmp_path))
    assert update(city).built == datetime.fromtimestamp(1_700_000_000, UTC)
    assert city.read_bytes() == a_database(tmp_path)
    assert city.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in city.parent.iterdir()] == [city.name], "nothing is left behind"
    secret = b64encode(f"77:{_KEY}".encode()).decode()
    assert [(path, sent["Authorization"]) for path, sent in publisher.asked] == [
        (_CITY, f"Basic {secret}"),
        (f"{_CITY}.sha256", f"Basic {secret}"),
    ]
    assert update(city).built is None
    assert len(publisher.asked) == 3, "what is there is not fetched again"


def test_key_does_not_follow_a_redirect(publisher: Publisher, city: Path, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path))
    publisher.files["/stored"] = publisher.files[_CITY]
    publisher.moves[_CITY] = "/stored"
    assert update(city).built is not None
    (sent,) = [sent for path, sent in publisher.asked if path == "/stored"]
    assert "Authorization" not in sent


@pytest.mark.parametrize("months_ago", [0, 1])
def test_db_ips_database_is_that_of_this_month_or_the_last(
    publisher: Publisher, tmp_path: Path, months_ago: int
) -> None:
    month = datetime.now(UTC).date().replace(day=1)
    if months_ago:
        month = (month - geo_update.timedelta(days=1)).replace(day=1)
    path = tmp_path / "dbip-city-lite.mmdb"
    database = a_database(tmp_path, "DBIP-City-Lite")
    publisher.files[f"/free/dbip-city-lite-{month:%Y-%m}.mmdb.gz"] = gzip.compress(database)
    assert update(path, "dbip-city-lite").built is not None
    assert path.read_bytes() == database
    assert all("Authorization" not in sent for _, sent in publisher.asked)


def test_archive_with_any_wrong_byte_leaves_the_old_file(publisher: Publisher, tmp_path: Path) -> None:
    """DB-IP's archives have only the checksum of gzip."""
    path = tmp_path / "dbip-city-lite.mmdb"
    path.write_bytes(b"old")
    packed = gzip.compress(a_database(tmp_path, "DBIP-City-Lite"), mtime=0)
    url = f"/free/dbip-city-lite-{datetime.now(UTC):%Y-%m}.mmdb.gz"
    for at in range(10, len(packed), 7):  # behind the head, whose time and system say nothing
        publisher.files[url] = packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]
        with pytest.raises(GeoUpdateError):
            update(path, "dbip-city-lite")
    assert path.read_bytes() == b"old"


def _wrong_checksum(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path))
    publisher.files[f"{_CITY}.sha256"] = b"0" * 64


def _no_checksum(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path))
    publisher.files[f"{_CITY}.sha256"] = b"<html>"


def _half(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path))
    publisher.cuts.add(_CITY)


def _older(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path, built=1_600_000_000))


def _other_type(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path, "GeoLite2-ASN"))


def _empty(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path, networks={"192.0.2.0/24": _RECORD}))


def _no_member(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(a_database(tmp_path), "GeoLite2-City_20261127/Other.mmdb")


def _not_a_database(publisher: Publisher, tmp_path: Path) -> None:
    publisher.add_city(b"x" * 4096)


def _not_packed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files[_CITY] = b"<html>busy</html>"
    publisher.files[f"{_CITY}.sha256"] = hashlib.sha256(publisher.files[_CITY]).hexdigest().encode()


def _refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.statuses[_CITY] = 401


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_wrong_checksum, "not as its checksum says"),
        (_no_checksum, "no SHA-256"),
        (_half, "bytes"),
        (_older, "of 2020-09-13, and older"),
        (_other_type, "it is a 'GeoLite2-ASN'"),
        (_empty, "no address of the well-known ones"),
        (_no_member, "no GeoLite2-City.mmdb"),
        (_not_a_database, "no geo database"),
        (_not_packed, "gzip"),
        (_refused, "refuses the account or the key"),
        (lambda *_: None, "answers 404"),
    ],
)
def test_what_is_wrong_leaves_the_old_file(
    publisher: Publisher, city: Path, tmp_path: Path, fault: Any, said: str
) -> None:
    before = write_mmdb(city, "GeoLite2-City", {"192.0.2.0/24": _RECORD}).read_bytes()
    fault(publisher, tmp_path)
    with pytest.raises(GeoUpdateError, match=said) as caught:
        update(city)
    assert _KEY not in str(caught.value)
    assert city.read_bytes() == before
    assert [path.name for path in city.parent.iterdir()] == [city.name]


def test_too_big_a_file_is_not_kept(
    publisher: Publisher, city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.add_city(a_database(tmp_path))
    monkeypatch.setattr(geo_update, "MOST_BYTES", 100)
    with pytest.raises(GeoUpdateError, match="more than 100 bytes"):
        update(city)
    assert not city.exists()


def test_edge_reads_the_new_file_without_a_restart(publisher: Publisher, city: Path, tmp_path: Path) -> None:
    write_mmdb(city, "GeoLite2-City", {"192.0.2.0/24": {"country": {"iso_code": "DE"}}}, built=1_600_000_000)
    reader = GeoReader([city])
    assert reader.locate("192.0.2.1").country_code == "DE"
    publisher.add_city(a_database(tmp_path))
    update(city)
    assert reader.reload_changed()
    assert reader.locate("192.0.2.1").country_code == "NL"


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ((), "no file to update"),
        (("own.mmdb",), "own.mmdb: the name does not say"),
        (("GeoLite2-City.mmdb",), "TRACKER_MAXMIND_LICENSE_KEY"),
    ],
)
def test_file_that_has_no_source_is_an_error(paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(geo_update.UserError, match=said):
        geo_update.sources(Settings(geoip_db=tuple(map(Path, paths))))


def test_command_updates_what_it_can(
    publisher: Publisher,
    city: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publisher.add_city(a_database(tmp_path))
    asn = city.with_name("GeoLite2-ASN.mmdb")
    monkeypatch.setenv("TRACKER_GEOIP_DB", f"{asn},{city}")
    monkeypatch.setenv("TRACKER_MAXMIND_ACCOUNT_ID", "77")
    monkeypatch.setenv("TRACKER_MAXMIND_LICENSE_KEY", _KEY)
    assert cli.main(["geo", "update", "--dry-run"]) == 0
    assert publisher.asked == []
    assert capsys.readouterr().out.splitlines()[1] == f"{city}: GeoLite2-City of MaxMind would be fetched"
    assert cli.main(["geo", "update"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{city}: data of 2023-11-14\n"
    assert printed.err == f"tracker: {asn} stays as it is: the server answers 404 Not Found\n"
