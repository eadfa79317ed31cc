from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.edge.catalogue.networks import Networks
from tracker.edge.read.client_address import plain_address

NOT_ONE = r"^not an IP address or CIDR|^an address with a zone"


def networks(*cidrs: str) -> Networks:
    made = Networks()
    for cidr in cidrs:
        made.add(cidr)
    return made


@pytest.mark.parametrize(
    ("cidrs", "ip", "found"),
    [
        ([], "192.0.2.1", None),
        (["192.0.2.1"], "192.0.2.1", "192.0.2.1/32"),
        (["192.0.2.1"], "192.0.2.2", None),
        (["192.0.2.0/24"], "192.0.2.255", "192.0.2.0/24"),
        (["192.0.2.0/24"], "192.0.3.0", None),
        (["192.0.2.77/24"], "192.0.2.1", "192.0.2.0/24"),  # host bits set
        (["192.0.2.0/24", "192.0.0.0/16", "192.0.2.128/25"], "192.0.2.200", "192.0.2.128/25"),
        (["192.0.2.128/25", "192.0.0.0/16", "192.0.2.0/24"], "192.0.2.1", "192.0.2.0/24"),
        (["0.0.0.0/0"], "198.51.100.7", "0.0.0.0/0"),
        (["0.0.0.0/0"], "2001:db8::1", None),
        (["::/0"], "192.0.2.1", None),
        (["::/0"], "2001:db8::1", "::/0"),
        (["2001:db8::/32", "2001:DB8:0:1::/64"], "2001:db8:0:1::5", "2001:db8:0:1::/64"),
        (["2001:db8::1"], "2001:db8::1", "2001:db8::1/128"),
        (["::ffff:192.0.2.0/120"], "192.0.2.9", "192.0.2.0/24"),  # IPv4 in IPv6
        (["::ffff:192.0.2.9"], "192.0.2.9", "192.0.2.9/32"),
        (["0.0.0.0/0", "::/0"], "", None),
    ],
)
def test_the_narrowest_network_is_found(cidrs, ip, found):
    assert networks(*cidrs).find(ip) == found


@pytest.mark.parametrize(
    "cidr",
    ["", " ", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/-1", "::1/129", "fe80::1%eth0", "1.2.3.4/24/8", "٣.2.3.4"],
)
def test_what_is_no_network_is_refused(cidr):
    made = Networks()
    with pytest.raises(ValueError, match=NOT_ONE):
        made.add(cidr)
    with pytest.raises(ValueError, match=NOT_ONE):
        made.discard(cidr)
    assert not made


def test_a_network_added_twice_goes_with_the_second_discard():
    made = networks("192.0.2.0/24", "192.0.2.9/24")
    made.discard("192.0.2.0/24")
    assert made.find("192.0.2.1") == "192.0.2.0/24"
    made.discard("192.0.2.0/24")
    assert made.find("192.0.2.1") is None
    assert not made


def test_discarding_what_is_not_there_changes_nothing():
    made = networks("192.0.2.0/24")
    for absent in ("192.0.2.0/25", "192.0.3.0/24", "2001:db8::/32"):
        made.discard(absent)
    assert made.find("192.0.2.1") == "192.0.2.0/24"


def test_a_set_is_true_while_it_holds_a_network():
    made = Networks()
    assert not made
    for cidr in ("192.0.2.1", "2001:db8::/32"):
        made.add(cidr)
        assert made
        made.discard(cidr)
        assert not made


# Few distinct bits, so that networks often hold each other and the address.
NEAR = st.integers(0, 7).map(lambda bits: bits << 29 | bits)
ADDRESSES = st.one_of(
    NEAR.map(IPv4Address), NEAR.map(lambda bits: IPv6Address(bits << 96 | bits)), st.ip_addresses()
)


@st.composite
def cidrs(draw: st.DrawFn) -> str:
    address = draw(ADDRESSES)
    return f"{address}/{draw(st.integers(0, address.max_prefixlen))}"


@given(st.lists(cidrs(), max_size=8), st.sets(st.integers(0, 7)), ADDRESSES)
def test_it_agrees_with_the_standard_library(added, taken_back, address):
    made = networks(*added)
    for place in taken_back:
        if place < len(added):
            made.discard(added[place])
    kept = [cidr for place, cidr in enumerate(added) if place not in taken_back]
    ip = plain_address(str(address))
    holding = [network for network in map(plain_network, kept) if ip_address(ip) in network]
    narrowest = max(holding, key=lambda network: network.prefixlen, default=None)
    assert made.find(ip) == (str(narrowest) if narrowest else None)
    assert bool(made) == bool(kept)


def plain_network(cidr: str):
    network = ip_network(cidr, strict=False)
    if network.version == 6 and network.prefixlen >= 96 and (mapped := network.network_address.ipv4_mapped):
        return ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network
