from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import a_click
from tracker.edge.http.request import Request
from tracker.edge.read import visitor
from tracker.edge.read.client_address import Proxies, plain_address
from tracker.edge.read.visitor import Identity, identify, is_speculative, read_visitor

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "2001:db8:ffff::/48", "fe80::/64", "::ffff:172.16.0.0/108")))


def a_scope(
    peer: str = "198.51.100.9", *headers: tuple[bytes, bytes], query: bytes = b"affiliate_id=1"
) -> dict[str, Any]:
    return {
        "method": "GET",
        "client": (peer, 40000),
        "scheme": "http",
        "path": "/offer/3",
        "raw_path": b"/offer/3",
        "query_string": query,
        "headers": [(b"host", b"t.test"), *headers],
    }


def read(scope: dict[str, Any]) -> visitor.Visitor:
    return read_visitor(Request.from_scope(scope), Proxies(TRUSTED))


XFF, FORWARDED = b"x-forwarded-for", b"forwarded"

ADDRESSES = [
    ("198.51.100.9", [], "198.51.100.9"),
    ("198.51.100.9", [(XFF, b"1.2.3.4")], "198.51.100.9"),  # sent by a stranger
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
    ("10.0.0.1", [(XFF, b"[2001:db8::7%25eth0]:443")], "2001:db8::7"),
    ("10.0.0.1", [(XFF, b"1.2.3.4, 10.0.0.2:8080")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"1.2.3.4, [2001:db8:ffff::2]:8080, ::ffff:10.0.0.2")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"1.2.3.4 ,\t10.0.0.2 ")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"1.2.3.4,,10.0.0.2,")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"6.6.6.6, 127.0.0.1")], "127.0.0.1"),  # not trusted
    ("10.0.0.1", [(XFF, b"6.6.6.6, garbage")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"6.6.6.6, garbage, 10.0.0.2")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"6.6.6.6, 2001:db8:ffff::1.2.3.4.5")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"010.0.0.1")], "10.0.0.1"),  # octal to some, decimal to others
    ("10.0.0.1", [(XFF, b"1.2.3")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"0x7f000001")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, "\uff11.2.3.4".encode())], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"\xff\xfe")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"6.6.6.6, " * 1000 + b"1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(XFF, b"1.2.3.4" + b" " * 5000)], "10.0.0.1"),  # beyond the part that is read
    ("10.0.0.1", [(XFF, b"x" * 60_000)], "10.0.0.1"),
    ("fe80::9%eth0", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("fe80:0:0:1::9%eth0", [(XFF, b"1.2.3.4")], "fe80:0:0:1::9"),
    ("172.16.0.1", [(XFF, b"1.2.3.4")], "1.2.3.4"),  # trusted in its IPv4-mapped form
    ("::ffff:198.51.100.9", [(XFF, b"1.2.3.4")], "198.51.100.9"),
    ("11.0.0.1", [(XFF, b"1.2.3.4"), (FORWARDED, b"for=1.2.3.4")], "11.0.0.1"),
    ("10.0.0.1", [(XFF, b"unknown")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b"<script>")], "10.0.0.1"),
    ("10.0.0.1", [(XFF, b",,")], "10.0.0.1"),
    ("::ffff:10.0.0.1", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("2001:db8:ffff::1", [(XFF, b"1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b"for=1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b'for=6.6.6.6, For="[2001:db8::7]:80";proto=https')], "2001:db8::7"),
    ("10.0.0.1", [(FORWARDED, b"for=1.2.3.4;by=10.0.0.1, for=10.0.0.2")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b"for=_hidden")], "10.0.0.1"),
    ("10.0.0.1", [(FORWARDED, b"for=unknown")], "10.0.0.1"),
    ("10.0.0.1", [(FORWARDED, b"for=6.6.6.6, for=_hidden")], "10.0.0.1"),
    (
        "10.0.0.1",
        [(FORWARDED, b"for=6.6.6.6, proto=https")],
        "10.0.0.1",
    ),  # ours sends none: the visitor's is not read
    ("10.0.0.1", [(FORWARDED, b"for=6.6.6.6"), (FORWARDED, b"for=1.2.3.4")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b'for="6.6.6.6, for=1.2.3.4')], "1.2.3.4"),  # a quote left open
    ("10.0.0.1", [(FORWARDED, b"for=1.2.3.4, ,")], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b'by=10.0.0.1; FOR = "1.2.3.4:80" ;host=h')], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b'for="[::ffff:1.2.3.4]"')], "1.2.3.4"),
    ("10.0.0.1", [(FORWARDED, b"")], "10.0.0.1"),
    ("10.0.0.1", [(FORWARDED, b"for")], "10.0.0.1"),
    ("10.0.0.1", [(FORWARDED, b"=;=,=")], "10.0.0.1"),
    (
        "10.0.0.1",
        [(FORWARDED, b"for=6.6.6.6"), (XFF, b"5.6.7.8")],
        "5.6.7.8",
    ),  # handed on, not written, by it
]


@pytest.mark.parametrize(("peer", "headers", "ip"), ADDRESSES)
def test_address_is_the_right_most_hop_that_is_not_trusted(
    peer: str, headers: list[tuple[bytes, bytes]], ip: str
) -> None:
    assert read(a_scope(peer, *headers)).ip == ip


def test_peer_on_a_unix_socket_has_no_address() -> None:
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
        ((b"x-purpose", b"preview"), True),
        ((b"sec-purpose", b"navigate"), False),
        ((b"purpose", b"prefetching"), False),
    ],
)
def test_speculative_request_is_recognised(header: tuple[bytes, bytes], speculative: bool) -> None:
    assert is_speculative(dict([header])) is speculative


def who(
    ip: str = "192.0.2.7",
    user_agent: str = "UA",
    gaid: str = "",
    idfa: str = "",
    secret: bytes = b"k" * 32,
    cookie_key: int | None = None,
) -> Identity:
    click = a_click()
    return identify(
        click.link._replace(gaid=gaid, idfa=idfa),
        click.visitor._replace(ip=ip, user_agent=user_agent),
        secret,
        cookie_key,
    )


ZEROS = "00000000-0000-0000-0000-000000000000"
G, H, IDFA = (f"{letter * 8}-1111-4111-8111-111111111111" for letter in "abc")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (who(ip="2001:db8::1"), who(ip="2001:db8::2")),  # one /64
        (who(gaid=G, ip="192.0.2.7"), who(gaid=G, ip="192.0.2.8")),
        (who(gaid=G, idfa=IDFA), who(gaid=G)),
        (who(gaid=ZEROS), who()),
        (who(gaid="0"), who()),
        (who(gaid="{gaid}"), who(gaid="null")),
        (who(gaid="{gaid}", idfa=IDFA), who(idfa=IDFA)),
        (who(gaid=G), who(gaid=G.upper())),
        (who(gaid=G), who(gaid=G.replace("-", ""))),
        (who(gaid=G), who(idfa=f" {G}\u200b")),
        (who(gaid=ZEROS, idfa=ZEROS), who()),
        (who(gaid=ZEROS, idfa=IDFA), who(idfa=IDFA)),
        (who(cookie_key=5, ip="192.0.2.7"), who(cookie_key=5, ip="192.0.2.8", gaid=G)),
        (who(cookie_key=0), (0, True)),
    ],
)
def test_requests_of_one_visitor_are_recognised(one: Identity, other: Identity) -> None:
    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (who(ip="192.0.2.7"), who(ip="192.0.2.8")),
        (who(user_agent="a"), who(user_agent="b")),
        (who(ip="2001:db8::1"), who(ip="2001:db8:0:1::1")),
        (who(gaid=G), who(gaid=H)),
        (who(gaid=G), who()),
        (who(secret=b"other"), who()),
        (who(secret=b"other", gaid=G), who(gaid=G)),
        (who(cookie_key=5), who(cookie_key=6)),
    ],
)
def test_requests_of_two_visitors_are_distinguished(one: Identity, other: Identity) -> None:
    assert one[0] != other[0]


@pytest.mark.parametrize(
    ("identity", "is_certain"),
    [
        (who(), False),
        (who(gaid=ZEROS), False),
        (who(gaid=G), True),
        (who(idfa=IDFA), True),
        (who(cookie_key=5), True),
        (who(ip=""), False),
    ],
)
def test_cookie_or_device_id_is_certain(identity: Identity, is_certain: bool) -> None:
    assert identity[1] is is_certain
    assert 0 <= identity[0] < 1 << 64


@given(st.binary(max_size=100), st.binary(max_size=300), st.binary(max_size=300))
def test_random_header_is_read(xff: bytes, forwarded: bytes, user_agent: bytes) -> None:
    seen = read(a_scope("10.0.0.1", (XFF, xff), (FORWARDED, forwarded), (b"user-agent", user_agent)))
    assert plain_address(seen.ip) == seen.ip != ""
