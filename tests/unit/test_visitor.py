from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clicks import a_click
from tracker.edge import visitor
from tracker.edge.address import Proxies, plain_address
from tracker.edge.visitor import is_speculative, read_visitor, visitor_key

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))


def a_scope(
    peer: str = "198.51.100.9", *headers: tuple[bytes, bytes], query: bytes = b"affiliate_id=1"
) -> dict[str, Any]:
    return {
        "client": (peer, 40000),
        "scheme": "http",
        "raw_path": b"/offer/3",
        "query_string": query,
        "headers": [(b"host", b"t.test"), *headers],
    }


def read(scope: dict[str, Any]) -> visitor.Visitor:
    return read_visitor(scope, dict(scope["headers"]), Proxies(TRUSTED))


XFF, FORWARDED = b"x-forwarded-for", b"forwarded"

ADDRESSES = [
    ("198.51.100.9", [], "198.51.100.9"),
    ("198.51.100.9", [(XFF, b"1.2.3.4")], "198.51.100.9"),  # a stranger says so
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"6.6.6.6, 1.2.3.4")], "1.2.3.4"),  # the left one was spoofed
    ("10.0.0.1", [(XFF, b"6.6.6.6, 1.2.3.4, 10.0.0.2")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"6.6.6.6"), (XFF, b"1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"10.0.0.3, 10.0.0.2")], "10.0.0.3"),
    ("10.0.0.1", [(XFF, b"1.2.3.4:5678")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"[2001:db8::7]:443")], "2001:db8::7"),
    ("10.0.0.1", [(XFF, b"2001:DB8:0::7")], "2001:db8::7"),
    ("10.0.0.1", [(XFF, b"::ffff:1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"fe80::1%eth0")], "fe80::1"),
    ("10.0.0.1", [(XFF, b"unknown")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"<script>")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b",,")], "10.0.0.1"),
    ("::ffff:10.0.0.1", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("2001:db8:ffff::1", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b"for=1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b'for=6.6.6.6, For="[2001:db8::7]:80";proto=https')], "2001:db8::7"),
    ("10.0.0.1", [(FORWARDED, b"for=1.2.3.4;by=10.0.0.1, for=10.0.0.2")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b"for=_hidden")], "10.0.0.1"),
    (
        "10.0.0.1",
        [(FORWARDED, b"for=6.6.6.6"), (XFF, b"5.6.7.8")],
        "5.6.7.8",
    ),  # handed on, not written, by it
]


@pytest.mark.parametrize(("peer", "headers", "ip"), ADDRESSES)
def test_the_address_is_the_right_most_hop_that_is_not_trusted(
    peer: str, headers: list[tuple[bytes, bytes]], ip: str
) -> None:
    assert read(a_scope(peer, *headers)).ip == ip


def test_a_peer_on_a_unix_socket_has_no_address() -> None:
    assert read(a_scope() | {"client": None}).ip == ""


LINKS = [
    ("10.0.0.1", [(b"x-forwarded-proto", b"https")], "https://t.test/offer/3?affiliate_id=1"),
    ("10.0.0.1", [(b"x-forwarded-host", b"go.example")], "http://go.example/offer/3?affiliate_id=1"),
    (
        "10.0.0.1",
        [(FORWARDED, b"for=1.2.3.4;proto=https;host=go.example")],
        "https://go.example/offer/3?affiliate_id=1",
    ),
    ("10.0.0.1", [(b"x-forwarded-proto", b"gopher")], "http://t.test/offer/3?affiliate_id=1"),
    ("198.51.100.9", [(b"x-forwarded-proto", b"https")], "http://t.test/offer/3?affiliate_id=1"),
]


@pytest.mark.parametrize(("peer", "headers", "link"), LINKS)
def test_requested_link_is_absolute(peer: str, headers: list[tuple[bytes, bytes]], link: str) -> None:
    assert read(a_scope(peer, *headers)).requested_link == link


def test_requested_link_keeps_the_target_as_asked() -> None:
    assert read(a_scope(query=b"a=%00%zz&b=\xc3\xa4")).requested_link == "http://t.test/offer/3?a=%00%zz&b=ä"


def test_strings_are_cropped_and_cleaned() -> None:
    long = b"x" * 5000
    seen = read(a_scope("1.1.1.1", (b"user-agent", b"A\x00B\x1b" + long), (b"referer", b"\xff" + long)))
    assert seen.user_agent == "AB" + "x" * (visitor.MAX_USER_AGENT - 2)
    assert seen.referrer == "�" + "x" * (visitor.MAX_REFERRER - 1)


@pytest.mark.parametrize(
    ("header", "speculative"),
    [
        ((b"sec-purpose", b"prefetch"), True),
        ((b"sec-purpose", b"prefetch;prerender"), True),
        ((b"purpose", b"prefetch"), True),
        ((b"purpose", b"preview"), True),
        ((b"x-moz", b"prefetch"), True),
        ((b"x-purpose", b"preview"), False),
        ((b"sec-purpose", b"navigate"), False),
        ((b"purpose", b"prefetching"), False),
    ],
)
def test_tells_a_speculative_request(header: tuple[bytes, bytes], speculative: bool) -> None:
    assert is_speculative(dict([header])) is speculative


def key_of(
    ip: str = "192.0.2.7", user_agent: str = "UA", gaid: str = "", idfa: str = "", secret: bytes = b"k" * 32
) -> int:
    click = a_click()
    return visitor_key(
        click.link._replace(gaid=gaid, idfa=idfa),
        click.visitor._replace(ip=ip, user_agent=user_agent),
        secret,
    )


def test_a_visitor_is_a_device_id_else_address_and_user_agent() -> None:
    zeros = "00000000-0000-0000-0000-000000000000"
    assert key_of(ip="192.0.2.7") != key_of(ip="192.0.2.8")
    assert key_of(user_agent="a") != key_of(user_agent="b")
    assert key_of(ip="2001:db8::1") == key_of(ip="2001:db8::2")  # one /64
    assert key_of(ip="2001:db8::1") != key_of(ip="2001:db8:0:1::1")
    assert key_of(gaid="G", ip="192.0.2.7") == key_of(gaid="G", ip="192.0.2.8")
    assert key_of(gaid="G") != key_of(gaid="H")
    assert key_of(gaid=zeros) == key_of()
    assert key_of(gaid=zeros, idfa="I") == key_of(idfa="I")
    assert key_of(secret=b"other") != key_of()


@given(st.binary(max_size=100), st.binary(max_size=300), st.binary(max_size=300))
def test_no_header_brings_it_down(xff: bytes, forwarded: bytes, user_agent: bytes) -> None:
    seen = read(a_scope("10.0.0.1", (XFF, xff), (FORWARDED, forwarded), (b"user-agent", user_agent)))
    assert plain_address(seen.ip) == seen.ip != ""
