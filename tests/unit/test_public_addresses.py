"""The public addresses that postbacks may go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from tracker.domain.public_addresses import refusal

PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "192.0.1.1", "168.63.129.15", "100.128.0.1", "9.255.255.255", "223.255.255.255"),
    *("2606:4700:4700::1111", "2a00:1450:4001:82b::200e", "2000::1", "2001:200::1", "3ffe::1", "2620:4f::1"),
)
# Addresses that a name or an affiliate's URL could lead a request to.
METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.42.42", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *(
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fe80::a9fe:a9fe",
    ),
    *("fe80::a9fe:a9fe%eth0", "fd00:a9fe:a9fe::1", "fd00:100::100:200"),
    # The same in forms that hold an IPv4 address: mapped, compatible, translated, NAT64, 6to4, Teredo.
    *("::ffff:169.254.169.254", "::ffff:a83f:8110", "::168.63.129.16", "::ffff:0:100.100.100.200"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a83f:8110", "2002:a9fe:a9fe::1", "2001:0:1:2:3:4:5601:5601"),
)
NOT_PUBLIC = (
    *METADATA,
    *("0.0.0.0", "10.0.0.1", "127.0.0.1", "127.255.255.254", "100.64.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.100", "192.0.0.170", "192.0.0.255", "192.0.2.1"),
    *("192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::10.0.0.1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:8.8.8.8", "::8.8.8.8"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1::808:808", "2002:808:808::"),
    *("fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "100::1"),
    *("100:0:0:1::1", "2001::1", "2001:1::1", "2001:20::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::"),
    *("2620:4f:8000::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "2606:4700::1%eth0"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_at_web_ports(address: str) -> None:
    assert [refusal(address, port) for port in (80, 443)] == ["", ""]
    assert refusal(address, 25) == "port 25 is not one of 80, 443"


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refusal(address, 443) == f"{ip_address(address)} is not a public address"


@given(integers(0, 2**32 - 1).map(IPv4Address) | integers(0, 2**128 - 1).map(IPv6Address))
def test_address_that_python_calls_internal_is_never_asked(ip: IPv4Address | IPv6Address) -> None:
    """By the rules of any Python version, and by our tables."""
    is_internal = ip.is_private or ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_loopback
    assert not ((is_internal or not ip.is_global) and refusal(str(ip), 443) == "")


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("allowed", ["0.0.0.0/0", "::/0", "169.254.0.0/16", "fd00::/8", "168.63.129.16/32"])
def test_metadata_service_is_refused_even_if_allowed(address: str, allowed: str) -> None:
    assert refusal(address, 80, (ip_network(allowed),)) == f"{ip_address(address)} is not a public address"


@pytest.mark.parametrize("text", ["", "127.1", "2130706433", "0x7f000001", "169.254.169.254.", "1.1.1.1:80"])
def test_address_in_another_form_is_refused(text: str) -> None:
    assert refusal(text, 80, (ip_network("0.0.0.0/0"),)) == f"{text!r} is not an address"


@pytest.mark.parametrize(
    ("address", "port", "is_allowed"),
    [
        ("10.1.2.3", 8080, True),
        ("10.2.0.1", 80, False),
        ("::1", 9000, True),
        ("::ffff:10.1.2.3", 80, False),
        ("8.8.8.8", 8080, False),
        ("64:ff9b::808:808", 80, True),
        ("64:ff9b::a9fe:a9fe", 80, False),
    ],
)
def test_operator_can_allow_more_networks(address: str, port: int, is_allowed: bool) -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("::1/128"), ip_network("64:ff9b::/96"))
    assert (refusal(address, port, allowed) == "") is is_allowed
