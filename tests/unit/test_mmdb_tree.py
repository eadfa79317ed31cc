"""The places of addresses, compared with those of maxminddb's own look-up."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryFile

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.mmdb import node_bytes, write_mmdb
from tracker.edge.enrich.geo import GeoReader, merge, place_of
from tracker.edge.enrich.mmdb_tree import DAMAGED, MOST_REMEMBERED, SearchTree

SIZES = (24, 28, 32)
ALIASES = ("::ffff:0:0/96", "2002::/16")
HIGHEST_BIT = {4: b"\x80\0\0\0", 6: b"\x80" + bytes(15)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("mmdb") / "test.mmdb"


def tree_of(nodes: Sequence[tuple[int, int]], record_size: int, ip_version: int = 4) -> SearchTree:
    with TemporaryFile() as file:
        file.write(b"".join(node_bytes(*node, record_size) for node in nodes))
        file.flush()
        return SearchTree(file.fileno(), len(nodes), record_size, ip_version)


@given(st.data(), st.sampled_from(SIZES), st.sampled_from((4, 6)))
def test_both_records_of_a_node_are_read_whole(data, record_size, ip_version):
    record = st.integers(1, (1 << record_size) - 1)
    left, right = data.draw(record), data.draw(record)
    tree = tree_of([(left, right)], record_size, ip_version)
    assert tree.find(bytes(len(HIGHEST_BIT[ip_version]))) == left
    assert tree.find(HIGHEST_BIT[ip_version]) == right


@pytest.mark.parametrize("record_size", SIZES)
@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([(0, 0)], DAMAGED),  # back to the start, for ever
        ([(1, 0), (0, 1)], DAMAGED),
        ([(2, 2), (9, 9)], 2),  # no data
    ],
)
def test_way_that_ends_nowhere_is_told(nodes, found, record_size):
    tree = tree_of(nodes, record_size)
    assert {tree.find(bytes(4)), tree.find(b"\xff" * 4), tree.find(b"\xa5" * 4)} == {found}


def test_file_shorter_than_its_tree_is_refused():
    with TemporaryFile() as file:
        file.write(bytes(11))
        file.flush()
        with pytest.raises(ValueError, match="length"):
            SearchTree(file.fileno(), 2, 24, 4)


def test_memory_is_bounded():
    tree = tree_of([(3, 1), (4, 5)], 24)
    for memory in (tree._networks, tree._blocks):
        memory.update({number.to_bytes(5, "big"): 3 for number in range(MOST_REMEMBERED)})
    for address, position in ((b"\x01\0\0\0", 3), (b"\xc0\0\0\0", 5), (b"\x81\0\0\0", 4), (b"\x01\0\0\0", 3)):
        assert tree.find(address) == position
    assert len(tree._networks) == len(tree._blocks) == 3


networks = st.lists(
    st.builds(lambda ip, bits: ip_network((ip, bits), strict=False), st.ip_addresses(v=4), st.integers(1, 32))
    | st.builds(
        lambda number, bits: ip_network((0x2001 << 112 | number, bits), strict=False),
        st.integers(0, 2**112 - 1),
        st.integers(17, 128),
    ),
    min_size=1,
    max_size=12,
)
records = st.sampled_from(
    [{"country_code": "NL"}, {"country_code": "BE"}, {"city": "Ghent"}, {}, "text", {"isp": "x" * 200}]
)


@given(st.data(), networks, st.sampled_from(SIZES), st.sampled_from((4, 6)), st.booleans())
def test_places_are_those_of_the_library(path, data, listed, record_size, ip_version, has_aliases):
    apart = without_overlaps([each for each in listed if each.version <= ip_version])
    if not apart:
        return
    has_aliases &= ip_version == 6 and any(each.version == 4 for each in apart)
    written = {str(network): data.draw(records) for network in apart}
    write_mmdb(path, "Test", written, ip_version, record_size, ALIASES if has_aliases else ())
    addresses = [*edges(apart), *data.draw(st.lists(st.ip_addresses(), max_size=5))]
    assert_as_the_library([path], data.draw(st.permutations(list(with_aliases(addresses)))))


@given(st.data(), st.sampled_from(SIZES), st.sampled_from((4, 6)))
def test_damaged_tree_never_gives_another_place_than_the_library(path, data, record_size, ip_version):
    """Wherever a bit of the tree is wrong."""
    listed = [ip_network(each) for each in ("192.0.2.0/24", "192.0.3.0/28", "10.0.0.0/8")]
    if ip_version == 6:
        listed += [ip_network("2001:db8::/32"), ip_network("2a00::/12")]
    codes = ("NL", "BE", "DE", "NL", "FR")
    written = {str(network): {"country_code": code} for network, code in zip(listed, codes, strict=False)}
    write_mmdb(path, "Test", written, ip_version, record_size)
    with maxminddb.open_database(path) as reader:
        size = reader.metadata().node_count * record_size // 4
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, size * 8 - 1), min_size=1, max_size=20)):
        content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    assert_as_the_library([path], with_aliases(edges(listed)))


def test_files_of_all_sizes_are_looked_up_together(tmp_path):
    cities = {"192.0.2.0/24": {"city": "Ghent"}, "2001:db8::/32": {"city": "Delft"}}
    paths = [
        write_mmdb(tmp_path / "a", "Test", cities, 6, 24),
        write_mmdb(tmp_path / "b", "Test", {"192.0.2.128/25": {"country_code": "BE"}}, 4, 28),
        write_mmdb(tmp_path / "c", "Test", {"192.0.0.0/16": {"country_code": "NL"}}, 6, 32, ALIASES),
    ]
    listed = ["192.0.2.1", "192.0.2.200", "192.0.3.1", "2001:db8::1", "203.0.113.1"]
    assert_as_the_library(paths, with_aliases(map(ip_address, listed)))


@pytest.mark.parametrize(
    "text", ["192.0.2", "0xc0.0.2.1", "192.0.2.1 ", "fe80::1%lo", "2001:db8::1%1", "::192.0.2.1", "1.2.3.4.5"]
)
def test_other_ways_to_write_an_address_are_the_librarys(tmp_path, text):
    networks = {"192.0.0.0/16": {"country_code": "NL"}, "2000::/3": {"city": "Delft"}}
    assert_as_the_library([write_mmdb(tmp_path / "a", "Test", networks)], [text])


def without_overlaps(listed):
    """The networks without those that overlap an earlier one."""
    apart = []
    for network in listed:
        if not any(network.overlaps(other) for other in apart if other.version == network.version):
            apart.append(network)
    return apart


def edges(listed):
    """The first and the last address of each network, and their neighbours."""
    for network in listed:
        for number in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1):
            if 0 <= number < 1 << network.max_prefixlen:
                yield type(network[0])(number)


def with_aliases(addresses):
    """The texts of the addresses, and of the aliases of those of IPv4."""
    for address in addresses:
        yield str(address)
        if isinstance(address, IPv4Address):
            yield f"::ffff:{address}"
            yield str(IPv6Address(0x2002 << 112 | int(address) << 80))
            yield f"::ffff:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
            yield f"::{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"


def assert_as_the_library(paths: Sequence[Path], texts: Iterable[str]) -> None:
    """The places are those that maxminddb reads, which remembers nothing."""
    ours = GeoReader(paths)
    with ExitStack() as stack:
        readers = [stack.enter_context(reader) for path in paths for reader in opened(path)]
        for text in texts:
            address = text.removeprefix("::ffff:") if "." in text else text
            records = [record_in(reader, address) for reader in readers]
            expected = merge([place_of(record) for record in records if isinstance(record, dict) and record])
            assert ours.locate(text) == expected, text
    ours.close()


def opened(path: Path) -> list[maxminddb.Reader]:
    try:
        return [maxminddb.open_database(path)]
    except maxminddb.InvalidDatabaseError:
        return []


def record_in(reader: maxminddb.Reader, address: str) -> object:
    try:
        return reader.get(address)
    except (ValueError, maxminddb.InvalidDatabaseError):
        return None
