"""Which addresses others may send us to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tracker.reach import refusal

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:82b::200e")
NOT_PUBLIC = (
    *("0.0.0.0", "10.0.0.1", "127.0.0.1", "127.255.255.254", "100.64.0.1", "169.254.169.254", "172.16.0.1"),
    *("192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::10.0.0.1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *(
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "2001::1",
        "2001:20::1",
    ),
    *("2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_asked_at_the_ports_of_the_web(address: str) -> None:
    assert [refusal(address, port) for port in (80, 443)] == ["", ""]
    assert refusal(address, 25) == "port 25 is none of 80, 443"


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_others_are_not(address: str) -> None:
    assert refusal(address, 443) == f"{ip_address(address)} is not a public address"


@pytest.mark.parametrize(
    ("address", "port", "is_allowed"),
    [
        ("10.1.2.3", 8080, True),
        ("10.2.0.1", 80, False),
        ("::1", 9000, True),
        ("::ffff:10.1.2.3", 80, False),
        ("8.8.8.8", 8080, False),
    ],
)
def test_an_operator_allows_more(address: str, port: int, is_allowed: bool) -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert (refusal(address, port, allowed) == "") is is_allowed
